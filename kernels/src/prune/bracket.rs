//! A bracket of magnitudes that most likely holds the one of a rank, from a sample.

use rayon::prelude::*;

use super::histogram;
use super::{Chunk, magnitude};

/// Places of which a sample takes numbers.
const PLACES: usize = 1 << 15;

/// Numbers that are taken together: a place in memory costs as much as all that is next to it.
const RUN: usize = 8;

/// Of so few numbers there is no sample.
const FEW: usize = 2 * PLACES * RUN;

/// Half the bracket's width in standard deviations of a sample's rank, were all its numbers independent. Those next to each
/// other are not quite, and 4 would be enough if they were: one in 15 000 brackets would miss.
const DEVIATIONS: f64 = 6.0;

/// Magnitudes from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bracket {
    pub(super) low: u32,
    pub(super) high: u32,
}

impl Bracket {
    /// All magnitudes.
    pub(super) const ALL: Self = Self { low: 0, high: i32::MAX as u32 };

    /// A bracket around the magnitude of rank `rank`, of 1 to `total`, the number of all numbers.
    pub(super) fn of_sample(chunks: &[Chunk<'_>], rank: usize, total: usize) -> Self {
        if total <= FEW {
            return Self::ALL;
        }
        let samples: Vec<Vec<f32>> = chunks.par_iter().map(|chunk| sample(chunk, total / PLACES)).collect();
        let samples: Vec<&[f32]> = samples.iter().map(Vec::as_slice).collect();
        let size = samples.iter().map(|sample| sample.len()).sum::<usize>();
        let share = rank as f64 / total as f64;
        let middle = share * size as f64;
        let reach = DEVIATIONS * (share * (1.0 - share) * size as f64).sqrt() + 1.0;
        let (first, last) = ((middle - reach).floor(), (middle + reach).ceil());
        let of_rank = |rank: f64| histogram::nth(&samples, Self::ALL, rank as usize).0;
        let low = if first >= 1.0 { of_rank(first) } else { Self::ALL.low };
        let high = if last <= size as f64 { of_rank(last) } else { Self::ALL.high };
        Self { low, high }
    }
}

/// Some numbers of each `stride`, at a place in it that looks like chance: numbers of a matrix repeat from row to row.
fn sample(chunk: &Chunk<'_>, stride: usize) -> Vec<f32> {
    let end = chunk.start + chunk.values.len();
    let mut taken = Vec::with_capacity((chunk.values.len() / stride + 2) * RUN);
    for i in chunk.start / stride..=end / stride {
        let place = i * stride + mixed(i as u64) as usize % stride;
        if (chunk.start..end).contains(&place) {
            let from = place - chunk.start;
            let run = &chunk.values[from..(from + RUN).min(chunk.values.len())];
            taken.extend(run.iter().map(|value| f32::from_bits(magnitude(*value))));
        }
    }
    taken
}

/// A hash of a number, the last step of SplitMix64 (Steele, Lea and Flood 2014).
fn mixed(i: u64) -> u64 {
    let i = (i ^ (i >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let i = (i ^ (i >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i ^ (i >> 31)
}
