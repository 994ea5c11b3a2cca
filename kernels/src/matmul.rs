//! The matrix product, by the `gemm` crate.
//!
//! Bits do not depend on the number of threads: they share out tiles of the result, and within a tile the order of the
//! additions is the same for any number of them.

use gemm::Parallelism;

/// A matrix that lies in a slice: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `rows` and `columns` whose rows lie one after the other.
    ///
    /// # Panics
    ///
    /// If `data` is of another size.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} x {columns} needs as many numbers");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// A matrix of `rows` and `columns` whose rows begin every `stride` numbers: some columns of a wider matrix.
    ///
    /// # Panics
    ///
    /// If rows overlap, or `data` ends before the last row does.
    pub fn with_row_stride(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} numbers do not begin every {stride}");
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
        assert!(data.len() >= needed, "a matrix of {rows} x {columns} needs {needed} numbers, not {}", data.len());
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The element in a row and column.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.rows && column < self.columns, "({row}, {column}) is outside a matrix");
        self.data[row * self.row_stride + column * self.column_stride]
    }
}

/// What becomes of the numbers that a product is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// The product is added to them.
    Added,
    /// They are not read.
    Dropped,
}

/// Which threads compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling one alone.
    This,
    /// All of the pool.
    All,
}

/// `out = a b` or `out += a b`, with `out` row-major.
///
/// # Panics
///
/// If sizes do not fit.
pub fn multiply(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, old: Old, threads: Threads) {
    assert_eq!(a.columns, b.rows, "inner sizes of a matrix product");
    assert_eq!(out.len(), a.rows * b.columns, "size of a matrix product");
    if a.columns == 0 && old == Old::Dropped {
        out.fill(0.0);
    }
    if out.is_empty() || a.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::This => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: a `Matrix` is only made by `new` and `with_row_stride`, which check that its slice holds the last element,
    // and `transposed`, which keeps the set of places: all places that gemm reads lie inside the slices. `out` was checked
    // to hold rows * columns numbers, is borrowed mutably and so overlaps neither, and strides are far below isize::MAX
    // because the slices exist.
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
    use crate::testing::numbers;

    proptest! {
        #[test]
        fn products_of_all_kinds_of_matrices_are_those_of_the_definition(
            m in 1usize..20, n in 1usize..20, k in 0usize..40, gap in 0usize..5, seed in any::<u64>(),
        ) {
            let stride = k + gap;
            let (a, b) = (numbers(m * stride, seed), numbers(k * n, seed.wrapping_add(1)));
            let start = numbers(m * n, seed.wrapping_add(2));
            let b_transposed: Vec<f32> = (0..n * k).map(|q| b[q % k * n + q / k]).collect();
            let wide = Matrix::with_row_stride(&a, m, k, stride);
            let a_transposed: Vec<f32> = (0..k * m).map(|q| wide.at(q % m, q / m)).collect();
            let (plain, turned) = (Matrix::new(&b, k, n), Matrix::new(&b_transposed, n, k).transposed());
            for a in [wide, Matrix::new(&a_transposed, k, m).transposed()] {
                for b in [plain, turned] {
                    for threads in [Threads::This, Threads::All] {
                        let (mut added, mut alone) = (start.clone(), vec![f32::NAN; m * n]);
                        multiply(&mut added, a, b, Old::Added, threads);
                        multiply(&mut alone, a, b, Old::Dropped, threads);
                        for q in 0..m * n {
                            let (i, j) = (q / n, q % n);
                            let sum: f64 = (0..k).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j))).sum();
                            // 40 products of numbers below 1: rounding stays far below this.
                            prop_assert!((f64::from(alone[q]) - sum).abs() < 1e-5);
                            prop_assert!((f64::from(added[q]) - f64::from(start[q]) - sum).abs() < 1e-5);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let (a, b) = (numbers(301 * 130, 1), numbers(301 * 77, 2));
        let product = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; 130 * 77];
            let (a, b) = (Matrix::new(&a, 301, 130).transposed(), Matrix::new(&b, 301, 77));
            pool.install(|| multiply(&mut out, a, b, Old::Dropped, Threads::All));
            out
        };
        assert!(product(1) == product(2) && product(1) == product(3));
    }

    #[test]
    #[should_panic(expected = "size of a matrix product")]
    fn a_result_of_the_wrong_size_is_refused() {
        let (a, b) = (Matrix::new(&[1.0; 2], 2, 1), Matrix::new(&[1.0; 2], 1, 2));
        multiply(&mut [0.0; 3], a, b, Old::Added, Threads::This);
    }

    #[test]
    #[should_panic(expected = "needs 5 numbers")]
    fn a_matrix_that_ends_too_early_is_refused() {
        Matrix::with_row_stride(&[0.0; 4], 2, 2, 3);
    }
}
