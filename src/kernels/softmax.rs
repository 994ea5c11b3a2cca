//! What goes along one axis: softmax, its logarithm, running sums.
//!
//! ```text
//!   softmax       y = e^(x-m) / s      dx = y (dy - sum(dy y))         m the largest x, s the sum of e^(x-m)
//!   log softmax   y = x - m - ln s     dx = dy - e^y sum(dy)
//!   running sums  y_i = sum over j <= i of x_j                         dx the running sums of dy the other way
//! ```

use candle_core::Result;
use rayon::prelude::*;

use super::Kernel;
use super::operator::{Array, Back, Made, Operator, around, exactly};
use crate::graph::op::{CumSum, Softmax};

/// `exp(x) / sum(exp(x))` along the axis.
pub fn softmax(config: &Softmax) -> Kernel {
    Kernel::of(Along { axis: config.axis, function: Function::Softmax })
}

/// The logarithm of [`softmax`].
pub fn log_softmax(config: &Softmax) -> Kernel {
    Kernel::of(Along { axis: config.axis, function: Function::LogSoftmax })
}

/// Running sums along the axis.
pub fn cumulative_sum(config: &CumSum) -> Kernel {
    let function = Function::Sums { exclusive: config.exclusive, reverse: config.reverse };
    Kernel::of(Along { axis: config.axis, function })
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Softmax,
    LogSoftmax,
    Sums { exclusive: bool, reverse: bool },
}

struct Along {
    axis: usize,
    function: Function,
}

/// Writes each block `[size, run]` of `to` from those of `a` and `b` in its place.
fn blocks(size: usize, run: usize, a: &[f32], b: &[f32], f: impl Fn(&mut [f32], &[f32], &[f32]) + Sync) -> Vec<f32> {
    let mut to = vec![0.0; a.len()];
    let block = (size * run).max(1);
    to.par_chunks_mut(block).zip(a.par_chunks(block).zip(b.par_chunks(block))).for_each(|(to, (a, b))| f(to, a, b));
    to
}

/// One number for each column of a block `[size, run]`.
fn columns<A: Copy>(x: &[f32], run: usize, start: A, f: impl Fn(A, f32) -> A) -> Vec<A> {
    let mut state = vec![start; run];
    for row in x.chunks_exact(run) {
        state.iter_mut().zip(row).for_each(|(state, x)| *state = f(*state, *x));
    }
    state
}

/// Softmax of a row, or its logarithm.
fn normalise_row(y: &mut [f32], x: &[f32], logarithm: bool) {
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

/// Softmax of the columns of `x`, or its logarithm.
fn normalise(y: &mut [f32], x: &[f32], run: usize, logarithm: bool) {
    if run == 1 {
        return normalise_row(y, x, logarithm);
    }
    let max = columns(x, run, f32::NEG_INFINITY, f32::max);
    for (y, x) in y.chunks_exact_mut(run).zip(x.chunks_exact(run)) {
        y.iter_mut().zip(x.iter().zip(&max)).for_each(|(y, (x, max))| *y = x - max);
    }
    if logarithm {
        let sums = columns(y, run, 0.0f64, |sum, y| sum + f64::from(y.exp()));
        let logs: Vec<f32> = sums.into_iter().map(|sum| sum.ln() as f32).collect();
        y.chunks_exact_mut(run).for_each(|y| y.iter_mut().zip(&logs).for_each(|(y, log)| *y -= log));
    } else {
        y.iter_mut().for_each(|y| *y = y.exp());
        let sums = columns(y, run, 0.0f64, |sum, y| sum + f64::from(y));
        let shares: Vec<f32> = sums.into_iter().map(|sum| (1.0 / sum) as f32).collect();
        y.chunks_exact_mut(run).for_each(|y| y.iter_mut().zip(&shares).for_each(|(y, share)| *y *= share));
    }
}

fn normalise_back(dx: &mut [f32], y: &[f32], dy: &[f32], run: usize, logarithm: bool) {
    let slope = |y: f32, dy: f32, sum: f32| if logarithm { dy - y.exp() * sum } else { y * (dy - sum) };
    if run == 1 {
        // A row has one sum, for which no vector is made.
        let terms = y.iter().zip(dy).map(|(y, dy)| f64::from(if logarithm { *dy } else { dy * y }));
        let sum = terms.sum::<f64>() as f32;
        return dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (y, dy))| *dx = slope(*y, *dy, sum));
    }
    let mut sums = vec![0.0f64; run];
    for (y, dy) in y.chunks_exact(run).zip(dy.chunks_exact(run)) {
        let term = |(y, dy): (&f32, &f32)| if logarithm { f64::from(*dy) } else { f64::from(dy * y) };
        sums.iter_mut().zip(y.iter().zip(dy).map(term)).for_each(|(sum, term)| *sum += term);
    }
    let rows = dx.chunks_exact_mut(run).zip(y.chunks_exact(run).zip(dy.chunks_exact(run)));
    for (dx, (y, dy)) in rows {
        for ((dx, sum), (y, dy)) in dx.iter_mut().zip(&sums).zip(y.iter().zip(dy)) {
            *dx = slope(*y, *dy, *sum as f32);
        }
    }
}

