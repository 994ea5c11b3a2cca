//! Memory of a thread, kept from one computation to the next.

use std::cell::RefCell;

thread_local! {
    static NUMBERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` numbers that are this thread's own until it returns. They have any values.
pub fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    // What is taken out is not there for a computation inside of this one, which makes its own.
    let mut numbers = NUMBERS.with(RefCell::take);
    if numbers.len() < len {
        numbers.resize(len, 0.0);
    }
    let result = work(&mut numbers[..len]);
    NUMBERS.with(|kept| {
        if kept.borrow().len() < numbers.len() {
            *kept.borrow_mut() = numbers;
        }
    });
    result
}
