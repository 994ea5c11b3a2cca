//! A naive evaluator of graphs in `f64`: the operators by their definitions, one number at a time. Tests compare the
//! session with it; it is far too slow for anything else.

use super::{Mode, ParamView};
use crate::graph::op::{BatchNorm, Binary, Conv2d, Window};
use crate::graph::{Graph, Op};

/// Every value of `graph`, `[batch, sample...]`, by its index. `params` holds the parameters as `views` says. Dropout
/// leaves out nothing.
pub(super) fn values(
    graph: &Graph,
    views: &[ParamView],
    params: &[f64],
    inputs: &[f64],
    batch: usize,
    mode: Mode,
) -> Vec<Vec<f64>> {
    let mut values = vec![Vec::new(); graph.values().len()];
    values[graph.inputs()[0].index()] = inputs.to_vec();
    for node in graph.nodes() {
        let x = &values[node.inputs[0].index()];
        let param = |i: usize| node.params.get(i).map_or(&[][..], |p| &params[views[p.index()].range.clone()]);
        let shape = graph.value(node.inputs[0]).sample_shape();
        let out = graph.value(node.output()).sample_shape();
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
            Op::Activation(activation) => x.iter().map(|v| activation.at(*v).0).collect(),
            Op::Flatten | Op::Dropout(_) => x.clone(),
            Op::GlobalAvgPool => {
                x.chunks(shape[1] * shape[2]).map(|p| p.iter().sum::<f64>() / p.len() as f64).collect()
            }
            Op::Binary(Binary::Add) => x.iter().zip(&values[node.inputs[1].index()]).map(|(a, b)| a + b).collect(),
            Op::Pad(c) => {
                // Of the places of the wide axis, those before and after have no counterpart.
                along(x, &shape, c.axis, out[c.axis - 1], |i| {
                    i.checked_sub(c.before).filter(|i| *i < shape[c.axis - 1])
                })
            }
            Op::Slice(c) => along(x, &shape, c.axis, out[c.axis - 1], |i| Some(c.start.fixed().unwrap() + i * c.step)),
            Op::BatchNorm(config) => {
                let channel: Vec<usize> =
                    (0..x.len()).map(|i| i / shape[1..].iter().product::<usize>() % shape[0]).collect();
                batch_norm(config, x, &channel, [0, 1, 2, 3].map(param), mode)
            }
            op => panic!("{} has no reference yet", op.name()),
        };
        values[node.output().index()] = y;
    }
    values
}

fn linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |(o, row): (usize, &[f64])| {
        bias.get(o).copied().unwrap_or(0.0) + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
    };
    weight.chunks(x.len()).enumerate().map(row).collect()
}

/// `size` places of an axis (the batch's is 0) of `x [batch, shape...]`: each from the place `from` says, or zero.
fn along(x: &[f64], shape: &[usize], axis: usize, size: usize, from: impl Fn(usize) -> Option<usize>) -> Vec<f64> {
    let run: usize = shape[axis..].iter().product();
    let block = |block: &[f64]| -> Vec<f64> {
        let value = |i: usize| from(i / run).map_or(0.0, |place| block[place * run + i % run]);
        (0..size * run).map(value).collect()
    };
    x.chunks(shape[axis - 1] * run).flat_map(block).collect()
}

/// `channel` says which channel each value belongs to.
fn batch_norm(config: &BatchNorm, x: &[f64], channel: &[usize], params: [&[f64]; 4], mode: Mode) -> Vec<f64> {
    let [weight, bias, mean, variance] = params;
    let mut y = vec![0.0; x.len()];
    for c in 0..weight.len() {
        let places = || (0..x.len()).filter(|i| channel[*i] == c);
        let count = places().count() as f64;
        let (mean, variance) = if mode == Mode::Train && count > 1.0 {
            let mean = places().map(|i| x[i]).sum::<f64>() / count;
            (mean, places().map(|i| (x[i] - mean).powi(2)).sum::<f64>() / count)
        } else {
            (mean[c], variance[c])
        };
        places().for_each(|i| y[i] = (x[i] - mean) / (variance + config.epsilon).sqrt() * weight[c] + bias[c]);
    }
    y
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
