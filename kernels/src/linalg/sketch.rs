//! The largest singular values and vectors, by the randomised method of Halko, Martinsson and Tropp (2011).
//!
//! ```text
//!   Q = orth(A Ω)              Ω [n, l] of random signs, l = k + OVERSAMPLES: columns that span most of what A does
//!   Q = orth(A orth(A^T Q))    as often as there are power iterations: each makes the share of the small values smaller
//!   (Q^T A)^T = P R            P [n, l], R [l, l]
//!   R^T = W diag(s) Z^T        small, in f64          A ≈ (Q W) diag(s) (P Z)^T
//! ```
//!
//! The error is close to that of the best approximation where the singular values fall, and larger than it by a share that
//! each power iteration makes smaller where they do not. The random numbers come from a seed.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par};

use super::{LinalgError, Svd, orthonormalize, scale};
use crate::matmul::{Matrix, Old, Threads, multiply};

impl Svd {
    /// The `rank` largest singular values, or all where there are no more, with about their vectors.
    ///
    /// # Panics
    ///
    /// If `a` is of another size.
    pub fn largest(a: &[f32], [rows, cols]: [usize; 2], sketch: Sketch) -> Result<Self, LinalgError> {
        assert_eq!(a.len(), rows * cols, "a matrix of {rows} x {cols} needs as many numbers");
        let scale = scale(a)?;
        // Numbers of a usual size need no copy.
        let scale = if (1e-6..1e6).contains(&scale) { 1.0 } else { scale };
        let scaled: Vec<f32> = if scale == 1.0 { Vec::new() } else { a.iter().map(|v| v * scale).collect() };
        let a = if scale == 1.0 { a } else { &scaled };
        let width = (sketch.rank + sketch.more).min(rows).min(cols);
        let rank = sketch.rank.min(width);
        if rank == 0 {
            return Ok(Self { u: Vec::new(), s: Vec::new(), vt: Vec::new() });
        }
        let matrix = Matrix::new(a, rows, cols);
        let product = |a: Matrix<'_>, b: &[f32]| {
            let mut out = vec![0.0; a.rows() * width];
            multiply(&mut out, a, Matrix::new(b, a.columns(), width), Old::Dropped, Threads::All);
            out
        };
        let onto_rows = |right: &[f32]| orthonormalize(&product(matrix, right), rows, width).0;
        let mut q = onto_rows(&signs(cols * width, sketch.seed));
        for _ in 0..sketch.iterations {
            let (right, _) = orthonormalize(&product(matrix.transposed(), &q), cols, width);
            q = onto_rows(&right);
        }
        let (p, r) = orthonormalize(&product(matrix.transposed(), &q), cols, width);
        let Small { w, s, z } = small(&r, width)?;
        let mut u = vec![0.0; rows * rank];
        multiply(&mut u, Matrix::new(&q, rows, width), first(&w, width, rank), Old::Dropped, Threads::All);
        let mut vt = vec![0.0; rank * cols];
        let p = Matrix::new(&p, cols, width).transposed();
        multiply(&mut vt, first(&z, width, rank).transposed(), p, Old::Dropped, Threads::All);
        Ok(Self { u, s: s[..rank].iter().map(|s| (s / f64::from(scale)) as f32).collect(), vt })
    }
}

/// How the largest singular values are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch {
    /// How many of them.
    pub rank: usize,
    /// As many more are computed with and dropped in the end, which makes those that stay better: ten are plenty.
    pub more: usize,
    /// Power iterations: two are enough for weights of networks.
    pub iterations: usize,
    /// What the random signs are made of.
    pub seed: u64,
}

/// The first columns of a matrix with rows of `width`.
fn first(m: &[f32], width: usize, columns: usize) -> Matrix<'_> {
    Matrix::with_row_stride(m, width, columns, width)
}

/// `R^T = W diag(s) Z^T`, all `[n, n]`.
struct Small {
    w: Vec<f32>,
    s: Vec<f64>,
    z: Vec<f32>,
}

