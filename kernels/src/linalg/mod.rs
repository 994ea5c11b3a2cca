//! Decompositions of matrices of `f32`, whose rows lie one after the other.
//!
//! ```text
//!   A [m, n] = U [m, k] * diag(s) [k] * Vt [k, n]      U^T U = Vt Vt^T = 1,  s[0] >= s[1] >= ... >= 0
//! ```
//!
//! - [`Svd::thin`] all `k = min(m, n)` singular values, by faer
//! - [`Svd::largest`] the largest `k` of them, by a randomised method that costs little more than a few products
//!
//! Results are the same bits for any number of threads. The vectors' signs, and their directions where singular values are
//! equal, are any of those that fit.

mod orthonormal;
mod sketch;
mod thin;

use std::error::Error;
use std::fmt;

use rayon::prelude::*;

use crate::simd::{Path, Task, Vector, run};
pub use orthonormal::{gram, orthonormalize};
pub use sketch::Sketch;

/// What can go wrong with a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinalgError {
    /// Values that are not finite.
    NonFinite {
        /// How many.
        count: usize,
    },
    /// The iteration for the singular values did not come to an end.
    NoConvergence,
}

impl fmt::Display for LinalgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite { count } => write!(f, "the matrix holds {count} values that are not finite"),
            Self::NoConvergence => write!(f, "the singular values of the matrix did not converge"),
        }
    }
}

impl Error for LinalgError {}

/// A singular value decomposition; see the [module documentation](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Svd {
    /// The left singular vectors, `[m, k]`: one a column.
    pub u: Vec<f32>,
    /// The singular values, the largest first.
    pub s: Vec<f32>,
    /// The right singular vectors, `[k, n]`: one a row.
    pub vt: Vec<f32>,
}

/// The power of two by which a matrix is multiplied before it is squared, so that nothing overflows or vanishes: its
/// largest magnitude is then between 1 and 2. One where all are zero.
fn scale(a: &[f32]) -> Result<f32, LinalgError> {
    // By their bits magnitudes are in the same order, and what is not finite is last.
    let bits = a.par_chunks(1 << 16).map(|part| run(Path::chosen(), Largest { part })).max().unwrap_or(0);
    let largest = f32::from_bits(bits);
    if !largest.is_finite() {
        return Err(LinalgError::NonFinite { count: a.iter().filter(|v| !v.is_finite()).count() });
    }
    // The smallest numbers are left a little smaller, for 2^127 is the largest power of two there is.
    let exponent = (i64::from(largest.to_bits() >> 23) - 127).max(-126);
    Ok(if largest == 0.0 { 1.0 } else { 2f64.powi(-exponent as i32) as f32 })
}

/// The bits of the largest magnitude.
struct Largest<'a> {
    part: &'a [f32],
}

impl Task for Largest<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<V: Vector>(self) -> u32 {
        self.part.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7fff_ffff))
    }
}

/// A matrix with rows and columns exchanged.
fn transposed(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let mut out = vec![0.0; a.len()];
    for (row, col) in (0..rows).step_by(TILE).flat_map(|row| (0..cols).step_by(TILE).map(move |col| (row, col))) {
        for row in row..(row + TILE).min(rows) {
            for col in col..(col + TILE).min(cols) {
                out[col * rows + row] = a[row * cols + col];
            }
        }
    }
    out
}

#[cfg(test)]
mod testing {
    //! Matrices by their definitions.

    use super::Svd;

    /// `a b` with sums in `f64`.
    pub fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f32> {
        if inner == 0 {
            return Vec::new();
        }
        let cols = b.len() / inner;
        let entry = |row: &[f32], col: usize| {
            row.iter().enumerate().map(|(k, a)| f64::from(*a) * f64::from(b[k * cols + col])).sum::<f64>() as f32
        };
        a.chunks(inner).flat_map(|row| (0..cols).map(move |col| entry(row, col))).collect()
    }

    /// `U diag(s) Vt`.
    pub fn composed(svd: &Svd) -> Vec<f32> {
        let k = svd.s.len();
        let scaled: Vec<f32> = svd.u.iter().enumerate().map(|(at, u)| u * svd.s[at % k]).collect();
        product(&scaled, &svd.vt, k)
    }

    pub fn norm(a: &[f32]) -> f64 {
        a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
    }

    pub fn distance(a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    }

    /// How far the columns of `q [rows, k]` are from orthonormal: the largest entry of `Q^T Q - 1`.
    pub fn skew(q: &[f32], k: usize) -> f64 {
        let rows = q.len() / k.max(1);
        let dot =
            |i: usize, j: usize| (0..rows).map(|r| f64::from(q[r * k + i]) * f64::from(q[r * k + j])).sum::<f64>();
        let entries = (0..k).flat_map(|i| (0..k).map(move |j| (i, j)));
        entries.map(|(i, j)| (dot(i, j) - f64::from(u8::from(i == j))).abs()).fold(0.0, f64::max)
    }
}
