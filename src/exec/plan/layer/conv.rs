//! Convolution, with the batch normalisation, the sum and the ReLU behind it.
//!
//! ```text
//!   y = relu(norm(x * W + b) + residual)         x * W + b is kept while training, if it is normalised
//! ```
//!
//! Outside of training the normalisation is part of weight and bias: `W r weight`, `(b - mean) r weight + bias` with
//! `r = 1 / sqrt(var + epsilon)`.

use std::ops::Range;

use niwaki_kernels::nhwc::conv::{Conv, Convolution, Epilogue, Old, Window};
use niwaki_kernels::nhwc::conv_norm::{self, Upstream};
use niwaki_kernels::nhwc::{elementwise, sums};
use niwaki_kernels::simd::Path;

use super::super::compile::{Compiler, Flow, Layout, Root, Target};
use super::super::{Mode, Uncovered};
use super::batch_norm::{Norm, Relu};
use super::weights::Weights;
use super::{Group, Layer, Room, Run, add_to, planar};
use crate::graph::Node;
use crate::graph::op::Conv2d;

struct ConvLayer {
    conv: Convolution,
    path: Path,
    /// Channels that come out.
    channels: usize,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    norm: Option<Norm>,
    /// Whether the normalisation is part of weight and bias.
    folded: bool,
    relu: bool,
    x: (Root, Room),
    /// What is normalised.
    z: Room,
    /// The moments of its parts.
    parts: Room,
    y: (Root, Room),
    residual: Option<(Root, Room)>,
    weights: Weights,
    folded_bias: Vec<f32>,
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    /// Where the gradient at the convolution's result is.
    dz: Room,
    residual: Target,
    weight: Option<Range<usize>>,
    bias: Option<Range<usize>>,
    scratch: Room,
    dx: Option<(Room, Old)>,
}

/// The window of a kernel.
pub(super) fn window(config: &Conv2d, kernel: [usize; 2]) -> Window {
    let Conv2d { stride, padding, dilation, .. } = *config;
    Window { kernel, stride, padding, dilation }
}

