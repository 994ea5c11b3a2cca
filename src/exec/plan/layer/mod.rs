//! What a plan is made of: one file a kind of layer, with what it does forwards and backwards.

pub(super) mod activation;
mod batch_norm;
mod binary;
mod constant;
mod conv;
mod conv_transpose;
pub(super) mod convert;
mod dropout;
mod gate;
mod layer_norm;
mod linear;
mod matmul;
mod moves;
mod operator;
mod pool;
mod recurrent;
pub(super) mod round;
mod softmax;
mod weights;

use super::super::ExecError;
use super::compile::{Compiler, Layout, Target};
use super::fuse::Group;
use super::memory::{Memory, Room};
use super::{Mode, Uncovered};
use crate::graph::op::{AvgPool2d, Binary, Reduction};
use crate::graph::{Node, Op};

/// What a step computes with.
pub(super) struct Run<'a> {
    pub(super) memory: Memory<'a>,
    /// All parameters, as in the session.
    pub(super) params: &'a mut [f32],
    pub(super) gradients: &'a mut [f32],
    /// From what dropout's choices follow.
    pub(super) seed: u64,
    /// The momentum of all running statistics, if not each its own.
    pub(super) momentum: Option<f64>,
    /// The first layer that could not be computed, with why.
    pub(super) problem: Option<ExecError>,
}

impl Run<'_> {
    /// Tells that a layer could not be computed. What comes after it is of no use.
    fn fail(&mut self, problem: ExecError) {
        self.problem.get_or_insert(problem);
    }
}

/// One or several nodes of the graph.
pub(super) trait Layer: Send + Sync {
    /// Lays parameters out as it computes with them. Called before a forward pass if they have changed.
    fn prepare(&mut self, _params: &[f32]) {}

    /// Computes what it writes.
    fn forward(&self, run: &mut Run<'_>);

    /// Decides where gradients come from and go to. The layers are asked in the order in which they go backwards.
    fn plan_backward(&mut self, compiler: &mut Compiler<'_>);

    /// Computes the gradients at what it reads.
    fn backward(&self, run: &mut Run<'_>);
}

/// Whether an operator computes images with their channels together.
pub(super) fn wants_images(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv2d(_)
            | Op::Conv1d(_)
            | Op::ConvTranspose2d(_)
            | Op::ConvTranspose1d(_)
            | Op::BatchNorm(_)
            | Op::MaxPool2d(_)
            | Op::MaxPool1d(_)
            | Op::AvgPool2d(_)
            | Op::AvgPool1d(_)
            | Op::GlobalAvgPool
    )
}

/// Adds the layer of a group of nodes, the first of which is `node`.
pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, group: &Group) -> Result<(), Uncovered> {
    match &node.op {
        Op::Conv2d(config) => conv::add(compiler, node, config, group),
        Op::Conv1d(config) => conv::add(compiler, node, &config.planar(), group),
        Op::ConvTranspose2d(config) => conv_transpose::add(compiler, node, config),
        Op::ConvTranspose1d(config) => conv_transpose::add(compiler, node, &config.planar()),
        Op::BatchNorm(_) => batch_norm::add(compiler, node, group),
        Op::Linear => linear::add(compiler, node, group),
        Op::MatMul => matmul::add(compiler, node),
        Op::Activation(which) => activation::add(compiler, node, *which),
        Op::Clip(config) => activation::add_clip(compiler, node, config),
        Op::Binary(which @ (Binary::Add | Binary::Sub | Binary::Mul)) => binary::add(compiler, node, *which),
        Op::MaxPool2d(config) => pool::add_max(compiler, node, config.window),
        Op::MaxPool1d(config) => pool::add_max(compiler, node, config.window.planar()),
        Op::AvgPool2d(config) => pool::add_mean(compiler, node, config),
        Op::AvgPool1d(config) => pool::add_mean(compiler, node, &config.planar()),
        Op::GlobalAvgPool => pool::add_mean_of_all(compiler, node),
        Op::Reduce(config) if config.of == Reduction::Mean && config.axes == [2, 3] => {
            pool::add_mean_of_all(compiler, node)
        }
        Op::Softmax(config) => softmax::add(compiler, node, config.axis, false),
        Op::LogSoftmax(config) => softmax::add(compiler, node, config.axis, true),
        Op::LayerNorm(config) => layer_norm::add(compiler, node, config),
        Op::Constant(_) => constant::add(compiler, node),
        Op::Dropout(config) if compiler.mode == Mode::Train && config.rate > 0.0 => {
            dropout::add(compiler, node, config.rate)
        }
        Op::Dropout(_) | Op::Cast(_) => {
            let x = compiler.any(node.inputs[0])?;
            compiler.alias(node.output(), x);
            Ok(())
        }
        Op::Flatten | Op::Reshape(_) => {
            let mut x = compiler.get(node.inputs[0], Layout::Rows)?;
            x.dims = compiler.dims(node.output())?;
            compiler.alias(node.output(), x);
            Ok(())
        }
        Op::Lstm(config) => recurrent::add_lstm(compiler, node, config),
        Op::Gru(config) => recurrent::add_gru(compiler, node, config),
        Op::Concat(config) => moves::add_concat(compiler, node, config.axis),
        Op::Pad(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Split(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Tile(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Trilu(_)
        | Op::Select(_)
        | Op::ResizeNearest(_) => moves::add(compiler, node),
        _ => operator::add(compiler, node),
    }
}

/// The mean over a whole image.
fn of_all(image: [usize; 2]) -> AvgPool2d {
    let window = crate::graph::op::Window { kernel: image, stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    AvgPool2d { window, count_padding: true, overhang: [0; 2] }
}

/// The shape of images, or of sequences as images of height 1.
fn planar(dims: &[usize]) -> Result<[usize; 4], Uncovered> {
    match *dims {
        [n, c, h, w] => Ok([n, c, h, w]),
        [n, c, l] => Ok([n, c, 1, l]),
        _ => Err(Uncovered("images of other than one or two axes".into())),
    }
}

/// Adds the numbers of one room to another's.
fn add_to(run: &mut Run<'_>, path: niwaki_kernels::simd::Path, from: Room, target: Target) {
    if let Target::Room(to, old) = target {
        let ([from], [to]) = run.memory.views([from], [to]);
        niwaki_kernels::nhwc::elementwise::scaled(path, from, 1.0, to, old);
    }
}
