//! Layer normalisation (Ba et al. 2016): each row brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//!   xhat = (x - mean) r     r = 1 / sqrt(var + epsilon)     y = xhat w + b      g = dy w
//!
//!   dx = r (g - mean(g) - xhat mean(g xhat))      dw = sum over rows of dy xhat      db = sum over rows of dy
//! ```

use super::conv::Old;
use super::{CHUNKS, divide};
use crate::simd::slices::{sums, update};
use crate::simd::{self, Path, Task, Vector};

/// What is done to rows: with these instructions, weight and bias.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// Which instructions.
    pub path: Path,
    /// A number for each place of a row.
    pub weight: &'a [f32],
    /// Another, if any.
    pub bias: Option<&'a [f32]>,
    /// What is added to the variance.
    pub epsilon: f64,
}

impl LayerNorm<'_> {
    /// Writes the rows, and for each its mean and `r` to `moments`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], moments: &mut [f32]) {
        let width = self.weight.len();
        divide::pieces_of_two((y, width), (moments, 2), |first, y, moments| {
            let x = &x[first * width..][..y.len()];
            simd::run(self.path, Forward { norm: self, x, y, moments });
        });
    }

    /// The gradient at `x`.
    pub fn backward(&self, x: &[f32], moments: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
        let width = self.weight.len();
        divide::pieces(dx, width, |first, dx| {
            let (x, dy, moments) = (&x[first * width..], &dy[first * width..], &moments[first * 2..]);
            simd::run(self.path, Backward { norm: self, x, moments, dy, dx, old });
        });
    }

    /// The gradients at weight and bias.
    pub fn parameter_gradients(&self, x: &[f32], moments: &[f32], dy: &[f32], dweight: &mut [f32], dbias: &mut [f32]) {
        let width = dweight.len();
        let parts = divide::chunks(x.len() / width, width, |rows| {
            let of_rows = |width: usize| rows.start * width..rows.end * width;
            let (x, dy, moments) = (&x[of_rows(width)], &dy[of_rows(width)], &moments[of_rows(2)]);
            simd::run(self.path, ParameterGradients { width, x, moments, dy })
        });
        for column in 0..width {
            let sum = |which: usize| (0..CHUNKS).map(|part| parts[part][which][column]).sum::<f64>() as f32;
            (dweight[column], dbias[column]) = (sum(0), sum(1));
        }
    }
}

struct Forward<'a> {
    norm: &'a LayerNorm<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
    moments: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let LayerNorm { weight, bias, epsilon, .. } = *self.norm;
        let rows = self.x.chunks_exact(weight.len()).zip(self.y.chunks_exact_mut(weight.len()));
        for ((x, y), moments) in rows.zip(self.moments.chunks_exact_mut(2)) {
            let (mean, scale) = row_moments::<V>(x, epsilon);
            moments.copy_from_slice(&[mean, scale]);
            let [mean, scale] = [mean, scale].map(V::splat);
            match bias {
                Some(bias) => update(y, [x, weight, bias], |_, [x, w, b]: [V; 3]| x.sub(mean).mul(scale).mul_add(w, b)),
                None => update(y, [x, weight], |_, [x, w]: [V; 2]| x.sub(mean).mul(scale).mul(w)),
            }
        }
    }
}

/// Mean and factor of a row; its first number is taken away first, so that squares swallow nothing.
#[inline(always)]
fn row_moments<V: Vector>(x: &[f32], epsilon: f64) -> (f32, f32) {
    let count = x.len() as f64;
    let shift = V::splat(x[0]);
    let [sum, squares] = sums([x], |[x]: [V; 1]| {
        let left = x.sub(shift);
        [left, left.mul(left)]
    });
    let variance = (squares - sum * sum / count) / count;
    // NaN stays, so that it is seen.
    let variance = if variance < 0.0 { 0.0 } else { variance };
    ((f64::from(x[0]) + sum / count) as f32, (1.0 / (variance + epsilon).sqrt()) as f32)
}

struct Backward<'a> {
    norm: &'a LayerNorm<'a>,
    x: &'a [f32],
    moments: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    old: Old,
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let weight = self.norm.weight;
        let width = weight.len();
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)).zip(self.moments.chunks_exact(2));
        for (((x, dy), moments), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let [mean, scale] = [moments[0], moments[1]].map(V::splat);
            let xhat = |x: V| x.sub(mean).mul(scale);
            let means = sums([x, dy, weight], |[x, dy, w]: [V; 3]| {
                let g = dy.mul(w);
                [g, g.mul(xhat(x))]
            });
            let [shift, slope] = means.map(|sum| V::splat((sum / width as f64) as f32));
            if self.old == Old::Dropped {
                dx.fill(0.0);
            }
            update(dx, [x, dy, weight], |dx, [x, dy, w]: [V; 3]| {
                dy.mul(w).sub(shift).sub(xhat(x).mul(slope)).mul_add(scale, dx)
            });
        }
    }
}

struct ParameterGradients<'a> {
    width: usize,
    x: &'a [f32],
    moments: &'a [f32],
    dy: &'a [f32],
}

impl Task for ParameterGradients<'_> {
    /// At the weight and at the bias.
    type Output = [Vec<f64>; 2];

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        let (mut dweight, mut dbias) = (vec![0.0; self.width], vec![0.0; self.width]);
        let rows = self.x.chunks_exact(self.width).zip(self.dy.chunks_exact(self.width));
        for ((x, dy), moments) in rows.zip(self.moments.chunks_exact(2)) {
            let [mean, scale] = [moments[0], moments[1]];
            for ((dw, db), (x, dy)) in dweight.iter_mut().zip(&mut dbias).zip(x.iter().zip(dy)) {
                *dw += f64::from(dy * (x - mean) * scale);
                *db += f64::from(*dy);
            }
        }
        [dweight, dbias]
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
        let paths = Path::ALL.into_iter().filter(|path| path.is_available());
        for (path, (rows, width)) in paths.flat_map(|path| [(37, 9), (9, 37)].map(|sizes| (path, sizes))) {
            let (x, dy) = (numbers(rows * width, 1), numbers(rows * width, 2));
            let (w, b) = (numbers(width, 3), numbers(width, 4));
            let (mut y, mut moments) = (vec![0.0; x.len()], vec![0.0; 2 * rows]);
            let norm = LayerNorm { path, weight: &w, bias: Some(&b), epsilon: EPSILON };
            norm.forward(&x, &mut y, &mut moments);
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
            norm.backward(&x, &moments, &dy, &mut dx, Old::Dropped);
            norm.parameter_gradients(&x, &moments, &dy, &mut dw, &mut db);

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
}
