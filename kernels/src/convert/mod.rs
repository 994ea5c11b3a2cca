//! Numbers in other formats: half precision and back, and whole numbers of eight bits.
//!
//! | | bits of precision | from `f32` |
//! |---|---|---|
//! | `f16` | 11 | [`f32_to_f16`], rounded to nearest, ties to even |
//! | `bf16` | 8 | [`f32_to_bf16`], rounded to nearest, ties to even |
//! | `i8` | 8 | [`int8`], by a scale |
//!
//! Every path gives the same bits as the `half` crate, also for what is no number: it stays none, and quiet. Large arrays
//! are converted on all threads and written past the caches, for what limits them is memory.

pub mod int8;

use bytemuck::{Pod, Zeroable};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::simd::{Path, Task, Vector, prefetch, run, stream};
#[cfg(target_arch = "x86_64")]
use crate::x86;

/// Numbers that one task converts.
const CHUNK: usize = 1 << 18;

/// Numbers that are converted before they are written, so few that they stay in the cache next to the processor.
const BLOCK: usize = 2048;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// As many bytes as this are written past the caches.
const LARGE: usize = 16 << 20;

/// Rounds to half precision, to nearest and of two to the even one; what is too large becomes infinite.
///
/// # Panics
///
/// If the lengths differ, as all conversions do.
pub fn f32_to_f16(from: &[f32], to: &mut [f16]) {
    convert(from, to, |from, to| to_f16(Path::chosen(), from, to));
}

/// Half precision as `f32`, exactly.
pub fn f16_to_f32(from: &[f16], to: &mut [f32]) {
    convert(from, to, |from, to| of_f16(Path::chosen(), from, to));
}

/// Rounds to the upper half of an `f32`, to nearest and of two to the even one.
pub fn f32_to_bf16(from: &[f32], to: &mut [bf16]) {
    convert(from, to, |from, to| run(Path::chosen(), ToBf16 { from, to }));
}

/// The upper half of an `f32` as a whole one, exactly.
pub fn bf16_to_f32(from: &[bf16], to: &mut [f32]) {
    convert(from, to, |from, to| run(Path::chosen(), OfBf16 { from, to }));
}

/// Rounds numbers to those that there are in `f16`.
pub fn round_to_f16(values: &mut [f32]) {
    round_through(values, f32_to_f16, f16_to_f32);
}

/// Rounds numbers to those that there are in `bf16`.
pub fn round_to_bf16(values: &mut [f32]) {
    round_through(values, f32_to_bf16, bf16_to_f32);
}

fn round_through<H: Zeroable + Copy>(values: &mut [f32], to: fn(&[f32], &mut [H]), of: fn(&[H], &mut [f32])) {
    values.par_chunks_mut(CHUNK).for_each(|values| {
        let mut half = [H::zeroed(); BLOCK];
        for values in values.chunks_mut(BLOCK) {
            let half = &mut half[..values.len()];
            to(values, half);
            of(half, values);
        }
    });
}

/// Converts some numbers after the other, on all threads where there are many.
fn convert<A, B>(from: &[A], to: &mut [B], some: impl Fn(&[A], &mut [B]) + Sync)
where
    A: Sync,
    B: Pod + Zeroable + Send + Sync,
{
    assert_eq!(from.len(), to.len(), "as many numbers as go in");
    if size_of_val(to) < LARGE {
        from.par_chunks(CHUNK).zip(to.par_chunks_mut(CHUNK)).for_each(|(from, to)| some(from, to));
        return;
    }
    from.par_chunks(CHUNK).zip(to.par_chunks_mut(CHUNK)).for_each(|(from, to)| {
        let mut block = [B::zeroed(); BLOCK];
        for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
            let next = from.as_ptr_range().end;
            (0..BLOCK).step_by(LINE / size_of::<A>()).for_each(|at| prefetch(next.wrapping_add(at)));
            let block = &mut block[..from.len()];
            some(from, block);
            stream(block, to);
        }
    });
}

fn to_f16(path: Path, from: &[f32], to: &mut [f16]) {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => x86::f32_to_f16_avx512(from, to),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 if x86::has_f16c() => x86::f32_to_f16_f16c(from, to),
        _ => to.convert_from_f32_slice(from),
    }
}

fn of_f16(path: Path, from: &[f16], to: &mut [f32]) {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => x86::f16_to_f32_avx512(from, to),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 if x86::has_f16c() => x86::f16_to_f32_f16c(from, to),
        _ => from.convert_to_f32_slice(to),
    }
}

struct ToBf16<'a> {
    from: &'a [f32],
    to: &'a mut [bf16],
}

impl Task for ToBf16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            let bits = from.to_bits();
            // Half of the last bit that stays, less one where that bit is even already, makes the sum carry.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            let quiet = bits >> 16 | 0x40;
            let is_number = bits & 0x7fff_ffff <= 0x7f80_0000;
            *to = bf16::from_bits(if is_number { rounded } else { quiet } as u16);
        }
    }
}

struct OfBf16<'a> {
    from: &'a [bf16],
    to: &'a mut [f32],
}

