//! Normalisations that go by each sample alone: `LayerNorm`, `RmsNorm`, `GroupNorm`, `InstanceNorm`.
//!
//! All are one thing: rows of numbers that are each brought to mean 0 and variance 1, then scaled and shifted by vectors
//! that come again with every `period`-th row.
//!
//! ```text
//!   xhat = (x - mean) r     r = 1 / sqrt(var + epsilon)     y = xhat w + b      g = dy w
//!
//!   dx = r (g - mean(g) - xhat mean(g xhat))      dw = sum over rows of dy xhat      db = sum over rows of dy
//!   without a mean (RmsNorm): xhat = x r with the mean square in the place of var, and mean(g) falls away
//! ```

use candle_core::{Error, Result};
use rayon::prelude::*;

use super::Kernel;
use super::batch_norm::plane_sums;
use super::broadcast::Walk;
use super::groups::sum_to;
use super::operator::{Array, Back, Made, Operator};
use crate::graph::op::{GroupNorm, InstanceNorm, LayerNorm, RmsNorm};

/// Into how many partial sums the rows are divided.
const PARTS: usize = 8;

/// Over the last axes.
pub fn layer_norm(config: &LayerNorm) -> Kernel {
    Kernel::of(Norm { op: "LayerNorm", over: Over::Last(config.axis), epsilon: config.epsilon, centred: true })
}

/// Over the last axes, without a mean.
pub fn rms_norm(config: &RmsNorm) -> Kernel {
    Kernel::of(Norm { op: "RmsNorm", over: Over::Last(config.axis), epsilon: config.epsilon, centred: false })
}

/// Over groups of channels.
pub fn group_norm(config: &GroupNorm) -> Kernel {
    Kernel::of(Norm { op: "GroupNorm", over: Over::Groups(config.groups), epsilon: config.epsilon, centred: true })
}

/// Over the places of each channel.
pub fn instance_norm(config: &InstanceNorm) -> Kernel {
    Kernel::of(Norm { op: "InstanceNorm", over: Over::Channels, epsilon: config.epsilon, centred: true })
}

#[derive(Debug, Clone, Copy)]
enum Over {
    Last(usize),
    Groups(usize),
    Channels,
}

struct Norm {
    op: &'static str,
    over: Over,
    epsilon: f64,
    centred: bool,
}

/// Rows, and how a weight lies in them.
struct Rows {
    width: usize,
    /// Rows after which the weights come again.
    period: usize,
    /// The shape that weights are broadcast to: `period * width` numbers.
    wide: Vec<usize>,
    /// The shape that weights have for that.
    own: Vec<Vec<usize>>,
}

impl Norm {
    fn rows(&self, args: &[Array<'_>]) -> Result<Rows> {
        let misfit = || Error::Msg(format!("{} of {:?}: sizes do not fit", self.op, args.first().map(|x| x.shape)));
        let (x, weights) = args.split_first().ok_or_else(misfit)?;
        if let Over::Last(axis) = self.over {
            let wide = x.shape.get(axis..).ok_or_else(misfit)?.to_vec();
            let own = weights.iter().map(|w| w.shape.to_vec()).collect();
            return Ok(Rows { width: wide.iter().product(), period: 1, wide, own });
        }
        let [_, channels, places @ ..] = x.shape else { return Err(misfit()) };
        let groups = if let Over::Groups(groups) = self.over { groups } else { *channels };
        if groups == 0 || !channels.is_multiple_of(groups) || weights.iter().any(|w| w.shape != [*channels]) {
            return Err(misfit());
        }
        let plane = places.iter().product();
        let (wide, own) = (vec![*channels, plane], vec![vec![*channels, 1]; weights.len()]);
        Ok(Rows { width: channels / groups * plane, period: groups, wide, own })
    }

    /// Mean and factor of a row.
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let count = x.len() as f64;
        // Where values lie far from zero and close together, their squares would swallow the variance.
        let shift = if self.centred { x.first().copied().unwrap_or(0.0) } else { 0.0 };
        let [sum, squares] = plane_sums(x.iter().map(|x| [x - shift, (x - shift) * (x - shift)]));
        let (mean, moved) = if self.centred { (f64::from(shift) + sum / count, sum * sum / count) } else { (0.0, 0.0) };
        let variance = (squares - moved) / count;
        // Rounding may bring a variance of nothing below zero. NaN stays, so that it is seen.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        (mean as f32, (1.0 / (variance + self.epsilon).sqrt()) as f32)
    }
}

impl Rows {
    /// A weight as the numbers of `period` rows.
    fn widen(&self, which: usize, values: &[f32]) -> Vec<f32> {
        if self.own[which] == self.wide {
            return values.to_vec();
        }
        Walk::broadcast(&self.wide, [&self.own[which]]).map([values], |[w]| w)
    }

