//! Layer normalisation (Ba et al. 2016): each row brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//!   xhat = (x - mean) r     r = 1 / sqrt(var + epsilon)     y = xhat w + b      g = dy w
//!
//!   dx = r (g - mean(g) - xhat mean(g xhat))      dw = sum over rows of dy xhat      db = sum over rows of dy
//! ```

use super::conv::Old;
use super::{CHUNKS, divide};

/// Writes the rows of `width` numbers, and for each row its mean and `r` to `moments`.
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f64, y: &mut [f32], moments: &mut [f32]) {
    let width = weight.len();
    divide::pieces_of_two((y, width), (moments, 2), |first, y, moments| {
        let x = &x[first * width..];
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for ((x, y), moments) in rows.zip(moments.chunks_exact_mut(2)) {
            let (mean, scale) = row_moments(x, epsilon);
            moments.copy_from_slice(&[mean, scale]);
            y.iter_mut().zip(x.iter().zip(weight)).for_each(|(y, (x, w))| *y = (x - mean) * scale * w);
            if let Some(bias) = bias {
                y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    });
}

/// Mean and factor of a row; its first number is taken away first, so that squares swallow nothing.
fn row_moments(x: &[f32], epsilon: f64) -> (f32, f32) {
    let (count, shift) = (x.len() as f64, f64::from(x[0]));
    let (sum, squares) = x.iter().fold((0.0, 0.0), |(sum, squares), x| {
        let left = f64::from(*x) - shift;
        (sum + left, squares + left * left)
    });
    let variance = (squares - sum * sum / count) / count;
    // NaN stays, so that it is seen.
    let variance = if variance < 0.0 { 0.0 } else { variance };
    ((shift + sum / count) as f32, (1.0 / (variance + epsilon).sqrt()) as f32)
}

/// The gradient at `x`.
pub fn backward(x: &[f32], weight: &[f32], moments: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
    let width = weight.len();
    divide::pieces(dx, width, |first, dx| {
        let (x, dy, moments) = (&x[first * width..], &dy[first * width..], &moments[first * 2..]);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(moments.chunks_exact(2));
        for (((x, dy), moments), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let [mean, scale] = [moments[0], moments[1]];
            let terms = || x.iter().zip(dy).zip(weight).map(|((x, dy), w)| ((x - mean) * scale, dy * w));
            let (sum, product) = terms().fold((0.0f64, 0.0f64), |(sum, product), (xhat, g)| {
                (sum + f64::from(g), product + f64::from(g * xhat))
            });
            let [shift, slope] = [sum, product].map(|sum| (sum / width as f64) as f32);
            if old == Old::Dropped {
                dx.fill(0.0);
            }
            dx.iter_mut().zip(terms()).for_each(|(dx, (xhat, g))| *dx += scale * (g - shift - xhat * slope));
        }
    });
}

/// The gradients at weight and bias.
pub fn parameter_gradients(x: &[f32], moments: &[f32], dy: &[f32], dweight: &mut [f32], dbias: &mut [f32]) {
    let width = dweight.len();
    let parts = divide::chunks(x.len() / width, width, |rows| {
        let mut sums = vec![[0.0f64; 2]; width];
        for row in rows {
            let [mean, scale] = [moments[2 * row], moments[2 * row + 1]];
            let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
            for (sums, (x, dy)) in sums.iter_mut().zip(x.iter().zip(dy)) {
                sums[0] += f64::from(dy * (x - mean) * scale);
                sums[1] += f64::from(*dy);
            }
        }
        sums
    });
    for column in 0..width {
        let sum = |which: usize| (0..CHUNKS).map(|part| parts[part][column][which]).sum::<f64>() as f32;
        (dweight[column], dbias[column]) = (sum(0), sum(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    const EPSILON: f64 = 1e-4;

    fn naive(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let width = weight.len();
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            (0..width).map(|i| (x[i] - mean) / (variance + EPSILON).sqrt() * weight[i] + bias[i]).collect()
        };
        x.chunks(width).flat_map(row).collect()
    }

    #[test]
    fn rows_and_gradients_are_those_of_the_definition() {
        let (rows, width) = (37, 9);
        let (x, dy) = (numbers(rows * width, 1), numbers(rows * width, 2));
        let (w, b) = (numbers(width, 3), numbers(width, 4));
        let (mut y, mut moments) = (vec![0.0; x.len()], vec![0.0; 2 * rows]);
        forward(&x, &w, Some(&b), EPSILON, &mut y, &mut moments);
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
        backward(&x, &w, &moments, &dy, &mut dx, Old::Dropped);
        parameter_gradients(&x, &moments, &dy, &mut dw, &mut db);

        let mut args = [x, w, b].map(|v| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>());
        let value = |args: &[Vec<f64>; 3]| naive(&args[0], &args[1], &args[2]);
        assert!(y.iter().zip(value(&args)).all(|(y, e)| (f64::from(*y) - e).abs() < 1e-5));
        for (which, found) in [dx, dw, db].iter().enumerate() {
            for (i, found) in found.iter().enumerate() {
                let mut loss = |step: f64| {
                    args[which][i] += step;
                    let loss: f64 = value(&args).iter().zip(&dy).map(|(y, d)| y * f64::from(*d)).sum();
                    args[which][i] -= step;
                    loss
                };
                let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
                assert!((f64::from(*found) - slope).abs() < 1e-4, "{which} {i}: {found} {slope}");
            }
        }
    }
}
