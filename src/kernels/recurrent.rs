//! What recurrent layers have in common: sizes, the order of steps, products over all steps at once.
//!
//! ```text
//!   x [steps, n, in]    weight_ih [d, g h, in]    weight_hh [d, g h, h]    bias [d, 2 g h]    states [d, n, h]
//! ```
//!
//! What the gates see of the input is one product over all steps; what they see of the state is one a step. Backwards, the
//! gradients at the gates are found step by step, and those at the weights are products over all steps again.
//!
//! A sample that is over, or has not begun where the layer runs backwards, keeps its state and gives 0.

use candle_core::{Error, Result};

use super::matmul::{Matrix, multiply_add_on_all_threads};
use super::operator::Array;
use crate::graph::op::Direction;

/// A recurrent layer's configuration.
pub(super) struct Layer {
    pub(super) op: &'static str,
    pub(super) hidden: usize,
    /// Gates that have weights.
    pub(super) gates: usize,
    pub(super) direction: Direction,
    /// Steps of each sample, where they differ.
    pub(super) lengths: Option<Vec<i64>>,
    /// First states among the arguments: behind the sequence, before the weights.
    pub(super) states: usize,
}

/// A layer's arguments and sizes.
pub(super) struct Problem<'a> {
    pub(super) layer: &'a Layer,
    pub(super) steps: usize,
    pub(super) samples: usize,
    features: usize,
    args: &'a [Array<'a>],
}

impl Layer {
    pub(super) fn problem<'a>(&'a self, args: &'a [Array<'a>]) -> Result<Problem<'a>> {
        let misfit = || {
            let shapes: Vec<&[usize]> = args.iter().map(|arg| arg.shape).collect();
            Error::Msg(format!("{} of {shapes:?}: sizes do not fit", self.op))
        };
        let &[steps, samples, features] = args.first().ok_or_else(misfit)?.shape else { return Err(misfit()) };
        let (d, h, rows) = (self.direction.count(), self.hidden, self.gates * self.hidden);
        let mut expected = vec![vec![d, samples, h]; self.states];
        expected.extend([vec![d, rows, features], vec![d, rows, h], vec![d, 2 * rows], vec![d, 3 * h]]);
        let rest = &args[1..];
        let fits = rest.len() >= self.states + 2 && rest.len() <= expected.len();
        if !fits || rest.iter().zip(&expected).any(|(arg, shape)| arg.shape != shape) {
            return Err(misfit());
        }
        if self.lengths.as_ref().is_some_and(|lengths| lengths.len() != samples) {
            return Err(misfit());
        }
        Ok(Problem { layer: self, steps, samples, features, args })
    }

    /// The argument that is the weight of that number.
    pub(super) fn weight_place(&self, number: usize) -> usize {
        1 + self.states + number
    }
}

impl<'a> Problem<'a> {
    /// Numbers of a state.
    pub(super) fn state_size(&self) -> usize {
        self.samples * self.layer.hidden
    }

    /// The steps in the order that a direction takes them.
    pub(super) fn order(&self, backwards: bool) -> Vec<usize> {
        if backwards { (0..self.steps).rev().collect() } else { (0..self.steps).collect() }
    }

    /// Whether a sample takes part in a step.
    pub(super) fn is_active(&self, step: usize, sample: usize) -> bool {
        self.layer.lengths.as_ref().is_none_or(|lengths| (step as i64) < lengths[sample])
    }

