//! Vectors of AVX-512: 16 numbers.

use std::arch::x86_64::*;
use std::sync::LazyLock;

use crate::simd::{MOST_LANES, Task, Vector};

/// Whether this processor has the instructions.
#[inline]
pub fn has_avx512() -> bool {
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
    });
    *HAS
}

/// Computes `task` with vectors of this width.
///
/// # Panics
///
/// If this processor lacks the instructions.
pub fn run_avx512<T: Task>(task: T) -> T::Output {
    assert!(has_avx512(), "this processor has no avx512");
    // SAFETY: the processor has the instructions, as was checked just now.
    unsafe { run(task) }
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

/// Sixteen numbers. It exists only while [`run_avx512`] computes a task.
#[derive(Clone, Copy)]
struct Avx512(__m512);

// SAFETY, for the arithmetic below: the instructions are there, because only `run` makes this type known to a task.
impl Vector for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn first(count: usize) -> __mmask16 {
        if count >= 16 { 0xffff } else { (1 << count) - 1 }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the memory, which needs no alignment.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the memory, which needs no alignment.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, mask: __mmask16) -> Self {
        // SAFETY: the caller vouches for the memory of the lanes in the mask; the others are not touched.
        Self(unsafe { _mm512_maskz_loadu_ps(mask, from) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, mask: __mmask16) {
        // SAFETY: the caller vouches for the memory of the lanes in the mask; the others are not touched.
        unsafe { _mm512_mask_storeu_ps(to, mask, self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_positive(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_setzero_ps());
            Self(_mm512_maskz_mov_ps(positive, other.0))
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0) })
    }

    #[inline(always)]
    fn exp2_of_whole(self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn scale(self, power: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_scalef_ps(self.0, power.0) })
    }

    #[inline(always)]
    fn quotient(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            // 14 bits, and one step of Newton's: a division would take four times as long.
            let reciprocal = _mm512_rcp14_ps(other.0);
            let near = _mm512_mul_ps(self.0, reciprocal);
            let rest = _mm512_fnmadd_ps(near, other.0, self.0);
            Self(_mm512_fmadd_ps(rest, reciprocal, near))
        }
    }

    #[inline(always)]
    fn last_bits_as_exponent(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }

    #[inline(always)]
    fn exponent(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_getexp_ps(self.0) })
    }

    #[inline(always)]
    fn significand(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(self.0) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the instructions are there (see above).
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn transpose(rows: &mut [Self; MOST_LANES]) {
        // SAFETY: the instructions are there (see above).
        unsafe {
            // Squares of four within the quarters first: `fours[4 i + j]` has the columns j, 4 + j, 8 + j and 12 + j of the
            // rows from 4 i on.
            let mut fours = [_mm512_setzero_ps(); 16];
            for i in 0..4 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[4 * i + row].0);
                let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (low_next, high_next) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                fours[4 * i] = _mm512_shuffle_ps::<0x44>(low, low_next);
                fours[4 * i + 1] = _mm512_shuffle_ps::<0xee>(low, low_next);
                fours[4 * i + 2] = _mm512_shuffle_ps::<0x44>(high, high_next);
                fours[4 * i + 3] = _mm512_shuffle_ps::<0xee>(high, high_next);
            }
            for j in 0..4 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| fours[4 * i + j]);
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (even_next, odd_next) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                rows[j].0 = _mm512_shuffle_f32x4::<0x88>(even, even_next);
                rows[4 + j].0 = _mm512_shuffle_f32x4::<0x88>(odd, odd_next);
                rows[8 + j].0 = _mm512_shuffle_f32x4::<0xdd>(even, even_next);
                rows[12 + j].0 = _mm512_shuffle_f32x4::<0xdd>(odd, odd_next);
            }
        }
    }
}
