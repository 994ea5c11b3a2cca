//! The product of a few rows with a matrix that is used again and again: the matrix is laid out once for it.
//!
//! ```text
//!   out[r][j] = start[r][j] + sum_k a[r][k] w[k][j]
//! ```
//!
//! The matrix `[k, columns]` becomes panels of two vectors' width, `[panel][k][2 LANES]`, which are read from front to back.
//! Its columns are groups (gates) that begin at a vector each, padded with zeros. A tile of rows and one panel is summed up
//! in registers: each step loads two vectors of the panel and multiplies them with one number of each row. A number of
//! the result is the sum over `k` in its order, so its bits do not depend on which rows are computed together.

use rayon::prelude::*;

use crate::matmul::Matrix;
use crate::simd::{Path, Task, Vector};

/// Numbers of the widest vector.
const MOST_LANES: usize = 16;

/// Sizes of a matrix in panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Rows of the matrix: numbers in each sum.
    pub(super) k: usize,
    /// Groups of columns.
    pub(super) groups: usize,
    /// Columns of a group.
    pub(super) width: usize,
    /// Numbers of a vector.
    pub(super) lanes: usize,
}

impl Layout {
    pub(super) fn new(path: Path, k: usize, groups: usize, width: usize) -> Self {
        Self { k, groups, width, lanes: path.lanes() }
    }

    /// Columns of a group with its padding.
    pub(super) fn padded(&self) -> usize {
        self.width.next_multiple_of(self.lanes)
    }

    /// Columns of all groups with their padding.
    pub(super) fn columns(&self) -> usize {
        self.groups * self.padded()
    }

    fn panels(&self) -> usize {
        self.columns().div_ceil(2 * self.lanes)
    }

    /// Numbers of the matrix in panels.
    pub(super) fn len(&self) -> usize {
        self.panels() * self.k * 2 * self.lanes
    }

    /// The column of the matrix that comes to a place among the padded ones, if any does.
    fn source(&self, place: usize) -> Option<usize> {
        let (group, unit) = (place / self.padded(), place % self.padded());
        (group < self.groups && unit < self.width).then_some(group * self.width + unit)
    }

    /// Lays out a matrix of `k` rows and `groups * width` columns.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    pub(super) fn pack(&self, matrix: Matrix<'_>, packed: &mut [f32]) {
        assert_eq!((matrix.rows(), matrix.columns()), (self.k, self.groups * self.width), "sizes of a matrix to pack");
        assert_eq!(packed.len(), self.len(), "size of a matrix in panels");
        if packed.is_empty() {
            return;
        }
        let width = 2 * self.lanes;
        packed.par_chunks_exact_mut(self.k * width).enumerate().for_each(|(panel, packed)| {
            let mut columns = [None; 2 * MOST_LANES];
            for (lane, column) in columns[..width].iter_mut().enumerate() {
                *column = self.source(panel * width + lane);
            }
            for (k, packed) in packed.chunks_exact_mut(width).enumerate() {
                for (place, column) in packed.iter_mut().zip(&columns) {
                    *place = column.map_or(0.0, |column| matrix.at(k, column));
                }
            }
        });
    }

    /// Lays out numbers of the columns, zeros where there are none.
    pub(super) fn pad(&self, numbers: impl Fn(usize) -> f32, padded: &mut [f32]) {
        for (place, to) in padded.iter_mut().enumerate() {
            *to = self.source(place).map_or(0.0, &numbers);
        }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Nothing.
    Zero,
    /// The same numbers for each row.
    Row(&'a [f32]),
    /// What is there.
    Old,
}

/// Some rows of numbers.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) numbers: &'a [f32],
    /// From where a row begins to where the next one does.
    pub(super) stride: usize,
}

/// A product: of `count` rows, written to as many rows of `out`, which begin every `out_stride` numbers.
pub(super) struct Product<'a> {
    pub(super) layout: Layout,
    pub(super) packed: &'a [f32],
    pub(super) count: usize,
    pub(super) rows: Rows<'a>,
    pub(super) start: Start<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
    /// Columns that are written, up to all with their padding.
    pub(super) columns: usize,
}

/// Numbers from the first row's begin to the last one's end.
pub(super) fn span(count: usize, stride: usize, width: usize) -> usize {
    if count == 0 { 0 } else { (count - 1) * stride + width }
}

