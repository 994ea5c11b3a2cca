//! Random numbers that follow from a recipe's seed.
//!
//! Every random choice draws from its own stream, named by its purpose, so that adding a choice somewhere does not change
//! the numbers drawn elsewhere. ChaCha8 is specified bit for bit, so a seed means the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The stream of random numbers for `purpose` under a recipe's `seed`.
///
/// ```
/// use rand::Rng;
/// let a: u32 = niwaki::seed::stream(7, "split").random();
/// let b: u32 = niwaki::seed::stream(7, "split").random();
/// assert_eq!(a, b);
/// ```
pub fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A seed of its own for `purpose`, for parts that draw from several streams themselves (each training of a recipe, say).
pub fn derive(seed: u64, purpose: &str) -> u64 {
    use rand_chacha::rand_core::RngCore;
    stream(seed, purpose).next_u64()
}
