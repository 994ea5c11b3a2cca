//! Linear algebra on plain matrices of `f64`: products, symmetric positive definite systems ([`Matrix::solve_spd`]) and the
//! thin singular value decomposition, computed by faer.
//!
//! ```text
//!   A [m, n] = U [m, k] * diag(s) [k] * Vt [k, n]      k = min(m, n),  U^T U = Vt Vt^T = 1,  s[0] >= s[1] >= ... >= 0
//! ```
//!
//! It runs on one thread, so that the same matrix gives the same bits on the same machine. The vectors' signs, and their
//! directions where singular values are equal, are any of those that fit.

mod spd;

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use thiserror::Error;

/// What can go wrong with a matrix.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LinalgError {
    /// The values do not fill the matrix.
    #[error("a matrix of {rows} x {cols} takes {rows} * {cols} values, got {actual}")]
    Length {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Values that were given.
        actual: usize,
    },
    /// Values that are not numbers.
    #[error("the matrix of {rows} x {cols} holds {count} values that are not finite")]
    NonFinite {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// How many.
        count: usize,
    },
    /// Two matrices that cannot be multiplied, or are no system of equations.
    #[error("matrices of {} x {} and {} x {} do not fit together", a[0], a[1], b[0], b[1])]
    Misfit {
        /// Rows and columns of the one.
        a: [usize; 2],
        /// Rows and columns of the other.
        b: [usize; 2],
    },
    /// Columns that are not some of a matrix's in their order.
    #[error("the columns kept must rise and be among the {cols} that there are")]
    Columns {
        /// Columns of the matrix.
        cols: usize,
    },
    /// A symmetric matrix that was to be positive definite and is not, or not by enough to be told from one that is not.
    #[error("the matrix of order {order} is not positive definite: its pivot {pivot} is not positive")]
    NotPositiveDefinite {
        /// Rows and columns.
        order: usize,
        /// The first pivot that is not positive, counted from 0.
        pivot: usize,
    },
    /// The iteration for the singular values did not come to an end.
    #[error("the singular values of a matrix of {rows} x {cols} did not converge")]
    NoConvergence {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
}

/// A matrix, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// A matrix over `values`, row after row, whose number must be exactly right.
    pub fn new(rows: usize, cols: usize, values: Vec<f64>) -> Result<Self, LinalgError> {
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(LinalgError::Length { rows, cols, actual: values.len() });
        }
        Ok(Self { rows, cols, values })
    }

    /// The matrix with that entry at `(row, column)`.
    pub fn from_fn(rows: usize, cols: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let values = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        Self { rows, cols, values: values.map(|(row, col)| entry(row, col)).collect() }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The entry at a row and a column, which the matrix must have.
    pub fn at(&self, row: usize, col: usize) -> f64 {
        self.values[row * self.cols + col]
    }

    /// The largest rank that it can have.
    pub fn full_rank(&self) -> usize {
        self.rows.min(self.cols)
    }

    /// The product with a matrix of as many rows as this one has columns.
    pub fn product(&self, other: &Matrix) -> Result<Matrix, LinalgError> {
        if self.cols != other.rows {
            return Err(LinalgError::Misfit { a: [self.rows, self.cols], b: [other.rows, other.cols] });
        }
        let mut values = vec![0.0; self.rows * other.cols];
        let out = MatMut::from_row_major_slice_mut(&mut values, self.rows, other.cols);
        let [a, b] = [self, other].map(|m| MatRef::from_row_major_slice(&m.values, m.rows, m.cols));
        matmul(out, Accum::Replace, a, b, 1.0, Par::Seq);
        Ok(Matrix { rows: self.rows, cols: other.cols, values })
    }

    fn check_finite(&self) -> Result<(), LinalgError> {
        let count = self.values.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(LinalgError::NonFinite { rows: self.rows, cols: self.cols, count });
        }
        Ok(())
    }

    /// Its thin singular value decomposition.
    ///
    /// ```
    /// use niwaki::tensor::linalg::Matrix;
    /// let svd = Matrix::new(2, 3, vec![0., 3., 0., -4., 0., 0.])?.svd()?;
    /// assert!((svd.s[0] - 4.0).abs() < 1e-12 && (svd.s[1] - 3.0).abs() < 1e-12);
    /// # Ok::<(), niwaki::tensor::linalg::LinalgError>(())
    /// ```
    pub fn svd(&self) -> Result<Svd, LinalgError> {
        let (rows, cols, rank) = (self.rows, self.cols, self.full_rank());
        self.check_finite()?;
        let (mut u, mut s, mut v) = (Mat::zeros(rows, rank), Diag::zeros(rank), Mat::zeros(cols, rank));
        let thin = ComputeSvdVectors::Thin;
        let scratch = svd_scratch::<f64>(rows, cols, thin, thin, Par::Seq, Default::default());
        svd(
            MatRef::from_row_major_slice(&self.values, rows, cols),
            s.as_mut(),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        )
        .map_err(|_| LinalgError::NoConvergence { rows, cols })?;
        Ok(Svd {
            u: Matrix::from_fn(rows, rank, |row, i| u[(row, i)]),
            s: (0..rank).map(|i| s[i]).collect(),
            vt: Matrix::from_fn(rank, cols, |i, col| v[(col, i)]),
        })
    }
}

