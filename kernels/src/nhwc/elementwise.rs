//! Sums, differences and products of numbers in the same places, and what training needs beside them.

use super::conv::Old;
use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a b`
    Mul,
}

/// `y = f(a, b)` for all numbers.
pub fn binary(path: Path, function: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    divide::pieces(y, 1, |first, y| {
        let (a, b) = (&a[first..][..y.len()], &b[first..][..y.len()]);
        match function {
            Binary::Add => simd::run(path, Zip(a, b, y, |a: f32, b: f32, _: f32| a + b)),
            Binary::Sub => simd::run(path, Zip(a, b, y, |a: f32, b: f32, _: f32| a - b)),
            Binary::Mul => simd::run(path, Zip(a, b, y, |a: f32, b: f32, _: f32| a * b)),
        }
    });
}

/// `y = factor x`, or `y += factor x`.
pub fn scaled(path: Path, x: &[f32], factor: f32, y: &mut [f32], old: Old) {
    divide::pieces(y, 1, |first, y| {
        let x = &x[first..][..y.len()];
        match old {
            Old::Added => simd::run(path, Zip(x, x, y, |x: f32, _: f32, y: f32| y + factor * x)),
            Old::Dropped => simd::run(path, Zip(x, x, y, |x: f32, _: f32, _: f32| factor * x)),
        }
    });
}

/// `y = a b`, or `y += a b`.
pub fn product(path: Path, a: &[f32], b: &[f32], y: &mut [f32], old: Old) {
    divide::pieces(y, 1, |first, y| {
        let (a, b) = (&a[first..][..y.len()], &b[first..][..y.len()]);
        match old {
            Old::Added => simd::run(path, Zip(a, b, y, |a: f32, b: f32, y: f32| y + a * b)),
            Old::Dropped => simd::run(path, Zip(a, b, y, |a: f32, b: f32, _: f32| a * b)),
        }
    });
}

/// Where `y`, the result of a ReLU, is zero, its gradient `dy` becomes zero.
pub fn relu_backward(path: Path, y: &[f32], dy: &mut [f32]) {
    divide::pieces(dy, 1, |first, dy| {
        let y = &y[first..][..dy.len()];
        simd::run(path, Zip(y, y, dy, |y: f32, _: f32, dy: f32| if y == 0.0 { 0.0 } else { dy }));
    });
}

/// Writes `f(a, b, old y)` to `y`.
struct Zip<'a, F>(&'a [f32], &'a [f32], &'a mut [f32], F);

impl<F: Fn(f32, f32, f32) -> f32> Task for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Zip(a, b, y, f) = self;
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = f(*a, *b, *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn each_number_is_that_of_the_definition() {
        let n = 40_007;
        let (a, b, before) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            type Definition = fn(f32, f32) -> f32;
            let functions: [(Binary, Definition); 3] =
                [(Binary::Add, |a, b| a + b), (Binary::Sub, |a, b| a - b), (Binary::Mul, |a, b| a * b)];
            for (function, definition) in functions {
                let mut y = before.clone();
                binary(path, function, &a, &b, &mut y);
                assert!((0..n).all(|i| y[i] == definition(a[i], b[i])));
            }
            for old in [Old::Added, Old::Dropped] {
                let kept = |i: usize| if old == Old::Added { before[i] } else { 0.0 };
                let mut y = before.clone();
                product(path, &a, &b, &mut y, old);
                assert!((0..n).all(|i| (y[i] - (kept(i) + a[i] * b[i])).abs() < 1e-6));
                let mut y = before.clone();
                scaled(path, &a, 3.0, &mut y, old);
                assert!((0..n).all(|i| (y[i] - (kept(i) + 3.0 * a[i])).abs() < 1e-6));
            }
            let y: Vec<f32> = a.iter().map(|a| a.max(0.0)).collect();
            let mut dy = b.clone();
            relu_backward(path, &y, &mut dy);
            assert!((0..n).all(|i| dy[i] == if a[i] > 0.0 { b[i] } else { 0.0 }));
        }
    }
}
