//! One node's computation: the operators in terms of our kernels.

use candle_core::{Error, Result, Tensor};

use super::Mode;
use super::held::Held;
use crate::graph::dim::{Dim, Sizes};
use crate::graph::op::{BatchNorm, Binary, Fill, Moves, Places, Reduce, Reduction};
use crate::graph::{Node, Op};
use crate::kernels::{self, Kernel, Moments, Statistics};
use crate::seed;
use crate::tensor::{DType, TensorData};

/// What a node computes with beside its inputs and parameters.
pub(super) struct Context {
    /// What the forward pass is for.
    pub(super) mode: Mode,
    /// From what dropout's choices follow.
    pub(super) seed: u64,
    /// Whether batch normalisation measures the batch; otherwise it takes the running statistics.
    pub(super) measures: bool,
    /// What the open sizes are.
    pub(super) sizes: Sizes,
}

/// How a node's outputs come about.
pub(super) enum Way {
    /// By a kernel, whose arguments are the floating point ones among the inputs and then the parameters, as many as it
    /// takes.
    Kernel(Kernel),
    /// By a kernel that normalises by these moments of the batch.
    Measured(Kernel, Moments),
    /// The first of these goes through, in this shape.
    Through(Vec<usize>),
    /// By the definition; no gradient goes through.
    Reference,
}