    /// A part of an argument, which has one for each direction; `None` where the argument is not given.
    pub(super) fn part(&self, place: usize, direction: usize) -> Option<&'a [f32]> {
        let values = self.args.get(place)?.values;
        let size = values.len() / self.layer.direction.count();
        Some(&values[direction * size..][..size])
    }

    /// A weight of that number among the weights.
    pub(super) fn weight(&self, number: usize, direction: usize) -> Option<&'a [f32]> {
        self.part(self.layer.weight_place(number), direction)
    }

    /// The first state of that number; zeros where none is given.
    pub(super) fn first_state(&self, number: usize, direction: usize) -> Vec<f32> {
        match self.layer.states {
            0 => vec![0.0; self.state_size()],
            _ => self.part(1 + number, direction).map_or_else(Vec::new, <[f32]>::to_vec),
        }
    }

    fn input(&self) -> Matrix<'a> {
        Matrix::new(self.args[0].values, self.steps * self.samples, self.features)
    }

    fn rows(&self) -> usize {
        self.layer.gates * self.layer.hidden
    }

    /// `weight_hh` of these gates.
    pub(super) fn recurrence(&self, direction: usize, gates: std::ops::Range<usize>) -> Matrix<'a> {
        let h = self.layer.hidden;
        let all = self.weight(1, direction).unwrap_or(&[]);
        Matrix::new(&all[gates.start * h * h..gates.end * h * h], gates.len() * h, h)
    }

    /// What the gates see of the input: `[steps, n, g h]`, with `bias` of `g h` numbers where there is one.
    pub(super) fn projection(&self, direction: usize, bias: Option<Vec<f32>>) -> Vec<f32> {
        let rows = self.rows();
        let mut z = vec![0.0; self.steps * self.samples * rows];
        if let Some(bias) = bias {
            z.chunks_exact_mut(rows).for_each(|z| z.copy_from_slice(&bias));
        }
        let weight = Matrix::new(self.weight(0, direction).unwrap_or(&[]), rows, self.features);
        multiply_add_on_all_threads(&mut z, self.input(), weight.transposed());
        z
    }

    /// Adds to the gradient at the input what comes from `dz [steps, n, g h]` of a direction.
    pub(super) fn add_input_gradient(&self, dx: &mut [f32], direction: usize, dz: &[f32]) {
        let weight = Matrix::new(self.weight(0, direction).unwrap_or(&[]), self.rows(), self.features);
        multiply_add_on_all_threads(dx, Matrix::new(dz, self.steps * self.samples, self.rows()), weight);
    }

    /// The gradient at a direction's `weight_ih`.
    pub(super) fn input_weight_gradient(&self, dz: &[f32]) -> Vec<f32> {
        let mut dw = vec![0.0; self.rows() * self.features];
        let dz = Matrix::new(dz, self.steps * self.samples, self.rows());
        multiply_add_on_all_threads(&mut dw, dz.transposed(), self.input());
        dw
    }

    /// `a^T b` of `a [steps, n, g h]` and `b [steps, n, h]`, which is what the gradient at `weight_hh` is.
    pub(super) fn state_weight_gradient(&self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let (rows, m, n) = (self.steps * self.samples, self.rows(), self.layer.hidden);
        let mut product = vec![0.0; m * n];
        multiply_add_on_all_threads(&mut product, Matrix::new(a, rows, m).transposed(), Matrix::new(b, rows, n));
        product
    }

    /// The states `[steps, n, h]` that each step began with, given those it ended with and the first one.
    pub(super) fn before(&self, states: &[f32], first: &[f32], backwards: bool) -> Vec<f32> {
        let size = self.state_size();
        let mut before = vec![0.0; self.steps * size];
        let mut last: Option<usize> = None;
        for step in self.order(backwards) {
            let from = last.map_or(first, |last| &states[last * size..][..size]);
            before[step * size..][..size].copy_from_slice(from);
            last = Some(step);
        }
        before
    }
}

/// Sums of the columns of rows of that width.
pub(super) fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::graph::op::{Gru, Lstm};
    use crate::kernels::testing::{gradients, numbers, result};
    use crate::kernels::{Kernel, gru, lstm};

    fn args(shapes: &[&[usize]]) -> Vec<Tensor> {
        let tensor = |(seed, shape): (u64, &&[usize])| {
            let values: Vec<f32> = numbers(shape.iter().product(), seed).into_iter().map(|v| v / 4.0).collect();
            Tensor::from_vec(values, *shape, &Device::Cpu).unwrap()
        };
        (1..).zip(shapes).map(tensor).collect()
    }

    fn layers(hidden: usize, direction: Direction, lengths: Option<Vec<i64>>) -> [(usize, Kernel); 3] {
        let gru_of = |reset_after| {
            let config = Gru { hidden, direction, reset_after, lengths: lengths.is_some(), state: false };
            (3, gru(&config, lengths.clone()))
        };
        let config = Lstm { hidden, direction, lengths: lengths.is_some(), state: false };
        [(4, lstm(&config, lengths.clone())), gru_of(false), gru_of(true)]
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                layers(96, Direction::Both, None).map(|(gates, kernel)| {
                    let args = args(&[&[5, 33, 70], &[2, gates * 96, 70], &[2, gates * 96, 96], &[2, 2 * gates * 96]]);
                    let y = result(&kernel, &args).unwrap();
                    (gradients(&kernel, &args, &numbers(y.len(), 9)), y)
                })
            })
        };
        assert!(run(1) == run(3));
    }

    #[test]
    fn what_lies_behind_a_sample_s_end_has_no_part_in_it() {
        for direction in [Direction::Forward, Direction::Reverse] {
            for (gates, kernel) in layers(3, direction, Some(vec![2, 0])) {
                let mut args = args(&[&[4, 2, 2], &[1, gates * 3, 2], &[1, gates * 3, 3]]);
                let y = result(&kernel, &args).unwrap();
                // Steps, samples, units.
                assert!((0..24).all(|i| (y[i] != 0.0) == (i < 12 && i % 6 < 3)), "{y:?}");
                let gradient = gradients(&kernel, &args, &[1.0; 24]).remove(0);
                assert!((0..16).all(|i| (gradient[i] != 0.0) == (i < 8 && i % 4 < 2)), "{gradient:?}");
                let mut values: Vec<f32> = args[0].flatten_all().unwrap().to_vec1().unwrap();
                values[8..].fill(9.0);
                args[0] = Tensor::from_vec(values, &[4, 2, 2], &Device::Cpu).unwrap();
                assert_eq!(result(&kernel, &args).unwrap(), y);
            }
        }
    }

    #[test]
    fn a_sequence_of_no_steps_gives_gradients_of_the_right_sizes() {
        for (gates, kernel) in layers(3, Direction::Forward, None) {
            let args = args(&[&[0, 2, 2], &[1, gates * 3, 2], &[1, gates * 3, 3], &[1, 6 * gates]]);
            assert_eq!(result(&kernel, &args).unwrap(), [0f32; 0]);
            assert_eq!(gradients(&kernel, &args, &[])[2], vec![0.0; gates * 9]);
        }
    }
}