impl Task for OfBf16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            let bits = u32::from(from.to_bits()) << 16;
            let is_number = bits & 0x7fff_ffff <= 0x7f80_0000;
            *to = f32::from_bits(if is_number { bits } else { bits | 0x40_0000 });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng};

    use super::*;

    fn paths() -> impl Iterator<Item = Path> {
        Path::ALL.into_iter().filter(|path| path.is_available())
    }

    fn all_halves() -> Vec<u16> {
        (0..=u16::MAX).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// What is rounded: random bits, every half precision number, what lies between two of them, and next to that.
    fn singles() -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let random = (0..1_000_003).map(|_| rng.next_u32());
        let f16s = all_halves().into_iter().map(|bits| f16::from_bits(bits).to_f32().to_bits());
        let bf16s = all_halves().into_iter().map(|bits| u32::from(bits) << 16);
        let around = |bits: u32| {
            let between = [0, 1 << 12, 1 << 15].map(|half| bits.wrapping_add(half));
            between.into_iter().flat_map(|bits| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)])
        };
        random.chain(f16s.chain(bf16s).flat_map(around)).map(f32::from_bits).collect()
    }

    #[test]
    fn every_half_precision_number_becomes_the_same_as_with_the_half_crate() {
        let f16s: Vec<f16> = all_halves().into_iter().map(f16::from_bits).collect();
        let expected: Vec<f32> = f16s.iter().map(|v| f16::to_f32_const(*v)).collect();
        let bf16s: Vec<bf16> = all_halves().into_iter().map(bf16::from_bits).collect();
        let expected_bf16: Vec<f32> = bf16s.iter().map(|v| bf16::to_f32(*v)).collect();
        for path in paths() {
            let mut out = vec![0.0; f16s.len()];
            of_f16(path, &f16s, &mut out);
            assert_eq!(bits(&out), bits(&expected), "{path:?}");
            run(path, OfBf16 { from: &bf16s, to: &mut out });
            assert_eq!(bits(&out), bits(&expected_bf16), "{path:?}");
        }
    }

    #[test]
    fn numbers_are_rounded_as_by_the_half_crate() {
        let from = singles();
        let expected: Vec<f16> = from.iter().map(|v| f16::from_f32_const(*v)).collect();
        let expected_bf16: Vec<bf16> = from.iter().map(|v| bf16::from_f32(*v)).collect();
        for path in paths() {
            let mut out = vec![f16::ZERO; from.len()];
            to_f16(path, &from, &mut out);
            assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{path:?}");
            let mut out = vec![bf16::ZERO; from.len()];
            run(path, ToBf16 { from: &from, to: &mut out });
            assert!(out.iter().zip(&expected_bf16).all(|(a, b)| a.to_bits() == b.to_bits()), "{path:?}");
        }
    }

    #[test]
    fn large_arrays_are_converted_as_small_ones() {
        // Above and below what is written past the caches, and no multiple of anything.
        for len in [8_500_003, 600_011] {
            let from: Vec<f32> = (0..len).map(|i| i as f32 * 0.37 - 1e5).collect();
            let (mut f16s, mut bf16s) = (vec![f16::ZERO; len], vec![bf16::ZERO; len]);
            f32_to_f16(&from, &mut f16s);
            f32_to_bf16(&from, &mut bf16s);
            assert!(from.iter().zip(&f16s).all(|(from, to)| f16::from_f32(*from) == *to));
            assert!(from.iter().zip(&bf16s).all(|(from, to)| bf16::from_f32(*from) == *to));
            let mut back = vec![0.0; len];
            f16_to_f32(&f16s, &mut back);
            assert!(back.iter().zip(&f16s).all(|(back, from)| from.to_f32() == *back));
            bf16_to_f32(&bf16s, &mut back);
            assert!(back.iter().zip(&bf16s).all(|(back, from)| from.to_f32() == *back));
        }
    }

    #[test]
    fn numbers_are_rounded_where_they_are_as_on_their_way_to_half_precision_and_back() {
        let singles = singles();
        let (mut f16s, mut bf16s) = (singles.clone(), singles.clone());
        round_to_f16(&mut f16s);
        round_to_bf16(&mut bf16s);
        let through = |of: fn(f32) -> f32| singles.iter().map(|value| of(*value)).collect::<Vec<_>>();
        assert_eq!(bits(&f16s), bits(&through(|value| f16::from_f32(value).to_f32())));
        assert_eq!(bits(&bf16s), bits(&through(|value| bf16::from_f32(value).to_f32())));
    }

    proptest! {
        #[test]
        fn any_length_is_converted_to_its_end(from in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..70)) {
            for path in paths() {
                let mut to = vec![f16::ONE; from.len()];
                to_f16(path, &from, &mut to);
                let expected: Vec<u16> = from.iter().map(|v| f16::from_f32_const(*v).to_bits()).collect();
                prop_assert_eq!(to.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
                let mut back = vec![1.0; from.len()];
                of_f16(path, &to, &mut back);
                let expected: Vec<u32> = to.iter().map(|v| v.to_f32_const().to_bits()).collect();
                prop_assert_eq!(bits(&back), expected);
            }
        }
    }
}
