//! Whole numbers of eight bits with a scale, symmetric around zero (Jacob et al. 2018; ONNX `QuantizeLinear` without a
//! zero point).
//!
//! ```text
//!   q = round(x / s), ties to even, from -127 to 127        x' = q * s        s = max |x| / 127
//! ```
//!
//! There is one scale for each row: `x [rows, length]`, `s [rows]`. A tensor with a single scale is a single row, and of a
//! weight `[out, ...]` with a scale for each output the outputs are the rows.

use rayon::prelude::*;

use super::{CHUNK, convert};
use crate::simd::{Path, Task, Vector, run};

/// The largest whole number.
pub const LARGEST: f32 = 127.0;

/// The scale of each row: that with which its largest magnitude becomes [`LARGEST`], and no smaller than the smallest
/// normal number, so that a row of zeros has one too. What is no number is passed over.
///
/// # Panics
///
/// If `rows` is none or the rows are not all as long.
pub fn scales(values: &[f32], rows: usize) -> Vec<f32> {
    let scale = |row: &[f32]| {
        let largest = row.par_chunks(CHUNK).map(|values| run(Path::chosen(), Largest { values })).max();
        (f32::from_bits(largest.unwrap_or(0)) / LARGEST).max(f32::MIN_POSITIVE)
    };
    let length = row_length(values.len(), rows);
    if length == 0 { vec![f32::MIN_POSITIVE; rows] } else { values.par_chunks(length).map(scale).collect() }
}

/// Rounds each row of numbers to whole ones of its scale; what is no number becomes zero.
///
/// # Panics
///
/// If there is no row, the rows are not all as long, or the lengths differ.
pub fn quantize(values: &[f32], scales: &[f32], out: &mut [i8]) {
    assert_eq!(values.len(), out.len(), "as many numbers as go in");
    let length = row_length(values.len(), scales.len()).max(1);
    let rows = values.par_chunks(length).zip(out.par_chunks_mut(length)).zip(scales);
    rows.for_each(|((from, to), scale)| {
        convert(from, to, |from, to| run(Path::chosen(), Quantize { from, scale: *scale, to }));
    });
}

/// The numbers that whole ones stand for.
///
/// # Panics
///
/// If there is no row, the rows are not all as long, or the lengths differ.
pub fn dequantize(values: &[i8], scales: &[f32], out: &mut [f32]) {
    assert_eq!(values.len(), out.len(), "as many numbers as go in");
    let length = row_length(values.len(), scales.len()).max(1);
    let rows = values.par_chunks(length).zip(out.par_chunks_mut(length)).zip(scales);
    rows.for_each(|((from, to), scale)| {
        convert(from, to, |from, to| run(Path::chosen(), Dequantize { from, scale: *scale, to }));
    });
}

/// Numbers of this size are whole, so what is added to it is rounded, to nearest and of two to the even one; and its last
/// eight bits are zero, so those of the sum are the whole number that was added.
const WHOLE: f32 = 12_582_912.0;

fn row_length(values: usize, rows: usize) -> usize {
    assert!(rows > 0 && values.is_multiple_of(rows), "{values} numbers are not {rows} rows of the same length");
    values / rows
}

/// The bits of the largest magnitude, passing over what is no number.
struct Largest<'a> {
    values: &'a [f32],
}

impl Task for Largest<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<V: Vector>(self) -> u32 {
        let mut largest = 0;
        for value in self.values {
            let magnitude = value.to_bits() & 0x7fff_ffff;
            largest = largest.max(if magnitude > 0x7f80_0000 { 0 } else { magnitude });
        }
        largest
    }
}

struct Quantize<'a> {
    from: &'a [f32],
    scale: f32,
    to: &'a mut [i8],
}

impl Task for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            let quotient = from / self.scale;
            let at_least = if quotient < -LARGEST { -LARGEST } else { quotient };
            let within = if at_least > LARGEST { LARGEST } else { at_least };
            let number = if within.is_nan() { 0.0 } else { within };
            *to = (number + WHOLE).to_bits() as u8 as i8;
        }
    }
}

struct Dequantize<'a> {
    from: &'a [i8],
    scale: f32,
    to: &'a mut [f32],
}

impl Task for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = f32::from(*from) * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    /// By the definition, in `f64`.
    fn naive(x: f32, scale: f32) -> i8 {
        // The quotient is rounded to f32 first: that is what the formula says of numbers of that format.
        let quotient = f64::from((f64::from(x) / f64::from(scale)) as f32);
        quotient.round_ties_even().clamp(-127.0, 127.0) as i8
    }

    proptest! {
        #[test]
        fn every_row_is_rounded_with_its_scale(rows in 1usize..5, length in 0usize..70, seed: u64, exponent in -60i32..60) {
            let values: Vec<f32> = numbers(rows * length, seed).iter().map(|v| v * 2f32.powi(exponent)).collect();
            let scales = scales(&values, rows);
            prop_assert_eq!(scales.len(), rows);
            let mut q = vec![99; values.len()];
            quantize(&values, &scales, &mut q);
            let mut back = vec![9.0; values.len()];
            dequantize(&q, &scales, &mut back);
            for (place, x) in values.iter().enumerate() {
                let scale = scales[place / length];
                prop_assert_eq!(q[place], naive(*x, scale));
                prop_assert_eq!(back[place], f32::from(q[place]) * scale);
                // Half a step, and the rounding of a quotient of up to 127.
                prop_assert!((back[place] - x).abs() <= scale * 0.50002);
            }
            if length > 0 {
                prop_assert!(q.chunks(length).all(|row| row.iter().any(|q| q.abs() == 127)));
            }
        }

        #[test]
        fn every_path_gives_the_same(values in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..70), scale in 1e-3f32..1e3) {
            let of = |path| {
                let mut q = vec![99; values.len()];
                run(path, Quantize { from: &values, scale, to: &mut q });
                let mut back = vec![9.0; values.len()];
                run(path, Dequantize { from: &q, scale, to: &mut back });
                (run(path, Largest { values: &values }), q, back)
            };
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                prop_assert_eq!(of(path), of(Path::Portable));
            }
        }
    }

    #[test]
    fn zeros_tiny_numbers_and_what_is_none_have_their_whole_numbers() {
        let values = [0.0, -0.0, 1e-45, -1e-40, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.5, 3.5, -200.0];
        let mut q = [9; 10];
        quantize(&values, &[1.0], &mut q);
        assert_eq!(q, [0, 0, 0, 0, 0, 127, -127, 2, 4, -127]);
        assert_eq!(scales(&[0.0, -0.0, 0.0, f32::NAN], 2), [f32::MIN_POSITIVE; 2]);
        assert_eq!(scales(&[-254.0, f32::NAN, 127.0, 1.0], 2), [2.0, 1.0]);
    }

    #[test]
    fn large_rows_are_rounded_as_small_ones() {
        let values = numbers(1_200_002, 1);
        let scales = scales(&values, 2);
        let mut q = vec![0; values.len()];
        quantize(&values, &scales, &mut q);
        assert!(q.iter().zip(&values).enumerate().all(|(at, (q, x))| *q == naive(*x, scales[at / 600_001])));
    }

    #[test]
    #[should_panic(expected = "rows of the same length")]
    fn rows_of_different_lengths_are_refused() {
        scales(&[1.0; 7], 2);
    }
}
