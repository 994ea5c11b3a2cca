//! Orthonormal columns that span what those of a tall matrix span, by the Cholesky decomposition of its Gram matrix
//! (CholeskyQR2; Yamamoto et al. 2015).
//!
//! ```text
//!   G = A^T A = R^T R  (R upper triangular)      Q = A R^-1
//! ```
//!
//! That is a product with a small matrix on each side of the decomposition, where Householder's reflections work on one
//! column after the other. The rounding of `G` costs as many digits as the columns are close to dependent, so it is done
//! twice: the second time they are nearly orthonormal already. Where they are too close to dependent for that, which shows
//! in the second Gram matrix, reflections do it after all.

use faer::Mat;
use faer::linalg::solvers::Qr;
use rayon::prelude::*;

use crate::matmul::{Matrix, Old, Threads, multiply};

/// Rows whose products are summed in `f32`; the sums of these are added in `f64`.
const ROWS: usize = 256;

/// Farther from the unit matrix than this, a second Gram matrix says that the first decomposition has failed.
const SKEWED: f64 = 0.1;

/// The Gram matrix `A^T A [cols, cols]` of a tall matrix, row after row.
///
/// # Panics
///
/// If `a` is no number of whole rows.
pub fn gram(a: &[f32], cols: usize) -> Vec<f64> {
    assert!(a.len().is_multiple_of(cols.max(1)), "rows of {cols} numbers");
    // Fixed parts, added in their order: the same bits for any number of threads.
    let of_part = |part: &[f32]| {
        let part = Matrix::new(part, part.len() / cols, cols);
        let mut product = vec![0.0; cols * cols];
        multiply(&mut product, part.transposed(), part, Old::Dropped, Threads::This);
        product
    };
    let mut sum = vec![0.0; cols * cols];
    if cols > 0 {
        let parts: Vec<Vec<f32>> = a.par_chunks(ROWS * cols).map(of_part).collect();
        sum.par_chunks_mut(cols * 16).enumerate().for_each(|(place, sum)| {
            for part in &parts {
                let part = &part[place * cols * 16..][..sum.len()];
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(*part));
            }
        });
    }
    sum
}

/// Columns `Q [rows, cols]` that are orthonormal, and `R [cols, cols]`, upper triangular, with `A = Q R`. There are at
/// least as many rows as columns, and squares of the numbers are far from overflow.
///
/// # Panics
///
/// If `a` is of another size, or is not tall.
pub fn orthonormalize(a: &[f32], rows: usize, cols: usize) -> (Vec<f32>, Vec<f64>) {
    assert_eq!(a.len(), rows * cols, "a matrix of {rows} x {cols} needs as many numbers");
    assert!(rows >= cols, "a matrix of {rows} x {cols} is not tall");
    twice(a, rows, cols).unwrap_or_else(|| by_reflections(a, rows, cols))
}

/// By Cholesky decompositions; nothing where the columns are too close to dependent.
fn twice(a: &[f32], rows: usize, cols: usize) -> Option<(Vec<f32>, Vec<f64>)> {
    let first = cholesky(gram(a, cols), cols)?;
    let once = times(a, &inverse(&first, cols), rows, cols);
    let again = gram(&once, cols);
    let off = |(at, g): (usize, &f64)| (g - f64::from(u8::from(at / cols == at % cols))).abs();
    // What is no number is not near either.
    if !again.iter().enumerate().map(off).all(|off| off < SKEWED) {
        return None;
    }
    let second = cholesky(again, cols)?;
    let q = times(&once, &inverse(&second, cols), rows, cols);
    Some((q, upper_product(&second, &first, cols)))
}

/// By Householder's reflections, in `f64`: in `f32` faer takes columns that are close to dependent for dependent.
fn by_reflections(a: &[f32], rows: usize, cols: usize) -> (Vec<f32>, Vec<f64>) {
    let qr = Qr::new(Mat::from_fn(rows, cols, |row, col| f64::from(a[row * cols + col])).as_ref());
    let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
    let places = |rows: usize| (0..rows).flat_map(move |row| (0..cols).map(move |col| (row, col)));
    let q = places(rows).map(|place| q[place] as f32).collect();
    (q, places(cols).map(|(row, col)| if row <= col { r[(row, col)] } else { 0.0 }).collect())
}

