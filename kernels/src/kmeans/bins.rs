//! A histogram of numbers, and those of them that were looked at more closely.
//!
//! A bin holds the numbers whose first bits are the same, in the order of numbers. In a bin numbers are evenly spaced, so
//! the sum of their last bits as whole numbers is all that the sum of the numbers takes: it is exact, and in any order the
//! same.

use rayon::prelude::*;

use super::{KmeansError, Sum};

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

/// How far around a bound values are collected, the first time, as a share of the distance from the least to the largest.
const AROUND: f64 = 1e-4;

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
    /// What is in the bins before each of them, and in all.
    before: Vec<Sum>,
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
        let (mut ids, mut before, mut all) = (Vec::new(), Vec::new(), Sum::default());
        let mut non_finite = 0;
        for id in 0..BINS {
            let counts = blocks.iter().map(|block| block[id]);
            let [count, low] =
                counts.fold([0, 0], |[c, l], word| [c + (word >> COUNT), l + (word & ((1 << COUNT) - 1))]);
            if count == 0 {
                continue;
            }
            let [first, last] = Self::ends(id as u32);
            if !(first.is_finite() && last.is_finite()) {
                non_finite += count as usize;
                continue;
            }
            ids.push(id as u32);
            before.push(all);
            let spacing = (last - first) / f64::from((1u32 << LOW) - 1);
            all.count += count as f64;
            all.sum += count as f64 * first + low as f64 * spacing;
        }
        before.push(all);
        if non_finite > 0 { Err(KmeansError::NonFinite { count: non_finite }) } else { Ok(Self { ids, before }) }
    }

    /// The first and the last number of a bin.
    fn ends(id: u32) -> [f64; 2] {
        [id << LOW, (id << LOW) | ((1 << LOW) - 1)].map(|key| f64::from(of_key(key)))
    }

    /// All values.
    pub(super) fn total(&self) -> Sum {
        self.before[self.ids.len()]
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

    /// The values up to `x`, about: as if those of a bin were spread evenly over it.
    pub(super) fn about_up_to(&self, x: f64) -> Sum {
        let id = bin(key(x as f32));
        let place = match self.place(id) {
            Ok(place) => place,
            Err(place) => return self.before[place],
        };
        let (before, after) = (self.before[place], self.before[place + 1]);
        let (count, sum) = (after.count - before.count, after.sum - before.sum);
        let [first, last] = Self::ends(id);
        let share = ((x - first) / (last - first)).clamp(0.0, 1.0);
        // The mean of the part below, and so that all of them have the sum that they have.
        let part = count * share;
        let mean = sum / count - (last - first) * (1.0 - share) / 2.0;
        Sum { count: before.count + part, sum: before.sum + part * mean.clamp(first, last) }
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
    /// The sum of the values before each.
    before: Vec<f64>,
    collections: i32,
}

impl Known {
    /// Looks at the values of the bins in which bounds lie, and of those around, unless they are known. It looks further
    /// around each time.
    pub(super) fn learn(&mut self, values: &[f32], bins: &Bins, bounds: &[f32]) {
        self.places.resize(bins.ids.len(), false);
        let is_known = |bound: &f32| bins.place(bin(key(*bound))).is_ok_and(|place| self.places[place]);
        let is_empty = |bound: &f32| bins.place(bin(key(*bound))).is_err();
        if bounds.iter().all(|bound| is_known(bound) || is_empty(bound)) {
            return;
        }
        let reach = bins.spread() * AROUND * 8f64.powi(self.collections);
        self.collections += 1;
        for bound in bounds {
            let [first, last] = [-reach, reach].map(|reach| bin(key((f64::from(*bound) + reach) as f32)));
            let first = bins.ids.partition_point(|id| *id < first);
            let end = bins.ids.partition_point(|id| *id <= last);
            self.places[first..end].fill(true);
        }
        let mut wanted = vec![false; BINS];
        bins.ids.iter().zip(&self.places).filter(|(_, known)| **known).for_each(|(id, _)| wanted[*id as usize] = true);
        let of_chunk = |chunk: &[f32]| collected(chunk, &wanted);
        self.keys = values.par_chunks(CHUNK).map(of_chunk).collect::<Vec<_>>().concat();
        self.keys.par_sort_unstable();
        let mut sum = 0.0;
        let next = |key: Option<&u32>| {
            let before = sum;
            sum += key.map_or(0.0, |key| f64::from(of_key(*key)));
            before
        };
        self.before = self.keys.iter().map(Some).chain([None]).map(next).collect();
    }

    /// The values up to one whose bin is known, or empty.
    pub(super) fn up_to(&self, bins: &Bins, bound: f32) -> Sum {
        let key = key(bound);
        let place = match bins.place(bin(key)) {
            Ok(place) => place,
            Err(place) => return bins.before[place],
        };
        let first = self.keys.partition_point(|other| *other < bin(key) << LOW);
        let end = self.keys.partition_point(|other| *other <= key);
        let before = bins.before[place];
        Sum { count: before.count + (end - first) as f64, sum: before.sum + (self.before[end] - self.before[first]) }
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
