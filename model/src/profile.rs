//! Where the time of a session goes.

use std::time::{Duration, Instant};

/// Writes the enum, the list of its variants and their names from one table.
macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident = $name:literal,)*) => {
        /// The operations of a model, as a [`Profile`] tells them apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $operation,)*
        }

        impl Operation {
            /// All of them, in the order in which a pass meets them.
            pub const ALL: [Operation; [$($name),*].len()] = [$(Operation::$operation),*];

            /// A short name for tables.
            pub fn name(self) -> &'static str {
                [$($name),*][self as usize]
            }
        }
    };
}

operations! {
    /// Ids to embeddings with positions.
    Embedding = "embedding",
    /// Queries, keys and values of self-attention, one product.
    SelfProjection = "self q k v",
    /// New keys and values into the cache, of targets or of sources.
    Caching = "cache",
    /// Attention within a sequence.
    SelfAttention = "self attention",
    /// The output projection of self-attention, with the residual.
    SelfOutput = "self output",
    /// Queries of attention to the sources.
    CrossQuery = "cross query",
    /// Keys and values of the sources.
    CrossProjection = "cross k v",
    /// Attention to the sources.
    CrossAttention = "cross attention",
    /// The output projection of attention to the sources, with the residual.
    CrossOutput = "cross output",
    /// The first half of a feed-forward network, with its activation.
    FeedForwardUp = "feed-forward up",
    /// The second half, with the residual.
    FeedForwardDown = "feed-forward down",
    /// Norms.
    Norm = "norms",
    /// Logits.
    Vocabulary = "vocabulary",
    /// What is done with logits: the likeliest, softmax, draws.
    Choice = "choice",
}

/// What an operation's calls took together, and what they cost at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Calls.
    pub calls: u64,
    /// Wall time.
    pub time: Duration,
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes that must be read or written once per call.
    pub bytes: u64,
}

/// The times of a session's operations since [`Session::start_profile`](crate::Session::start_profile).
#[derive(Clone, Debug, Default)]
pub struct Profile {
    spent: [Spent; Operation::ALL.len()],
}

impl Profile {
    /// What one operation took.
    pub fn of(&self, operation: Operation) -> Spent {
        self.spent[operation as usize]
    }

    /// All operations that were called, in the order of [`Operation::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Operation, Spent)> {
        Operation::ALL.into_iter().map(|operation| (operation, self.of(operation))).filter(|(_, spent)| spent.calls > 0)
    }
}

/// Flops and bytes.
pub(crate) type Cost = [usize; 2];

/// Writes down operations, if somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    pub(crate) profile: Option<Box<Profile>>,
}

impl Clock {
    /// When an operation begins.
    pub(crate) fn start(&self) -> Option<Instant> {
        self.profile.as_ref().map(|_| Instant::now())
    }

    /// That it has ended; `cost` is asked only if somebody wants to know.
    pub(crate) fn stop(&mut self, start: Option<Instant>, operation: Operation, cost: impl FnOnce() -> Cost) {
        if let (Some(profile), Some(start)) = (&mut self.profile, start) {
            let time = start.elapsed();
            let ([flops, bytes], spent) = (cost().map(|count| count as u64), &mut profile.spent[operation as usize]);
            (spent.calls, spent.time) = (spent.calls + 1, spent.time + time);
            (spent.flops, spent.bytes) = (spent.flops + flops, spent.bytes + bytes);
        }
    }
}
