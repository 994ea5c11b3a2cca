//! What each operator says about its axes: which are the same, which are made of others, and which cannot be cut.
//!
//! Beside the axes it is followed where a value is *silent*: zero at a place whose slices of all parameters are zero. There a
//! sum over places is the same whether the place is zero or gone, and only there may a sum over activations be cut.

mod layers;
mod normalisations;
mod shapes;

use self::layers::Turned;
use super::leaves::{Axis, Leaves, Term};
use crate::graph::op::{Activation, Binary, Op, Unary};
use crate::graph::{Dim, Graph, Node, ParamId, ValueId};

/// Why the axes of images, sequences and windows are frozen.
const SPATIAL: &str = "its places are neighbours";

/// The axes of a graph, as far as its nodes have been looked at.
pub(super) struct Rules<'g> {
    graph: &'g Graph,
    pub(super) leaves: Leaves,
    /// Of each value.
    pub(super) values: Vec<Vec<Axis>>,
    /// Of each parameter.
    pub(super) params: Vec<Vec<Axis>>,
    /// Of each node: sizes that its operator has in its configuration and no value or parameter has as an axis.
    pub(super) own: Vec<Vec<Axis>>,
    silent: Vec<Vec<bool>>,
}

impl<'g> Rules<'g> {
    /// Follows the rules of all nodes.
    pub(super) fn of(graph: &'g Graph) -> Self {
        let mut leaves = Leaves::default();
        let params = graph.params().iter().map(|param| {
            let float = param.data.dtype().is_float();
            let axes: Vec<Axis> = param.data.shape().iter().map(|n| leaves.axis(Dim::Fixed(*n))).collect();
            leaves.node.clone_from(&param.name);
            if !float {
                axes.iter().for_each(|axis| leaves.freeze(axis, "it holds whole numbers"));
            }
            axes
        });
        let params = params.collect();
        let values = graph.values().iter().map(|value| value.shape().iter().map(|dim| leaves.axis(*dim)).collect());
        let values = values.collect();
        let silent = graph.values().iter().map(|value| vec![false; value.shape().len()]).collect();
        let own = vec![Vec::new(); graph.nodes().len()];
        let mut rules = Self { graph, leaves, values, params, own, silent };
        rules.ends(graph.inputs(), "it is an input of the network");
        for (place, node) in graph.nodes().iter().enumerate() {
            rules.leaves.node.clone_from(&node.name);
            rules.node(place, node);
        }
        rules.ends(graph.outputs(), "it is an output of the network");
        rules
    }

    fn ends(&mut self, values: &[ValueId], why: &'static str) {
        for id in values {
            self.leaves.node.clone_from(&self.graph.value(*id).name);
            for axis in &self.values[id.index()] {
                self.leaves.freeze(axis, why);
            }
        }
    }

