//! LSTM and GRU, step by step, for each direction and each sample; the formulas are at
//! [`Lstm`](crate::graph::op::Lstm).

use super::array::{reals, wholes};
use super::{Output, ReferenceError};
use crate::graph::op::{Direction, Gru, Lstm};
use crate::tensor::TensorData;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The parameters of one direction, and where a gate's numbers are in them.
struct Gates<'a> {
    /// `[gates * hidden, in]`.
    input: &'a [f64],
    /// `[gates * hidden, hidden]`.
    state: &'a [f64],
    /// `[2 * gates * hidden]`.
    bias: &'a [f64],
    hidden: usize,
    rows: usize,
}

impl Gates<'_> {
    /// `W x + b_W` of a gate's unit.
    fn of_input(&self, gate: usize, unit: usize, x: &[f64]) -> f64 {
        let row = gate * self.hidden + unit;
        self.bias[row] + dot(&self.input[row * x.len()..], x)
    }

    /// `R h + b_R` of a gate's unit.
    fn of_state(&self, gate: usize, unit: usize, h: &[f64]) -> f64 {
        let row = gate * self.hidden + unit;
        self.bias[self.rows + row] + dot(&self.state[row * self.hidden..], h)
    }
}

fn dot(row: &[f64], x: &[f64]) -> f64 {
    row.iter().zip(x).map(|(w, x)| w * x).sum()
}

/// What both layers have in common: the sequences, and how they are read.
struct Layer {
    op: &'static str,
    x: Vec<f64>,
    steps: usize,
    samples: usize,
    features: usize,
    hidden: usize,
    gates: usize,
    /// Steps of each sample.
    lengths: Vec<usize>,
    /// Weights of inputs and states, and biases.
    params: [Vec<f64>; 3],
}

impl Layer {
    fn new(
        op: &'static str,
        (gates, hidden, directions): (usize, usize, usize),
        x: &TensorData,
        lengths: Option<&TensorData>,
        params: &[&TensorData],
    ) -> Result<Self, ReferenceError> {
        let (steps, samples, features) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let length = |n: i128| {
            let problem = || format!("has a sequence of {n} steps, which is not within the {steps} that there are");
            let fits = usize::try_from(n).ok().filter(|n| *n <= steps);
            fits.ok_or_else(|| ReferenceError::Input { op, problem: problem() })
        };
        let lengths = match lengths {
            Some(lengths) => wholes(lengths).into_iter().map(length).collect::<Result<_, _>>()?,
            None => vec![steps; samples],
        };
        let bias = params.get(2).map_or_else(|| vec![0.0; directions * 2 * gates * hidden], |bias| reals(bias));
        let params = [reals(params[0]), reals(params[1]), bias];
        Ok(Self { op, x: reals(x), steps, samples, features, hidden, gates, lengths, params })
    }

    fn gates(&self, direction: usize) -> Gates<'_> {
        let (rows, hidden) = (self.gates * self.hidden, self.hidden);
        let part = |param: usize, size: usize| &self.params[param][direction * size..(direction + 1) * size];
        let (input, state, bias) = (part(0, rows * self.features), part(1, rows * hidden), part(2, 2 * rows));
        Gates { input, state, bias, hidden, rows }
    }

    /// All states and the last states (with what else a step carries on behind them), for first ones `[d, n, width]`.
    /// `step` makes the next of a state, given the direction and the input.
    fn run(
        &self,
        direction: Direction,
        first: Vec<f64>,
        width: usize,
        step: impl Fn(usize, &[f64], &mut [f64]),
    ) -> (Vec<f64>, Vec<f64>) {
        let (hidden, directions) = (self.hidden, direction.count());
        let mut all = vec![0.0; self.steps * directions * self.samples * hidden];
        let mut last = first;
        for (d, backwards) in direction.backwards().iter().enumerate() {
            for sample in 0..self.samples {
                let state = &mut last[(d * self.samples + sample) * width..][..width];
                let length = self.lengths[sample];
                for i in 0..length {
                    let time = if *backwards { length - 1 - i } else { i };
                    step(d, &self.x[(time * self.samples + sample) * self.features..][..self.features], state);
                    let place = ((time * directions + d) * self.samples + sample) * hidden;
                    all[place..place + hidden].copy_from_slice(&state[..hidden]);
                }
            }
        }
        (all, last)
    }

    /// A first state `[d, n, h]`, or zeros.
    fn first(&self, directions: usize, given: Option<&&TensorData>) -> Vec<f64> {
        given.map_or_else(|| vec![0.0; directions * self.samples * self.hidden], |state| reals(state))
    }
}

