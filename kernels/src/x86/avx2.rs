//! Vectors of AVX-2 with fused multiply-add: 8 numbers.

use std::arch::x86_64::*;

use crate::simd::{MOST_LANES, Task, Vector};

/// Whether this processor has the instructions.
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Computes `task` with vectors of this width.
///
/// # Panics
///
/// If this processor lacks the instructions.
pub fn run_avx2<T: Task>(task: T) -> T::Output {
    assert!(has_avx2(), "this processor has no avx2");
    // SAFETY: the processor has the instructions, as was checked just now.
    unsafe { run(task) }
}

#[target_feature(enable = "avx2,fma")]
fn run<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// Eight numbers. It exists only while [`run_avx2`] computes a task.
#[derive(Clone, Copy)]
struct Avx2(__m256);

// SAFETY, for the arithmetic below: the instructions are there, because only `run` makes this type known to a task.
impl Vector for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Mask = __m256i;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn first(count: usize) -> __m256i {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), places)
        }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the memory, which needs no alignment.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the memory, which needs no alignment.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, mask: __m256i) -> Self {
        // SAFETY: the caller vouches for the memory of the lanes in the mask; the others are not touched.
        Self(unsafe { _mm256_maskload_ps(from, mask) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, mask: __m256i) {
        // SAFETY: the caller vouches for the memory of the lanes in the mask; the others are not touched.
        unsafe { _mm256_maskstore_ps(to, mask, self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_positive(self, other: Self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, _mm256_setzero_ps());
            Self(_mm256_and_ps(positive, other.0))
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_round_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0) })
    }

    #[inline(always)]
    fn exp2_of_whole(self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn last_bits_as_exponent(self) -> Self {
        // SAFETY: the instructions are there (see above).
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0))) })
    }

    #[inline(always)]
    fn exponent(self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let biased = _mm256_srli_epi32::<23>(_mm256_castps_si256(self.0));
            Self(_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127))))
        }
    }

    #[inline(always)]
    fn significand(self) -> Self {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let fraction = _mm256_and_si256(_mm256_castps_si256(self.0), _mm256_set1_epi32(0x7f_ffff));
            Self(_mm256_or_ps(_mm256_castsi256_ps(fraction), _mm256_set1_ps(1.0)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the instructions are there (see above).
        unsafe {
            let halves = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
        }
    }

    #[inline(always)]
    fn transpose(rows: &mut [Self; MOST_LANES]) {
        // SAFETY: the instructions are there (see above).
        unsafe {
            // Squares of four within the halves first: `fours[4 i + j]` has the columns j and 4 + j of the rows from 4 i on.
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in 0..2 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[4 * i + row].0);
                let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (low_next, high_next) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                fours[4 * i] = _mm256_shuffle_ps::<0x44>(low, low_next);
                fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(low, low_next);
                fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(high, high_next);
                fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(high, high_next);
            }
            for j in 0..4 {
                rows[j].0 = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
                rows[4 + j].0 = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
            }
        }
    }
}