/// The decomposition of the transpose of a small matrix, in `f64`.
fn small(r: &[f64], n: usize) -> Result<Small, LinalgError> {
    let (mut w, mut s, mut z) = (Mat::<f64>::zeros(n, n), Diag::zeros(n), Mat::<f64>::zeros(n, n));
    let thin = ComputeSvdVectors::Thin;
    let scratch = svd_scratch::<f64>(n, n, thin, thin, Par::Seq, Default::default());
    svd(
        MatRef::from_row_major_slice(r, n, n).transpose(),
        s.as_mut(),
        Some(w.as_mut()),
        Some(z.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| LinalgError::NoConvergence)?;
    let places = || (0..n).flat_map(move |row| (0..n).map(move |col| (row, col)));
    let rows = |m: &Mat<f64>| places().map(|place| m[place] as f32).collect();
    Ok(Small { w: rows(&w), s: (0..n).map(|i| s[i]).collect(), z: rows(&z) })
}

/// Random signs, 64 from each step of SplitMix64 (Steele, Lea and Flood 2014).
fn signs(count: usize, seed: u64) -> Vec<f32> {
    let word = |i: usize| {
        let x = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let of_word = |word: u64| (0..64).map(move |bit| if word >> bit & 1 == 1 { 1.0 } else { -1.0 });
    (0..count.div_ceil(64)).map(word).flat_map(of_word).take(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{composed, distance, norm, product, skew};
    use super::super::transposed;
    use super::*;
    use crate::testing::numbers;

    fn sketch(rank: usize) -> Sketch {
        Sketch { rank, more: 5, iterations: 2, seed: 7 }
    }

    fn check_shape(svd: &Svd, rows: usize, cols: usize, rank: usize) {
        assert_eq!([svd.u.len(), svd.s.len(), svd.vt.len()], [rows * rank, rank, rank * cols]);
        assert!(skew(&svd.u, rank) < 1e-5 && skew(&transposed(&svd.vt, rank, cols), rank) < 1e-5);
        assert!(svd.s.is_sorted_by(|a, b| a >= b) && svd.s.iter().all(|s| *s >= 0.0), "{:?}", svd.s);
    }

    proptest! {
        #[test]
        fn a_product_of_thin_matrices_is_found_whole(rows in 1usize..60, cols in 1usize..60, inner in 1usize..9, seed: u64) {
            let inner = inner.min(rows).min(cols);
            let a = product(&numbers(rows * inner, seed), &numbers(inner * cols, seed ^ 1), inner);
            let svd = Svd::largest(&a, [rows, cols], sketch(inner)).unwrap();
            check_shape(&svd, rows, cols, inner);
            prop_assert!(distance(&composed(&svd), &a) <= 1e-5 * norm(&a));
        }

        /// Against the best approximation there is, of matrices whose singular values do not fall at all to speak of.
        #[test]
        fn the_error_is_hardly_above_the_least(rows in 2usize..60, cols in 2usize..60, rank in 1usize..20, seed: u64) {
            let rank = rank.min(rows).min(cols);
            let a = numbers(rows * cols, seed);
            let svd = Svd::largest(&a, [rows, cols], sketch(rank)).unwrap();
            check_shape(&svd, rows, cols, rank);
            let exact = Svd::thin(&a, rows, cols).unwrap();
            let least = norm(&exact.s[rank..]);
            prop_assert!(distance(&composed(&svd), &a) <= 1.05 * least + 1e-5 * norm(&a));
            // They are those of a part of the matrix, so never larger.
            prop_assert!(svd.s.iter().zip(&exact.s).all(|(s, most)| *s <= most * 1.00001 && *s >= 0.7 * most));
        }
    }

    #[test]
    fn numbers_of_any_size_zeros_and_nothing_are_decomposed() {
        for scale in [1e-30, 1e-8, 1e8, 1e30] {
            let a: Vec<f32> = product(&numbers(90, 1), &numbers(60, 2), 3).iter().map(|v| v * scale).collect();
            let svd = Svd::largest(&a, [30, 20], sketch(3)).unwrap();
            assert!(composed(&svd).iter().zip(&a).all(|(x, y)| (x - y).abs() <= 1e-5 * scale));
        }
        assert_eq!(Svd::largest(&[0.0; 12], [3, 4], sketch(2)).unwrap().s, [0.0; 2]);
        assert!(Svd::largest(&[], [0, 4], sketch(2)).unwrap().s.is_empty());
        let error = Svd::largest(&[f32::NAN, 1.0], [1, 2], sketch(1)).unwrap_err();
        assert_eq!(error, LinalgError::NonFinite { count: 1 });
    }

    #[test]
    fn any_number_of_threads_finds_the_same_bits() {
        let a = numbers(700 * 300, 3);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Svd::largest(&a, [700, 300], sketch(40)).unwrap())
        };
        assert!([of(1), of(2)] == [of(3), of(3)]);
    }
}