    fn of<'a>(&self, wide: &'a [f32], row: usize) -> &'a [f32] {
        &wide[row % self.period * self.width..][..self.width]
    }

    /// The sum over rows of what `add` adds, as the gradient of the weight of that number.
    fn sum(&self, which: usize, rows: usize, add: impl Fn(&mut [f32], usize) + Sync) -> Vec<f32> {
        let part = rows.div_ceil(PARTS).next_multiple_of(self.period).max(1);
        let parts: Vec<Vec<f32>> = (0..rows.div_ceil(part))
            .into_par_iter()
            .map(|number| {
                let mut sum = vec![0.0; self.period * self.width];
                for row in number * part..(number * part + part).min(rows) {
                    add(&mut sum[row % self.period * self.width..][..self.width], row);
                }
                sum
            })
            .collect();
        let mut total = vec![0.0; self.period * self.width];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        sum_to(total, &self.wide, &self.own[which])
    }
}

impl Operator for Norm {
    fn name(&self) -> &'static str {
        self.op
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let (rows, x) = (self.rows(args)?, args[0]);
        let width = rows.width.max(1);
        let weights: Vec<Vec<f32>> = args[1..].iter().enumerate().map(|(i, w)| rows.widen(i, w.values)).collect();
        let mut y = vec![0.0; x.values.len()];
        y.par_chunks_mut(width).zip(x.values.par_chunks(width)).enumerate().for_each(|(row, (y, x))| {
            let (mean, factor) = self.moments(x);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * factor);
            if let Some(weight) = weights.first() {
                y.iter_mut().zip(rows.of(weight, row)).for_each(|(y, w)| *y *= w);
            }
            if let Some(bias) = weights.get(1) {
                y.iter_mut().zip(rows.of(bias, row)).for_each(|(y, b)| *y += b);
            }
        });
        Ok(vec![Made::new(x.shape, y)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let (rows, x, dy) = (self.rows(back.args)?, back.args[0].values, back.dy());
        let width = rows.width.max(1);
        let weight = back.args.get(1).map(|w| rows.widen(0, w.values));
        let moments: Vec<(f32, f32)> = x.par_chunks(width).map(|x| self.moments(x)).collect();
        let row_of = |values: &'_ [f32], row: usize| row * width..(row * width + width).min(values.len());
        let gradient = |(row, dx): (usize, &mut [f32])| {
            let (x, dy, (mean, factor)) = (&x[row_of(x, row)], &dy[row_of(dy, row)], moments[row]);
            dx.copy_from_slice(dy);
            if let Some(weight) = &weight {
                dx.iter_mut().zip(rows.of(weight, row)).for_each(|(g, w)| *g *= w);
            }
            let [sum, product] = plane_sums(dx.iter().zip(x).map(|(g, x)| [*g, g * ((x - mean) * factor)]));
            let sum = if self.centred { (sum / x.len() as f64) as f32 } else { 0.0 };
            let product = (product / x.len() as f64) as f32;
            dx.iter_mut().zip(x).for_each(|(g, x)| *g = factor * (*g - sum - (x - mean) * factor * product));
        };
        Ok(back.each(|which| match which {
            0 => {
                let mut dx = vec![0.0; x.len()];
                dx.par_chunks_mut(width).enumerate().for_each(gradient);
                dx
            }
            1 => rows.sum(0, moments.len(), |dw, row| {
                let (x, dy, (mean, factor)) = (&x[row_of(x, row)], &dy[row_of(dy, row)], moments[row]);
                dw.iter_mut().zip(dy.iter().zip(x)).for_each(|(dw, (dy, x))| *dw += dy * (x - mean) * factor);
            }),
            _ => rows.sum(1, moments.len(), |db, row| {
                db.iter_mut().zip(&dy[row_of(dy, row)]).for_each(|(db, dy)| *db += dy);
            }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, numbers, result};

    #[test]
    fn a_row_of_one_number_becomes_the_bias_and_has_no_gradient() {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let args = [tensor(&[5.0], &[1, 1, 1]), tensor(&[2.0], &[1]), tensor(&[0.5], &[1])];
        let kernel = instance_norm(&InstanceNorm { epsilon: 1e-5 });
        assert_eq!(result(&kernel, &args).unwrap(), [0.5]);
        assert_eq!(gradients(&kernel, &args, &[3.0]), [[0.0], [0.0], [3.0]]);
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let tensor = |shape: &[usize]| {
                    Tensor::from_vec(numbers(shape.iter().product(), 1), shape, &Device::Cpu).unwrap()
                };
                let kernel = group_norm(&GroupNorm { groups: 3, epsilon: 1e-5 });
                gradients(&kernel, &[tensor(&[11, 6, 7]), tensor(&[6]), tensor(&[6])], &numbers(11 * 42, 2))
            })
        };
        assert_eq!(run(1), run(3));
    }
}
