//! The magnitude of a rank by histograms: of the upper bits of all magnitudes, then of the next ones of those that have the
//! right upper ones, until there are no more bits.

use rayon::prelude::*;

use super::bracket::Bracket;
use super::magnitude;

/// Bits that a histogram tells apart, at most: the numbers are looked at again for each, and the more bins there are the
/// longer it takes to have none in all of them.
fn bits_at_once(numbers: usize) -> u32 {
    if numbers < 1 << 22 { 12 } else { 16 }
}

/// The magnitude of rank `rank`, from 1, among the numbers inside a bracket, and its own rank among those equal to it.
///
/// There are at least `rank` numbers there.
pub(super) fn nth(lists: &[&[f32]], bracket: Bracket, rank: usize) -> (u32, usize) {
    let Bracket { mut low, high } = bracket;
    let (mut bits, mut rank) = (32 - (high - low).leading_zeros(), rank);
    let at_once = bits_at_once(lists.iter().map(|list| list.len()).sum());
    loop {
        let shift = bits.saturating_sub(at_once);
        let counts = counts(lists, low, 1 << (bits - shift), shift);
        let (bin, before) = bin_of(&counts, rank);
        low += (bin as u32) << shift;
        rank -= before;
        if shift == 0 {
            return (low, rank);
        }
        bits = shift;
    }
}

/// How many magnitudes there are in each bin: from `low` on, `2^shift` of them a bin.
fn counts(lists: &[&[f32]], low: u32, bins: usize, shift: u32) -> Vec<usize> {
    let threads = rayon::current_num_threads();
    // Counts are whole numbers: how the lists are divided does not matter.
    let of_thread = |thread: usize| {
        let mut counts = vec![0usize; bins];
        for value in lists.iter().skip(thread).step_by(threads).copied().flatten() {
            if let Some(count) = counts.get_mut((magnitude(*value).wrapping_sub(low) >> shift) as usize) {
                *count += 1;
            }
        }
        counts
    };
    let sum = |mut a: Vec<usize>, b: Vec<usize>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    (0..threads).into_par_iter().map(of_thread).reduce(|| vec![0; bins], sum)
}

/// The bin that holds the number of a rank, and how many numbers come before that bin.
fn bin_of(counts: &[usize], rank: usize) -> (usize, usize) {
    let mut before = 0;
    for (bin, count) in counts.iter().enumerate() {
        if before + count >= rank {
            return (bin, before);
        }
        before += count;
    }
    unreachable!("there are {before} numbers, fewer than the rank {rank}")
}
