//! One pass over numbers that tells those below a bracket, inside and above apart.

use super::bracket::Bracket;
use super::{BLOCK, magnitude};
use crate::simd::{Path, Task, Vector, run, stream};

/// Numbers that are asked together whether one of them is inside.
const GROUP: usize = 32;

/// What some numbers are like, seen from a bracket.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// How many are below it.
    pub(super) below: usize,
    /// How many are its lower end.
    pub(super) at_low: usize,
    /// How many are its upper end, where that is another.
    pub(super) at_high: usize,
    /// The magnitudes between its ends, in the order of their places.
    pub(super) inside: Vec<f32>,
    /// Their places.
    pub(super) places: Vec<u32>,
}

impl Sifted {
    /// Sifts numbers, and writes them to `out` with zero in the place of those up to the lower end.
    pub(super) fn of(values: &[f32], bracket: Bracket, mut out: Option<&mut &mut [f32]>) -> Self {
        let mut sifted = Self::default();
        let mut block = [0.0; BLOCK];
        for (place, values) in values.chunks(BLOCK).enumerate() {
            let start = place * BLOCK;
            let written = out.as_ref().map(|_| &mut block[..values.len()]);
            run(Path::chosen(), Sift { values, start, bracket, sifted: &mut sifted, out: written });
            if let Some(out) = &mut out {
                stream(&block[..values.len()], &mut out[start..][..values.len()]);
            }
        }
        sifted
    }
}

/// Sifts the numbers of one block.
struct Sift<'a> {
    values: &'a [f32],
    /// The place of the first of them.
    start: usize,
    bracket: Bracket,
    sifted: &'a mut Sifted,
    out: Option<&'a mut [f32]>,
}

impl Task for Sift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { values, start, bracket: Bracket { low, high }, sifted, out } = self;
        let (mut below, mut up_to_low, mut at_high) = (0u32, 0u32, 0u32);
        for value in values {
            let m = magnitude(*value);
            below += u32::from(m < low);
            up_to_low += u32::from(m <= low);
            at_high += u32::from(m == high);
        }
        sifted.below += below as usize;
        sifted.at_low += (up_to_low - below) as usize;
        if low != high {
            sifted.at_high += at_high as usize;
        }
        for (place, group) in values.chunks(GROUP).enumerate() {
            let mut inside = 0u32;
            for value in group {
                let m = magnitude(*value);
                inside |= u32::from(m > low) & u32::from(m < high);
            }
            if inside > 0 {
                for (place, value) in (start + place * GROUP..).zip(group) {
                    let m = magnitude(*value);
                    if m > low && m < high {
                        sifted.inside.push(f32::from_bits(m));
                        sifted.places.push(place as u32);
                    }
                }
            }
        }
        if let Some(out) = out {
            for (out, value) in out.iter_mut().zip(values) {
                *out = if magnitude(*value) > low { *value } else { 0.0 };
            }
        }
    }
}