/// An LSTM layer.
pub fn lstm(
    config: &Lstm,
    inputs: &[&TensorData],
    params: &[&TensorData],
    outputs: &[Output],
) -> Result<Vec<TensorData>, ReferenceError> {
    let (h, directions) = (config.hidden, config.direction.count());
    let (lengths, rest) = optional(config.lengths, inputs);
    let layer = Layer::new("Lstm", (4, h, directions), inputs[0], lengths, params)?;
    let peephole = params.get(3).map_or_else(|| vec![0.0; directions * 3 * h], |p| reals(p));
    let gates: Vec<Gates<'_>> = (0..directions).map(|d| layer.gates(d)).collect();
    // A state and its cell side by side.
    let (state, cell) = (layer.first(directions, rest.first()), layer.first(directions, rest.get(1)));
    let first = state.chunks_exact(h).zip(cell.chunks_exact(h)).flat_map(|(state, cell)| [state, cell].concat());
    let (all, last) = layer.run(config.direction, first.collect(), 2 * h, |d, x, carried| {
        let (state, cell) = carried.split_at_mut(h);
        let (gates, peep) = (&gates[d], &peephole[d * 3 * h..]);
        let before = state.to_vec();
        for unit in 0..h {
            let gate = |gate: usize| gates.of_input(gate, unit, x) + gates.of_state(gate, unit, &before);
            let input = sigmoid(gate(0) + peep[unit] * cell[unit]);
            let forget = sigmoid(gate(2) + peep[2 * h + unit] * cell[unit]);
            cell[unit] = forget * cell[unit] + input * gate(3).tanh();
            let output = sigmoid(gate(1) + peep[h + unit] * cell[unit]);
            state[unit] = output * cell[unit].tanh();
        }
    });
    let part = |from: usize| last.chunks_exact(2 * h).flat_map(|pair| pair[from..from + h].to_vec()).collect();
    let (state, cell) = (part(0), part(h));
    results(layer.op, outputs, [all, state, cell])
}

/// A GRU layer.
pub fn gru(
    config: &Gru,
    inputs: &[&TensorData],
    params: &[&TensorData],
    outputs: &[Output],
) -> Result<Vec<TensorData>, ReferenceError> {
    let (h, directions) = (config.hidden, config.direction.count());
    let (lengths, rest) = optional(config.lengths, inputs);
    let layer = Layer::new("Gru", (3, h, directions), inputs[0], lengths, params)?;
    let gates: Vec<Gates<'_>> = (0..directions).map(|d| layer.gates(d)).collect();
    let first = layer.first(directions, rest.first());
    let (all, last) = layer.run(config.direction, first, h, |d, x, state| {
        let gates = &gates[d];
        let before = state.to_vec();
        let gate = |gate: usize, unit: usize| gates.of_input(gate, unit, x) + gates.of_state(gate, unit, &before);
        let reset: Vec<f64> = (0..h).map(|unit| sigmoid(gate(1, unit))).collect();
        let kept: Vec<f64> = reset.iter().zip(&before).map(|(reset, state)| reset * state).collect();
        for unit in 0..h {
            let update = sigmoid(gate(0, unit));
            let of_state = match config.reset_after {
                true => reset[unit] * gates.of_state(2, unit, &before),
                false => gates.of_state(2, unit, &kept),
            };
            let new = (gates.of_input(2, unit, x) + of_state).tanh();
            state[unit] = (1.0 - update) * new + update * before[unit];
        }
    });
    results(layer.op, outputs, [all, last])
}

