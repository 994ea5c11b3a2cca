//! Half precision, by the instructions that convert it: 16 numbers at once with AVX-512, 8 with F16C.

use std::arch::x86_64::*;

use half::f16;

use super::{has_avx2, has_avx512};

/// To nearest, ties to even, whatever the processor is set to.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// Whether this processor converts 8 numbers at once.
pub fn has_f16c() -> bool {
    has_avx2() && is_x86_feature_detected!("f16c")
}

/// What a conversion asks of its caller, and a remainder in an array that has no other numbers.
macro_rules! conversion {
    ($(#[$doc:meta])* $name:ident: $from:ty, $to:ty, $lanes:literal, $has:ident, $features:literal, $convert:expr) => {
        $(#[$doc])*
        ///
        /// # Panics
        ///
        /// If the lengths differ or this processor lacks the instructions.
        pub fn $name(from: &[$from], to: &mut [$to]) {
            #[target_feature(enable = $features)]
            fn run(from: &[$from], to: &mut [$to]) {
                let (vectors, rest) = from.as_chunks::<$lanes>();
                let (to_vectors, to_rest) = to.as_chunks_mut::<$lanes>();
                for (from, to) in vectors.iter().zip(to_vectors) {
                    $convert(from, to);
                }
                let (mut last, mut to_last) = ([<$from>::default(); $lanes], [<$to>::default(); $lanes]);
                last[..rest.len()].copy_from_slice(rest);
                $convert(&last, &mut to_last);
                to_rest.copy_from_slice(&to_last[..rest.len()]);
            }
            assert!($has(), "this processor lacks the instructions");
            assert_eq!(from.len(), to.len(), "as many numbers as go in");
            // SAFETY: the processor has the instructions, as was checked just now.
            unsafe { run(from, to) }
        }
    };
}

conversion!(
    /// Rounds to half precision.
    f32_to_f16_avx512: f32, f16, 16, has_avx512, "avx512f,avx512vl,avx512dq,avx512bw",
    |from: &[f32; 16], to: &mut [f16; 16]| {
        // SAFETY: 16 numbers are read and 16 are written, neither of which needs an alignment.
        unsafe {
            let rounded = _mm512_cvtps_ph::<NEAREST>(_mm512_loadu_ps(from.as_ptr()));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        }
    }
);

conversion!(
    /// Half precision as `f32`.
    f16_to_f32_avx512: f16, f32, 16, has_avx512, "avx512f,avx512vl,avx512dq,avx512bw",
    |from: &[f16; 16], to: &mut [f32; 16]| {
        // SAFETY: 16 numbers are read and 16 are written, neither of which needs an alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }
);

conversion!(
    /// Rounds to half precision.
    f32_to_f16_f16c: f32, f16, 8, has_f16c, "avx2,f16c",
    |from: &[f32; 8], to: &mut [f16; 8]| {
        // SAFETY: 8 numbers are read and 8 are written, neither of which needs an alignment.
        unsafe {
            let rounded = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), rounded);
        }
    }
);

conversion!(
    /// Half precision as `f32`.
    f16_to_f32_f16c: f16, f32, 8, has_f16c, "avx2,f16c",
    |from: &[f16; 8], to: &mut [f32; 8]| {
        // SAFETY: 8 numbers are read and 8 are written, neither of which needs an alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
);
