//! Which levels this CPU has, and running a kernel at one of them.

use crate::portable::Portable;
use crate::{Isa, Kernel, divide::Quotients, pairs, pairs::Chains, pays::pays};
#[cfg(target_arch = "x86_64")]
use crate::{avx2::Avx2, avx512::Avx512};
use std::{fmt, str::FromStr, sync::OnceLock};

/// The environment variable that pins every kernel of the process to one level.
pub const LEVEL_VARIABLE: &str = "GRISTMILL_LEVEL";

/// An instruction set that the kernels are compiled for. A higher level is a faster one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// What the target's baseline has (SSE2, NEON, WASM), through the crate `wide`.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with AVX512-BF16, where its instruction follows the rule of [`naive::dot_pair`](crate::naive::dot_pair).
    Avx512Bf16,
}

impl Level {
    /// Every level that the crate knows, lowest first, whether or not this CPU has it.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16];

    /// The levels that this CPU can run, lowest first.
    pub fn available() -> impl Iterator<Item = Level> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }

    /// Whether this CPU can run the level.
    pub fn is_available(self) -> bool {
        Simd::detect(self).is_some()
    }

    /// Whether the level's multiply-add rounds once. Levels that agree here give the same bits.
    pub fn fused(self) -> bool {
        match self {
            Level::Portable => Portable::FUSED,
            Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 => true,
        }
    }

    /// The level's name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(name: &str) -> Result<Self, LevelError> {
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| LevelError::Unknown(name.to_owned()))
    }
}

/// Why a level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LevelError {
    /// No level has this name.
    Unknown(String),
    /// The level exists, but this CPU or operating system does not run it.
    Unsupported(Level),
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LevelError::Unknown(name) => {
                write!(f, "unknown level {name:?}: expected one of")?;
                Level::ALL.iter().try_for_each(|level| write!(f, " {level}"))
            }
            LevelError::Unsupported(level) => {
                write!(f, "level {level} is not supported here: this CPU has")?;
                Level::available().try_for_each(|level| write!(f, " {level}"))
            }
        }
    }
}

impl std::error::Error for LevelError {}

/// A level that was found on this CPU; holding one is the proof.
#[derive(Clone, Copy, Debug)]
pub struct Simd {
    token: Token,
    /// What a test has chosen that [`dot_pays`](Self::dot_pays) says.
    dot_pays: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<true>),
}

impl Simd {
    /// The level asked for; without one, the level that `GRISTMILL_LEVEL` pins; without a pin, the best there is.
    ///
    /// The environment is read once per process.
    ///
    /// # Errors
    /// [`LevelError`] when the level is not supported here, or when the pin is misspelt or not supported here.
    #[inline]
    pub fn choose(level: Option<Level>) -> Result<Simd, LevelError> {
        static DEFAULT: OnceLock<Result<Simd, LevelError>> = OnceLock::new();
        if let (None, Some(Ok(simd))) = (level, DEFAULT.get()) {
            return Ok(*simd);
        }
        match level {
            Some(level) => Self::detect(level).ok_or(LevelError::Unsupported(level)),
            None => DEFAULT.get_or_init(|| Self::pinned_or_best(std::env::var_os(LEVEL_VARIABLE))).clone(),
        }
    }

    fn pinned_or_best(pin: Option<std::ffi::OsString>) -> Result<Simd, LevelError> {
        match pin {
            Some(pin) => Self::choose(Some(pin.to_string_lossy().parse()?)),
            None => {
                let best = Level::available().last().unwrap_or(Level::Portable);
                Self::choose(Some(best))
            }
        }
    }

    fn detect(level: Level) -> Option<Simd> {
        match level {
            Level::Portable => Portable::detect().map(Token::Portable),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::detect().map(Token::Avx2),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::<false>::detect().map(Token::Avx512),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => {
                // Whether the instruction follows the rule is found out at the first use.
                static FOLLOWS: OnceLock<bool> = OnceLock::new();
                let token = Avx512::<true>::detect();
                token.filter(|isa| *FOLLOWS.get_or_init(|| isa.vectorize(pairs::Probe))).map(Token::Avx512Bf16)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 => None,
        }
        .map(|token| Simd { token, dot_pays: None })
    }

    /// Which level this is.
    pub fn level(self) -> Level {
        match self.token {
            Token::Portable(_) => Level::Portable,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => Level::Avx512,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512Bf16(_) => Level::Avx512Bf16,
        }
    }

    /// Whether [`Isa::dot_bf16`] is an instruction.
    pub fn has_dot(self) -> bool {
        self.level() == Level::Avx512Bf16
    }

    /// Whether [`Isa::dot_bf16`] is faster at this level than the multiply-adds of f32 that it stands for. Measured once
    /// per process, at the first call, in some tens of microseconds; results do not depend on it.
    pub fn dot_pays(self) -> bool {
        static PAYS: OnceLock<bool> = OnceLock::new();
        self.has_dot() && self.dot_pays.unwrap_or_else(|| *PAYS.get_or_init(|| pays(self, |dot| Chains { dot })))
    }

    /// The same level, at which the dot product pays or not whatever a stopwatch says, for tests of both ways.
    #[doc(hidden)]
    pub fn with_dot_pays(self, pays: bool) -> Self {
        Self { dot_pays: Some(pays), ..self }
    }

    /// Whether [`Divisor::divide_four`](crate::Divisor::divide_four) is faster with the divider beside its multiply-adds.
    /// Measured once per process and level, at the first call, in some tens of microseconds; results do not depend on it.
    pub fn divider_pays(self) -> bool {
        static PAYS: [OnceLock<bool>; Level::ALL.len()] = [const { OnceLock::new() }; Level::ALL.len()];
        // Where nothing fuses there are only divisions.
        self.level().fused() && *PAYS[self.level() as usize].get_or_init(|| pays(self, |beside| Quotients { beside }))
    }

    /// Runs `kernel` compiled for this level.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.token {
            Token::Portable(isa) => isa.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(isa) => isa.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(isa) => isa.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512Bf16(isa) => isa.vectorize(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("AVX2".parse::<Level>(), Err(LevelError::Unknown("AVX2".into())));
    }

    #[test]
    fn a_misspelt_pin_fails_and_a_right_one_holds() {
        assert!(matches!(Simd::pinned_or_best(Some("avx9".into())), Err(LevelError::Unknown(_))));
        for level in Level::ALL {
            let pinned = Simd::pinned_or_best(Some(level.name().into())).map(Simd::level);
            assert_eq!(pinned, if level.is_available() { Ok(level) } else { Err(LevelError::Unsupported(level)) });
        }
        assert_eq!(Simd::pinned_or_best(None).map(Simd::level), Ok(Level::available().last().unwrap()));
    }
}
