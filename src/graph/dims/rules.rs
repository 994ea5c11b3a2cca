//! What each operator says about its axes: which are the same, which are made of others, and which cannot be cut.
//!
//! Beside the axes it is followed where a value is *silent*: zero at a place whose slices of all parameters are zero. There a
//! sum over places is the same whether the place is zero or gone, and only there may a sum over activations be cut.

use super::leaves::{Axis, LeafId, Leaves, Term};
use crate::graph::op::{Activation, Binary, Fill, Op, Reduction, Unary};
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

    fn linear(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        let last = self.rank(x) - 1;
        for axis in 0..last {
            self.pass(x, y, axis);
            self.silent[y.index()][axis] &= node.params.len() == 1;
        }
        self.param(node.params[0], 1, x, last);
        node.params.iter().for_each(|param| self.param(*param, 0, y, last));
        self.silent[y.index()][last] = true;
    }

    fn matmul(&mut self, node: &Node) {
        let [a, b] = node.inputs[..] else { return };
        let y = node.output();
        let (ra, rb, ry) = (self.rank(a), self.rank(b), self.rank(y));
        let inner = (ra - 1, rb.saturating_sub(2));
        let (left, right) = (self.value(a, inner.0), self.value(b, inner.1));
        self.same(&left, &right);
        if !self.silent[a.index()][inner.0] && !self.silent[b.index()][inner.1] {
            self.leaves.freeze(&left, "it is summed over, and zero does not stay zero before");
        }
        if ra > 1 {
            self.join(a, ra - 2, y, if rb > 1 { ry - 2 } else { ry - 1 });
        }
        if rb > 1 {
            self.join(b, rb - 1, y, ry - 1);
        }
        let before = ry - usize::from(ra > 1) - usize::from(rb > 1);
        for (z, rank) in [(a, ra), (b, rb)] {
            let own = rank.saturating_sub(2);
            for axis in 0..own {
                let to = axis + before - own;
                let (from, into) = (self.value(z, axis), self.value(y, to));
                if self.leaves.term_size(&from[0]) != 1 || from.len() > 1 {
                    self.same(&from, &into);
                    // A factor that is zero is enough.
                    self.silent[y.index()][to] |= self.silent[z.index()][axis];
                }
            }
        }
    }

    fn bilinear(&mut self, node: &Node) {
        let [a, b] = node.inputs[..] else { return };
        let y = node.output();
        self.pass(a, y, 0);
        self.pass(b, y, 0);
        let (left, right, product) = (self.value(a, 1), self.value(b, 1), self.value(y, 1));
        match (self.leaves.resolved(&left).as_deref(), self.leaves.resolved(&right).as_deref()) {
            (Some([left]), Some([right])) => self.same(&[[&left[..], right].concat()], &product),
            _ => [left, right, product].iter().for_each(|axis| self.leaves.freeze(axis, "it has several parts")),
        }
        self.freeze_from(a, 2, SPATIAL);
        self.freeze_from(b, 2, SPATIAL);
    }

    fn embedding(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        (0..self.rank(x)).for_each(|axis| self.pass(x, y, axis));
        let last = self.rank(y) - 1;
        let rows = self.params[node.params[0].index()][0].clone();
        self.leaves.freeze(&rows, "its places are looked up by number");
        self.param(node.params[0], 1, y, last);
        self.silent[y.index()][last] = true;
    }

    /// `x[1] = groups x in`, `y[1] = groups x out`, `W [groups x out, in, ..]`, or transposed `W [groups x in, out, ..]`.
    fn conv(&mut self, place: usize, node: &Node, groups: usize, turned: Turned) {
        let (x, y, w) = (node.inputs[0], node.output(), node.params[0]);
        self.pass(x, y, 0);
        let [first, second] = [0, 1].map(|axis| self.params[w.index()][axis].clone());
        let (from, to) = (self.value(x, 1), self.value(y, 1));
        let (outer, inner) = if turned == Turned::Yes { (&from, &to) } else { (&to, &from) };
        if groups == 1 {
            self.same(&first, outer);
            self.same(&second, inner);
        } else {
            let shape = self.graph.param(w).data.shape();
            let group = self.leaves.leaf(Dim::Fixed(groups));
            let a = self.leaves.leaf(Dim::Fixed(shape[0] / groups));
            let b = self.leaves.leaf(Dim::Fixed(shape[1]));
            self.own[place] = vec![vec![vec![group]]];
            self.same(&first, &[vec![group, a]]);
            self.same(&second, &[vec![b]]);
            self.same(outer, &[vec![group, a]]);
            self.same(inner, &[vec![group, b]]);
        }
        if let Some(bias) = node.params.get(1) {
            self.param(*bias, 0, y, 1);
        }
        self.silent[y.index()][1] = true;
        self.freeze_param(w, 2, SPATIAL);
        self.freeze_from(x, 2, SPATIAL);
        self.freeze_from(y, 2, SPATIAL);
    }

    fn norm_channels(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        self.elementwise(x, y, false);
        node.params.iter().for_each(|param| self.param(*param, 0, y, 1));
        self.silent[y.index()][1] = true;
    }

    fn norm_last(&mut self, node: &Node, first: usize) {
        let (x, y) = (node.inputs[0], node.output());
        self.elementwise(x, y, false);
        node.params.iter().for_each(|param| self.aligned_param(*param, y));
        for axis in first..self.rank(y) {
            let own = self.value(y, axis);
            self.leaves.blur(&own, "a normalisation takes the mean over it");
            self.silent[y.index()][axis] = true;
        }
    }

    fn group_norm(&mut self, place: usize, node: &Node, groups: usize) {
        let (x, y) = (node.inputs[0], node.output());
        self.norm_channels(node);
        let Some(channels) = self.graph.value(x).shape()[1].fixed() else { return };
        let (group, inner) = (self.leaves.leaf(Dim::Fixed(groups)), self.leaves.leaf(Dim::Fixed(channels / groups)));
        self.own[place] = vec![vec![vec![group]]];
        let own = self.value(y, 1);
        self.same(&own, &[vec![group, inner]]);
        self.leaves.blur(&[vec![inner]], "a normalisation takes the mean over it");
    }

    fn reduce(&mut self, x: ValueId, y: ValueId, of: Reduction, axes: &[usize], keep: bool) {
        use Reduction::{L1, L2, LogSum, LogSumExp, Sum, SumSquare};
        let sums = matches!(of, L1 | L2 | Sum | SumSquare);
        for axis in axes {
            if !sums || !self.silent[x.index()][*axis] {
                self.freeze_value_axis(x, *axis, "one number is made of its places");
            }
        }
        let rest: Vec<usize> = (0..self.rank(x)).filter(|axis| !axes.contains(axis)).collect();
        self.kept(x, y, &rest, keep);
        if matches!(of, LogSum | LogSumExp) {
            self.silent[y.index()].fill(false);
        }
    }

    /// Both shapes in blocks of axes that hold the same number of places.
    fn reshape(&mut self, x: ValueId, y: ValueId) {
        let sizes = |id: ValueId| -> Vec<usize> {
            let axes = self.values[id.index()].iter();
            axes.map(|axis| axis.iter().map(|term| self.leaves.term_size(term)).fold(0, usize::saturating_add))
                .collect()
        };
        let (old, new) = (sizes(x), sizes(y));
        let (mut i, mut j) = (0, 0);
        while i < old.len() || j < new.len() {
            let (from, to) = (i, j);
            let mut product = [1u128; 2];
            let mut take = |side: usize, place: &mut usize, sizes: &[usize]| {
                let size = sizes.get(*place).copied().unwrap_or(1);
                product[side] = product[side].saturating_mul(size as u128);
                *place += usize::from(*place < sizes.len());
                product
            };
            let mut reached = take(0, &mut i, &old);
            reached = if j < new.len() { take(1, &mut j, &new) } else { reached };
            while reached[0] != reached[1] && (i < old.len() || j < new.len()) {
                let behind = reached[0] < reached[1] && i < old.len() || j == new.len();
                reached = if behind { take(0, &mut i, &old) } else { take(1, &mut j, &new) };
            }
            self.block(x, from..i, y, to..j);
        }
    }

    fn block(&mut self, x: ValueId, from: std::ops::Range<usize>, y: ValueId, to: std::ops::Range<usize>) {
        let (a, b) = (self.product(x, from.clone()), self.product(y, to.clone()));
        match (a, b) {
            (Some(a), Some(b)) => self.same(&a, &b),
            _ => {
                for (id, axes) in [(x, from.clone()), (y, to.clone())] {
                    for axis in axes {
                        self.freeze_value_axis(id, axis, "it is reshaped and has several parts");
                    }
                }
            }
        }
        // An axis is silent if those are that its leaves come from.
        let loud: Vec<usize> = from.filter(|axis| !self.silent[x.index()][*axis]).collect();
        let loud: Vec<LeafId> = loud.into_iter().flat_map(|axis| self.cuttable(x, axis)).collect();
        for axis in to {
            self.silent[y.index()][axis] = self.cuttable(y, axis).iter().all(|leaf| !loud.contains(leaf));
        }
    }

    /// The leaves of an axis that nothing has frozen yet.
    fn cuttable(&mut self, id: ValueId, axis: usize) -> Vec<LeafId> {
        let axis = self.value(id, axis);
        let leaves = self.leaves.resolved(&axis).unwrap_or_default().into_iter().flatten();
        leaves.filter(|leaf| self.leaves.frozen(*leaf).is_none()).collect()
    }

    /// The axes as one, the last fastest; a sum among them must be the only one that is not 1, or the innermost.
    fn product(&mut self, id: ValueId, axes: std::ops::Range<usize>) -> Option<Axis> {
        let mut product: Axis = vec![Term::new()];
        for axis in axes {
            let axis = self.value(id, axis);
            let axis = self.leaves.resolved(&axis)?;
            match (&mut product[..], &axis[..]) {
                (terms, [inner]) => terms.iter_mut().for_each(|outer| outer.extend(inner)),
                ([outer], sum) if outer.iter().all(|leaf| self.leaves.size(*leaf) == 1) => product = sum.to_vec(),
                _ => return None,
            }
        }
        if product == [Term::new()] {
            product = self.leaves.axis(Dim::Fixed(1));
        }
        Some(product)
    }

    fn expand(&mut self, x: ValueId, y: ValueId) {
        let axes = self.values[x.index()].clone();
        for (from, to) in self.aligned(&axes, y) {
            self.join(x, from, y, to);
        }
    }

    /// Axes whose size stays are the same, others frozen.
    fn where_equal(&mut self, x: ValueId, y: ValueId) {
        for axis in 0..self.rank(y) {
            if self.graph.value(x).shape()[axis] == self.graph.value(y).shape()[axis] {
                self.pass(x, y, axis);
            } else {
                self.freeze_value_axis(x, axis, "its places are repeated");
                self.freeze_value_axis(y, axis, "its places are repeated");
            }
        }
    }

    /// `deep` has `block^2` channels for each of `flat`.
    fn blocks(&mut self, flat: ValueId, deep: ValueId, block: usize, channel_first: bool) {
        self.pass(flat, deep, 0);
        let area = self.leaves.leaf(Dim::Fixed(block * block));
        self.leaves.freeze(&[vec![area]], "its places become neighbours");
        let (few, many) = (self.value(flat, 1), self.value(deep, 1));
        match self.leaves.resolved(&few).as_deref() {
            Some([few]) if channel_first => self.same(&[[&few[..], &[area]].concat()], &many),
            Some([few]) => self.same(&[[&[area], &few[..]].concat()], &many),
            _ => [few, many].iter().for_each(|axis| self.leaves.freeze(axis, "it has several parts")),
        }
        self.freeze_from(flat, 2, SPATIAL);
        self.freeze_from(deep, 2, SPATIAL);
    }

    fn pad(&mut self, place: usize, node: &Node, (axis, before, after): (usize, usize, usize), fill: Fill) {
        let (x, y) = (node.inputs[0], node.output());
        for other in (0..self.rank(x)).filter(|other| *other != axis) {
            self.pass(x, y, other);
        }
        if !matches!(fill, Fill::Value(_)) {
            self.freeze_value_axis(x, axis, "its ends are repeated");
            return self.freeze_value_axis(y, axis, "its ends are repeated");
        }
        let ends = [before, after].map(|n| if n == 0 { Axis::new() } else { self.leaves.axis(Dim::Fixed(n)) });
        let padded = [ends[0].clone(), self.value(x, axis), ends[1].clone()].concat();
        let own = self.value(y, axis);
        self.same(&padded, &own);
        self.own[place] = ends.to_vec();
        self.silent[y.index()][axis] = self.silent[x.index()][axis] && fill == Fill::Value(0.0);
    }

    fn slice(&mut self, place: usize, node: &Node, axis: usize, [start, end]: [Dim; 2], step: usize) {
        let (x, y) = (node.inputs[0], node.output());
        for other in (0..self.rank(x)).filter(|other| *other != axis) {
            self.pass(x, y, other);
        }
        let whole = self.graph.value(x).shape()[axis];
        let rest = whole.minus(end).filter(|_| step == 1);
        let Some(rest) = rest else {
            self.freeze_value_axis(x, axis, "some of its places are taken");
            return self.freeze_value_axis(y, axis, "some of its places are taken");
        };
        let ends = [start, rest].map(|n| if n == Dim::Fixed(0) { Axis::new() } else { self.leaves.axis(n) });
        let parts = [ends[0].clone(), self.value(y, axis), ends[1].clone()].concat();
        let own = self.value(x, axis);
        self.same(&parts, &own);
        self.own[place] = ends.to_vec();
        self.silent[y.index()][axis] = self.silent[x.index()][axis];
    }

    /// `parts` one behind the other are `whole` along an axis.
    fn side_by_side(&mut self, parts: &[ValueId], whole: ValueId, axis: usize) {
        let joined: Axis = parts.iter().flat_map(|part| self.value(*part, axis)).collect();
        let own = self.value(whole, axis);
        self.same(&joined, &own);
        for other in (0..self.rank(whole)).filter(|other| *other != axis) {
            for part in parts {
                let (a, b) = (self.value(*part, other), self.value(whole, other));
                self.same(&a, &b);
            }
        }
        // Of a split the whole is there before, of a concatenation the parts.
        for any in 0..self.rank(whole) {
            let split = self.silent[whole.index()][any];
            let all = parts.iter().all(|part| self.silent[part.index()][any]);
            self.silent[whole.index()][any] |= all;
            parts.iter().for_each(|part| self.silent[part.index()][any] |= split);
        }
    }

    fn gather(&mut self, node: &Node, axis: usize) {
        let [x, places] = node.inputs[..] else { return };
        let y = node.output();
        self.freeze_value_axis(x, axis, "its places are looked up by number");
        let count = self.rank(places);
        (0..axis).for_each(|before| self.pass(x, y, before));
        (0..count).for_each(|own| self.join(places, own, y, axis + own));
        (axis + 1..self.rank(x)).for_each(|behind| self.join(x, behind, y, behind - 1 + count));
    }

    /// `x [steps, n, in]`, `W [d, gates x h, in]`, `R [d, gates x h, h]`, `b [d, 2 gates x h]`, peepholes `[d, 3 x h]`,
    /// `y [steps, d, n, h]`, states `[d, n, h]`.
    fn recurrent(&mut self, place: usize, node: &Node, gates: usize, hidden: usize, lengths: usize) {
        let (x, y) = (node.inputs[0], node.output());
        let units = self.leaves.leaf(Dim::Fixed(hidden));
        let units = vec![vec![units]];
        self.own[place] = vec![units.clone()];
        self.pass(x, y, 0);
        self.freeze_value_axis(x, 0, SPATIAL);
        self.join(x, 1, y, 2);
        self.freeze_value_axis(y, 1, "its places are directions");
        let states = &node.inputs[1 + lengths..];
        for state in node.outputs[1..].iter().chain(states) {
            self.freeze_value_axis(*state, 0, "its places are directions");
            let (a, b) = (self.value(*state, 1), self.value(y, 2));
            self.same(&a, &b);
            let own = self.value(*state, 2);
            self.same(&own, &units);
        }
        let own = self.value(y, 3);
        self.same(&own, &units);
        let silent = states.iter().all(|state| self.silent[state.index()][2]);
        self.silent[y.index()][3] = silent;
        node.outputs[1..].iter().for_each(|state| self.silent[state.index()][2] = silent);
        for (role, param) in node.params.iter().enumerate() {
            let copies = [gates, gates, 2 * gates, 3][role.min(3)];
            let copies = self.leaves.leaf(Dim::Fixed(copies));
            self.leaves.freeze(&[vec![copies]], "its places are gates");
            let axes = self.params[param.index()].clone();
            self.leaves.freeze(&axes[0], "its places are directions");
            self.same(&axes[1], &[vec![copies, units[0][0]]]);
            match role {
                0 => self.param(*param, 2, x, 2),
                1 => self.same(&axes[2], &units),
                _ => {}
            }
        }
    }
}

/// Whether a convolution is a transposed one.
#[derive(Clone, Copy, PartialEq)]
enum Turned {
    Yes,
    No,
}

fn keeps_zero(activation: &Activation) -> bool {
    match activation {
        Activation::Sigmoid | Activation::Softplus => false,
        Activation::HardSigmoid(line) => line.beta <= 0.0,
        _ => true,
    }
}
