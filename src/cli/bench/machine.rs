//! What bounds every case on a machine: its multiplications and additions, and its memory.

use std::hint::black_box;

use niwaki_kernels::simd::{Path, peak, stream};
use rayon::prelude::*;

use super::case::Case;

/// Rounds of multiplications and additions, in parts that threads share out: some milliseconds.
const ROUNDS: usize = 1 << 16;
const PARTS: usize = 32;
const NUMBERS: usize = 100_000_000;
/// Numbers that are copied at a time: so many are written past the caches.
const PIECE: usize = 1 << 20;

/// `peak_fma`: multiplications and additions in registers, on all threads. `copy_100m`: 100 million numbers of 32 bits
/// from one place in memory to another; bytes that are read and bytes that are written count.
pub fn cases() -> Vec<Case> {
    let path = Path::chosen();
    // The number of threads must not be asked for here: whoever does makes a pool, without the thread that computes.
    let count = peak::multiply_adds(path, 1) as usize * ROUNDS * PARTS;
    let peak = Case::new("peak_fma", move || {
        Ok(move || {
            (0..PARTS).into_par_iter().with_max_len(1).for_each(|_| _ = black_box(peak::multiply_adds(path, ROUNDS)))
        })
    });
    let copy = Case::new("copy_100m", || {
        let (from, mut to) = (vec![1.0f32; NUMBERS], vec![0.0f32; NUMBERS]);
        Ok(move || to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| stream(from, to)))
    });
    vec![peak.of(count, "FLOP"), copy.of(2 * NUMBERS * size_of::<f32>(), "B")]
}
