//! Whole slices, vector by vector: the last numbers, which fill no vector, too.
//!
//! Each function calls what it is given at one place alone: so it is compiled into the loop, with the instructions of the task,
//! and what a task gives must be called at one place of it, too.

use super::{MOST_LANES, Vector};

/// Vectors after which a sum goes on in 64 bits, so that long ones lose no digits.
const VECTORS: usize = 64;

/// Writes `f` of the old number in `y` and of those in the same place of each of `x` to every place of `y`.
///
/// # Panics
///
/// If lengths differ.
#[inline(always)]
pub fn update<V: Vector, const N: usize>(y: &mut [f32], x: [&[f32]; N], f: impl Fn(V, [V; N]) -> V) {
    let len = y.len();
    assert!(x.iter().all(|x| x.len() == len), "slices of one length");
    let (x, y) = (x.map(<[f32]>::as_ptr), y.as_mut_ptr());
    for start in (0..len).step_by(V::LANES) {
        let rest = (start + V::LANES > len).then(|| V::first(len - start));
        // SAFETY: from `start` on there is a vector in each of the slices, which are `len` long, or else as many numbers as the
        // mask has lanes.
        unsafe {
            let values = x.map(|x| load(x.add(start), rest));
            let new = f(load(y.add(start), rest), values);
            match rest {
                None => new.store(y.add(start)),
                Some(mask) => new.store_first(y.add(start), mask),
            }
        }
    }
}

/// A vector of the numbers at `from`, or of those in the lanes of a mask.
///
/// # Safety
///
/// So many numbers can be read there.
#[inline(always)]
unsafe fn load<V: Vector>(from: *const f32, mask: Option<V::Mask>) -> V {
    // SAFETY: as the caller says.
    unsafe {
        match mask {
            None => V::load(from),
            Some(mask) => V::load_first(from, mask),
        }
    }
}

/// The sums over all places of what `f` makes of the numbers there.
///
/// # Panics
///
/// If lengths differ.
#[inline(always)]
pub fn sums<V: Vector, const N: usize, const M: usize>(x: [&[f32]; N], f: impl Fn([V; N]) -> [V; M]) -> [f64; M] {
    let len = x.first().map_or(0, |x| x.len());
    assert!(x.iter().all(|x| x.len() == len), "slices of one length");
    let x = x.map(<[f32]>::as_ptr);
    let mut totals = [0.0; M];
    for part in (0..len).step_by(VECTORS * V::LANES) {
        let mut sums = [V::zero(); M];
        for start in (part..len.min(part + VECTORS * V::LANES)).step_by(V::LANES) {
            let rest = (start + V::LANES > len).then(|| V::first(len - start));
            // SAFETY: from `start` on there is a vector in each of the slices, which are `len` long, or else as many numbers
            // as the mask has lanes.
            let found = f(x.map(|x| unsafe { load(x.add(start), rest) }));
            for (sum, found) in sums.iter_mut().zip(found) {
                *sum = sum.add(rest.map_or(found, |mask| only(found, mask)));
            }
        }
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum.sum()));
    }
    totals
}

/// The numbers in the lanes of a mask, and zero in the others.
#[inline(always)]
fn only<V: Vector>(vector: V, mask: V::Mask) -> V {
    let mut numbers = [0.0; MOST_LANES];
    // SAFETY: no vector is longer than this.
    unsafe {
        vector.store_first(numbers.as_mut_ptr(), mask);
        V::load(numbers.as_ptr())
    }
}

/// The largest number; what is no number is passed over, and of nothing it is negative infinity.
#[inline(always)]
pub fn largest<V: Vector>(x: &[f32]) -> f32 {
    let (whole, rest) = x.split_at(x.len() - x.len() % V::LANES);
    let mut found = V::splat(f32::NEG_INFINITY);
    for x in whole.chunks_exact(V::LANES) {
        // SAFETY: the chunk is a vector long.
        found = unsafe { V::load(x.as_ptr()) }.max(found);
    }
    let mut lanes = [f32::NEG_INFINITY; MOST_LANES];
    // SAFETY: no vector is longer than this.
    unsafe { found.store(lanes.as_mut_ptr()) };
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Path, Task, run};
    use crate::testing::numbers;

    struct All<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

    impl Task for All<'_> {
        type Output = ([f64; 2], f32);

        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Output {
            let All(a, b, y) = self;
            update(y, [a, b], |y: V, [a, b]| a.mul_add(b, y));
            (sums([a, b], |[a, b]: [V; 2]| [a.add(V::splat(1.0)), a.mul(b)]), largest::<V>(a))
        }
    }

    #[test]
    fn every_place_counts_once_whatever_the_length() {
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            for len in (0..70).chain([1023, 1024, 1025, 5000]) {
                let (a, b, before) = (numbers(len, 1), numbers(len, 2), numbers(len, 3));
                let mut y = before.clone();
                let ([ones, products], largest) = run(path, All(&a, &b, &mut y));
                let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
                let (a, b, before) = (wide(&a), wide(&b), wide(&before));
                assert!((0..len).all(|i| (f64::from(y[i]) - a[i] * b[i] - before[i]).abs() < 1e-6));
                assert!((ones - a.iter().map(|a| a + 1.0).sum::<f64>()).abs() < 1e-4 + len as f64 * 1e-7);
                assert!((products - a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>()).abs() < 1e-4);
                assert_eq!(f64::from(largest), a.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            }
        }
        struct Largest<'a>(&'a [f32]);
        impl Task for Largest<'_> {
            type Output = f32;

            #[inline(always)]
            fn run<V: Vector>(self) -> f32 {
                largest::<V>(self.0)
            }
        }
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            assert_eq!(run(path, Largest(&[f32::NAN, -3.0, f32::NAN])), -3.0);
            let mut many = [f32::NAN; 40];
            many[20] = -7.0;
            assert_eq!(run(path, Largest(&many)), -7.0);
        }
    }
}
