//! The vector code of niwaki: plain slices in, plain slices out. It knows no graph and no tensor.
//!
//! It is a package of its own so that it is compiled with optimisation also where the rest is not, in tests: there
//! networks are trained. All unsafe code is here, and all that is for one processor architecture is in `x86`.
//!
//! - [`simd`] vectors of `f32` and the choice of instructions at run time
//! - [`matmul`] the matrix product; [`linalg`] singular values
//! - [`nhwc`] the kernels of the execution plan; [`recurrent`] recurrent layers over whole sequences
//! - [`optimizer`] what an optimizer does to every parameter
//! - [`prune`] which numbers are smallest in magnitude; [`kmeans`] few values that stand for many; [`convert`] half
//!   precision and whole numbers of eight bits

#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod convert;
pub mod kmeans;
pub mod linalg;
pub mod matmul;
pub mod nhwc;
pub mod optimizer;
pub mod prune;
pub mod recurrent;
mod scratch;
mod share;
pub use share::Awake;
pub mod simd;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod testing {
    //! What the tests share: random numbers.

    use rand::{Rng, SeedableRng};

    /// `n` numbers between -1 and 1, the same for the same seed.
    pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }
}
