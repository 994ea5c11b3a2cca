//! Random networks whose channels are coupled in every way there is, for property tests: residual sums, gates, dense and
//! split channels, shuffles, groups, padding, normalisations, attention, recurrent layers.

use proptest::prelude::*;
use rand::Rng;

use crate::graph::builder::GraphBuilder;
use crate::graph::op::{
    Activation, BatchNorm, BilinearPool, Binary, Concat, Conv2d, DepthToSpace, Direction, GroupNorm, Gru, InstanceNorm,
    LayerNorm, Lstm, Op, Pad, Reduce, Reduction, Reshape, Slice, Softmax, SpaceToDepth, Split, Transpose, Window,
};
use crate::graph::{Dim, Graph, GraphEdit, ParamId, ValueId};
use crate::seed;
use crate::tensor::TensorData;

/// Networks of up to five coupled blocks; each is a function of one seed.
pub(crate) fn networks() -> impl Strategy<Value = Graph> {
    (any::<u64>(), 1usize..=5).prop_map(|(seed, blocks)| network(seed, blocks))
}

/// A network of so many blocks.
pub(crate) fn network(seed: u64, blocks: usize) -> Graph {
    let mut graph = Graph::new(format!("coupled-{seed}"));
    let edit = graph.edit();
    let rng = seed::stream(seed, "coupled network");
    let mut draft = Draft { edit, rng, count: 0 };
    match draft.rng.random_range(0..4) {
        0 => draft.sequence(blocks),
        _ => draft.image(blocks),
    }
    draft.edit.commit().unwrap();
    graph
}

struct Draft<'g, R> {
    edit: GraphEdit<'g>,
    rng: R,
    count: usize,
}

