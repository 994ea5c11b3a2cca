use proptest::prelude::*;

use super::super::testing::{differences, dot, near, shapes, sigmoid, weights, wide};
use super::super::{Direction, Shape};
use super::*;
use crate::testing::numbers;

/// A layer's arguments, in the order sequence, state, both weights, bias; those that are not given are empty.
type Arguments<T> = [Vec<T>; 5];

fn arguments(shape: &Shape, first: bool, bias: bool, seed: u64) -> Arguments<f32> {
    let (d, h, features) = (shape.directions(), shape.hidden, shape.features);
    let given = |given: bool, len: usize| if given { len } else { 0 };
    [
        numbers(shape.input_len(), seed),
        numbers(given(first, shape.state_len()), seed.wrapping_add(1)),
        weights(d * 3 * h * features, features, seed.wrapping_add(2)),
        weights(d * 3 * h * h, h, seed.wrapping_add(3)),
        numbers(given(bias, d * 6 * h), seed.wrapping_add(4)),
    ]
}

/// The definition, number by number: all states and the last ones.
fn naive(shape: &Shape, reset_after: bool, arguments: &Arguments<f64>) -> [Vec<f64>; 2] {
    let [x, state, input, recurrence, bias] = arguments;
    let &Shape { steps, samples: n, features, hidden: h, .. } = shape;
    let mut state = if state.is_empty() { vec![0.0; shape.state_len()] } else { state.clone() };
    let mut y = vec![0.0; shape.output_len()];
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        for time in 0..steps {
            let step = if *backwards { steps - 1 - time } else { time };
            for sample in 0..n {
                let x_at = if shape.batch_first { sample * steps + step } else { step * n + sample };
                let place = (direction * n + sample) * h;
                let old = state[place..place + h].to_vec();
                let bias = |half: usize, row: usize| bias.get((2 * direction + half) * 3 * h + row).unwrap_or(&0.0);
                let of_x = |gate: usize, unit: usize| {
                    let row = gate * h + unit;
                    let weights = &input[(direction * 3 * h + row) * features..];
                    (0..features).map(|i| x[x_at * features + i] * weights[i]).sum::<f64>() + bias(0, row)
                };
                let of_state = |gate: usize, unit: usize, state: &[f64]| {
                    let row = gate * h + unit;
                    let weights = &recurrence[(direction * 3 * h + row) * h..];
                    (0..h).map(|i| state[i] * weights[i]).sum::<f64>() + bias(1, row)
                };
                let gate = |gate, unit| sigmoid(of_x(gate, unit) + of_state(gate, unit, &old));
                let left: Vec<f64> = (0..h).map(|unit| gate(1, unit) * old[unit]).collect();
                for unit in 0..h {
                    let seen =
                        if reset_after { gate(1, unit) * of_state(2, unit, &old) } else { of_state(2, unit, &left) };
                    let (z, fresh) = (gate(0, unit), (of_x(2, unit) + seen).tanh());
                    state[place + unit] = (1.0 - z) * fresh + z * old[unit];
                }
                let output = ((step * shape.directions() + direction) * n + sample) * h;
                y[output..output + h].copy_from_slice(&state[place..place + h]);
            }
        }
    }
    [y, state]
}

struct Found {
    inferred: [Vec<f32>; 2],
    outputs: [Vec<f32>; 2],
    gradients: Arguments<f32>,
}