/// `A M`, with `M` rounded to `f32`.
fn times(a: &[f32], m: &[f64], rows: usize, cols: usize) -> Vec<f32> {
    let m: Vec<f32> = m.iter().map(|v| *v as f32).collect();
    let mut out = vec![0.0; a.len()];
    multiply(&mut out, Matrix::new(a, rows, cols), Matrix::new(&m, cols, cols), Old::Dropped, Threads::All);
    out
}

/// The upper triangular `R` of `G = R^T R`; nothing where `G` is not positive definite.
fn cholesky(mut g: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for k in 0..n {
        let (above, below) = g.split_at_mut((k + 1) * n);
        let row = &mut above[k * n..];
        let pivot = row[k];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row[..k].fill(0.0);
        row[k..].iter_mut().for_each(|v| *v /= pivot.sqrt());
        for (i, other) in (k + 1..n).zip(below.chunks_mut(n)) {
            let factor = row[i];
            other[i..].iter_mut().zip(&row[i..]).for_each(|(v, r)| *v -= factor * r);
        }
    }
    Some(g)
}

/// The inverse of an upper triangular matrix.
fn inverse(r: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for row in (0..n).rev() {
        let pivot = r[row * n + row];
        let (above, below) = out.split_at_mut((row + 1) * n);
        let own = &mut above[row * n..];
        own[row] = 1.0;
        for (k, solved) in (row + 1..n).zip(below.chunks(n)) {
            let factor = r[row * n + k];
            own[k..].iter_mut().zip(&solved[k..]).for_each(|(v, s)| *v -= factor * s);
        }
        own[row..].iter_mut().for_each(|v| *v /= pivot);
    }
    out
}

/// The product of two upper triangular matrices.
fn upper_product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, out) in out.chunks_mut(n.max(1)).enumerate() {
        for k in row..n {
            let factor = a[row * n + k];
            out[k..].iter_mut().zip(&b[k * n + k..(k + 1) * n]).for_each(|(v, b)| *v += factor * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{distance, norm, product, skew};
    use super::*;
    use crate::testing::numbers;

    fn check(a: &[f32], rows: usize, cols: usize) {
        let (q, r) = orthonormalize(a, rows, cols);
        assert!(skew(&q, cols) < 5e-6, "{rows} x {cols}: {}", skew(&q, cols));
        assert!((0..cols).all(|row| r[row * cols..row * cols + row].iter().all(|v| *v == 0.0)));
        let r: Vec<f32> = r.iter().map(|v| *v as f32).collect();
        assert!(
            distance(&product(&q, &r, cols), a) <= 3e-6 * norm(a),
            "{rows} x {cols}: {}",
            distance(&product(&q, &r, cols), a) / norm(a)
        );
    }

    proptest! {
        #[test]
        fn columns_become_orthonormal(cols in 1usize..20, more in 0usize..600, seed: u64) {
            let rows = cols + more;
            check(&numbers(rows * cols, seed), rows, cols);
        }

        /// Of columns that depend on each other the Gram matrix cannot be decomposed, or only badly.
        #[test]
        fn columns_that_depend_on_each_other_become_orthonormal(
            cols in 1usize..20, more in 0usize..300, inner in 1usize..20, noise in 0u32..9, seed: u64,
        ) {
            let (rows, inner) = (cols + more, inner.min(cols));
            let low = product(&numbers(rows * inner, seed), &numbers(inner * cols, seed ^ 1), inner);
            let noise = if noise == 8 { 0.0 } else { 10f32.powi(-(noise as i32)) };
            let a: Vec<f32> = low.iter().zip(numbers(rows * cols, seed ^ 2)).map(|(a, b)| a + noise * b).collect();
            check(&a, rows, cols);
        }

        #[test]
        fn the_gram_matrix_is_that_of_its_definition(cols in 1usize..9, rows in 0usize..900, seed: u64) {
            let a = numbers(rows * cols, seed);
            let found = gram(&a, cols);
            for (at, found) in found.iter().enumerate() {
                let sum: f64 = a.chunks(cols).map(|row| f64::from(row[at / cols]) * f64::from(row[at % cols])).sum();
                prop_assert!((found - sum).abs() <= 1e-5 * (1.0 + sum.abs()));
            }
        }
    }

    #[test]
    fn zeros_have_orthonormal_columns_too() {
        check(&[0.0; 60], 20, 3);
    }
}