impl<R: Rng> Draft<'_, R> {
    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], params: &[ParamId]) -> ValueId {
        let name = self.name(op.name());
        self.edit.add_node(&name, op, inputs, params).unwrap()
    }

    fn param(&mut self, shape: &[usize]) -> ParamId {
        self.param_in(shape, -1.0, 1.0)
    }

    fn param_in(&mut self, shape: &[usize], low: f32, high: f32) -> ParamId {
        let name = self.name("p");
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.random_range(low..high)).collect();
        self.edit.add_param(&name, TensorData::from_f32(shape.to_vec(), &values).unwrap())
    }

    fn channels(&self, x: ValueId) -> usize {
        self.edit.graph().value(x).shape()[1].fixed().unwrap()
    }

    fn sides(&self, x: ValueId) -> [usize; 2] {
        let shape = self.edit.graph().value(x).shape();
        [shape[2].fixed().unwrap(), shape[3].fixed().unwrap()]
    }

    fn conv(&mut self, x: ValueId, out: usize, kernel: usize, groups: usize) -> ValueId {
        let inner = self.channels(x) / groups;
        let weight = self.param(&[out, inner, kernel, kernel]);
        let bias = self.rng.random::<bool>().then(|| self.param(&[out]));
        let params: Vec<ParamId> = std::iter::once(weight).chain(bias).collect();
        let op = Op::Conv2d(Conv2d { padding: [kernel / 2; 4], groups, ..Conv2d::default() });
        self.node(op, &[x], &params)
    }

    fn linear(&mut self, x: ValueId, out: usize) -> ValueId {
        let inner = self.edit.graph().value(x).shape().last().unwrap().fixed().unwrap();
        let params = [self.param(&[out, inner]), self.param(&[out])];
        self.node(Op::Linear, &[x], &params)
    }

    fn batch_norm(&mut self, x: ValueId) -> ValueId {
        let c = [self.channels(x)];
        let params = [self.param(&c), self.param(&c), self.param(&c), self.param_in(&c, 0.3, 2.0)];
        self.node(Op::BatchNorm(BatchNorm::default()), &[x], &params)
    }

    fn activation(&mut self, x: ValueId) -> ValueId {
        let activation = Activation::ALL[self.rng.random_range(0..Activation::ALL.len())];
        self.node(Op::Activation(activation), &[x], &[])
    }

    fn image(&mut self, blocks: usize) {
        let mut x = self.edit.add_input("input", &[3, 8, 8]);
        let width = 4 * self.rng.random_range(2..=4);
        x = self.conv(x, width, 3, 1);
        for _ in 0..blocks {
            x = self.block(x);
        }
        let x = match self.rng.random_range(0..4) {
            0 => {
                let y = self.conv(x, 3, 1, 1);
                self.node(Op::BilinearPool(BilinearPool { mean: true }), &[x, y], &[])
            }
            1 => self.node(Op::Flatten, &[x], &[]),
            _ => {
                let x = self.node(Op::GlobalAvgPool, &[x], &[]);
                self.node(Op::Flatten, &[x], &[])
            }
        };
        let x = self.linear(x, 9);
        let x = self.activation(x);
        let x = self.linear(x, 5);
        self.edit.set_outputs(&[x]);
    }

    fn block(&mut self, x: ValueId) -> ValueId {
        let c = self.channels(x);
        match self.rng.random_range(0..16) {
            0 | 1 => {
                let y = self.conv(x, 6, 3, 1);
                let y = self.batch_norm(y);
                let y = self.activation(y);
                let y = self.conv(y, c, 3, 1);
                self.node(Op::ADD, &[x, y], &[])
            }
            2 => {
                let x = self.conv(x, 2 * c.min(12), 1, 1);
                let x = self.batch_norm(x);
                self.activation(x)
            }
            3 => {
                let multiplier = self.rng.random_range(1..=2);
                let x = self.conv(x, c * multiplier, 3, c);
                self.conv(x, 8, 1, 1)
            }
            4 if c.is_multiple_of(4) => {
                let groups = [2, 4][self.rng.random_range(0..2)];
                self.conv(x, 8, 3, groups)
            }
            5 => {
                // A gate for each channel, from the means of all.
                let y = self.node(Op::GlobalAvgPool, &[x], &[]);
                let y = self.conv(y, 4, 1, 1);
                let y = self.activation(y);
                let y = self.conv(y, c, 1, 1);
                let y = self.node(Op::Activation(Activation::Sigmoid), &[y], &[]);
                self.node(Op::Binary(Binary::Mul), &[x, y], &[])
            }
            6 if c <= 24 => {
                let y = self.conv(x, 5, 3, 1);
                self.node(Op::Concat(Concat { axis: 1 }), &[x, y], &[])
            }
            7 if c.is_multiple_of(2) => {
                // Shuffled: [n, 2, c / 2, h, w] with the two turned.
                let [h, w] = self.sides(x);
                let shape = |a: usize, b: usize| vec![Dim::Batch, a.into(), b.into(), h.into(), w.into()];
                let x = self.node(Op::Reshape(Reshape { shape: shape(2, c / 2) }), &[x], &[]);
                let x = self.node(Op::Transpose(Transpose { axes: vec![0, 2, 1, 3, 4] }), &[x], &[]);
                let shape = vec![Dim::Batch, c.into(), h.into(), w.into()];
                self.node(Op::Reshape(Reshape { shape }), &[x], &[])
            }
            8 if c.is_multiple_of(2) => {
                let split = Op::Split(Split { axis: 1, sizes: vec![(c / 2).into(), (c / 2).into()] });
                let (name, left, right) = (self.name("split"), self.name("left"), self.name("right"));
                let parts = self.edit.add_node_with_outputs(&name, split, &[x], &[], &[left, right]).unwrap();
                let y = self.conv(parts[0], c / 2, 3, 1);
                self.node(Op::Concat(Concat { axis: 1 }), &[y, parts[1]], &[])
            }
            9 if c <= 16 => {
                // As the shortcuts of ResNets for small images.
                let short = self.node(Op::Pad(Pad::zeros(1, 2, 3)), &[x], &[]);
                let y = self.conv(x, c + 5, 3, 1);
                let y = self.batch_norm(y);
                self.node(Op::ADD, &[short, y], &[])
            }
            10 if c > 3 => {
                let y = self.node(Op::Slice(Slice::places(1, 1, c - 1, 1)), &[x], &[]);
                self.conv(y, 6, 1, 1)
            }
            11 if c.is_multiple_of(4) => {
                let params = [self.param(&[c]), self.param(&[c])];
                let x = self.node(Op::GroupNorm(GroupNorm { groups: 4, epsilon: 1e-3 }), &[x], &params);
                self.conv(x, 8, 3, 1)
            }
            12 => {
                let params = [self.param(&[c]), self.param(&[c])];
                let x = self.node(Op::InstanceNorm(InstanceNorm { epsilon: 1e-3 }), &[x], &params);
                self.conv(x, 8, 3, 1)
            }
            13 if self.sides(x)[0] > 2 => {
                let x = self.node(Op::MaxPool2d(crate::graph::op::MaxPool2d { window: Window::tiles(2) }), &[x], &[]);
                self.conv(x, 8, 3, 1)
            }
            14 if self.sides(x)[0] > 2 && self.sides(x)[0].is_multiple_of(2) && c <= 8 => {
                let channel_first = self.rng.random();
                let x = self.node(Op::SpaceToDepth(SpaceToDepth { block: 2, channel_first }), &[x], &[]);
                let x = self.conv(x, 8, 1, 1);
                self.node(Op::DepthToSpace(DepthToSpace { block: 2, channel_first: !channel_first }), &[x], &[])
            }
            _ => {
                // The mean over channels is a map that scales all of them.
                let mean = Reduce { of: Reduction::Sum, axes: vec![1], keep: true };
                let y = self.conv(x, 6, 1, 1);
                let y = self.node(Op::Reduce(mean), &[y], &[]);
                self.node(Op::Binary(Binary::Mul), &[x, y], &[])
            }
        }
    }

    fn sequence(&mut self, blocks: usize) {
        let (steps, width) = (5, 12);
        let mut x = self.edit.add_input("input", &[steps, 4]);
        x = self.linear(x, width);
        for _ in 0..blocks {
            x = match self.rng.random_range(0..4) {
                0 => self.attention(x, steps, width),
                1 => self.feed_forward(x, width),
                2 => self.recurrent(x, steps, width),
                _ => {
                    let params = [self.param(&[width]), self.param(&[width])];
                    self.node(Op::LayerNorm(LayerNorm { axis: 2, epsilon: 1e-3 }), &[x], &params)
                }
            };
        }
        let x = self.node(Op::Reduce(Reduce { of: Reduction::Mean, axes: vec![1], keep: false }), &[x], &[]);
        let x = self.linear(x, 5);
        self.edit.set_outputs(&[x]);
    }

    fn feed_forward(&mut self, x: ValueId, width: usize) -> ValueId {
        let y = self.linear(x, 10);
        let y = self.activation(y);
        let y = self.linear(y, width);
        self.node(Op::ADD, &[x, y], &[])
    }

    /// Queries, keys and values from one product, as many exports have them, or from three.
    fn attention(&mut self, x: ValueId, steps: usize, width: usize) -> ValueId {
        let (heads, d) = (3, 4);
        let whole = |three: bool| {
            let front = [Dim::Batch, steps.into()];
            let rest = [heads.into(), d.into()];
            [&front[..], if three { &[Dim::Fixed(3)] } else { &[] }, &rest].concat()
        };
        let [q, k, v] = if self.rng.random() {
            let y = self.linear(x, 3 * heads * d);
            let y = self.node(Op::Reshape(Reshape { shape: whole(true) }), &[y], &[]);
            // [3, n, heads, steps, d]
            let y = self.node(Op::Transpose(Transpose { axes: vec![2, 0, 3, 1, 4] }), &[y], &[]);
            [0, 1, 2].map(|part| self.node(Op::Select(crate::graph::op::Select { axis: 0, index: part }), &[y], &[]))
        } else {
            [0, 1, 2].map(|_| {
                let y = self.linear(x, heads * d);
                let y = self.node(Op::Reshape(Reshape { shape: whole(false) }), &[y], &[]);
                self.node(Op::Transpose(Transpose { axes: vec![0, 2, 1, 3] }), &[y], &[])
            })
        };
        let k = self.node(Op::Transpose(Transpose { axes: vec![0, 1, 3, 2] }), &[k], &[]);
        let scores = self.node(Op::MatMul, &[q, k], &[]);
        let shares = self.node(Op::Softmax(Softmax { axis: 3 }), &[scores], &[]);
        let mixed = self.node(Op::MatMul, &[shares, v], &[]);
        let mixed = self.node(Op::Transpose(Transpose { axes: vec![0, 2, 1, 3] }), &[mixed], &[]);
        let shape = vec![Dim::Batch, steps.into(), (heads * d).into()];
        let mixed = self.node(Op::Reshape(Reshape { shape }), &[mixed], &[]);
        let y = self.linear(mixed, width);
        self.node(Op::ADD, &[x, y], &[])
    }

    fn recurrent(&mut self, x: ValueId, steps: usize, width: usize) -> ValueId {
        let hidden = 6;
        let direction = if self.rng.random() { Direction::Both } else { Direction::Forward };
        let d = direction.count();
        let lstm = self.rng.random::<bool>();
        let gates = if lstm { 4 } else { 3 };
        let params = [
            self.param(&[d, gates * hidden, width]),
            self.param(&[d, gates * hidden, hidden]),
            self.param(&[d, 2 * gates * hidden]),
        ];
        let x = self.node(Op::Transpose(Transpose { axes: vec![1, 0, 2] }), &[x], &[]);
        let op = if lstm {
            Op::Lstm(Lstm { hidden, direction, lengths: false, state: false })
        } else {
            Op::Gru(Gru { hidden, direction, reset_after: self.rng.random(), lengths: false, state: false })
        };
        let states = self.node(op, &[x], &params);
        // [steps, d, n, h] to [n, steps, d h]
        let y = self.node(Op::Transpose(Transpose { axes: vec![2, 0, 1, 3] }), &[states], &[]);
        let shape = vec![Dim::Batch, steps.into(), (d * hidden).into()];
        let y = self.node(Op::Reshape(Reshape { shape }), &[y], &[]);
        self.linear(y, width)
    }
}

