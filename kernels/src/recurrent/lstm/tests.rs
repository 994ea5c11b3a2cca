use proptest::prelude::*;

use super::super::testing::{differences, dot, near, shapes, sigmoid, weights, wide};
use super::super::{Direction, Shape};
use super::*;
use crate::testing::numbers;

/// A layer's arguments, in the order sequence, state, cell, both weights, bias; those that are not given are empty.
type Arguments<T> = [Vec<T>; 6];

fn arguments(shape: &Shape, first: bool, bias: bool, seed: u64) -> Arguments<f32> {
    let (d, h, features) = (shape.directions(), shape.hidden, shape.features);
    let given = |given: bool, len: usize| if given { len } else { 0 };
    [
        numbers(shape.input_len(), seed),
        numbers(given(first, shape.state_len()), seed.wrapping_add(1)),
        numbers(given(first, shape.state_len()), seed.wrapping_add(2)),
        weights(d * 4 * h * features, features, seed.wrapping_add(3)),
        weights(d * 4 * h * h, h, seed.wrapping_add(4)),
        numbers(given(bias, d * 8 * h), seed.wrapping_add(5)),
    ]
}

/// The definition, number by number: all states, the last states and the last cells.
fn naive(shape: &Shape, [x, state, cell, input, recurrence, bias]: &Arguments<f64>) -> [Vec<f64>; 3] {
    let &Shape { steps, samples: n, features, hidden: h, .. } = shape;
    let zeros_or = |given: &[f64]| if given.is_empty() { vec![0.0; shape.state_len()] } else { given.to_vec() };
    let (mut state, mut cell) = (zeros_or(state), zeros_or(cell));
    let mut y = vec![0.0; shape.output_len()];
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        for time in 0..steps {
            let step = if *backwards { steps - 1 - time } else { time };
            for sample in 0..n {
                let x_at = if shape.batch_first { sample * steps + step } else { step * n + sample };
                let place = (direction * n + sample) * h;
                let z = |gate: usize, unit: usize| {
                    let row = gate * h + unit;
                    let all = direction * 4 * h + row;
                    let of_x: f64 = (0..features).map(|i| x[x_at * features + i] * input[all * features + i]).sum();
                    let of_state: f64 = (0..h).map(|i| state[place + i] * recurrence[all * h + i]).sum();
                    let at = |half: usize| bias.get((2 * direction + half) * 4 * h + row).copied().unwrap_or(0.0);
                    of_x + of_state + at(0) + at(1)
                };
                let new: Vec<(f64, f64)> = (0..h)
                    .map(|unit| {
                        let [i, o, f] = [0, 1, 2].map(|gate| sigmoid(z(gate, unit)));
                        let c = f * cell[place + unit] + i * z(3, unit).tanh();
                        (o * c.tanh(), c)
                    })
                    .collect();
                for (unit, (h_new, c_new)) in new.into_iter().enumerate() {
                    (state[place + unit], cell[place + unit]) = (h_new, c_new);
                    y[((step * shape.directions() + direction) * n + sample) * h + unit] = h_new;
                }
            }
        }
    }
    [y, state, cell]
}

struct Found {
    inferred: [Vec<f32>; 3],
    outputs: [Vec<f32>; 3],
    gradients: Arguments<f32>,
}

