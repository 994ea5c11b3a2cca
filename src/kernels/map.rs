//! Functions of each element, on all threads.

use rayon::prelude::*;

/// Elements that a thread takes at once: enough that handing them out costs nothing beside.
const CHUNK: usize = 1 << 14;

/// `f` of each element.
pub(super) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    map_chunks(x, |y, x| y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x)))
}

/// What `f` writes for each chunk of `x`.
pub(super) fn map_chunks(x: &[f32], f: impl Fn(&mut [f32], &[f32]) + Sync) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f(y, x));
    y
}

/// `f` of each pair of elements of two slices of one length.
pub(super) fn map_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut y = vec![0.0; a.len()];
    let pairs = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(pairs).for_each(|(y, (a, b))| {
        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = f(*a, *b));
    });
    y
}