/// The built-in networks, with weights that are not zero.
pub(crate) fn presets() -> Vec<Graph> {
    let specs = [
        "lenet-300-100",
        "lenet5",
        "lenet5-caffe",
        "resnet-cifar-20",
        "resnet-cifar-8:shortcut=conv",
        "lstm:input=9x4,hidden=12-10,classes=5,direction=both",
        "mlp:input=6,hidden=20-10,classes=4,activation=sigmoid",
        "transformer:input=7x4,width=16,heads=4,classes=5",
    ];
    specs
        .map(|spec| {
            let mut graph = crate::graph::preset::build(spec).unwrap();
            crate::graph::init::initialise(&mut graph, crate::graph::init::Init::He, 1).unwrap();
            graph
        })
        .into()
}

/// A builder's smallest network, for tests that name its layers.
pub(crate) fn two_convolutions() -> Graph {
    let mut graph = GraphBuilder::new("two", &[3, 8, 8])
        .conv("conv1", 8, 3, Conv2d::default())
        .activation("relu1", Activation::Relu)
        .conv("conv2", 6, 3, Conv2d::default())
        .activation("relu2", Activation::Relu)
        .flatten("flatten")
        .linear("fc", 4)
        .build()
        .unwrap();
    crate::graph::init::initialise(&mut graph, crate::graph::init::Init::He, 1).unwrap();
    graph
}
