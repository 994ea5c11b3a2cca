//! Products of matrices, `[m, k] * [k, n]`.

use niwaki_kernels::matmul::{Matrix, Old, Threads, multiply};

use super::case::Case;
use super::numbers::normal;

/// Large ones, and those of small networks.
const SIZES: [[usize; 3]; 5] =
    [[1024, 1024, 1024], [2048, 2048, 2048], [128, 784, 300], [128, 300, 100], [64, 128, 512]];

/// `matmul_MxKxN`.
pub fn cases() -> Vec<Case> {
    let case = |[m, k, n]: [usize; 3]| {
        let prepare = move || {
            let (a, b, mut out) = (normal(m * k, 1), normal(k * n, 2), vec![0.0; m * n]);
            Ok(move || multiply(&mut out, Matrix::new(&a, m, k), Matrix::new(&b, k, n), Old::Dropped, Threads::All))
        };
        Case::new(format!("matmul_{m}x{k}x{n}"), prepare).of(2 * m * k * n, "FLOP")
    };
    SIZES.map(case).into()
}
