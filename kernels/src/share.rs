//! Handing out the parts of a computation to the threads of rayon's pool.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` on every thread of the pool, each with an iterator over the parts that come to it: of the numbers below
/// `count`, each comes to one thread. Which one is a matter of luck, so no result may depend on it.
///
/// Whatever a thread needs for its parts, `work` makes once, before the first.
pub fn share(count: usize, work: impl Fn(Parts<'_>) + Sync) {
    let next = AtomicUsize::new(0);
    on_threads(rayon::current_num_threads().min(count), &|| work(Parts { next: &next, count }));
}

fn on_threads(threads: usize, work: &(impl Fn() + Sync)) {
    match threads {
        0 => {}
        1 => work(),
        _ => {
            let half = threads / 2;
            rayon::join(|| on_threads(half, work), || on_threads(threads - half, work));
        }
    }
}

/// The parts that come to one thread.
pub struct Parts<'a> {
    next: &'a AtomicUsize,
    count: usize,
}

impl Iterator for Parts<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        (part < self.count).then_some(part)
    }
}

/// Numbers that several threads write to, each to places of its own.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    numbers: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is only a place and a size. Whoever makes a slice of it vouches that no other thread has the same numbers.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Takes the numbers for as long as they are borrowed.
    pub fn new(numbers: &'a mut [f32]) -> Self {
        Self { start: numbers.as_mut_ptr(), len: numbers.len(), numbers: PhantomData }
    }

    /// Where they begin.
    #[inline(always)]
    pub fn start(self) -> *mut f32 {
        self.start
    }

    /// The `len` numbers from `at` on.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    ///
    /// # Safety
    ///
    /// Nobody else uses these numbers while the slice is there.
    #[inline(always)]
    pub unsafe fn slice(self, at: usize, len: usize) -> &'a mut [f32] {
        assert!(at <= self.len && len <= self.len - at, "{len} numbers from {at} on, of {}", self.len);
        // SAFETY: they lie inside of what was borrowed, and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for count in [0, 1, 3, 100] {
                let mut done = vec![0.0; count];
                let shared = Shared::new(&mut done);
                pool.install(|| {
                    share(count, |parts| {
                        for part in parts {
                            // SAFETY: each part comes to one thread.
                            let one = unsafe { shared.slice(part, 1) };
                            one[0] += 1.0;
                        }
                    });
                });
                assert_eq!(done, vec![1.0; count]);
            }
        }
    }
}
