//! What the tokens share.

/// Declares a token with its feature list, which is written once and serves both `detect` and the entry function.
macro_rules! x86_token {
    ($(#[$doc:meta])* $name:ident, $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(());

        crate::token::x86_features! { $name, $($feature),+ }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_token;

/// Writes `detect` and the entry function of a token.
macro_rules! x86_features {
    ($token:ty, $($feature:tt),+) => {
        impl $token {
            /// The token, on a CPU and an operating system that have the instructions.
            #[inline]
            pub(crate) fn detect() -> Option<Self> {
                ($(std::arch::is_x86_feature_detected!($feature))&&+).then_some(Self(()))
            }

            /// Everything inlined into this function is compiled with the token's instructions.
            #[target_feature($(enable = $feature),+)]
            fn entry<K: crate::Kernel>(self, kernel: K) -> K::Output {
                kernel.run(self)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_features;

/// Writes methods that are one intrinsic each.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $t:ty),*) -> $ret:ty = $body:expr;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $t),*) -> $ret {
                // SAFETY: the token proves that the CPU has the instruction, which touches registers only.
                unsafe { $body }
            }
        )+
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use intrinsics;

/// Writes `unsafe` memory methods that are one expression each.
macro_rules! memory {
    ($(fn $name:ident($self:ident, $($arg:ident: $t:ty),*) $(-> $ret:ty)? = $body:expr;)+) => {
        $(
            #[inline(always)]
            unsafe fn $name($self, $($arg: $t),*) $(-> $ret)? {
                // SAFETY: the token proves that the CPU has the instruction; the caller that the memory is there.
                unsafe { $body }
            }
        )+
    };
}
pub(crate) use memory;
