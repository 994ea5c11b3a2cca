//! A histogram of numbers, and those of them that were looked at more closely.
//!
//! A bin holds the numbers whose first bits are the same, in the order of numbers. In a bin numbers are evenly spaced, so
//! the sum of their last bits as whole numbers is all that the sum of the numbers takes: it is exact, and in any order the
//! same.

use rayon::prelude::*;

use super::sums::RangeSums;
use super::{End, KmeansError};

/// Bits by which numbers of one bin differ.
const LOW: u32 = 13;

/// Bins of all numbers.
const BINS: usize = 1 << (32 - LOW);

/// The count of a bin is above the sum of the last bits, in one word.
const COUNT: u32 = 36;

/// Numbers whose last bits' sum is below `2^COUNT`.
const BLOCK: usize = 1 << (COUNT - LOW);

/// Numbers that a thread looks at before it takes others.
const CHUNK: usize = 1 << 18;

/// How far around a bound values are collected, the first time, as a share of the distance between its two centroids.
const AROUND: f64 = 1.0 / 256.0;

/// The place of a number in the order of all numbers.
#[inline(always)]
fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

fn of_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key ^ 0x8000_0000 } else { !key })
}

#[inline(always)]
fn bin(key: u32) -> u32 {
    key >> LOW
}

/// The number and the sum of the values in each bin that has any.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bins {
    /// Which bins, rising.
    ids: Vec<u32>,
    /// How many values the bins before each of them have, and all.
    counts: Vec<f64>,
    /// The sum of each one's values.
    sums: RangeSums,
}

impl Bins {
    /// The bins of `values`, which must be finite.
    pub(super) fn of(values: &[f32]) -> Result<Self, KmeansError> {
        let threads = rayon::current_num_threads();
        let chunks: Vec<&[f32]> = values.chunks(CHUNK).collect();
        // Counts and sums are whole numbers: how the values are divided does not matter.
        let of_thread = |thread: usize| {
            let own: Vec<&[f32]> = chunks.iter().skip(thread).step_by(threads).copied().collect();
            own.chunks(BLOCK / CHUNK).map(packed).collect::<Vec<_>>()
        };
        let blocks: Vec<Vec<u64>> = (0..threads).into_par_iter().flat_map_iter(of_thread).collect();
        let (mut ids, mut counts, mut sums) = (Vec::new(), vec![0.0], Vec::new());
        let (mut all, mut non_finite) = (0.0, 0);
        for id in 0..BINS {
            let words = blocks.iter().map(|block| block[id]);
            let [count, low] =
                words.fold([0, 0], |[c, l], word| [c + (word >> COUNT), l + (word & ((1 << COUNT) - 1))]);
            if count == 0 {
                continue;
            }
            let [first, last] = Self::ends(id as u32);
            if !(first.is_finite() && last.is_finite()) {
                non_finite += count as usize;
                continue;
            }
            ids.push(id as u32);
            all += count as f64;
            counts.push(all);
            let spacing = (last - first) / f64::from((1u32 << LOW) - 1);
            sums.push(count as f64 * first + low as f64 * spacing);
        }
        if non_finite > 0 {
            return Err(KmeansError::NonFinite { count: non_finite });
        }
        Ok(Self { ids, counts, sums: RangeSums::of(sums.into_iter()) })
    }

    /// The first and the last number of a bin.
    fn ends(id: u32) -> [f64; 2] {
        [id << LOW, (id << LOW) | ((1 << LOW) - 1)].map(|key| f64::from(of_key(key)))
    }

    /// How many bins have any values.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many values a bin has; none after the last.
    pub(super) fn count(&self, place: usize) -> f64 {
        self.counts.get(place + 1).map_or(0.0, |after| after - self.counts[place])
    }

    /// How many values there are before an end.
    pub(super) fn before(&self, end: End) -> f64 {
        self.counts[end.place] + end.taken
    }

    /// The sum of the values of the bins from a place to before another.
    pub(super) fn whole(&self, from: usize, to: usize) -> f64 {
        self.sums.between(from, to)
    }

    /// From the least to the largest value, to a bin.
    pub(super) fn spread(&self) -> f64 {
        match (self.ids.first(), self.ids.last()) {
            (Some(first), Some(last)) => Self::ends(*last)[1] - Self::ends(*first)[0],
            _ => 0.0,
        }
    }

    /// Where in the list of bins one is, or would be.
    fn place(&self, id: u32) -> Result<usize, usize> {
        self.ids.binary_search(&id)
    }

    /// Where the values up to `x` end, about: as if those of a bin were spread evenly over it.
    pub(super) fn end(&self, x: f64) -> End {
        let id = bin(key(x as f32));
        let place = match self.place(id) {
            Ok(place) => place,
            Err(place) => return End { place, taken: 0.0 },
        };
        let [first, last] = Self::ends(id);
        End { place, taken: self.count(place) * ((x - first) / (last - first)).clamp(0.0, 1.0) }
    }

