//! Random valid graphs for property tests: a few convolutions, poolings and activations, then a few fully connected
//! layers, with random weights, strides, paddings, groups and absent biases.

use proptest::prelude::*;
use rand::Rng;

use super::op::{Activation, AvgPool2d, Conv2d, MaxPool2d, Window};
use super::{Graph, GraphEdit, Op, ParamId, ValueId};
use crate::seed;
use crate::tensor::TensorData;

/// Graphs with an image as input, up to 4 spatial layers and up to 3 fully connected ones; a few thousand parameters at
/// most. Each is a function of one seed, so a failing test shrinks to fewer layers with the same beginning.
pub(crate) fn graphs() -> impl Strategy<Value = Graph> {
    (any::<u64>(), 0usize..=4, 1usize..=3).prop_map(|(seed, spatial, dense)| graph(seed, spatial, dense))
}

fn graph(seed: u64, spatial: usize, dense: usize) -> Graph {
    let mut rng = seed::stream(seed, "arbitrary graph");
    let mut graph = Graph::new(format!("arbitrary-{seed}"));
    let mut edit = graph.edit();
    let image: Vec<usize> = vec![rng.random_range(1..=4), rng.random_range(5..=9), rng.random_range(5..=9)];
    let mut top = edit.add_input("input", &image);
    for i in 0..spatial {
        top = spatial_layer(&mut edit, top, i, &mut rng);
    }
    top = edit.add_node("flatten", Op::Flatten, &[top], &[]).unwrap();
    for i in 0..dense {
        let inner = edit.graph().value(top).sample_shape()[0];
        let out = rng.random_range(1..=8);
        let params = weights(&mut edit, &format!("fc{i}"), vec![out, inner], &mut rng);
        top = edit.add_node(&format!("fc{i}"), Op::Linear, &[top], &params).unwrap();
        top = edit.add_node(&format!("fc{i}.act"), activation(&mut rng), &[top], &[]).unwrap();
    }
    edit.set_outputs(&[top]);
    edit.commit().unwrap();
    graph
}

fn spatial_layer(edit: &mut GraphEdit<'_>, top: ValueId, i: usize, rng: &mut impl Rng) -> ValueId {
    let shape = edit.graph().value(top).sample_shape();
    let (channels, image) = (shape[0], [shape[1], shape[2]]);
    // A kernel that fits the image as it is fits the padded one too.
    let kernel = image.map(|side| rng.random_range(1..=side.min(3)));
    let window = Window {
        kernel,
        stride: [rng.random_range(1..=2), rng.random_range(1..=2)],
        padding: [kernel[0], kernel[1], kernel[0], kernel[1]].map(|k| rng.random_range(0..k)),
        dilation: [1; 2],
    };
    match rng.random_range(0..4) {
        0 => {
            let groups = if rng.random() { 1 } else { channels };
            let out = groups * rng.random_range(1..=3);
            let Window { stride, padding, dilation, .. } = window;
            let shape = vec![out, channels / groups, kernel[0], kernel[1]];
            let params = weights(edit, &format!("conv{i}"), shape, rng);
            let op = Op::Conv2d(Conv2d { stride, padding, dilation, groups });
            edit.add_node(&format!("conv{i}"), op, &[top], &params).unwrap()
        }
        1 => edit.add_node(&format!("max{i}"), Op::MaxPool2d(MaxPool2d { window }), &[top], &[]).unwrap(),
        2 => {
            let op = Op::AvgPool2d(AvgPool2d { window, count_padding: rng.random() });
            edit.add_node(&format!("avg{i}"), op, &[top], &[]).unwrap()
        }
        _ => edit.add_node(&format!("act{i}"), activation(rng), &[top], &[]).unwrap(),
    }
}

fn activation(rng: &mut impl Rng) -> Op {
    Op::Activation(Activation::ALL[rng.random_range(0..Activation::ALL.len())])
}

/// A weight of that shape and, mostly, a bias.
fn weights(edit: &mut GraphEdit<'_>, layer: &str, shape: Vec<usize>, rng: &mut impl Rng) -> Vec<ParamId> {
    let mut param = |role: &str, shape: Vec<usize>| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
        edit.add_param(&format!("{layer}.{role}"), TensorData::from_f32(shape, &values).unwrap())
    };
    let out = shape[0];
    let weight = param("weight", shape);
    let bias = (!out.is_multiple_of(3)).then(|| param("bias", vec![out]));
    std::iter::once(weight).chain(bias).collect()
}