impl Task for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Layout { k, lanes, .. } = self.layout;
        assert_eq!(lanes, V::LANES, "a matrix in panels is for one width of vectors");
        assert_eq!(self.packed.len(), self.layout.len(), "size of a matrix in panels");
        assert!(self.columns <= self.layout.columns(), "columns of a product");
        assert!(self.rows.numbers.len() >= span(self.count, self.rows.stride, k), "rows of a product");
        assert!(self.out.len() >= span(self.count, self.out_stride, self.columns), "result of a product");
        if let Start::Row(row) = self.start {
            assert!(row.len() >= self.columns, "numbers that a product is added to");
        }
        for first in (0..self.columns).step_by(2 * lanes) {
            let columns = (self.columns - first).min(2 * lanes);
            let masks = [V::first(columns), V::first(columns.saturating_sub(lanes))];
            let mut row = 0;
            while row < self.count {
                let left = self.count - row;
                // SAFETY: the sizes that were checked above: panels hold `k` times two vectors, `left` rows of both
                // slices begin at `row`, and `columns` numbers of each from `first` on may be read and written. Tiles
                // have at most `left` rows.
                unsafe {
                    let tile: Tile<V> = Tile {
                        k,
                        a: self.rows.numbers.as_ptr().wrapping_add(row * self.rows.stride),
                        a_stride: self.rows.stride,
                        w: self.packed.as_ptr().add(first * k),
                        out: self.out.as_mut_ptr().add(row * self.out_stride + first),
                        out_stride: self.out_stride,
                        start: match self.start {
                            Start::Zero => None,
                            Start::Row(numbers) => Some((numbers.as_ptr().add(first), 0)),
                            Start::Old => Some((self.out.as_ptr().add(row * self.out_stride + first), self.out_stride)),
                        },
                        masks,
                    };
                    row += if V::REGISTERS >= 32 && left >= 8 {
                        tile.compute::<8>()
                    } else if left >= 4 {
                        tile.compute::<4>()
                    } else if left >= 2 {
                        tile.compute::<2>()
                    } else {
                        tile.compute::<1>()
                    };
                }
            }
        }
    }
}

/// Some rows of a result, two vectors wide.
struct Tile<V: Vector> {
    k: usize,
    a: *const f32,
    a_stride: usize,
    w: *const f32,
    out: *mut f32,
    out_stride: usize,
    /// What it is added to, and how far a row of that is from the next one.
    start: Option<(*const f32, usize)>,
    masks: [V::Mask; 2],
}

impl<V: Vector> Tile<V> {
    /// Computes `R` rows; gives how many.
    ///
    /// # Safety
    ///
    /// `R` rows are at all pointers: of `k` numbers at `a`, of as many numbers as the masks have lanes at `out` and `start`,
    /// and `k` times two vectors at `w`.
    #[inline(always)]
    unsafe fn compute<const R: usize>(&self) -> usize {
        let mut sums = [[V::zero(); 2]; R];
        if let Some((start, stride)) = self.start {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for the rows at `start`; where the second mask has no lane nothing is
                    // read, and the address is not taken further than the panel's width.
                    *sum = unsafe { V::load_first(start.wrapping_add(r * stride + i * V::LANES), self.masks[i]) };
                }
            }
        }
        for k in 0..self.k {
            // SAFETY: the caller vouches for `k` times two vectors at `w`.
            let w = unsafe {
                let w = self.w.add(k * 2 * V::LANES);
                [V::load(w), V::load(w.add(V::LANES))]
            };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller vouches for `R` rows of `k` numbers at `a`.
                let a = V::splat(unsafe { *self.a.add(r * self.a_stride + k) });
                sums[0] = a.mul_add(w[0], sums[0]);
                sums[1] = a.mul_add(w[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                // SAFETY: as for `start`.
                unsafe { sum.store_first(self.out.wrapping_add(r * self.out_stride + i * V::LANES), self.masks[i]) };
            }
        }
        R
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::run;
    use crate::testing::numbers;

    proptest! {
        #[test]
        fn a_product_is_that_of_the_definition(
            count in 0usize..20, k in 0usize..30, groups in 1usize..5, width in 1usize..40, gap in 0usize..3,
            kind in 0usize..3, seed in any::<u64>(),
        ) {
            let (rows, weights) = (numbers(count * (k + gap), seed), numbers(groups * width * k, seed.wrapping_add(1)));
            let matrix = Matrix::new(&weights, groups * width, k).transposed();
            let bias = numbers(groups * width, seed.wrapping_add(2));
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let layout = Layout::new(path, k, groups, width);
                let mut packed = vec![f32::NAN; layout.len()];
                layout.pack(matrix, &mut packed);
                let mut padded = vec![f32::NAN; layout.columns()];
                layout.pad(|column| bias[column], &mut padded);
                let stride = layout.columns() + gap;
                let old = numbers(count * stride, seed.wrapping_add(3));
                // All columns, and not all.
                for columns in [layout.columns(), layout.columns() - layout.padded() + width] {
                    let mut out = old.clone();
                    let start = [Start::Zero, Start::Row(&padded), Start::Old][kind];
                    let rows = Rows { numbers: &rows, stride: k + gap };
                    run(path, Product { layout, packed: &packed, count, rows, start, out: &mut out, out_stride: stride, columns });
                    for (place, found) in out.iter().enumerate() {
                        let (r, place_in_row) = (place / stride, place % stride);
                        let old = f64::from(old[place]);
                        let start = [0.0, padded.get(place_in_row).map_or(0.0, |v| f64::from(*v)), old][kind];
                        let exact = if place_in_row >= columns {
                            old
                        } else {
                            let product = layout.source(place_in_row).map_or(0.0, |column| {
                                (0..k).map(|k| f64::from(rows.numbers[r * rows.stride + k]) * f64::from(matrix.at(k, column))).sum()
                            });
                            start + product
                        };
                        prop_assert!((f64::from(*found) - exact).abs() < 1e-5, "{path:?} {place}: {found} {exact}");
                    }
                }
            }
        }
    }
}
