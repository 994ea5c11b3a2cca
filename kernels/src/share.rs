//! Handing out the parts of a computation to the threads of rayon's pool.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Calls `work` on every thread of the pool, each with an iterator over the parts that come to it: of the numbers below
/// `count`, each comes to one thread. Which one is a matter of luck, so no result may depend on it.
///
/// Whatever a thread needs for its parts, `work` makes once, before the first.
pub(crate) fn share(count: usize, work: impl Fn(Parts<'_>) + Sync) {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    on_threads(rayon::current_num_threads().min(count), &|| {
        work(Parts { next: &next, done: &done, count, at_work: false });
        // Whoever goes to sleep here is woken too late for what comes next.
        let mut waits = 0;
        while done.load(Ordering::Acquire) < count && waits < SPINS {
            std::hint::spin_loop();
            waits += 1;
        }
    });
}

/// Parts that a thread should have: what one that is late or slower holds up is no more than a part.
const PARTS: usize = 8;

/// Into how many parts each of `items` should be divided so that all threads have enough of them.
pub(crate) fn parts_of_each(items: usize) -> usize {
    (PARTS * rayon::current_num_threads()).div_ceil(items.max(1))
}

/// How often a thread looks for work before it rests: a millisecond, about.
const SPINS: u32 = 20_000;

/// Keeps the threads of the pool awake for what is handed out, as long as it is there. Waking a thread that sleeps takes
/// longer than a layer of a small network.
///
/// Threads that have had no work for about a millisecond rest between looking for it.
#[must_use = "threads are awake only as long as it is there"]
pub struct Awake {
    over: Arc<AtomicBool>,
}

impl Awake {
    /// Keeps all other threads of the pool awake.
    pub fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let owner = rayon::current_thread_index();
        for _ in usize::from(owner.is_some())..rayon::current_num_threads() {
            let over = over.clone();
            rayon::spawn(move || {
                // The thread whose work it is must not begin to wait for the end of it.
                if owner.is_none() || rayon::current_thread_index() != owner {
                    wait(&over);
                }
            });
        }
        Self { over }
    }
}

impl Default for Awake {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// Does what comes up until it is over.
fn wait(over: &AtomicBool) {
    let mut waits = 0;
    while !over.load(Ordering::Acquire) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => waits = 0,
            None => return,
            Some(rayon::Yield::Idle) if waits < SPINS => {
                std::hint::spin_loop();
                waits += 1;
            }
            Some(rayon::Yield::Idle) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
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
pub(crate) struct Parts<'a> {
    next: &'a AtomicUsize,
    done: &'a AtomicUsize,
    count: usize,
    at_work: bool,
}

impl Parts<'_> {
    #[inline(always)]
    fn finish(&mut self) {
        if std::mem::take(&mut self.at_work) {
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

impl Iterator for Parts<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        self.finish();
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        self.at_work = part < self.count;
        self.at_work.then_some(part)
    }
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Numbers that several threads write to, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
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

    /// The `len` numbers from `at` on, to read.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    ///
    /// # Safety
    ///
    /// Nobody writes to these numbers while the slice is there.
    #[inline(always)]
    pub unsafe fn read(self, at: usize, len: usize) -> &'a [f32] {
        assert!(at <= self.len && len <= self.len - at, "{len} numbers from {at} on, of {}", self.len);
        // SAFETY: they lie inside of what was borrowed, and the caller vouches that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start.add(at), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_is_done_while_threads_stay_awake() {
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sum = pool.install(|| {
                let _awake = Awake::new();
                let sum = AtomicUsize::new(0);
                share(100, |parts| parts.for_each(|part| _ = sum.fetch_add(part, Ordering::Relaxed)));
                let _twice = Awake::new();
                rayon::join(|| _ = sum.fetch_add(1, Ordering::Relaxed), || ());
                sum.into_inner()
            });
            assert_eq!(sum, 4951);
        }
    }

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
