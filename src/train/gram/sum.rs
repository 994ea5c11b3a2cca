//! The sum of `u u^T` over many `u`: products of blocks in `f32`, added up in `f64`.
//!
//! ```text
//!   sum += U^T U      U [block, order], one u a row; only what is on and above the diagonal, band by band
//! ```
//!
//! A block has a fixed size, and each band of the sum belongs to one task, so that the bits do not depend on the number of
//! threads.

use niwaki_kernels::matmul::{Matrix as View, Old, Threads, multiply};
use rayon::prelude::*;

use crate::tensor::linalg::{LinalgError, Matrix};

/// Vectors of a block: sums in `f32` are no longer than this.
const BLOCK: usize = 1024;
/// Rows of a band.
const BAND: usize = 256;

/// A sum on its way.
pub(super) struct Sum {
    columns: usize,
    /// Rows and columns of the sum: the columns, and the constant where there is one.
    order: usize,
    /// Vectors so far.
    count: u64,
    /// `[order, order]`, on and above the diagonal.
    sum: Vec<f64>,
}

impl Sum {
    /// A sum of nothing yet, of vectors of that many columns and so many 1 behind them.
    pub(super) fn new(columns: usize, constants: usize) -> Self {
        let order = columns + constants;
        Self { columns, order, count: 0, sum: vec![0.0; order * order] }
    }

    /// Columns of a vector, without constants.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Adds `count` vectors; `read` writes the one with that number into what it is given.
    pub(super) fn add(&mut self, count: usize, read: impl Fn(usize, &mut [f32]) + Sync) {
        let (columns, order) = (self.columns, self.order);
        // What is not read stays 1: the constants.
        let mut block = vec![1.0; BLOCK.min(count) * order];
        for first in (0..count).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(count - first) * order];
            let rows = block.par_chunks_exact_mut(order).enumerate();
            rows.for_each(|(row, vector)| read(first + row, &mut vector[..columns]));
            self.add_block(block);
        }
    }

    fn add_block(&mut self, block: &[f32]) {
        let (order, rows) = (self.order, block.len() / self.order);
        self.count += rows as u64;
        self.sum.par_chunks_mut(BAND * order).enumerate().for_each(|(band, sums)| {
            let start = band * BAND;
            let (height, width) = (sums.len() / order, order - start);
            let columns = |count| View::with_row_stride(&block[start..], rows, count, order);
            let mut product = vec![0.0; height * width];
            multiply(&mut product, columns(height).transposed(), columns(width), Old::Dropped, Threads::This);
            for (sums, product) in sums.chunks_exact_mut(order).zip(product.chunks_exact(width)) {
                sums[start..].iter_mut().zip(product).for_each(|(sum, product)| *sum += f64::from(*product));
            }
        });
    }

    /// The mean of `u u^T`, zero where there was no vector; an error where it holds what is no finite number.
    pub(super) fn mean(mut self) -> Result<Matrix, LinalgError> {
        let (order, count) = (self.order, self.count.max(1) as f64);
        for row in 0..order {
            for column in row..order {
                let mean = self.sum[row * order + column] / count;
                self.sum[row * order + column] = mean;
                self.sum[column * order + row] = mean;
            }
        }
        let bad = self.sum.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            return Err(LinalgError::NonFinite { rows: order, cols: order, count: bad });
        }
        Matrix::new(order, order, self.sum)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::seed;

    fn numbers(count: usize) -> Vec<f32> {
        let mut rng = seed::stream(4, "sum-test");
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn mean(vectors: &[f32], columns: usize, constants: usize) -> Matrix {
        let mut sum = Sum::new(columns, constants);
        sum.add(vectors.len() / columns, |i, to| to.copy_from_slice(&vectors[i * columns..(i + 1) * columns]));
        sum.mean().unwrap()
    }

    #[test]
    fn several_blocks_and_bands_are_summed_as_by_the_definition() {
        for (count, columns, constants) in [(BLOCK + 7, 5, 1), (3, 2, 0), (40, BAND + 3, 1), (9, 2 * BAND, 0)] {
            let vectors = numbers(count * columns);
            let at = |i: usize, column: usize| match column {
                constant if constant == columns => 1.0,
                column => f64::from(vectors[i * columns + column]),
            };
            let found = mean(&vectors, columns, constants);
            assert_eq!(found.rows(), columns + constants);
            for (a, b) in (0..found.rows()).flat_map(|a| (0..found.rows()).map(move |b| (a, b))).step_by(7) {
                let expected = (0..count).map(|i| at(i, a) * at(i, b)).sum::<f64>() / count as f64;
                assert!((found.at(a, b) - expected).abs() < 1e-6, "{a} {b}");
                assert_eq!(found.at(a, b), found.at(b, a));
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let columns = BAND + 20;
        let vectors = numbers((BLOCK + 3) * columns);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| mean(&vectors, columns, 1))
        };
        assert!(with(1) == with(2) && with(1) == with(3));
    }

    #[test]
    fn nothing_is_zero_and_what_is_not_finite_is_refused() {
        assert_eq!(Sum::new(2, 0).mean().unwrap(), Matrix::from_fn(2, 2, |_, _| 0.0));
        let mut sum = Sum::new(2, 0);
        sum.add(1, |_, to| to.copy_from_slice(&[1.0, f32::NAN]));
        assert_eq!(sum.mean().unwrap_err(), LinalgError::NonFinite { rows: 2, cols: 2, count: 3 });
    }
}
