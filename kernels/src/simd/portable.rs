//! Vectors without any special instructions. The compiler makes of these loops what the processor has at least.

use super::{MOST_LANES, Vector};

/// Eight numbers.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut result = self;
        for i in 0..8 {
            result.0[i] = f(self.0[i], other.0[i]);
        }
        result
    }
}

impl Vector for Portable {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Mask = usize;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    fn first(count: usize) -> usize {
        count.min(8)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for LANES numbers; an array of them has no other alignment than a number.
        Self(unsafe { from.cast::<[f32; 8]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, mask: usize) -> Self {
        let mut result = Self::zero();
        // SAFETY: the caller vouches for `mask` numbers, which is at most 8.
        unsafe { std::ptr::copy_nonoverlapping(from, result.0.as_mut_ptr(), mask) };
        result
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, mask: usize) {
        // SAFETY: as for `load_first`.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, mask) };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // In two roundings: where there is no instruction for one, it would be a call for each number.
        self.mul(factor).add(term)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn where_positive(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > 0.0 { b } else { 0.0 })
    }

    #[inline(always)]
    fn round(self) -> Self {
        self.zip(self, |a, _| a.round_ties_even())
    }

    #[inline(always)]
    fn exp2_of_whole(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn last_bits_as_exponent(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(a.to_bits() << 23))
    }

    #[inline(always)]
    fn exponent(self) -> Self {
        self.zip(self, |a, _| ((a.to_bits() >> 23) as i32 - 127) as f32)
    }

    #[inline(always)]
    fn significand(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(a.to_bits() & 0x7f_ffff | 1f32.to_bits()))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn transpose(rows: &mut [Self; MOST_LANES]) {
        let from = *rows;
        for (i, row) in rows.iter_mut().enumerate().take(8) {
            for (j, number) in row.0.iter_mut().enumerate() {
                *number = from[j].0[i];
            }
        }
    }
}