/// A thin singular value decomposition; see the [module documentation](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Svd {
    /// The left singular vectors, one a column.
    pub u: Matrix,
    /// The singular values, the largest first.
    pub s: Vec<f64>,
    /// The right singular vectors, one a row.
    pub vt: Matrix,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;
    use crate::seed;

    /// Sums of up to some hundred products of `f64`.
    const TOLERANCE: f64 = 1e-12;

    fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
        let mut rng = seed::stream(seed, "linalg-test");
        Matrix::new(rows, cols, (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
    }

    fn transposed(a: &Matrix) -> Matrix {
        Matrix::from_fn(a.cols(), a.rows(), |row, col| a.at(col, row))
    }

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        Matrix::from_fn(a.rows(), b.cols(), |row, col| (0..a.cols()).map(|k| a.at(row, k) * b.at(k, col)).sum())
    }

    fn scaled(a: &Matrix, factors: &[f64]) -> Matrix {
        Matrix::from_fn(a.rows(), a.cols(), |row, col| a.at(row, col) * factors[col])
    }

    fn identity(n: usize) -> Matrix {
        Matrix::from_fn(n, n, |row, col| f64::from(u8::from(row == col)))
    }

    fn largest(a: &Matrix) -> f64 {
        a.values.iter().fold(0.0, |m, v| v.abs().max(m))
    }

    fn assert_near(a: &Matrix, b: &Matrix, bound: f64) {
        let difference = Matrix::from_fn(a.rows(), a.cols(), |row, col| a.at(row, col) - b.at(row, col));
        assert!(largest(&difference) <= bound, "{} is more than {bound}", largest(&difference));
    }

    /// All that the definition says.
    fn check(a: &Matrix) -> Svd {
        let svd = a.svd().unwrap();
        let size = a.full_rank().max(1) as f64;
        assert_near(&product(&scaled(&svd.u, &svd.s), &svd.vt), a, TOLERANCE * size * largest(a));
        assert_near(&product(&transposed(&svd.u), &svd.u), &identity(a.full_rank()), TOLERANCE * size);
        assert_near(&product(&svd.vt, &transposed(&svd.vt)), &identity(a.full_rank()), TOLERANCE * size);
        assert!(svd.s.is_sorted_by(|a, b| a >= b) && svd.s.iter().all(|s| *s >= 0.0), "{:?}", svd.s);
        svd
    }

    proptest! {
        #[test]
        fn the_decomposition_is_what_its_definition_says(rows in 1usize..24, cols in 1usize..24, seed: u64) {
            check(&random(rows, cols, seed));
        }

        #[test]
        fn products_are_those_of_the_definition(m in 0usize..12, k in 0usize..12, n in 0usize..12, seed: u64) {
            let (a, b) = (random(m, k, seed), random(k, n, seed ^ 1));
            assert_near(&a.product(&b).unwrap(), &product(&a, &b), TOLERANCE);
            let misfit = LinalgError::Misfit { a: [m, k], b: [k + 1, n] };
            prop_assert_eq!(a.product(&random(k + 1, n, seed)), Err(misfit));
        }

        #[test]
        fn a_product_of_thin_matrices_has_no_more_singular_values_than_they_are_thin(
            rows in 1usize..24, cols in 1usize..24, rank in 0usize..6, seed: u64,
        ) {
            let a = product(&random(rows, rank, seed), &random(rank, cols, seed ^ 1));
            let svd = check(&a);
            let tail = svd.s.iter().skip(rank).fold(0.0, |m: f64, s| m.max(*s));
            prop_assert!(tail <= TOLERANCE * largest(&a).max(f64::MIN_POSITIVE));
        }

        /// The shapes of weights: far taller or wider than square, and large enough for faer's divide and conquer.
        #[test]
        #[ignore = "half a minute: run it after a change of faer's version"]
        fn large_matrices_are_decomposed_as_well(rows in 1usize..400, cols in 1usize..400, rank in 1usize..400, seed: u64) {
            check(&random(rows, cols, seed));
            check(&product(&random(rows, rank, seed), &random(rank, cols, seed ^ 1)));
        }
    }

    #[test]
    fn tall_wide_and_large_matrices_are_decomposed() {
        for (rows, cols) in [(300, 7), (7, 300), (300, 1), (1, 300), (150, 160), (160, 150)] {
            check(&random(rows, cols, 3));
        }
        check(&product(&random(200, 5, 1), &random(5, 180, 2)));
        check(&identity(140));
    }

    #[test]
    fn matrices_of_zeros_and_of_nothing_have_zeros_and_nothing() {
        assert_eq!(check(&Matrix::from_fn(5, 9, |_, _| 0.0)).s, [0.0; 5]);
        assert!(Matrix::from_fn(0, 3, |_, _| 0.0).svd().unwrap().s.is_empty());
        assert!(Matrix::from_fn(3, 0, |_, _| 0.0).svd().unwrap().s.is_empty());
    }

    #[test]
    fn very_small_and_very_large_numbers_keep_their_precision() {
        for scale in [1e-40, 1e-8, 1e8, 1e38] {
            let a = random(40, 20, 5);
            check(&Matrix::from_fn(40, 20, |row, col| a.at(row, col) * scale));
        }
    }

    #[test]
    fn the_same_matrix_gives_the_same_bits() {
        let a = random(150, 140, 11);
        assert_eq!(a.svd().unwrap(), a.svd().unwrap());
    }

    #[test]
    fn what_is_no_number_is_counted() {
        let error = Matrix::new(1, 3, vec![f64::NAN, 1.0, f64::INFINITY]).unwrap().svd().unwrap_err();
        assert_eq!(error, LinalgError::NonFinite { rows: 1, cols: 3, count: 2 });
        assert_eq!(Matrix::new(2, 2, vec![0.0]).unwrap_err(), LinalgError::Length { rows: 2, cols: 2, actual: 1 });
    }
}