    fn node(&mut self, place: usize, node: &Node) {
        let y = node.output();
        let Some(&x) = node.inputs.first() else {
            return match node.op {
                Op::Constant(_) => self.constant(y, node.params[0]),
                _ => self.freeze_value(y, "its numbers are places"),
            };
        };
        match &node.op {
            Op::Activation(activation) => self.elementwise(x, y, keeps_zero(activation)),
            Op::Unary(Unary::Log | Unary::Reciprocal) => {
                self.freeze_silent(x, "zero has no such function");
                self.elementwise(x, y, false);
            }
            Op::Unary(unary) => {
                use Unary::{Cos, Exp, IsNaN, Not};
                self.elementwise(x, y, !matches!(unary, Cos | Exp | IsNaN | Not));
            }
            Op::Clip(clip) => {
                let zero = clip.min.is_none_or(|min| min <= 0.0) && clip.max.is_none_or(|max| max >= 0.0);
                self.elementwise(x, y, zero);
            }
            Op::Cast(_) | Op::Dropout(_) => self.elementwise(x, y, true),
            Op::PRelu => {
                self.elementwise(x, y, true);
                self.aligned_param(node.params[0], y);
            }
            Op::Binary(binary) => self.binary(*binary, node),
            Op::Compare(_) => self.broadcast(&node.inputs, y),
            Op::Where => self.broadcast(&node.inputs, y),
            Op::Linear => self.linear(node),
            Op::MatMul => self.matmul(node),
            Op::BilinearPool(_) => self.bilinear(node),
            Op::Embedding => self.embedding(node),
            Op::Conv2d(c) => self.conv(place, node, c.groups, Turned::No),
            Op::Conv1d(c) => self.conv(place, node, c.groups, Turned::No),
            Op::ConvTranspose2d(c) => self.conv(place, node, c.groups, Turned::Yes),
            Op::ConvTranspose1d(c) => self.conv(place, node, c.groups, Turned::Yes),
            Op::BatchNorm(_) | Op::InstanceNorm(_) => self.norm_channels(node),
            Op::LayerNorm(c) => self.norm_last(node, c.axis),
            Op::RmsNorm(c) => self.norm_last(node, c.axis),
            Op::GroupNorm(c) => self.group_norm(place, node, c.groups),
            Op::MaxPool2d(_)
            | Op::MaxPool1d(_)
            | Op::AvgPool2d(_)
            | Op::AvgPool1d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool => {
                self.pass(x, y, 0);
                self.pass(x, y, 1);
                self.freeze_from(x, 2, SPATIAL);
                self.freeze_from(y, 2, SPATIAL);
            }
            Op::Reduce(c) => self.reduce(x, y, c.of, &c.axes, c.keep),
            Op::ArgMax(c) => {
                self.freeze_value_axis(x, c.axis, "its places are compared");
                let axes: Vec<usize> = (0..self.values[x.index()].len()).filter(|axis| *axis != c.axis).collect();
                self.kept(x, y, &axes, c.keep);
            }
            Op::Softmax(c) | Op::LogSoftmax(c) => {
                self.elementwise(x, y, false);
                self.freeze_value_axis(x, c.axis, "a softmax divides by the sum over it");
            }
            Op::CumSum(c) => {
                self.elementwise(x, y, true);
                self.freeze_value_axis(x, c.axis, "its sums run on");
            }
            Op::Reverse(c) => {
                self.elementwise(x, y, true);
                self.freeze_value_axis(x, c.axis, "it is turned round");
            }
            Op::Trilu(_) => {
                self.elementwise(x, y, true);
                self.freeze_from(x, self.values[x.index()].len() - 2, "it is part of a triangle");
            }
            Op::Reshape(_) | Op::Flatten => self.reshape(x, y),
            Op::Transpose(c) => c.axes.iter().enumerate().for_each(|(to, from)| self.join(x, *from, y, to)),
            Op::Expand(_) => self.expand(x, y),
            Op::Tile(_) | Op::ResizeNearest(_) => self.where_equal(x, y),
            Op::DepthToSpace(c) => self.blocks(y, x, c.block, c.channel_first),
            Op::SpaceToDepth(c) => self.blocks(x, y, c.block, c.channel_first),
            Op::Pad(c) => self.pad(place, node, (c.axis, c.before, c.after), c.fill),
            Op::Slice(c) => self.slice(place, node, c.axis, [c.start, c.end], c.step),
            Op::Concat(c) => self.side_by_side(&node.inputs, y, c.axis),
            Op::Split(c) => self.side_by_side(&node.outputs, x, c.axis),
            Op::Select(c) => {
                self.freeze_value_axis(x, c.axis, "one of its places is taken");
                let axes: Vec<usize> = (0..self.values[x.index()].len()).filter(|axis| *axis != c.axis).collect();
                self.kept(x, y, &axes, false);
            }
            Op::Gather(c) => self.gather(node, c.axis),
            Op::Lstm(c) => self.recurrent(place, node, 4, c.hidden, usize::from(c.lengths)),
            Op::Gru(c) => self.recurrent(place, node, 3, c.hidden, usize::from(c.lengths)),
            Op::Quantize(_) | Op::Dequantize(_) => self.freeze_node(node, "its numbers are quantized"),
            Op::Shape => self.freeze_node(node, "its sizes are computed with"),
            Op::GatherElements(_) | Op::GatherNd(_) => self.freeze_node(node, "elements are looked up in it"),
            Op::Custom(_) => self.freeze_node(node, "it is read or written by an unknown operator"),
            Op::Constant(_) | Op::Range(_) => self.freeze_node(node, "its numbers are places"),
        }
    }

    // Parts of rules.

    fn same(&mut self, a: &[Term], b: &[Term]) {
        if self.leaves.unify(a, b).is_err() {
            self.leaves.freeze(a, "it meets an axis that is made in another way");
            self.leaves.freeze(b, "it meets an axis that is made in another way");
        }
    }

    fn value(&self, id: ValueId, axis: usize) -> Axis {
        self.values[id.index()][axis].clone()
    }

    fn rank(&self, id: ValueId) -> usize {
        self.values[id.index()].len()
    }

    /// The axes are one and the same.
    fn join(&mut self, x: ValueId, from: usize, y: ValueId, to: usize) {
        let (a, b) = (self.value(x, from), self.value(y, to));
        self.same(&a, &b);
        self.silent[y.index()][to] = self.silent[x.index()][from];
    }

