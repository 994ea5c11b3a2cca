//! Writing past the caches. Every processor of this architecture has the instructions.

use std::arch::x86_64::*;

/// Copies bytes past the caches, so that the memory they go to is not read first.
///
/// # Panics
///
/// If the lengths differ.
pub fn stream(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "as many bytes as go there");
    // SAFETY: any bytes are a vector, and a vector is any bytes.
    let (head, middle, tail) = unsafe { to.align_to_mut::<__m128i>() };
    let (from_head, rest) = from.split_at(head.len());
    let (from_middle, from_tail) = rest.split_at(16 * middle.len());
    head.copy_from_slice(from_head);
    for (to, from) in middle.iter_mut().zip(from_middle.chunks_exact(16)) {
        // SAFETY: 16 bytes are read, of which the source needs no alignment; `align_to_mut` has aligned where they go.
        unsafe { _mm_stream_si128(to, _mm_loadu_si128(from.as_ptr().cast())) };
    }
    tail.copy_from_slice(from_tail);
}

/// Asks for the line of the cache that holds this place. It may be any place.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    // SAFETY: every processor of this architecture has the instruction, and it reads nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Makes what was written past the caches visible before anything that is written later.
pub fn fence() {
    // SAFETY: every processor of this architecture has the instruction, and it touches no memory.
    unsafe { _mm_sfence() };
}