fn sums(y: &mut [f32], x: &[f32], run: usize, exclusive: bool, reverse: bool) {
    let (mut sum, rows) = (vec![0.0f64; run], x.len() / run);
    for i in 0..rows {
        let row = if reverse { rows - 1 - i } else { i } * run;
        for ((y, x), sum) in y[row..row + run].iter_mut().zip(&x[row..row + run]).zip(&mut sum) {
            let before = *sum;
            *sum += f64::from(*x);
            *y = if exclusive { before } else { *sum } as f32;
        }
    }
}

impl Operator for Along {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Softmax => "Softmax",
            Function::LogSoftmax => "LogSoftmax",
            Function::Sums { .. } => "CumSum",
        }
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [x] = exactly(self.name(), args)?;
        let [_, size, run] = around(self.name(), x.shape, self.axis)?;
        let values = blocks(size, run, x.values, x.values, |y, x, _| match self.function {
            Function::Softmax => normalise(y, x, run, false),
            Function::LogSoftmax => normalise(y, x, run, true),
            Function::Sums { exclusive, reverse } => sums(y, x, run, exclusive, reverse),
        });
        Ok(vec![Made::new(x.shape, values)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let y = back.ys[0];
        let [_, size, run] = around(self.name(), y.shape, self.axis)?;
        Ok(back.each(|_| {
            blocks(size, run, y.values, back.dy(), |dx, y, dy| match self.function {
                Function::Softmax => normalise_back(dx, y, dy, run, false),
                Function::LogSoftmax => normalise_back(dx, y, dy, run, true),
                Function::Sums { exclusive, reverse } => sums(dx, dy, run, exclusive, !reverse),
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    #[test]
    fn large_and_masked_numbers_have_their_share() {
        let x = Tensor::from_slice(&[1000f32, 1000.0, f32::NEG_INFINITY], (1, 3), &Device::Cpu).unwrap();
        let kernel = softmax(&Softmax { axis: 1 });
        assert_eq!(result(&kernel, std::slice::from_ref(&x)).unwrap(), [0.5, 0.5, 0.0]);
        assert_eq!(gradients(&kernel, &[x], &[4.0, 0.0, 9.0]), [[1.0, -1.0, 0.0]]);
    }

    #[test]
    fn sums_run_either_way() {
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0], 3, &Device::Cpu).unwrap();
        let run = |exclusive, reverse| {
            let kernel = cumulative_sum(&CumSum { axis: 0, exclusive, reverse });
            (
                result(&kernel, std::slice::from_ref(&x)).unwrap(),
                gradients(&kernel, std::slice::from_ref(&x), &[1.0, 10.0, 100.0]).remove(0),
            )
        };
        assert_eq!(run(false, false), (vec![1.0, 3.0, 6.0], vec![111.0, 110.0, 100.0]));
        assert_eq!(run(true, true), (vec![5.0, 3.0, 0.0], vec![0.0, 1.0, 11.0]));
    }
}
