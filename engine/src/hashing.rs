//! Where a key falls among shards, buckets and workers.

use std::hash::{BuildHasher, Hash, RandomState};
#[cfg(feature = "simulation")]
use std::hash::{BuildHasherDefault, DefaultHasher};

/// A hash function with a key. Chosen when an engine is made, not when it is compiled: a build that can simulate is
/// as safe as any other.
#[derive(Clone, Debug)]
pub(crate) enum Hashing {
    /// With a key of its own: nobody outside can choose keys that fall together.
    Random(RandomState),
    /// The same in every run.
    #[cfg(feature = "simulation")]
    Fixed,
}

impl Hashing {
    pub(crate) fn random() -> Self {
        Self::Random(RandomState::new())
    }

    pub(crate) fn hash(&self, key: &(impl Hash + ?Sized)) -> u64 {
        match self {
            Self::Random(state) => state.hash_one(key),
            #[cfg(feature = "simulation")]
            Self::Fixed => BuildHasherDefault::<DefaultHasher>::default().hash_one(key),
        }
    }
}
