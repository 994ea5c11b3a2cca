//! Between images whose channels lie apart, `[n, c, pixels]`, and those whose channels lie together, `[n, pixels, c]`.
//!
//! Both ways are the transposing of a matrix a sample.

use super::conv::Old;
use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// Writes each sample `[rows, columns]` of `from` as `[columns, rows]`.
pub fn transpose(from: &[f32], to: &mut [f32], sizes: [usize; 2], old: Old) {
    let sample = sizes[0] * sizes[1];
    divide::pieces(to, sample, |first, to| {
        let from = &from[first * sample..][..to.len()];
        for (from, to) in from.chunks_exact(sample).zip(to.chunks_exact_mut(sample)) {
            simd::run(Path::chosen(), Sample { from, to, sizes, old });
        }
    });
}

/// Copies numbers, on all threads where there are many.
///
/// # Panics
///
/// If the lengths differ.
pub fn copy(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many numbers as go there");
    divide::pieces(to, 1, |first, to| to.copy_from_slice(&from[first..][..to.len()]));
}

struct Sample<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    sizes: [usize; 2],
    old: Old,
}

impl Task for Sample<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { from, to, sizes: [rows, columns], old } = self;
        for column in (0..columns).step_by(V::LANES) {
            let width = V::LANES.min(columns - column);
            for row in (0..rows).step_by(V::LANES) {
                let height = V::LANES.min(rows - row);
                let square = simd::columns::<V>(&from[row * columns + column..], columns, height, width);
                for (i, vector) in square.iter().take(width).enumerate() {
                    let (to, mask) = (&mut to[(column + i) * rows + row..][..height], V::first(height));
                    // SAFETY: the slice has as many numbers as the mask has lanes.
                    unsafe {
                        let old = if old == Old::Added { V::load_first(to.as_ptr(), mask) } else { V::zero() };
                        vector.add(old).store_first(to.as_mut_ptr(), mask);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    proptest! {
        #[test]
        fn each_number_moves_to_its_place(n in 1usize..4, rows in 1usize..40, columns in 1usize..40) {
            let (from, before) = (numbers(n * rows * columns, 1), numbers(n * rows * columns, 2));
            for old in [Old::Dropped, Old::Added] {
                let mut to = before.clone();
                transpose(&from, &mut to, [rows, columns], old);
                for (i, found) in to.iter().enumerate() {
                    let (sample, place) = (i / (rows * columns), i % (rows * columns));
                    let from = from[sample * rows * columns + place % rows * columns + place / rows];
                    prop_assert_eq!(*found, if old == Old::Added { before[i] + from } else { from });
                }
            }
        }
    }
}
