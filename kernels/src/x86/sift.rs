//! Telling numbers below, inside and above a range of magnitudes apart with AVX-512, which can store chosen lanes together.

use std::arch::x86_64::*;

use super::{has_avx512, prefetch};
use crate::prune::{AHEAD, Block, Counts};

/// Sifts the numbers of a block. It writes past the caches if `out` is on a boundary of 64 bytes; then a
/// [`fence`](super::fence) must follow.
///
/// # Panics
///
/// If this processor lacks the instructions, or there is no room for what is found.
pub fn sift_avx512(block: Block<'_>) -> Counts {
    assert!(has_avx512(), "this processor has no avx512");
    let count = block.values.len();
    assert!(
        block.inside.len() >= count + 16 && block.places.len() >= count + 16,
        "room for a vector more than there is"
    );
    assert!(block.out.as_ref().is_none_or(|out| out.len() == count), "as many numbers as there are");
    // SAFETY: the processor has the instructions and the arrays have the lengths, as was checked just now.
    unsafe {
        match block.out {
            Some(_) => sift::<true>(block),
            None => sift::<false>(block),
        }
    }
}

/// # Safety
///
/// `inside` and `places` have 16 numbers more than `values`; `out` is there if `WRITE`, and as long as `values`.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,popcnt")]
unsafe fn sift<const WRITE: bool>(block: Block<'_>) -> Counts {
    let Block { values, start, low, high, inside, places, out } = block;
    let out = out.map_or(std::ptr::null_mut(), |out| out.as_mut_ptr());
    let is_aligned = out.addr().is_multiple_of(64);
    let [low, high] = [low, high].map(|bound| _mm512_set1_epi32(bound as i32));
    let (magnitude, one, step) = (_mm512_set1_epi32(i32::MAX), _mm512_set1_epi32(1), _mm512_set1_epi32(16));
    let mut up_to_low = _mm512_setzero_si512();
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut place = _mm512_add_epi32(_mm512_set1_epi32(start as i32), lanes);
    let mut found = 0;
    for at in (0..values.len()).step_by(16) {
        let there = if values.len() - at >= 16 { 0xffff } else { (1 << (values.len() - at)) - 1 };
        // SAFETY: only lanes inside of `values` are read.
        let value = unsafe { _mm512_maskz_loadu_epi32(there, values.as_ptr().add(at).cast()) };
        prefetch(values.as_ptr().wrapping_add(at + AHEAD));
        let m = _mm512_and_si512(value, magnitude);
        let above_low = _mm512_mask_cmpgt_epu32_mask(there, m, low);
        let between = _mm512_mask_cmplt_epu32_mask(above_low, m, high);
        up_to_low = _mm512_mask_add_epi32(up_to_low, there & !above_low, up_to_low, one);
        // SAFETY: `found` is at most `at`, so a vector from there on is within `inside`, which has 16 more than `values`.
        unsafe {
            let chosen = _mm512_maskz_compress_epi32(between, m);
            _mm512_storeu_si512(inside.as_mut_ptr().add(found).cast(), chosen);
        }
        if WRITE {
            // SAFETY: as above for `places`; and only lanes inside of `values` are written to `out`, which is as long, past
            // the caches only where the address is right for it.
            unsafe {
                _mm512_storeu_si512(places.as_mut_ptr().add(found).cast(), _mm512_maskz_compress_epi32(between, place));
                let kept = _mm512_maskz_mov_epi32(above_low, value);
                let to = out.add(at);
                if is_aligned && there == 0xffff {
                    _mm512_stream_si512(to.cast(), kept);
                } else {
                    _mm512_mask_storeu_epi32(to.cast(), there, kept);
                }
            }
            place = _mm512_add_epi32(place, step);
        }
        found += between.count_ones() as usize;
    }
    Counts { up_to_low: _mm512_reduce_add_epi32(up_to_low) as usize, inside: found }
}
