//! The matrix product, by the `gemm` crate. This file holds the crate's only unsafe code.

use gemm::Parallelism;

/// A matrix that lies in a slice: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `rows` and `columns` whose rows lie one after the other.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} x {columns} needs as many numbers");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What becomes of the numbers that a product is written over.
#[derive(Clone, Copy, PartialEq)]
enum Old {
    Added,
    Dropped,
}

/// `out += a b`, with `out` row-major, on the calling thread alone.
pub(super) fn multiply_add(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    gemm(out, a, b, Old::Added, Parallelism::None);
}

/// `out = a b`, with `out` row-major, on the calling thread alone.
pub(super) fn multiply(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    gemm(out, a, b, Old::Dropped, Parallelism::None);
}

/// `out += a b`, with `out` row-major, on all threads of the pool: they share out tiles of `out`, and within a tile the
/// order of the additions is the same for any number of them.
pub(super) fn multiply_add_on_all_threads(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    gemm(out, a, b, Old::Added, Parallelism::Rayon(rayon::current_num_threads()));
}

fn gemm(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, old: Old, parallelism: Parallelism) {
    assert_eq!(a.columns, b.rows, "inner sizes of a matrix product");
    assert_eq!(out.len(), a.rows * b.columns, "size of a matrix product");
    if a.columns == 0 && old == Old::Dropped {
        out.fill(0.0);
    }
    if out.is_empty() || a.columns == 0 {
        return;
    }
    // SAFETY: a `Matrix` is only made by `new`, which checks that its slice holds rows * columns numbers, and
    // `transposed`, which keeps the set of places: all places that gemm reads lie inside the slices. `out` was checked to
    // hold rows * columns numbers, is borrowed mutably and so overlaps neither, and strides are far below isize::MAX
    // because the slices exist.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            old == Old::Added,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if old == Old::Added { 1.0 } else { 0.0f32 },
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{close, numbers};

    proptest! {
        #[test]
        fn products_of_plain_and_transposed_matrices_are_those_of_the_definition(
            m in 1usize..20, n in 1usize..20, k in 1usize..40, seed in any::<u64>(),
        ) {
            let (a, b, start) = (numbers(m * k, seed), numbers(k * n, seed + 1), numbers(m * n, seed + 2));
            let at = |i: usize, p: usize| f64::from(a[i * k + p]);
            let a_transposed: Vec<f32> = (0..k * m).map(|q| a[q % m * k + q / m]).collect();
            let b_transposed: Vec<f32> = (0..n * k).map(|q| b[q % k * n + q / k]).collect();
            let mut plain = start.clone();
            multiply_add(&mut plain, Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            let mut alone = vec![f32::NAN; m * n];
            multiply(&mut alone, Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            let mut transposed = start.clone();
            let (at_, bt_) = (Matrix::new(&a_transposed, k, m), Matrix::new(&b_transposed, n, k));
            multiply_add_on_all_threads(&mut transposed, at_.transposed(), bt_.transposed());
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|p| at(i, p) * f64::from(b[p * n + j])).sum();
                    let expected = f64::from(start[i * n + j]) + sum;
                    // 40 products of numbers below 1: rounding stays far below this.
                    prop_assert!(close(plain[i * n + j], expected, 1e-5));
                    prop_assert!(close(alone[i * n + j], sum, 1e-5));
                    prop_assert!(close(transposed[i * n + j], expected, 1e-5));
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "size of a matrix product")]
    fn a_result_of_the_wrong_size_is_refused() {
        multiply_add(&mut [0.0; 3], Matrix::new(&[1.0; 2], 2, 1), Matrix::new(&[1.0; 2], 1, 2));
    }
}
