//! Random valid graphs for property tests: a few layers on images (convolutions, poolings, residual branches, padding and
//! slicing, moved, joined and split channels among them), then a few fully connected ones, with random weights, strides, paddings, groups and absent biases.
//! Batch normalisation and dropout may stand anywhere.

use proptest::prelude::*;
use rand::Rng;

use super::op::{
    Activation, AvgPool2d, BatchNorm, Binary, Concat, Conv2d, CumSum, Dropout, Fill, MaxPool2d, Pad, Reverse, Slice,
    Softmax, Split, Transpose, Window,
};
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
    if rng.random_range(0..4) == 0 {
        top = edit.add_node("pool", Op::GlobalAvgPool, &[top], &[]).unwrap();
    }
    top = edit.add_node("flatten", Op::Flatten, &[top], &[]).unwrap();
    for i in 0..dense {
        let inner = edit.graph().value(top).sample_shape()[0];
        let out = rng.random_range(1..=8);
        let params = weights(&mut edit, &format!("fc{i}"), vec![out, inner], &mut rng);
        top = edit.add_node(&format!("fc{i}"), Op::Linear, &[top], &params).unwrap();
        if rng.random_range(0..3) == 0 {
            top = batch_norm(&mut edit, top, &format!("fc{i}.bn"), &mut rng);
        }
        top = edit.add_node(&format!("fc{i}.act"), activation(&mut rng), &[top], &[]).unwrap();
        if rng.random_range(0..4) == 0 {
            let op = Op::Dropout(Dropout { rate: rng.random_range(0.0..0.9) });
            top = edit.add_node(&format!("fc{i}.drop"), op, &[top], &[]).unwrap();
        }
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
    match rng.random_range(0..12) {
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
            let op = Op::AvgPool2d(AvgPool2d { window, count_padding: rng.random(), overhang: [0; 2] });
            edit.add_node(&format!("avg{i}"), op, &[top], &[]).unwrap()
        }
        3 => batch_norm(edit, top, &format!("bn{i}"), rng),
        4 => {
            let branch = batch_norm(edit, top, &format!("bn{i}"), rng);
            let branch = edit.add_node(&format!("act{i}"), activation(rng), &[branch], &[]).unwrap();
            edit.add_node(&format!("add{i}"), Op::ADD, &[branch, top], &[]).unwrap()
        }
        5 => {
            let config = Pad {
                axis: rng.random_range(1..=3),
                before: rng.random_range(0..3),
                after: rng.random_range(0..3),
                fill: Fill::default(),
            };
            edit.add_node(&format!("pad{i}"), Op::Pad(config), &[top], &[]).unwrap()
        }
        6 => {
            let axis = rng.random_range(1..=3);
            let start = rng.random_range(0..shape[axis - 1]);
            let end = rng.random_range(start + 1..=shape[axis - 1]);
            let config = Slice { axis, start: start.into(), end: end.into(), step: rng.random_range(1..=3) };
            edit.add_node(&format!("slice{i}"), Op::Slice(config), &[top], &[]).unwrap()
        }
        7 => {
            let op = Op::Dropout(Dropout { rate: rng.random_range(0.0..0.9) });
            edit.add_node(&format!("drop{i}"), op, &[top], &[]).unwrap()
        }
        8 => moved(edit, top, i, rng),
        9 => joined(edit, top, i, rng),
        _ => edit.add_node(&format!("act{i}"), activation(rng), &[top], &[]).unwrap(),
    }
}

/// The same numbers elsewhere, or others of the same shape that follow from their neighbours.
fn moved(edit: &mut GraphEdit<'_>, top: ValueId, i: usize, rng: &mut impl Rng) -> ValueId {
    let axis = rng.random_range(1..=3);
    let op = match rng.random_range(0..5) {
        0 => Op::Transpose(Transpose { axes: vec![0, 1, 3, 2] }),
        1 => Op::Reverse(Reverse { axis }),
        2 => Op::Pad(Pad { axis, before: 1, after: 2, fill: Fill::Edge }),
        3 => Op::Softmax(Softmax { axis }),
        _ => Op::CumSum(CumSum { axis, exclusive: rng.random(), reverse: rng.random() }),
    };
    edit.add_node(&format!("move{i}"), op, &[top], &[]).unwrap()
}

/// Two branches that come together again by another way than addition.
fn joined(edit: &mut GraphEdit<'_>, top: ValueId, i: usize, rng: &mut impl Rng) -> ValueId {
    let names = [format!("left{i}"), format!("right{i}")];
    match rng.random_range(0..3) {
        0 => {
            let branch = edit.add_node(&names[0], activation(rng), &[top], &[]).unwrap();
            edit.add_node(&format!("join{i}"), Op::Concat(Concat { axis: 1 }), &[branch, top], &[]).unwrap()
        }
        1 => {
            // A gate for each channel.
            let branch = edit.add_node(&names[0], Op::GlobalAvgPool, &[top], &[]).unwrap();
            let gate = edit.add_node(&names[1], Op::Activation(Activation::Sigmoid), &[branch], &[]).unwrap();
            edit.add_node(&format!("join{i}"), Op::Binary(Binary::Mul), &[top, gate], &[]).unwrap()
        }
        _ => {
            let channels = edit.graph().value(top).sample_shape()[0];
            let first = rng.random_range(0..=channels);
            let split = Op::Split(Split { axis: 1, sizes: vec![first.into(), (channels - first).into()] });
            if first == 0 || first == channels {
                return edit.add_node(&names[0], activation(rng), &[top], &[]).unwrap();
            }
            let parts = edit.add_node_with_outputs(&format!("split{i}"), split, &[top], &[], &names).unwrap();
            edit.add_node(&format!("join{i}"), Op::Concat(Concat { axis: 1 }), &[parts[1], parts[0]], &[]).unwrap()
        }
    }
}

fn batch_norm(edit: &mut GraphEdit<'_>, top: ValueId, name: &str, rng: &mut impl Rng) -> ValueId {
    let channels = edit.graph().value(top).sample_shape()[0];
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-3, momentum: rng.random_range(0.0..=1.0) });
    let params: Vec<ParamId> = op
        .roles()
        .0
        .iter()
        .map(|role| {
            let range = if *role == "running_var" { 0.2..2.0 } else { -1.0..1.0 };
            let values: Vec<f32> = (0..channels).map(|_| rng.random_range(range.clone())).collect();
            edit.add_param(&format!("{name}.{role}"), TensorData::from_f32(vec![channels], &values).unwrap())
        })
        .collect();
    edit.add_node(name, op, &[top], &params).unwrap()
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
