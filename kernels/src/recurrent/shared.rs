//! A slice of which threads write different parts.

use std::marker::PhantomData;

/// Numbers that several threads write, each its own part.
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    numbers: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, and who takes a part vouches for no other thread having the same numbers.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(numbers: &'a mut [f32]) -> Self {
        Self { start: numbers.as_mut_ptr(), len: numbers.len(), numbers: PhantomData }
    }

    /// `len` numbers from `start` on.
    ///
    /// # Safety
    ///
    /// While the result is used there is no other reference to any of these numbers.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} is beyond {}", self.len);
        // SAFETY: the part lies inside the slice that this was made of, which is borrowed for as long as this lives, and
        // the caller vouches for no other reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
    /// `len` numbers from `start` on, to read.
    ///
    /// # Safety
    ///
    /// While the result is used no one writes any of these numbers.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(super) unsafe fn read(&self, start: usize, len: usize) -> &[f32] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} is beyond {}", self.len);
        // SAFETY: as for `part`, and the caller vouches for no one writing.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }
}
