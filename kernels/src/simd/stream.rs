//! Writing past the caches: large results that nobody reads at once need not push out what is there.

use bytemuck::Pod;

#[cfg(target_arch = "x86_64")]
use crate::x86;

/// Copies numbers past the caches where the processor can, so that the memory they go to is not read first.
///
/// # Panics
///
/// If the lengths differ.
#[cfg(target_arch = "x86_64")]
pub fn stream<T: Pod>(from: &[T], to: &mut [T]) {
    x86::stream(bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to));
    x86::fence();
}

/// Copies numbers.
///
/// # Panics
///
/// If the lengths differ.
#[cfg(not(target_arch = "x86_64"))]
pub fn stream<T: Pod>(from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

/// Asks for the line of the cache that holds this place, which may be any, before it is read: a processor that sees a walk
/// through memory does so by itself, but only to the end of a page.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(at);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Makes what was written past the caches visible before anything that is written later.
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    x86::fence();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_streamed_arrives_wherever_it_begins() {
        let from: Vec<u16> = (0..200).collect();
        for (start, len) in (0..20).flat_map(|start| [0, 1, 7, 8, 31, 64, 100].map(|len| (start, len))) {
            let mut to = vec![7777; 200];
            stream(&from[3..3 + len], &mut to[start..start + len]);
            assert_eq!(&to[start..start + len], &from[3..3 + len]);
            assert!(to[..start].iter().chain(&to[start + len..]).all(|v| *v == 7777));
        }
    }
}