/// How `node`, whose outputs are floating point numbers, is computed for these inputs and parameters; the latter are in
/// the order of [`Op::roles`].
pub(super) fn way(node: &Node, inputs: &[&Held], params: &[&Held], context: &Context) -> Result<Way> {
    let biased = params.len() > 1;
    let kernel = match &node.op {
        Op::Linear if biased => kernels::linear_with_bias(),
        Op::Linear => kernels::linear(),
        Op::Conv2d(config) if biased => kernels::conv2d_with_bias(config),
        Op::Conv2d(config) => kernels::conv2d(config),
        Op::Conv1d(config) if biased => kernels::conv2d_with_bias(&config.planar()),
        Op::Conv1d(config) => kernels::conv2d(&config.planar()),
        Op::ConvTranspose2d(config) if biased => kernels::conv_transpose2d_with_bias(config),
        Op::ConvTranspose2d(config) => kernels::conv_transpose2d(config),
        Op::ConvTranspose1d(config) if biased => kernels::conv_transpose2d_with_bias(&config.planar()),
        Op::ConvTranspose1d(config) => kernels::conv_transpose2d(&config.planar()),
        Op::MaxPool2d(config) => kernels::max_pool2d(&config.window),
        Op::MaxPool1d(config) => kernels::max_pool2d(&config.window.planar()),
        Op::AvgPool2d(config) => kernels::avg_pool2d(config),
        Op::AvgPool1d(config) => kernels::avg_pool2d(&config.planar()),
        Op::GlobalAvgPool => match *first(inputs)?.dims() {
            [_, _, h, w] => kernels::global_avg_pool([h, w]),
            _ => over_places(Reduction::Mean, first(inputs)?.rank()),
        },
        Op::BatchNorm(config) => return batch_norm(config, first(inputs)?, params, context),
        Op::Binary(binary) => return arithmetic(*binary, inputs),
        Op::Activation(activation) => kernels::activation(*activation),
        Op::Where => {
            let condition = plain(inputs, 0)?;
            kernels::choose(condition.bytes().iter().map(|b| *b != 0).collect(), condition.shape())
        }
        Op::Pad(config) if config.fill == Fill::Value(0.0) && !first(inputs)?.dims().contains(&0) => {
            kernels::pad(first(inputs)?.dims(), config)?
        }
        Op::Concat(config) => concat(config.axis, inputs)?,
        Op::Lstm(config) => kernels::lstm(config, lengths(config.lengths, inputs)?),
        Op::Gru(config) => kernels::gru(config, lengths(config.lengths, inputs)?),
        Op::Dropout(config) if context.mode == Mode::Train && config.rate > 0.0 => {
            let mut rng = seed::stream(context.seed, &format!("dropout/{}", node.name));
            kernels::dropout(first(inputs)?.elem_count(), config.rate, &mut rng)
        }
        Op::Dropout(_) => return Ok(Way::Through(first(inputs)?.dims().to_vec())),
        Op::Constant(_) => return Ok(Way::Through(first(params)?.dims().to_vec())),
        Op::Flatten => {
            let x = first(inputs)?.dims();
            return Ok(Way::Through(vec![x[0], x[1..].iter().product()]));
        }
        Op::Reshape(config) => return Ok(Way::Through(at(&config.shape, context.sizes)?)),
        Op::Cast(_) if inputs[0].numbers().is_some() => return Ok(Way::Through(inputs[0].shape().to_vec())),
        Op::Slice(_)
        | Op::Pad(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Tile(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Reverse(_)
        | Op::Split(_)
        | Op::Trilu(_)
        | Op::Gather(_)
        | Op::Select(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ResizeNearest(_)
        | Op::Embedding => return moves(&node.op, inputs, params, context.sizes).map(Way::Kernel),
        Op::MatMul
        | Op::BilinearPool(_)
        | Op::GlobalMaxPool
        | Op::LayerNorm(_)
        | Op::RmsNorm(_)
        | Op::GroupNorm(_)
        | Op::InstanceNorm(_)
        | Op::PRelu
        | Op::Unary(_)
        | Op::Clip(_)
        | Op::Reduce(_)
        | Op::CumSum(_)
        | Op::Softmax(_)
        | Op::LogSoftmax(_) => {
            settled(&node.op, inputs[0].shape().len()).ok_or_else(|| Error::Msg("it has no kernel".into()))?
        }
        Op::Cast(_)
        | Op::Compare(_)
        | Op::ArgMax(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::Shape
        | Op::Range(_)
        | Op::Custom(_) => return Ok(Way::Reference),
    };
    Ok(Way::Kernel(kernel))
}

/// The kernel of an operator of numbers alone of which its configuration and the axes of its first input, so many, are all
/// there is to know.
pub(super) fn settled(op: &Op, rank: usize) -> Option<Kernel> {
    Some(match op {
        Op::MatMul => kernels::matrix_product(),
        Op::BilinearPool(config) => kernels::bilinear_pool(config),
        Op::GlobalMaxPool => over_places(Reduction::Max, rank),
        Op::LayerNorm(config) => kernels::layer_norm(config),
        Op::RmsNorm(config) => kernels::rms_norm(config),
        Op::GroupNorm(config) => kernels::group_norm(config),
        Op::InstanceNorm(config) => kernels::instance_norm(config),
        Op::PRelu => kernels::prelu(),
        Op::Unary(unary) => kernels::unary(*unary),
        Op::Binary(binary) => kernels::binary(*binary),
        Op::Clip(config) => kernels::clip(config),
        Op::Reduce(config) => kernels::reduce(config),
        Op::CumSum(config) => kernels::cumulative_sum(config),
        Op::Softmax(config) => kernels::softmax(config),
        Op::LogSoftmax(config) => kernels::log_softmax(config),
        _ => return None,
    })
}

/// The first of these, which is of floating point numbers.
fn first<'a>(held: &[&'a Held]) -> Result<&'a Tensor> {
    held.first().and_then(|held| held.numbers()).ok_or_else(|| Error::Msg("no input".into()))
}

/// The input at `place`, which is of whole numbers or truth values.
fn plain<'a>(inputs: &[&'a Held], place: usize) -> Result<&'a TensorData> {
    inputs.get(place).and_then(|held| held.plain()).ok_or_else(|| Error::Msg(format!("no plain input {place}")))
}

fn at(shape: &[Dim], sizes: Sizes) -> Result<Vec<usize>> {
    let size = |dim: &Dim| dim.at(sizes).ok_or_else(|| Error::Msg(format!("{dim} is no size for {sizes:?}")));
    shape.iter().map(size).collect()
}