/// What the layer computes, and the gradients for gradients `upstream` at its outputs; those that are empty are 0.
fn compute(gru: &Gru, arguments: &Arguments<f32>, upstream: &[Vec<f32>; 2]) -> Found {
    let shape = &gru.shape;
    let [x, state, input, recurrence, bias] = arguments;
    let given = |values: &'_ Vec<f32>| !values.is_empty();
    let first = given(state).then_some(state.as_slice());
    let weights = Weights { input, state: recurrence, bias: given(bias).then_some(bias) };
    let mut packed = vec![f32::NAN; gru.packed_len()];
    gru.pack(&weights, &mut packed);
    let mut kept = vec![f32::NAN; gru.kept_len()];
    let mut scratch = vec![f32::NAN; gru.scratch_len()];
    let mut run = |kept: Option<&mut [f32]>| {
        let mut outputs = [shape.output_len(), shape.state_len()].map(|len| vec![f32::NAN; len]);
        let [y, state] = &mut outputs;
        let into = GruOutputs { y, state: Some(state) };
        match kept {
            Some(kept) => gru.forward(&packed, x, first, into, kept, &mut scratch),
            None => gru.infer(&packed, x, first, into, &mut scratch),
        }
        outputs
    };
    let (inferred, outputs) = (run(None), run(Some(&mut kept)));
    let mut gradients = arguments.each_ref().map(|argument| vec![f32::NAN; argument.len()]);
    let [dx, d_state, d_input, d_recurrence, d_bias] = &mut gradients;
    let [dy, dy_state] = upstream.each_ref().map(|dy| given(dy).then_some(dy.as_slice()));
    gru.backward(
        &weights,
        x,
        &mut kept,
        &GruUpstream { y: dy, state: dy_state },
        GruGradients {
            x: Some(dx),
            state: given(state).then_some(d_state),
            weights: WeightGradients { input: d_input, state: d_recurrence, bias: given(bias).then_some(d_bias) },
        },
        &mut vec![f32::NAN; gru.backward_scratch_len()],
    );
    Found { inferred, outputs, gradients }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn outputs_and_gradients_are_those_of_the_definition(
        shape in shapes(), reset_after in any::<bool>(), first in any::<bool>(), bias in any::<bool>(), seen in 0usize..4,
        seed in any::<u64>(),
    ) {
        let arguments = arguments(&shape, first, bias, seed);
        let exact = arguments.each_ref().map(|argument| wide(argument));
        let outputs = naive(&shape, reset_after, &exact);
        // Of which outputs there is a gradient.
        let seeing = |bit: usize, len: usize| numbers(if seen >> bit & 1 == 1 { len } else { 0 }, seed ^ bit as u64);
        let upstream = [seeing(0, shape.output_len()), seeing(1, shape.state_len())];
        let loss = |outputs: &[Vec<f64>; 2]| -> f64 {
            outputs.iter().zip(&upstream).map(|(output, upstream)| dot(output, upstream)).sum()
        };
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let found = compute(&Gru::new(shape, reset_after, path), &arguments, &upstream);
            for (which, (found, exact)) in found.outputs.iter().zip(&outputs).enumerate() {
                prop_assert!(near(found, exact), "{path:?} output {which}");
            }
            prop_assert!(found.inferred == found.outputs);
            for which in 0..5 {
                let mut changed = exact.clone();
                let differences = differences(&arguments[which], |values| {
                    changed[which] = values.to_vec();
                    loss(&naive(&shape, reset_after, &changed))
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
    let upstream = [numbers(shape.output_len(), 7), Vec::new()];
    for reset_after in [false, true] {
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let gru = Gru::new(shape, reset_after, Path::chosen());
            let found = pool.install(|| compute(&gru, &arguments, &upstream));
            (found.outputs, found.gradients)
        };
        let one = of(1);
        assert!(one == of(2) && one == of(3));
    }
}

#[test]
fn a_sample_of_a_large_layer_is_computed_as_if_it_were_alone() {
    for reset_after in [false, true] {
        let shape = Shape {
            steps: 2,
            samples: 35,
            features: 20,
            hidden: 250,
            direction: Direction::Forward,
            batch_first: true,
        };
        assert!(shape.blocks() == 2);
        let mut arguments = arguments(&shape, false, true, 3);
        let dy = numbers(shape.output_len(), 7);
        let of = |shape: Shape, arguments: &Arguments<f32>, dy: Vec<f32>| {
            let upstream = [dy, Vec::new()];
            let found = compute(&Gru::new(shape, reset_after, Path::chosen()), arguments, &upstream);
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
}

#[test]
#[should_panic(expected = "size of a GRU's input")]
fn an_input_of_another_size_is_refused() {
    let shape =
        Shape { steps: 1, samples: 1, features: 1, hidden: 1, direction: Direction::Forward, batch_first: false };
    let gru = Gru::new(shape, true, Path::Portable);
    let packed = vec![0.0; gru.packed_len()];
    let outputs = GruOutputs { y: &mut [0.0], state: None };
    gru.infer(&packed, &[0.0; 2], None, outputs, &mut vec![0.0; gru.scratch_len()]);
}