/// The lengths, where there are any, and the inputs after them.
fn optional<'a>(lengths: bool, inputs: &'a [&'a TensorData]) -> (Option<&'a TensorData>, &'a [&'a TensorData]) {
    match inputs {
        [_, given, rest @ ..] if lengths => (Some(*given), rest),
        [_, rest @ ..] => (None, rest),
        [] => (None, &[]),
    }
}

fn results<const N: usize>(
    op: &'static str,
    outputs: &[Output],
    values: [Vec<f64>; N],
) -> Result<Vec<TensorData>, ReferenceError> {
    if outputs.len() != N {
        return Err(ReferenceError::Input { op, problem: format!("has {N} outputs, not {}", outputs.len()) });
    }
    outputs.iter().zip(values).map(|(output, values)| output.real(values)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, eval, random, real, tensor};
    use super::*;
    use crate::graph::Op;
    use crate::graph::op::{Reverse, Slice};
    use crate::tensor::DType;

    const H: usize = 3;
    const IN: usize = 2;

    fn params(gates: usize, directions: usize, seed: u64) -> Vec<TensorData> {
        let rows = gates * H;
        vec![
            random(&[directions, rows, IN], seed),
            random(&[directions, rows, H], seed + 1),
            random(&[directions, 2 * rows], seed + 2),
            random(&[directions, 3 * H], seed + 3),
        ]
    }

    fn lstm(direction: Direction, lengths: bool, state: bool) -> Op {
        Op::Lstm(Lstm { hidden: H, direction, lengths, state })
    }

    fn gru(direction: Direction, reset_after: bool) -> Op {
        Op::Gru(Gru { hidden: H, direction, reset_after, lengths: false, state: false })
    }

    fn run(op: &Op, inputs: &[&TensorData], params: &[TensorData]) -> Vec<TensorData> {
        let count = op.roles().0.len().min(params.len());
        eval(op, inputs, &params[..count].iter().collect::<Vec<_>>()).unwrap()
    }

    fn part(x: &TensorData, axis: usize, start: usize, count: usize) -> TensorData {
        super::super::testing::one(&Op::Slice(Slice::places(axis, start, start + count, 1)), &[x], &[])
    }

    /// One unit, one feature: the formulas by hand.
    #[test]
    fn one_step_by_hand() {
        let x = real(&[1, 1, 1], &[2.0]);
        let (w, r) = ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]);
        let (h0, c0) = (real(&[1, 1, 1], &[0.5]), real(&[1, 1, 1], &[-1.0]));
        let op = Op::Lstm(Lstm { hidden: 1, direction: Direction::Forward, lengths: false, state: true });
        let bias = real(&[1, 8], &[0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.2]);
        let peephole = real(&[1, 3], &[0.1, 0.2, 0.3]);
        let y = eval(&op, &[&x, &h0, &c0], &[&real(&[1, 4, 1], &w), &real(&[1, 4, 1], &r), &bias, &peephole]).unwrap();
        let gate = |i: usize| 2.0 * w[i] + 0.5 * r[i];
        let cell = sigmoid(gate(0) - 0.1) * (gate(3) + 0.3).tanh() - sigmoid(gate(2) - 0.3);
        let state = sigmoid(gate(1) + 0.2 * cell) * cell.tanh();
        let near = |a: &TensorData, b: f64| (reals(a)[0] - b).abs() < 1e-6;
        assert!(near(&y[0], state) && near(&y[1], state) && near(&y[2], cell));
        for reset_after in [false, true] {
            let op =
                Op::Gru(Gru { hidden: 1, direction: Direction::Forward, reset_after, lengths: false, state: true });
            let bias = real(&[1, 6], &[0.0, 0.0, 0.1, 0.0, 0.0, 0.2]);
            let y = eval(&op, &[&x, &h0], &[&real(&[1, 3, 1], &w[..3]), &real(&[1, 3, 1], &r[..3]), &bias]).unwrap();
            let (update, reset) = (sigmoid(gate(0)), sigmoid(gate(1)));
            let of_state = if reset_after { reset * (0.5 * r[2] + 0.2) } else { reset * 0.5 * r[2] + 0.2 };
            let new = (2.0 * w[2] + 0.1 + of_state).tanh();
            assert!(near(&y[1], (1.0 - update) * new + update * 0.5));
        }
    }

    #[test]
    fn with_lengths_each_sample_is_as_on_its_own() {
        let (x, lengths) = (random(&[5, 3, IN], 1), [5usize, 0, 2]);
        let (h0, c0) = (random(&[2, 3, H], 2), random(&[2, 3, H], 3));
        let given = tensor(DType::I32, &[3], &lengths.map(|n| n as f64));
        let params = params(4, 2, 10);
        let all = run(&lstm(Direction::Both, true, true), &[&x, &given, &h0, &c0], &params);
        for (sample, length) in lengths.into_iter().enumerate() {
            let own = |value: &TensorData| part(value, value.shape().len() - 2, sample, 1);
            let short = part(&own(&x), 0, 0, length);
            let alone = run(&lstm(Direction::Both, false, true), &[&short, &own(&h0), &own(&c0)], &params);
            assert!(close(&part(&own(&all[0]), 0, 0, length), &alone[0]));
            assert!(reals(&part(&own(&all[0]), 0, length, 5 - length)).iter().all(|v| *v == 0.0));
            assert!(close(&own(&all[1]), &alone[1]) && close(&own(&all[2]), &alone[2]));
            if length == 0 {
                assert!(close(&own(&all[1]), &own(&h0)) && close(&own(&all[2]), &own(&c0)));
            }
        }
    }

    #[test]
    fn lengths_beyond_the_sequence_are_refused() {
        let (x, params) = (random(&[2, 1, IN], 1), params(4, 1, 10));
        let params: Vec<&TensorData> = params.iter().collect();
        for wrong in [3.0, -1.0] {
            let lengths = tensor(DType::I64, &[1], &[wrong]);
            let error = eval(&lstm(Direction::Forward, true, false), &[&x, &lengths], &params).unwrap_err();
            let text = format!("Lstm has a sequence of {wrong} steps, which is not within the 2 that there are");
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn both_ways_are_forwards_and_the_reversed_reverse() {
        let x = random(&[4, 2, IN], 1);
        let backwards = super::super::testing::one(&Op::Reverse(Reverse { axis: 0 }), &[&x], &[]);
        type Layers = fn(Direction) -> Op;
        let layers: [(Layers, usize); 3] =
            [(|d| lstm(d, false, false), 4), (|d| gru(d, false), 3), (|d| gru(d, true), 3)];
        for (layer, gates) in layers {
            let both = params(gates, 2, 20);
            let half = |d: usize| both.iter().map(|p| part(p, 0, d, 1)).collect::<Vec<_>>();
            let y = run(&layer(Direction::Both), &[&x], &both[..3]);
            let forward = run(&layer(Direction::Forward), &[&x], &half(0)[..3]);
            let reverse = run(&layer(Direction::Reverse), &[&x], &half(1)[..3]);
            let turned = run(&layer(Direction::Forward), &[&backwards], &half(1)[..3]);
            assert!(close(&part(&y[0], 1, 0, 1), &forward[0]) && close(&part(&y[0], 1, 1, 1), &reverse[0]));
            assert!(close(&part(&y[1], 0, 1, 1), &reverse[1]) && close(&turned[1], &reverse[1]));
            let again = super::super::testing::one(&Op::Reverse(Reverse { axis: 0 }), &[&turned[0]], &[]);
            assert!(close(&again, &reverse[0]));
        }
    }

    #[test]
    fn without_biases_they_are_zero_and_no_steps_give_the_first_state() {
        let (x, params) = (random(&[3, 2, IN], 1), params(3, 1, 30));
        let zero = tensor(DType::F64, &[1, 6 * H], &[0.0; 6 * H]);
        let with = run(&gru(Direction::Forward, true), &[&x], &[params[0].clone(), params[1].clone(), zero]);
        let without = run(&gru(Direction::Forward, true), &[&x], &params[..2]);
        assert_eq!(with, without);
        let nothing = run(&gru(Direction::Forward, true), &[&random(&[0, 2, IN], 1)], &params[..3]);
        assert_eq!((nothing[0].shape(), reals(&nothing[1])), (&[0, 1, 2, H][..], vec![0.0; 2 * H]));
    }
}
