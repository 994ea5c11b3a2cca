//! A naive evaluator of graphs in `f64`: the operators by their definitions, one number at a time. Tests compare the
//! session with it; it is far too slow for anything else.

use crate::graph::op::{Activation, Conv2d, Window};
use crate::graph::{Graph, Op};

/// Every value of `graph`, `[batch, sample...]`, by its index. `params` holds all parameters one after the other.
pub(super) fn values(graph: &Graph, params: &[f64], inputs: &[f64], batch: usize) -> Vec<Vec<f64>> {
    let mut starts = vec![0];
    for param in graph.params() {
        starts.push(starts[starts.len() - 1] + param.data.elements());
    }
    let mut values = vec![Vec::new(); graph.values().len()];
    values[graph.inputs()[0].index()] = inputs.to_vec();
    for node in graph.nodes() {
        let x = &values[node.inputs[0].index()];
        let param =
            |i: usize| node.params.get(i).map_or(&[][..], |p| &params[starts[p.index()]..starts[p.index() + 1]]);
        let shape = graph.value(node.inputs[0]).sample_shape();
        let out = graph.value(node.output).sample_shape();
        let samples = x.chunks(x.len() / batch);
        let y: Vec<f64> = match &node.op {
            Op::Linear => samples.flat_map(|x| linear(x, param(0), param(1))).collect(),
            Op::Conv2d(config) => {
                let kernel = &graph.param(node.params[0]).data.shape()[2..];
                let sizes = Sizes { image: &shape, out: &out, window: config.window([kernel[0], kernel[1]]) };
                samples.flat_map(|x| conv(&sizes, config, x, param(0), param(1))).collect()
            }
            Op::MaxPool2d(config) => {
                let sizes = Sizes { image: &shape, out: &out, window: config.window };
                samples.flat_map(|x| pool(&sizes, x, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max))).collect()
            }
            Op::AvgPool2d(config) => {
                let sizes = Sizes { image: &shape, out: &out, window: config.window };
                let taps = config.window.kernel[0] * config.window.kernel[1];
                let mean = |v: &[f64]| v.iter().sum::<f64>() / if config.count_padding { taps } else { v.len() } as f64;
                samples.flat_map(|x| pool(&sizes, x, mean)).collect()
            }
            Op::Activation(Activation::Relu) => x.iter().map(|v| v.max(0.0)).collect(),
            Op::Activation(Activation::Sigmoid) => x.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
            Op::Activation(Activation::Tanh) => x.iter().map(|v| v.tanh()).collect(),
            Op::Flatten => x.clone(),
            Op::GlobalAvgPool | Op::BatchNorm(_) | Op::Add | Op::Pad(_) | Op::Slice(_) | Op::Dropout(_) => todo!(),
        };
        values[node.output.index()] = y;
    }
    values
}

fn linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |(o, row): (usize, &[f64])| {
        bias.get(o).copied().unwrap_or(0.0) + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
    };
    weight.chunks(x.len()).enumerate().map(row).collect()
}

/// The sizes of a windowed operator: image `[c, h, w]`, result `[o, oh, ow]`.
struct Sizes<'a> {
    image: &'a [usize],
    out: &'a [usize],
    window: Window,
}

impl Sizes<'_> {
    /// The index in a plane of the pixel under `tap` at place `[y, x]`; `None` in the padding.
    fn pixel(&self, place: [usize; 2], tap: usize) -> Option<usize> {
        let (window, tap) = (&self.window, [tap / self.window.kernel[1], tap % self.window.kernel[1]]);
        let at = |axis: usize| {
            let padded = place[axis] * window.stride[axis] + tap[axis] * window.dilation[axis];
            padded.checked_sub(window.padding[axis]).filter(|p| *p < self.image[axis + 1])
        };
        Some(at(0)? * self.image[2] + at(1)?)
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }
}

fn conv(sizes: &Sizes<'_>, config: &Conv2d, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let (plane, taps) = (sizes.image[1] * sizes.image[2], sizes.taps());
    let (inner, outer) = (sizes.image[0] / config.groups, sizes.out[0] / config.groups);
    let mut y = Vec::new();
    for o in 0..sizes.out[0] {
        for place in 0..sizes.out[1] * sizes.out[2] {
            let mut sum = bias.get(o).copied().unwrap_or(0.0);
            for c in 0..inner {
                for tap in 0..taps {
                    if let Some(pixel) = sizes.pixel([place / sizes.out[2], place % sizes.out[2]], tap) {
                        sum += weight[(o * inner + c) * taps + tap] * x[(o / outer * inner + c) * plane + pixel];
                    }
                }
            }
            y.push(sum);
        }
    }
    y
}

fn pool(sizes: &Sizes<'_>, x: &[f64], summarise: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut y = Vec::new();
    for plane in x.chunks(sizes.image[1] * sizes.image[2]) {
        for place in 0..sizes.out[1] * sizes.out[2] {
            let place = [place / sizes.out[2], place % sizes.out[2]];
            let under: Vec<f64> =
                (0..sizes.taps()).filter_map(|tap| sizes.pixel(place, tap)).map(|p| plane[p]).collect();
            y.push(summarise(&under));
        }
    }
    y
}