/// Whole numbers of 32 or 64 bits.
fn whole(data: &TensorData) -> Result<Vec<i64>> {
    let bytes = data.bytes();
    match data.dtype() {
        DType::I64 => Ok(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        DType::I32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()),
        other => Err(Error::Msg(format!("{other} are no places"))),
    }
}

/// The lengths of a recurrent layer's samples.
fn lengths(are_given: bool, inputs: &[&Held]) -> Result<Option<Vec<i64>>> {
    if are_given { plain(inputs, 1).and_then(whole).map(Some) } else { Ok(None) }
}

fn over_places(of: Reduction, rank: usize) -> Kernel {
    kernels::reduce(&Reduce { of, axes: (2..rank).collect(), keep: true })
}

fn arithmetic(binary: Binary, inputs: &[&Held]) -> Result<Way> {
    let [a, b] = inputs else { candle_core::bail!("not two inputs") };
    Ok(Way::Kernel(match binary {
        Binary::Add if a.shape() == b.shape() => kernels::add(),
        // An exponent may be of whole numbers, which have no gradient.
        Binary::Pow if b.numbers().is_none() => kernels::power(b.shape(), b.to_f32()?),
        other => kernels::binary(other),
    }))
}

fn concat(axis: usize, inputs: &[&Held]) -> Result<Kernel> {
    let mut shape = first(inputs)?.dims().to_vec();
    if axis >= shape.len() {
        candle_core::bail!("no axis {axis}");
    }
    shape[axis] = inputs.iter().map(|x| x.shape()[axis]).sum();
    let mut start = 0;
    let parts = inputs.iter().map(|x| {
        let count = x.shape()[axis];
        start += count;
        Moves::part("Concat", &shape, axis, start - count, count).map_err(|e| Error::Msg(e.to_string()))
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    Ok(kernels::concat(shape, parts))
}

/// The kernel of an operator that only moves elements.
fn moves(op: &Op, inputs: &[&Held], params: &[&Held], sizes: Sizes) -> Result<Kernel> {
    let (x, places) = match op {
        Op::Embedding => (first(params)?, Some(plain(inputs, 0)?)),
        _ => (first(inputs)?, if inputs.len() > 1 { Some(plain(inputs, 1)?) } else { None }),
    };
    if let Op::Slice(config) = op
        && let (Some(start), Some(end)) = (config.start.at(sizes), config.end.at(sizes))
        && start < end
        && !x.dims().contains(&0)
    {
        return kernels::slice(x.dims(), &crate::graph::op::Slice::places(config.axis, start, end, config.step));
    }
    let numbers = places.map(whole).transpose()?;
    let places = places.zip(numbers.as_ref()).map(|(places, numbers)| Places { shape: places.shape(), numbers });
    let moves = op.moves(x.dims(), places, sizes).ok_or_else(|| Error::Msg("does not move elements".into()))?;
    Ok(kernels::moves(op.name(), x.dims(), moves.map_err(|e| Error::Msg(e.to_string()))?))
}

fn batch_norm(config: &BatchNorm, x: &Tensor, params: &[&Held], context: &Context) -> Result<Way> {
    let [_, _, mean, variance] = params else { candle_core::bail!("no four parameters") };
    let measured = if context.measures { Some(kernels::moments(x)?) } else { None };
    // One value a channel has no variance to be normalised by.
    if let Some(moments) = measured.filter(|moments| moments.count > 1) {
        let kernel = kernels::batch_norm(Statistics::Batch(moments.clone()), config.epsilon);
        return Ok(Way::Measured(kernel, moments));
    }
    let running = Moments { mean: mean.to_f32()?, variance: variance.to_f32()?, count: 0 };
    Ok(Way::Kernel(kernels::batch_norm(Statistics::Given(running), config.epsilon)))
}
