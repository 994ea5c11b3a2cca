//! Softmax and its logarithm along the rows of a matrix.
//!
//! ```text
//!   softmax       y = e^(x-m) / s      dx = y (dy - sum(dy y))         m the largest x, s the sum of e^(x-m)
//!   log softmax   y = x - m - ln s     dx = dy - e^y sum(dy)
//! ```

use super::conv::Old;
use super::divide;

/// Writes the softmax, or its `logarithm`, of each row of `width` numbers.
pub fn forward(width: usize, logarithm: bool, x: &[f32], y: &mut [f32]) {
    divide::pieces(y, width, |first, y| {
        let x = &x[first * width..];
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x - max);
            if logarithm {
                let log = y.iter().map(|y| f64::from(y.exp())).sum::<f64>().ln() as f32;
                y.iter_mut().for_each(|y| *y -= log);
            } else {
                y.iter_mut().for_each(|y| *y = y.exp());
                let share = (1.0 / y.iter().map(|y| f64::from(*y)).sum::<f64>()) as f32;
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    });
}

/// The gradient at `x`, from the result `y`.
pub fn backward(width: usize, logarithm: bool, y: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
    divide::pieces(dx, width, |first, dx| {
        let (y, dy) = (&y[first * width..], &dy[first * width..]);
        for ((dx, y), dy) in dx.chunks_exact_mut(width).zip(y.chunks_exact(width)).zip(dy.chunks_exact(width)) {
            if old == Old::Dropped {
                dx.fill(0.0);
            }
            if logarithm {
                let sum = dy.iter().map(|dy| f64::from(*dy)).sum::<f64>() as f32;
                dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (y, dy))| *dx += dy - y.exp() * sum);
            } else {
                let sum = dy.iter().zip(y).map(|(dy, y)| f64::from(dy * y)).sum::<f64>() as f32;
                dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (y, dy))| *dx += y * (dy - sum));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rows_and_gradients_are_those_of_the_definition() {
        let (rows, width) = (5, 7);
        let (x, dy) = (numbers(rows * width, 1), numbers(rows * width, 2));
        for logarithm in [false, true] {
            let value = |x: &[f64]| -> Vec<f64> {
                let row = |x: &[f64]| {
                    let sum: f64 = x.iter().map(|x| x.exp()).sum();
                    x.iter().map(|x| x.exp() / sum).map(|y| if logarithm { y.ln() } else { y }).collect::<Vec<f64>>()
                };
                x.chunks(width).flat_map(row).collect()
            };
            let mut at: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            forward(width, logarithm, &x, &mut y);
            backward(width, logarithm, &y, &dy, &mut dx, Old::Added);
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