/// What the layer computes, and the gradients for gradients `upstream` at its outputs; those that are empty are 0.
fn compute(shape: Shape, path: Path, arguments: &Arguments<f32>, upstream: &[Vec<f32>; 3]) -> Found {
    let lstm = Lstm::new(shape, path);
    let [x, state, cell, input, recurrence, bias] = arguments;
    let given = |values: &'_ Vec<f32>| !values.is_empty();
    let first = given(state).then_some(LstmState { state, cell });
    let weights = Weights { input, state: recurrence, bias: given(bias).then_some(bias) };
    let mut packed = vec![f32::NAN; lstm.packed_len()];
    lstm.pack(&weights, &mut packed);
    let mut kept = vec![f32::NAN; lstm.kept_len()];
    let mut scratch = vec![f32::NAN; lstm.scratch_len()];
    let mut run = |kept: Option<&mut [f32]>| {
        let mut outputs = [shape.output_len(), shape.state_len(), shape.state_len()].map(|len| vec![f32::NAN; len]);
        let [y, state, cell] = &mut outputs;
        let into = LstmOutputs { y, state: Some(state), cell: Some(cell) };
        match kept {
            Some(kept) => lstm.forward(&packed, x, first, into, kept, &mut scratch),
            None => lstm.infer(&packed, x, first, into, &mut scratch),
        }
        outputs
    };
    let (inferred, outputs) = (run(None), run(Some(&mut kept)));
    let mut gradients = arguments.each_ref().map(|argument| vec![f32::NAN; argument.len()]);
    let [dx, d_state, d_cell, d_input, d_recurrence, d_bias] = &mut gradients;
    let [dy, dy_state, dy_cell] = upstream.each_ref().map(|dy| given(dy).then_some(dy.as_slice()));
    lstm.backward(
        &weights,
        x,
        first,
        &mut kept,
        &LstmUpstream { y: dy, state: dy_state, cell: dy_cell },
        LstmGradients {
            x: Some(dx),
            state: given(state).then_some(d_state),
            cell: given(cell).then_some(d_cell),
            weights: WeightGradients { input: d_input, state: d_recurrence, bias: given(bias).then_some(d_bias) },
        },
        &mut vec![f32::NAN; lstm.backward_scratch_len()],
    );
    Found { inferred, outputs, gradients }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn outputs_and_gradients_are_those_of_the_definition(
        shape in shapes(), first in any::<bool>(), bias in any::<bool>(), seen in 0usize..8, seed in any::<u64>(),
    ) {
        let arguments = arguments(&shape, first, bias, seed);
        let exact = arguments.each_ref().map(|argument| wide(argument));
        let outputs = naive(&shape, &exact);
        // Of which outputs there is a gradient.
        let seeing = |bit: usize, len: usize| numbers(if seen >> bit & 1 == 1 { len } else { 0 }, seed ^ bit as u64);
        let upstream = [seeing(0, shape.output_len()), seeing(1, shape.state_len()), seeing(2, shape.state_len())];
        let loss = |outputs: &[Vec<f64>; 3]| -> f64 {
            outputs.iter().zip(&upstream).map(|(output, upstream)| dot(output, upstream)).sum()
        };
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let found = compute(shape, path, &arguments, &upstream);
            for (which, (found, exact)) in found.outputs.iter().zip(&outputs).enumerate() {
                prop_assert!(near(found, exact), "{path:?} output {which}");
            }
            prop_assert!(found.inferred == found.outputs);
            for which in 0..6 {
                let mut changed = exact.clone();
                let differences = differences(&arguments[which], |values| {
                    changed[which] = values.to_vec();
                    loss(&naive(&shape, &changed))
                });
                for (place, exact) in differences {
                    let found = f64::from(found.gradients[which][place]);
                    let close = (found - exact).abs() < 1e-4 * (1.0 + exact.abs());
                    prop_assert!(close, "{path:?} argument {which} at {place}: {found}, not {exact}");
                }
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let shape =
        Shape { steps: 5, samples: 33, features: 70, hidden: 96, direction: Direction::Both, batch_first: false };
    let arguments = arguments(&shape, true, true, 1);
    let upstream = [numbers(shape.output_len(), 7), Vec::new(), Vec::new()];
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| compute(shape, Path::chosen(), &arguments, &upstream));
        (found.outputs, found.gradients)
    };
    let one = of(1);
    assert!(one == of(2) && one == of(3));
}

#[test]
fn a_sample_of_a_large_layer_is_computed_as_if_it_were_alone() {
    let shape =
        Shape { steps: 2, samples: 35, features: 20, hidden: 250, direction: Direction::Forward, batch_first: true };
    assert!(shape.blocks() == 2);
    let mut arguments = arguments(&shape, false, true, 3);
    let dy = numbers(shape.output_len(), 7);
    let of = |shape: Shape, arguments: &Arguments<f32>, dy: Vec<f32>| {
        let upstream = [dy, Vec::new(), Vec::new()];
        let found = compute(shape, Path::chosen(), arguments, &upstream);
        let [y, ..] = found.outputs;
        let [dx, ..] = found.gradients;
        (y, dx)
    };
    let (y, dx) = of(shape, &arguments, dy.clone());
    let last = |values: &[f32]| -> Vec<f32> {
        values.chunks_exact(35 * 250).flat_map(|step| step[34 * 250..].iter().copied()).collect()
    };
    let x = arguments[0][34 * 2 * 20..].to_vec();
    arguments[0] = x;
    let (alone_y, alone_dx) = of(Shape { samples: 1, ..shape }, &arguments, last(&dy));
    assert!(alone_y == last(&y) && alone_dx == dx[34 * 2 * 20..]);
}

#[test]
#[should_panic(expected = "size of an LSTM's input")]
fn an_input_of_another_size_is_refused() {
    let shape =
        Shape { steps: 1, samples: 1, features: 1, hidden: 1, direction: Direction::Forward, batch_first: false };
    let lstm = Lstm::new(shape, Path::Portable);
    let packed = vec![0.0; lstm.packed_len()];
    let outputs = LstmOutputs { y: &mut [0.0], state: None, cell: None };
    lstm.infer(&packed, &[0.0; 2], None, outputs, &mut vec![0.0; lstm.scratch_len()]);
}
