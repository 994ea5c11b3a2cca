//! One pass over numbers that tells those below a bracket, inside and above apart.

use super::bracket::Bracket;
use super::{BLOCK, magnitude};
use crate::simd::{Path, Task, Vector, fence, prefetch, run, stream};
#[cfg(target_arch = "x86_64")]
use crate::x86;

/// Numbers that are asked together whether one of them is inside.
const GROUP: usize = 32;

/// How far ahead of the numbers that are looked at others are asked for: a page of memory.
pub(crate) const AHEAD: usize = 1024;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Room that a vector's lanes need behind the last number that is found.
const SLACK: usize = 16;

/// What some numbers are like, seen from a bracket.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// How many are below it, or its lower end.
    pub(super) up_to_low: usize,
    /// The magnitudes between its ends, in the order of their places.
    pub(super) inside: Vec<f32>,
    /// Their places, if the numbers are written.
    pub(super) places: Vec<u32>,
}

impl Sifted {
    /// Sifts numbers, and writes them to `out` with zero in the place of those up to the lower end.
    pub(super) fn of(path: Path, values: &[f32], bracket: Bracket, mut out: Option<&mut &mut [f32]>) -> Self {
        let Bracket { low, high } = bracket;
        let mut sifted = Self::default();
        let (mut inside, mut places) = ([0.0; BLOCK + SLACK], [0; BLOCK + SLACK]);
        // Blocks that are written begin on a line of the cache, but for the first.
        let first = out.as_ref().map_or(0, |out| out.as_ptr().align_offset(LINE).min(values.len()));
        let (head, rest) = values.split_at(first);
        let starts = [0].into_iter().chain((first..).step_by(BLOCK));
        for (start, values) in starts.zip([head].into_iter().chain(rest.chunks(BLOCK))) {
            let out = out.as_mut().map(|out| &mut out[start..start + values.len()]);
            let (start, writes) = (start as u32, out.is_some());
            let counts = Block { values, start, low, high, inside: &mut inside, places: &mut places, out }.sift(path);
            sifted.up_to_low += counts.up_to_low;
            sifted.inside.extend_from_slice(&inside[..counts.inside]);
            if writes {
                sifted.places.extend_from_slice(&places[..counts.inside]);
            }
        }
        fence();
        sifted
    }
}

/// Some numbers, and where what is found goes.
pub(crate) struct Block<'a> {
    /// The numbers.
    pub(crate) values: &'a [f32],
    /// The place of the first of them.
    pub(crate) start: u32,
    /// The lower end of the bracket.
    pub(crate) low: u32,
    /// Its upper end.
    pub(crate) high: u32,
    /// Where the magnitudes between the ends go.
    pub(crate) inside: &'a mut [f32],
    /// Where their places go, if the numbers are written.
    pub(crate) places: &'a mut [u32],
    /// Where the numbers go, with zero in the place of those up to the lower end.
    pub(crate) out: Option<&'a mut [f32]>,
}

/// How many numbers of a block there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Up to the lower end.
    pub(crate) up_to_low: usize,
    /// Between the ends.
    pub(crate) inside: usize,
}

impl Block<'_> {
    fn sift(self, path: Path) -> Counts {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => x86::sift_avx512(self),
            _ => {
                let mut kept = [0.0; BLOCK];
                let Self { values, out, .. } = self;
                let (kept, is_written) = (&mut kept[..values.len()], out.is_some());
                let counts = run(path, Block { out: is_written.then_some(&mut *kept), ..self });
                if let Some(out) = out {
                    stream(kept, out);
                }
                counts
            }
        }
    }
}

impl Task for Block<'_> {
    type Output = Counts;

    #[inline(always)]
    fn run<V: Vector>(self) -> Counts {
        let Self { values, start, low, high, inside, places, out } = self;
        let mut up_to_low = 0u32;
        for value in values {
            up_to_low += u32::from(magnitude(*value) <= low);
        }
        let mut found = 0;
        for (place, group) in (start..).step_by(GROUP).zip(values.chunks(GROUP)) {
            prefetch(group.as_ptr().wrapping_add(AHEAD));
            prefetch(group.as_ptr().wrapping_add(AHEAD + GROUP / 2));
            let mut any = 0u32;
            for value in group {
                let m = magnitude(*value);
                any |= u32::from(m > low) & u32::from(m < high);
            }
            if any > 0 {
                for (place, value) in (place..).zip(group) {
                    let m = magnitude(*value);
                    // What is written in vain is written over.
                    (inside[found], places[found]) = (f32::from_bits(m), place);
                    found += usize::from(m > low && m < high);
                }
            }
        }
        if let Some(out) = out {
            for (out, value) in out.iter_mut().zip(values) {
                *out = if magnitude(*value) > low { *value } else { 0.0 };
            }
        }
        Counts { up_to_low: up_to_low as usize, inside: found }
    }
}
