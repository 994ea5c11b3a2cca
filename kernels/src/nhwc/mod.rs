//! Kernels of the execution plan: over images whose channels lie together, `[n, h, w, c]`, and over rows.
//!
//! They write into memory that the caller has, allocate nothing that grows with the batch, and compute with the vector
//! instructions of a [`Path`](crate::simd::Path). Results are the same bits for any number of threads: work is divided by
//! the problem's shape alone, and sums over samples are taken in [`CHUNKS`] parts that are added in their order.

pub mod activation;
pub mod batch_norm;
pub mod conv;
pub mod conv_norm;
mod divide;
pub mod elementwise;
pub mod gate;
pub mod layer_norm;
pub mod layout;
pub mod linear;
pub mod moves;
pub mod pool;
pub mod softmax;
pub mod sums;

/// Into how many parts a batch is divided for sums over samples.
pub const CHUNKS: usize = 16;
