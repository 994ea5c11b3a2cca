//! All singular values and vectors, by faer on one thread.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par};

use super::{LinalgError, Svd, scale, transposed};

impl Svd {
    /// The thin decomposition of a matrix, with all `min(rows, cols)` singular values.
    ///
    /// # Panics
    ///
    /// If `a` is of another size.
    pub fn thin(a: &[f32], rows: usize, cols: usize) -> Result<Self, LinalgError> {
        assert_eq!(a.len(), rows * cols, "a matrix of {rows} x {cols} needs as many numbers");
        let (scale, rank) = (scale(a)?, rows.min(cols));
        let scaled: Vec<f32> = a.iter().map(|v| v * scale).collect();
        let (mut u, mut s, mut v) = (Mat::<f32>::zeros(rows, rank), Diag::zeros(rank), Mat::<f32>::zeros(cols, rank));
        let thin = ComputeSvdVectors::Thin;
        let scratch = svd_scratch::<f32>(rows, cols, thin, thin, Par::Seq, Default::default());
        svd(
            MatRef::from_row_major_slice(&scaled, rows, cols),
            s.as_mut(),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        )
        .map_err(|_| LinalgError::NoConvergence)?;
        let columns = |m: &Mat<f32>| m.col_iter().flat_map(|column| column.iter().copied()).collect::<Vec<f32>>();
        Ok(Self {
            u: transposed(&columns(&u), rank, rows),
            s: (0..rank).map(|i| s[i] / scale).collect(),
            vt: columns(&v),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{composed, distance, norm, skew};
    use super::*;
    use crate::testing::numbers;

    /// Roundings of sums of up to some hundred products.
    const TOLERANCE: f64 = 3e-6;

    /// All that the definition says.
    fn check(a: &[f32], rows: usize, cols: usize) -> Svd {
        let svd = Svd::thin(a, rows, cols).unwrap();
        let rank = rows.min(cols);
        assert_eq!([svd.u.len(), svd.s.len(), svd.vt.len()], [rows * rank, rank, rank * cols]);
        if rank > 0 {
            assert!(distance(&composed(&svd), a) <= TOLERANCE * norm(a) * 4.0, "{rows} x {cols}");
            assert!(
                skew(&svd.u, rank) < 1e-5 && skew(&transposed(&svd.vt, rank, cols), rank) < 1e-5,
                "{rows} x {cols}"
            );
        }
        assert!(svd.s.is_sorted_by(|a, b| a >= b) && svd.s.iter().all(|s| *s >= 0.0), "{:?}", svd.s);
        svd
    }

    proptest! {
        #[test]
        fn the_decomposition_is_what_its_definition_says(rows in 0usize..24, cols in 0usize..24, seed: u64) {
            check(&numbers(rows * cols, seed), rows, cols);
        }
    }

    #[test]
    fn tall_wide_and_large_matrices_are_decomposed() {
        for (rows, cols) in [(300, 7), (7, 300), (300, 1), (1, 300), (150, 160), (260, 140)] {
            check(&numbers(rows * cols, 3), rows, cols);
        }
        assert_eq!(check(&[0.0; 45], 5, 9).s, [0.0; 5]);
    }

    #[test]
    fn very_small_and_very_large_numbers_keep_their_precision() {
        for scale in [1e-36, 1e-8, 1e8, 1e37] {
            let a: Vec<f32> = numbers(40 * 20, 5).iter().map(|v| v * scale).collect();
            check(&a, 40, 20);
        }
    }

    #[test]
    fn what_is_no_number_is_counted() {
        let error = Svd::thin(&[f32::NAN, 1.0, f32::INFINITY], 1, 3).unwrap_err();
        assert_eq!(error, LinalgError::NonFinite { count: 2 });
    }
}
