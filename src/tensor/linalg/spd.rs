//! Symmetric positive definite systems, by Cholesky's decomposition: what least squares comes down to.
//!
//! ```text
//!   A [n, n] = L L^T      X A = B      X, B [m, n], one system a row
//! ```
//!
//! As `A` is symmetric, each row of `X` is the solution of `A x = b` for that row of `B`: so lie the weights of a layer,
//! one output a row.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::{factor, solve};
use faer::{MatMut, Par};

use super::{LinalgError, Matrix};

impl Matrix {
    /// `X` of `X A = rhs`, with this symmetric positive definite matrix for `A`. Only its entries on and above the diagonal
    /// are read. It is computed in the memory of both.
    ///
    /// ```
    /// use niwaki::tensor::linalg::Matrix;
    /// let a = Matrix::new(2, 2, vec![4., 2., 2., 3.])?;
    /// let x = a.solve_spd(Matrix::new(1, 2, vec![8., 8.])?)?;
    /// assert!((x.at(0, 0) - 1.0).abs() < 1e-12 && (x.at(0, 1) - 2.0).abs() < 1e-12);
    /// # Ok::<(), niwaki::tensor::linalg::LinalgError>(())
    /// ```
    pub fn solve_spd(mut self, mut rhs: Matrix) -> Result<Matrix, LinalgError> {
        let order = self.rows;
        if self.cols != order || rhs.cols != order {
            return Err(LinalgError::Misfit { a: [self.rows, self.cols], b: [rhs.rows, rhs.cols] });
        }
        self.check_finite()?;
        rhs.check_finite()?;
        let scratch = factor::cholesky_in_place_scratch::<f64>(order, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        // Column after column, what is above the diagonal lies below it, where the decomposition reads.
        let mut a = MatMut::from_column_major_slice_mut(&mut self.values, order, order);
        let stack = MemStack::new(&mut memory);
        factor::cholesky_in_place(a.as_mut(), Default::default(), Par::Seq, stack, Default::default()).map_err(
            |factor::LltError::NonPositivePivot { index }| LinalgError::NotPositiveDefinite { order, pivot: index },
        )?;
        let columns = MatMut::from_column_major_slice_mut(&mut rhs.values, order, rhs.rows);
        let scratch = solve::solve_in_place_scratch::<f64>(order, rhs.rows, Par::Seq);
        solve::solve_in_place(a.as_ref(), columns, Par::Seq, MemStack::new(&mut MemBuffer::new(scratch)));
        Ok(rhs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;
    use crate::seed;

    fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
        let mut rng = seed::stream(seed, "spd-test");
        Matrix::new(rows, cols, (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
    }

    /// `A A^T` and a little on the diagonal.
    fn definite(order: usize, seed: u64) -> Matrix {
        let a = random(order, order, seed);
        let product = |row, col| (0..order).map(|k| a.at(row, k) * a.at(col, k)).sum::<f64>();
        Matrix::from_fn(order, order, |row, col| product(row, col) + if row == col { 0.1 } else { 0.0 })
    }

    proptest! {
        #[test]
        fn the_product_with_the_solution_is_the_right_hand_side(order in 0usize..30, rows in 0usize..6, seed: u64) {
            let (a, b) = (definite(order, seed), random(rows, order, seed ^ 1));
            // What is below the diagonal is not looked at.
            let upper = Matrix::from_fn(order, order, |row, col| if row <= col { a.at(row, col) } else { 7e7 });
            let x = upper.solve_spd(b.clone()).unwrap();
            prop_assert_eq!((x.rows(), x.cols()), (rows, order));
            let back = x.product(&a).unwrap();
            for (row, col) in (0..rows).flat_map(|row| (0..order).map(move |col| (row, col))) {
                prop_assert!((back.at(row, col) - b.at(row, col)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused() {
        let indefinite = Matrix::new(2, 2, vec![1., 2., 2., 1.]).unwrap();
        let error = indefinite.solve_spd(random(1, 2, 1)).unwrap_err();
        assert_eq!(error, LinalgError::NotPositiveDefinite { order: 2, pivot: 1 });
        let error = Matrix::from_fn(3, 3, |_, _| 0.0).solve_spd(random(1, 3, 1)).unwrap_err();
        assert_eq!(error, LinalgError::NotPositiveDefinite { order: 3, pivot: 0 });
    }

    #[test]
    fn sizes_that_do_not_fit_and_what_is_no_number_are_refused() {
        let error = random(2, 3, 1).solve_spd(random(1, 3, 1)).unwrap_err();
        assert_eq!(error, LinalgError::Misfit { a: [2, 3], b: [1, 3] });
        let error = definite(2, 1).solve_spd(random(1, 3, 1)).unwrap_err();
        assert_eq!(error, LinalgError::Misfit { a: [2, 2], b: [1, 3] });
        let nothing = Matrix::from_fn(1, 1, |_, _| f64::NAN);
        let error = nothing.solve_spd(random(1, 1, 1)).unwrap_err();
        assert_eq!(error, LinalgError::NonFinite { rows: 1, cols: 1, count: 1 });
    }
}
