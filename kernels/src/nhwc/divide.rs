//! How work is divided between threads: by its shape alone.

use std::ops::Range;

use rayon::prelude::*;

use super::CHUNKS;

/// Numbers that one thread computes at least: below, handing them over costs more than it gains.
const BLOCK: usize = 1 << 14;

/// Calls `each` with pieces of `to`, each of whole units of `unit` numbers, and the number of the first unit in it.
pub(super) fn pieces(to: &mut [f32], unit: usize, each: impl Fn(usize, &mut [f32]) + Sync) {
    let units = (BLOCK / unit.max(1)).max(1);
    if to.len() <= units * unit {
        return each(0, to);
    }
    to.par_chunks_mut(units * unit).enumerate().for_each(|(i, to)| each(i * units, to));
}

/// As [`pieces`], of two slices with as many units each.
pub(super) fn pieces_of_two(
    a: (&mut [f32], usize),
    b: (&mut [f32], usize),
    each: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let ((a, unit_a), (b, unit_b)) = (a, b);
    let units = (BLOCK / unit_a.max(unit_b).max(1)).max(1);
    if a.len() <= units * unit_a {
        return each(0, a, b);
    }
    let both = a.par_chunks_mut(units * unit_a).zip(b.par_chunks_mut(units * unit_b));
    both.enumerate().for_each(|(i, (a, b))| each(i * units, a, b));
}

/// The part of `rows` rows that the chunk `i` of [`CHUNKS`] has.
pub(super) fn chunk(rows: usize, i: usize) -> Range<usize> {
    i * rows / CHUNKS..(i + 1) * rows / CHUNKS
}

/// What `of` gives for the rows of each chunk, in order; `width` is the numbers of a row.
pub(super) fn chunks<T: Send>(rows: usize, width: usize, of: impl Fn(Range<usize>) -> T + Sync + Send) -> Vec<T> {
    if rows * width <= BLOCK {
        return (0..CHUNKS).map(|i| of(chunk(rows, i))).collect();
    }
    (0..CHUNKS).into_par_iter().map(|i| of(chunk(rows, i))).collect()
}

/// Calls `each` with every task; `work` is how many numbers there are in all.
pub(super) fn each<T: Send>(tasks: Vec<T>, work: usize, each: impl Fn(T) + Sync + Send) {
    if work <= BLOCK {
        return tasks.into_iter().for_each(each);
    }
    tasks.into_par_iter().for_each(each);
}