    fn pass(&mut self, x: ValueId, y: ValueId, axis: usize) {
        self.join(x, axis, y, axis);
    }

    fn param(&mut self, param: ParamId, axis: usize, y: ValueId, to: usize) {
        let (a, b) = (self.params[param.index()][axis].clone(), self.value(y, to));
        self.same(&a, &b);
    }

    fn freeze_value_axis(&mut self, id: ValueId, axis: usize, why: &'static str) {
        let axis = self.value(id, axis);
        self.leaves.freeze(&axis, why);
    }

    fn freeze_from(&mut self, id: ValueId, first: usize, why: &'static str) {
        (first..self.rank(id)).for_each(|axis| self.freeze_value_axis(id, axis, why));
    }

    fn freeze_value(&mut self, id: ValueId, why: &'static str) {
        self.freeze_from(id, 0, why);
    }

    fn freeze_param(&mut self, id: ParamId, first: usize, why: &'static str) {
        for axis in first..self.params[id.index()].len() {
            let axis = self.params[id.index()][axis].clone();
            self.leaves.freeze(&axis, why);
        }
    }

    fn freeze_node(&mut self, node: &Node, why: &'static str) {
        node.inputs.iter().chain(&node.outputs).for_each(|id| self.freeze_value(*id, why));
        node.params.iter().for_each(|id| self.freeze_param(*id, 0, why));
    }

    fn freeze_silent(&mut self, id: ValueId, why: &'static str) {
        for axis in 0..self.rank(id) {
            if self.silent[id.index()][axis] {
                self.freeze_value_axis(id, axis, why);
            }
        }
    }

    fn elementwise(&mut self, x: ValueId, y: ValueId, zero_stays: bool) {
        for axis in 0..self.rank(y) {
            self.pass(x, y, axis);
            self.silent[y.index()][axis] &= zero_stays;
        }
    }

    /// The axes of `z`, aligned with those of `y` at the last, where `z` is not repeated.
    fn aligned(&self, z: &[Axis], y: ValueId) -> Vec<(usize, usize)> {
        let lacking = self.rank(y) - z.len();
        let one = |axis: &Axis| axis.len() == 1 && self.leaves.term_size(&axis[0]) == 1;
        let pairs = (0..z.len()).map(|axis| (axis, axis + lacking));
        pairs.filter(|(from, to)| !one(&z[*from]) || one(&self.values[y.index()][*to])).collect()
    }

    fn broadcast(&mut self, inputs: &[ValueId], y: ValueId) {
        for z in inputs {
            for (from, to) in self.aligned(&self.values[z.index()], y) {
                let (a, b) = (self.value(*z, from), self.value(y, to));
                self.same(&a, &b);
            }
        }
    }

    fn aligned_param(&mut self, param: ParamId, y: ValueId) {
        for (from, to) in self.aligned(&self.params[param.index()], y) {
            self.param(param, from, y, to);
        }
    }

    /// Axes of `x` that become those of `y` in their order; the others become one place each where they stay.
    fn kept(&mut self, x: ValueId, y: ValueId, axes: &[usize], others_stay: bool) {
        for (place, axis) in axes.iter().enumerate() {
            self.join(x, *axis, y, if others_stay { *axis } else { place });
        }
    }

    // The rules.

    fn constant(&mut self, y: ValueId, param: ParamId) {
        for axis in 0..self.rank(y) {
            self.param(param, axis, y, axis);
            self.silent[y.index()][axis] = true;
        }
    }

    fn binary(&mut self, binary: Binary, node: &Node) {
        let y = node.output();
        if binary == Binary::Div {
            self.freeze_silent(node.inputs[1], "it is divided by");
        }
        self.broadcast(&node.inputs, y);
        let silent = |axis: usize| -> [bool; 2] {
            [0, 1].map(|place: usize| {
                let z = node.inputs[place];
                let mut pairs = self.aligned(&self.values[z.index()], y).into_iter();
                pairs.any(|(from, to)| to == axis && self.silent[z.index()][from])
            })
        };
        let found: Vec<bool> = (0..self.rank(y))
            .map(silent)
            .map(|[a, b]| match binary {
                Binary::Add | Binary::Sub | Binary::Max | Binary::Min => a && b,
                Binary::Mul | Binary::And => a || b,
                Binary::Div => a,
                _ => false,
            })
            .collect();
        self.silent[y.index()] = found;
    }
}

fn keeps_zero(activation: &Activation) -> bool {
    match activation {
        Activation::Sigmoid | Activation::Softplus => false,
        Activation::HardSigmoid(line) => line.beta <= 0.0,
        _ => true,
    }
}
