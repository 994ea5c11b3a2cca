//! The fully connected layer, over the last axis, with the ReLU behind it.

use std::ops::Range;

use niwaki_kernels::nhwc::conv::{Conv, Convolution, Epilogue, Old, Window};
use niwaki_kernels::nhwc::linear::Linear;
use niwaki_kernels::nhwc::{elementwise, sums};

use super::super::compile::{Compiler, Layout, Root};
use super::super::{Mode, Uncovered};
use super::weights::Weights;
use super::{Group, Layer, Room, Run};
use crate::graph::Node;

/// Rows that a thread takes at a time, at most.
const ROWS: usize = 64;
/// For so many rows it is worth while to lay out a weight that changes with each step.
const MANY_ROWS: usize = 32;

struct LinearLayer {
    linear: Linear,
    /// The layer as a convolution of single pixels, with its weight laid out: faster than a product of matrices where that is
    /// done for many rows.
    packed: Option<(Convolution, Weights)>,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    relu: bool,
    x: (Root, Room),
    y: (Root, Room),
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    weight: Option<Range<usize>>,
    bias: Option<Range<usize>>,
    dx: Option<(Room, Old)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, group: &Group) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Rows)?;
    let &[outer, inner] = compiler.param_shape(node.params[0]) else {
        return Err(Uncovered("a weight that is no matrix".into()));
    };
    if outer * inner == 0 {
        return Err(Uncovered("a weight without numbers".into()));
    }
    let linear = Linear { batch: x.len() / inner, inner, outer, path: compiler.path };
    let output = compiler.session.nodes[group.last].output();
    let dims = compiler.dims(output)?;
    let needs = compiler.trains(node) || compiler.needs_gradient(&x);
    let y = compiler.output(output, dims, Layout::Rows, needs);
    let pays = compiler.mode == Mode::Eval || linear.batch >= MANY_ROWS;
    let packed = pays.then(|| (Convolution::new(&pixels(&linear)), Weights::new(compiler.mode)));
    let layer = LinearLayer {
        linear,
        packed,
        weight: compiler.param(node.params[0]),
        bias: node.params.get(1).map(|id| compiler.param(*id)),
        relu: group.relu,
        x: (x.root, compiler.room(x.root)),
        y: (y.root, compiler.room(y.root)),
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

/// Rows as images of one row of pixels, at least two where there are so many.
fn pixels(linear: &Linear) -> Conv {
    let most = ROWS.min(linear.batch.div_ceil(2));
    let width = (1..=most).rev().find(|width| linear.batch.is_multiple_of(*width)).unwrap_or(1);
    Conv {
        batch: linear.batch / width,
        image: [1, width],
        channels_in: linear.inner,
        channels_out: linear.outer,
        window: Window { kernel: [1; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] },
        groups: 1,
        path: linear.path,
    }
}

impl Layer for LinearLayer {
    fn prepare(&mut self, params: &[f32]) {
        let Some((conv, weights)) = &mut self.packed else { return };
        let weight = &params[self.weight.clone()];
        weights.lay_out(conv, weight);
        if self.backward.as_ref().is_some_and(|backward| backward.dx.is_some()) {
            weights.lay_out_transposed(conv, weight);
        }
    }

    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.x.1], [self.y.1]);
        let bias = self.bias.as_ref().map(|range| &run.params[range.clone()]);
        if let Some((conv, weights)) = &self.packed {
            return weights.forward(conv, x, y, Epilogue { bias, residual: None, relu: self.relu });
        }
        self.linear.forward(x, &run.params[self.weight.clone()], bias, y, self.relu);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        if self.relu {
            compiler.keep(self.y.1);
        }
        let weight = compiler.param_gradient(&self.weight);
        if weight.is_some() {
            compiler.keep(self.x.1);
        }
        let bias = self.bias.as_ref().and_then(|range| compiler.param_gradient(range));
        let dx = compiler.outgoing(self.x.0);
        self.backward = Some(Backward { dy, weight, bias, dx });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, weight, bias, dx }) = &self.backward else { return };
        if self.relu {
            let ([y], [dy]) = run.memory.views([self.y.1], [*dy]);
            elementwise::relu_backward(self.linear.path, y, dy);
        }
        let x = if weight.is_some() { self.x.1 } else { Room::NONE };
        let ([x, dy], [dx_numbers]) = run.memory.views([x, *dy], [dx.map_or(Room::NONE, |(room, _)| room)]);
        if let Some(range) = weight {
            self.linear.weight_gradient(x, dy, &mut run.gradients[range.clone()], Old::Dropped);
        }
        if let Some(range) = bias {
            sums::columns(self.linear.path, dy, &mut run.gradients[range.clone()]);
        }
        if let Some((_, old)) = dx {
            match &self.packed {
                Some((conv, weights)) => conv.input_gradient(dy, weights.transposed(), dx_numbers, *old),
                None => self.linear.input_gradient(dy, &run.params[self.weight.clone()], dx_numbers, *old),
            }
        }
    }
}
