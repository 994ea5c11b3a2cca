//! The matrix product as the kernels here call it.

pub(super) use niwaki_kernels::matmul::Matrix;
use niwaki_kernels::matmul::{self, Old, Threads};

/// `out += a b`, with `out` row-major, on the calling thread alone.
pub(super) fn multiply_add(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    matmul::multiply(out, a, b, Old::Added, Threads::This);
}

/// `out = a b`, with `out` row-major, on the calling thread alone.
pub(super) fn multiply(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    matmul::multiply(out, a, b, Old::Dropped, Threads::This);
}

/// `out += a b`, with `out` row-major, on all threads of the pool.
pub(super) fn multiply_add_on_all_threads(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    matmul::multiply(out, a, b, Old::Added, Threads::All);
}