/// The last two sizes of a weight `[out, in, kh, kw]` or `[out, in, k]`.
pub(super) fn kernel(shape: &[usize]) -> Result<[usize; 2], Uncovered> {
    planar(shape).map(|[_, _, h, w]| [h, w])
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, config: &Conv2d, group: &Group) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    let residual = group.residual.map(|value| compiler.get(value, Layout::Images)).transpose()?;
    let [batch, channels_in, h, w] = planar(&x.dims)?;
    let shape = compiler.param_shape(node.params[0]);
    let conv = Conv {
        batch,
        image: [h, w],
        channels_in,
        channels_out: shape[0],
        window: window(config, kernel(shape)?),
        groups: config.groups,
        path: compiler.path,
    };
    let nodes = &compiler.session.nodes;
    let output = nodes[group.last].output();
    let dims = compiler.dims(output)?;
    let norm = group.norm.map(|norm| Norm::new(compiler, &nodes[norm], &dims)).transpose()?;
    let folded = norm.is_some() && compiler.mode == Mode::Eval;
    let z = if norm.is_some() && !folded { compiler.scratch(dims.iter().product()) } else { Room::NONE };
    let needs = compiler.trains(node)
        || group.norm.is_some_and(|norm| compiler.trains(&nodes[norm]))
        || compiler.needs_gradient(&x)
        || residual.as_ref().is_some_and(|flow| compiler.needs_gradient(flow));
    let y = compiler.output(output, dims, Layout::Images, needs);
    let kernel = Convolution::new(&conv);
    let parts = match &norm {
        Some(norm) if norm.measures() => compiler.scratch(conv_norm::parts_len(&kernel, conv.channels_out)),
        _ => Room::NONE,
    };
    let place = |flow: &Flow| (flow.root, compiler.room(flow.root));
    let layer = ConvLayer {
        conv: kernel,
        path: conv.path,
        channels: conv.channels_out,
        weight: compiler.param(node.params[0]),
        bias: node.params.get(1).map(|id| compiler.param(*id)),
        norm,
        folded,
        relu: group.relu,
        x: place(&x),
        z,
        parts,
        y: place(&y),
        residual: residual.as_ref().map(place),
        weights: Weights::new(compiler.mode),
        folded_bias: Vec::new(),
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

impl ConvLayer {
    /// Lays out weight and bias with the normalisation in them.
    fn fold(&mut self, params: &[f32]) {
        let Some(norm) = &self.norm else { return };
        let ([gamma, beta, mean, variance], epsilon) = norm.constants();
        let own = |range: &Range<usize>| &params[range.clone()];
        let scales = own(gamma).iter().zip(own(variance));
        let scales: Vec<f32> = scales.map(|(g, v)| (f64::from(*g) / (f64::from(*v) + epsilon).sqrt()) as f32).collect();
        let filter = self.weight.len() / self.channels;
        let mut weight = own(&self.weight).to_vec();
        for (filter, scale) in weight.chunks_exact_mut(filter).zip(&scales) {
            filter.iter_mut().for_each(|w| *w *= scale);
        }
        self.weights.lay_out(&self.conv, &weight);
        let bias = |channel: usize| self.bias.as_ref().map_or(0.0, |range| own(range)[channel]);
        let moved = |c: usize| (bias(c) - own(mean)[c]) * scales[c] + own(beta)[c];
        self.folded_bias = (0..self.channels).map(moved).collect();
    }
}

impl Layer for ConvLayer {
    fn prepare(&mut self, params: &[f32]) {
        if self.folded {
            self.fold(params);
        } else {
            self.weights.lay_out(&self.conv, &params[self.weight.clone()]);
        }
        if self.backward.as_ref().is_some_and(|backward| backward.dx.is_some()) {
            self.weights.lay_out_transposed(&self.conv, &params[self.weight.clone()]);
        }
    }

    fn forward(&self, run: &mut Run<'_>) {
        let bias = self.bias.as_ref().map(|range| &run.params[range.clone()]);
        let residual = self.residual.map(|(_, room)| room);
        match &self.norm {
            Some(norm) if !self.folded => {
                let [mean, variance] = norm.moments();
                let ([x], [z, parts, mean, variance]) =
                    run.memory.views([self.x.1], [self.z, self.parts, mean, variance]);
                let weights = (self.weights.packed(), bias);
                match norm.measures() {
                    true => conv_norm::forward(self.path, &self.conv, x, weights, z, parts, [mean, variance]),
                    false => self.weights.forward(&self.conv, x, z, Epilogue { bias, ..Epilogue::default() }),
                }
                norm.normalise(run, self.z, residual, self.relu, self.y.1);
            }
            _ => {
                let ([x, added], [y]) = run.memory.views([self.x.1, residual.unwrap_or(Room::NONE)], [self.y.1]);
                let bias = if self.folded { Some(&self.folded_bias[..]) } else { bias };
                let epilogue = Epilogue { bias, residual: residual.map(|_| added), relu: self.relu };
                self.weights.forward(&self.conv, x, y, epilogue);
            }
        }
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        if let Relu::Outputs(y) = self.relu() {
            compiler.keep(y);
        }
        let dz = match &mut self.norm {
            Some(norm) => {
                norm.plan_backward(compiler);
                compiler.keep(self.z);
                self.z
            }
            None => dy,
        };
        let residual = match self.residual {
            // The gradient at the input must not be written where it is computed from.
            Some((root, _)) if root == self.x.0 && dz == dy => {
                compiler.outgoing(root).map_or(Target::Nowhere, |(room, old)| Target::Room(room, old))
            }
            Some((root, _)) => compiler.hand_on(root, dy),
            None => Target::Nowhere,
        };
        let weight = compiler.param_gradient(&self.weight);
        let bias = self.bias.as_ref().and_then(|range| compiler.param_gradient(range));
        let scratch = match weight {
            Some(_) => {
                compiler.keep(self.x.1);
                compiler.scratch(self.conv.scratch_len().max(1))
            }
            None => Room::NONE,
        };
        let dx = compiler.outgoing(self.x.0);
        self.backward = Some(Backward { dy, dz, residual, weight, bias, scratch, dx });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, dz, residual, weight, bias, scratch, dx }) = &self.backward else { return };
        if let Some(norm) = &self.norm {
            norm.sums(run, self.z, self.relu(), *dy);
            if let (Some(weight), None) = (weight, bias)
                && self.conv.goes_by_images()
                // What is read image by image must not be written over.
                && dx.is_none_or(|(room, _)| room != *dy)
            {
                add_to(run, self.path, *dy, *residual);
                return self.backward_by_images(run, norm, weight);
            }
            if weight.is_some() || bias.is_some() || dx.is_some() {
                norm.backward(run, self.z, self.relu(), *dy);
            }
        } else if self.relu {
            let ([y], [dy]) = run.memory.views([self.y.1], [*dy]);
            elementwise::relu_backward(self.path, y, dy);
        }
        add_to(run, self.path, *dy, *residual);
        if let Some(range) = bias {
            let ([dz], []) = run.memory.views([*dz], []);
            sums::columns(self.path, dz, &mut run.gradients[range.clone()]);
        }
        let room = dx.map_or(Room::NONE, |(room, _)| room);
        let x = if weight.is_some() { self.x.1 } else { Room::NONE };
        let ([x, dz], [dx_numbers, scratch]) = run.memory.views([x, *dz], [room, *scratch]);
        let dx = dx.map(|(_, old)| (self.weights.transposed(), dx_numbers, old));
        let dw = weight.as_ref().map(|range| &mut run.gradients[range.clone()]);
        match (dw, dx) {
            (Some(dw), Some(dx)) => self.conv.both_gradients(x, dz, dx, dw, scratch),
            (Some(dw), None) => self.conv.weight_gradient(x, dz, dw, scratch),
            (None, Some((packed, dx, old))) => self.conv.input_gradient(dz, packed, dx, old),
            (None, None) => {}
        }
    }
}

impl ConvLayer {
    fn relu(&self) -> Relu {
        match (self.relu, &self.norm, self.residual) {
            (false, ..) => Relu::None,
            (true, Some(_), None) => Relu::Normalised,
            _ => Relu::Outputs(self.y.1),
        }
    }

    /// The gradients at weight and input an image at a time, when the sums of the normalisation are there.
    fn backward_by_images(&self, run: &mut Run<'_>, norm: &Norm, weight: &Range<usize>) {
        let Some(Backward { dy, scratch, dx, .. }) = &self.backward else { return };
        let [mean, scale, dbias, dweight] = norm.kept();
        let room = dx.map_or(Room::NONE, |(room, _)| room);
        let ([x, z, dy, mean, scale, dbias, dweight], [dx_numbers, scratch]) =
            run.memory.views([self.x.1, self.z, *dy, mean, scale, dbias, dweight], [room, *scratch]);
        let upstream = norm.upstream(run.params, [mean, scale, dbias, dweight], self.relu());
        let dx = dx.map(|(_, old)| (self.weights.transposed(), dx_numbers, old));
        let dw = &mut run.gradients[weight.clone()];
        conv_norm::gradients(self.path, &self.conv, x, Upstream { z, dy, ..upstream }, dx, dw, scratch);
    }
}
