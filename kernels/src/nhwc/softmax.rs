//! Softmax and its logarithm along the rows of a matrix.
//!
//! ```text
//!   softmax       y = e^(x-m) / s      dx = y (dy - sum(dy y))         m the largest x, s the sum of e^(x-m)
//!   log softmax   y = x - m - ln s     dx = dy - e^y sum(dy)
//! ```

use super::conv::Old;
use super::divide;
use crate::simd::elementary::exp;
use crate::simd::slices::{largest, sums, update};
use crate::simd::{self, Path, Task, Vector};

/// Writes the softmax, or its `logarithm`, of each row of `width` numbers.
pub fn forward(path: Path, width: usize, logarithm: bool, x: &[f32], y: &mut [f32]) {
    divide::pieces(y, width, |first, y| {
        let x = &x[first * width..][..y.len()];
        simd::run(path, Forward { width, logarithm, x, y });
    });
}

/// The gradient at `x`, from the result `y`.
pub fn backward(path: Path, width: usize, logarithm: bool, y: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
    divide::pieces(dx, width, |first, dx| {
        let (y, dy) = (&y[first * width..][..dx.len()], &dy[first * width..][..dx.len()]);
        simd::run(path, Backward { width, logarithm, y, dy, dx, old });
    });
}

struct Forward<'a> {
    width: usize,
    logarithm: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (y, x) in self.y.chunks_exact_mut(self.width).zip(self.x.chunks_exact(self.width)) {
            let max = V::splat(largest::<V>(x));
            update(y, [x], |_, [x]: [V; 1]| exp(x.sub(max)));
            let [sum] = sums([y], |[y]: [V; 1]| [y]);
            if self.logarithm {
                let log = V::splat(sum.ln() as f32);
                update(y, [x], |_, [x]: [V; 1]| x.sub(max).sub(log));
            } else {
                let share = V::splat((1.0 / sum) as f32);
                update(y, [], |y: V, []| y.mul(share));
            }
        }
    }
}

struct Backward<'a> {
    width: usize,
    logarithm: bool,
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    old: Old,
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let rows = self.y.chunks_exact(self.width).zip(self.dy.chunks_exact(self.width));
        for (dx, (y, dy)) in self.dx.chunks_exact_mut(self.width).zip(rows) {
            if self.old == Old::Dropped {
                dx.fill(0.0);
            }
            if self.logarithm {
                let [sum] = sums([dy], |[dy]: [V; 1]| [dy]);
                let sum = V::splat(-sum as f32);
                update(dx, [y, dy], |dx, [y, dy]: [V; 2]| exp(y).mul_add(sum, dx.add(dy)));
            } else {
                let [sum] = sums([y, dy], |[y, dy]: [V; 2]| [y.mul(dy)]);
                let sum = V::splat(sum as f32);
                update(dx, [y, dy], |dx, [y, dy]: [V; 2]| dy.sub(sum).mul_add(y, dx));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rows_and_gradients_are_those_of_the_definition() {
        let both = [(5, 7), (3, 37)].into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)]);
        let paths = Path::ALL.into_iter().filter(|path| path.is_available());
        for (((rows, width), logarithm), path) in both.flat_map(|each| paths.clone().map(move |path| (each, path))) {
            let (x, dy) = (numbers(rows * width, 1), numbers(rows * width, 2));
            let value = |x: &[f64]| -> Vec<f64> {
                let row = |x: &[f64]| {
                    let sum: f64 = x.iter().map(|x| x.exp()).sum();
                    x.iter().map(|x| x.exp() / sum).map(|y| if logarithm { y.ln() } else { y }).collect::<Vec<f64>>()
                };
                x.chunks(width).flat_map(row).collect()
            };
            let mut at: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            forward(path, width, logarithm, &x, &mut y);
            backward(path, width, logarithm, &y, &dy, &mut dx, Old::Added);
            assert!(y.iter().zip(value(&at)).all(|(y, e)| (f64::from(*y) - e).abs() < 1e-6));
            for i in 0..x.len() {
                let mut loss = |step: f64| {
                    at[i] += step;
                    let loss: f64 = value(&at).iter().zip(&dy).map(|(y, d)| y * f64::from(*d)).sum();
                    at[i] -= step;
                    loss
                };
                let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
                assert!((f64::from(dx[i]) - 1.0 - slope).abs() < 1e-5);
            }
        }
    }
}