    /// The sum of some values of a bin, about: as if they were spread evenly, but around the mean that they have.
    pub(super) fn part(&self, place: usize, from: f64, to: f64) -> f64 {
        if to <= from {
            return 0.0;
        }
        let [first, last] = Self::ends(self.ids[place]);
        let count = self.count(place);
        let away = ((from + to) / count - 1.0) / 2.0;
        let mean = self.whole(place, place + 1) / count + (last - first) * away;
        (to - from) * mean.clamp(first, last)
    }
}

/// The count and the sum of the last bits of the numbers in each bin.
fn packed(chunks: &[&[f32]]) -> Vec<u64> {
    let mut words = vec![0u64; BINS];
    for value in chunks.iter().copied().flatten() {
        let key = key(*value);
        words[bin(key) as usize] += 1 << COUNT | u64::from(key & ((1 << LOW) - 1));
    }
    words
}

/// The values of some bins, in order.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Which of the bins that have any.
    places: Vec<bool>,
    /// Their values' keys, rising.
    keys: Vec<u32>,
    /// Their values.
    sums: RangeSums,
    collections: i32,
}

impl Known {
    /// Looks at the values of the bins in which bounds lie, and of those around, unless they are known. It looks further
    /// around each time.
    pub(super) fn learn(&mut self, values: &[f32], bins: &Bins, centroids: &[f64], bounds: &[f32]) {
        self.places.resize(bins.len(), false);
        let is_settled = |bound: &f32| bins.place(bin(key(*bound))).map_or(true, |place| self.places[place]);
        if bounds.iter().all(is_settled) {
            return;
        }
        let share = AROUND * 8f64.powi(self.collections);
        self.collections += 1;
        for (bound, pair) in bounds.iter().zip(centroids.windows(2)) {
            let reach = (pair[1] - pair[0]) * share;
            let [first, last] = [-reach, reach].map(|reach| bin(key((f64::from(*bound) + reach) as f32)));
            let first = bins.ids.partition_point(|id| *id < first);
            let end = bins.ids.partition_point(|id| *id <= last);
            self.places[first..end].fill(true);
        }
        self.collect(values, bins);
    }

    /// Looks at all values.
    pub(super) fn all(values: &[f32], bins: &Bins) -> Self {
        let mut known = Self { places: vec![true; bins.len()], ..Self::default() };
        known.collect(values, bins);
        known
    }

    fn collect(&mut self, values: &[f32], bins: &Bins) {
        let mut wanted = vec![false; BINS];
        bins.ids.iter().zip(&self.places).filter(|(_, known)| **known).for_each(|(id, _)| wanted[*id as usize] = true);
        let of_chunk = |chunk: &[f32]| collected(chunk, &wanted);
        self.keys = values.par_chunks(CHUNK).map(of_chunk).collect::<Vec<_>>().concat();
        self.keys.par_sort_unstable();
        self.sums = RangeSums::of(self.keys.iter().map(|key| f64::from(of_key(*key))));
    }

    /// Where the values up to one end, whose bin is known, or empty.
    pub(super) fn end(&self, bins: &Bins, bound: f32) -> End {
        let key = key(bound);
        let place = match bins.place(bin(key)) {
            Ok(place) => place,
            Err(place) => return End { place, taken: 0.0 },
        };
        let end = self.keys.partition_point(|other| *other <= key);
        End { place, taken: (end - self.first(bins, place)) as f64 }
    }

    /// Where the values of a known bin begin among all that are known.
    fn first(&self, bins: &Bins, place: usize) -> usize {
        self.keys.partition_point(|key| *key < bins.ids[place] << LOW)
    }

    /// The sum of some values of a bin, which is known, or of all.
    pub(super) fn part(&self, bins: &Bins, place: usize, from: f64, to: f64) -> f64 {
        if to <= from {
            0.0
        } else if from == 0.0 && to == bins.count(place) {
            bins.whole(place, place + 1)
        } else {
            let first = self.first(bins, place);
            self.sums.between(first + from as usize, first + to as usize)
        }
    }
}

/// The keys of the values in bins that are wanted.
fn collected(values: &[f32], wanted: &[bool]) -> Vec<u32> {
    let mut found = Vec::new();
    let (mut block, mut count) = ([0; CHUNK / 256], 0);
    for values in values.chunks(block.len()) {
        for value in values {
            let key = key(*value);
            // What is written in vain is written over.
            block[count] = key;
            count += usize::from(wanted[bin(key) as usize]);
        }
        found.extend_from_slice(&block[..count]);
        count = 0;
    }
    found
}
