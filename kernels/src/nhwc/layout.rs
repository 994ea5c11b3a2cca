//! Between images whose channels lie apart, `[n, c, pixels]`, and those whose channels lie together, `[n, pixels, c]`.
//!
//! Both ways are the transposing of a matrix a sample.

use super::conv::Old;
use super::divide;

/// A side of the square in which numbers are moved: as many lines of memory stay at hand.
const TILE: usize = 16;

/// Writes each sample `[rows, columns]` of `from` as `[columns, rows]`.
pub fn transpose(from: &[f32], to: &mut [f32], [rows, columns]: [usize; 2], old: Old) {
    let sample = rows * columns;
    divide::pieces(to, sample, |first, to| {
        let from = &from[first * sample..][..to.len()];
        for (from, to) in from.chunks_exact(sample).zip(to.chunks_exact_mut(sample)) {
            match old {
                Old::Dropped => one(from, to, [rows, columns], |to, from| *to = from),
                Old::Added => one(from, to, [rows, columns], |to, from| *to += from),
            }
        }
    });
}

#[inline(always)]
fn one(from: &[f32], to: &mut [f32], [rows, columns]: [usize; 2], put: impl Fn(&mut f32, f32)) {
    for start in (0..columns).step_by(TILE) {
        let end = (start + TILE).min(columns);
        for (row, from) in from.chunks_exact(columns).enumerate() {
            let to = to[start * rows..end * rows].iter_mut().skip(row).step_by(rows);
            to.zip(&from[start..end]).for_each(|(to, from)| put(to, *from));
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
