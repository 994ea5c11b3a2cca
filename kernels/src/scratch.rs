//! Memory of a thread, kept from one computation to the next.

use std::cell::RefCell;

thread_local! {
    static NUMBERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of a line of the cache. A vector that lies across two lines is read twice.
pub const LINE: usize = 16;

/// Calls `work` with `len` numbers that are this thread's own until it returns. They have any values, and begin with a line
/// of the cache.
pub fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    // What is taken out is not there for a computation inside of this one, which makes its own.
    let mut numbers = NUMBERS.with(RefCell::take);
    if numbers.len() < len + LINE {
        numbers.resize(len + LINE, 0.0);
    }
    let to_line = numbers.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = work(&mut numbers[to_line..to_line + len]);
    NUMBERS.with(|kept| {
        if kept.borrow().len() < numbers.len() {
            *kept.borrow_mut() = numbers;
        }
    });
    result
}
