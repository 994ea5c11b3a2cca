//! Normalisations.

use super::elementwise::mean_from;
use super::linear::scalar;
use super::{Result, axis};
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph::Dim;
use crate::graph::op::{BatchNorm, Binary, Expand, GroupNorm, InstanceNorm, LayerNorm, Op, Reshape, RmsNorm, Unary};

/// ONNX's momentum is the share that stays, ours the share that comes.
pub(super) fn batch<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let params = (1..5).map(|index| cx.input(node, index)).collect::<Result<Vec<_>>>()?;
    if (1..node.proto.output.len()).any(|index| cx.wants(node, index))
        && !node.flag("training_mode", false)?
        && node.opset >= 14
    {
        return Err(node.wrong("it has further outputs, which belong to training"));
    }
    let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
    let momentum = 1.0 - node.float("momentum")?.unwrap_or(0.9);
    // The shortest decimal number again: 1 - 0.9 is not 0.1.
    let momentum = ((momentum * 1e9).round() / 1e9).clamp(0.0, 1.0);
    let y = cx.op(Op::BatchNorm(BatchNorm { epsilon, momentum }), &[x], &params)?;
    cx.output(node, 0, y)
}

pub(super) fn layer<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, weight) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let axis = axis(node, node.int("axis")?.unwrap_or(-1), cx.rank(x))?;
    let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
    let params: Vec<Handle> = std::iter::once(weight).chain(cx.optional(node, 2)).collect();
    let op = match node.op() {
        "LayerNormalization" => Op::LayerNorm(LayerNorm { axis, epsilon }),
        _ => Op::RmsNorm(RmsNorm { axis, epsilon }),
    };
    let y = cx.op(op, &[x], &params)?;
    cx.output(node, 0, y)?;
    if (1..3).any(|index| cx.wants(node, index)) { statistics(cx, node, x, axis, epsilon) } else { Ok(()) }
}

/// The mean, and one by the deviation, which older exporters asked for.
fn statistics<'s>(cx: &mut Trace<'s>, node: &Node<'s>, x: Handle, axis: usize, epsilon: f64) -> Result {
    let mean = mean_from(cx, x, axis)?;
    let centred = cx.op(Op::Binary(Binary::Sub), &[x, mean], &[])?;
    let squares = cx.op(Op::Binary(Binary::Mul), &[centred, centred], &[])?;
    let variance = mean_from(cx, squares, axis)?;
    let epsilon = scalar(cx, node, epsilon, variance)?;
    let above = cx.op(Op::ADD, &[variance, epsilon], &[])?;
    let deviation = cx.op(Op::Unary(Unary::Sqrt), &[above], &[])?;
    let inverse = cx.op(Op::Unary(Unary::Reciprocal), &[deviation], &[])?;
    cx.output(node, 1, mean)?;
    cx.output(node, 2, inverse)
}

/// Weights are one a channel, in older versions one a group.
pub(super) fn group<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let groups = node.int("num_groups")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let groups = groups.ok_or_else(|| node.wrong("num_groups is missing or not above 0"))?;
    let channels = cx.shape(x).get(1).copied().unwrap_or(0);
    let mut params = Vec::new();
    for index in 1..3 {
        let param = cx.input(node, index)?;
        let is_per_group =
            node.opset < 21 && cx.shape(param) == [groups] && groups != channels && channels.is_multiple_of(groups);
        params.push(if is_per_group { per_channel(cx, param, groups, channels)? } else { param });
    }
    let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
    let y = cx.op(Op::GroupNorm(GroupNorm { groups, epsilon }), &[x], &params)?;
    cx.output(node, 0, y)
}

fn per_channel(cx: &mut Trace<'_>, param: Handle, groups: usize, channels: usize) -> Result<Handle> {
    let column = cx.reshaped(param, &[groups, 1])?;
    let shape = vec![Dim::Fixed(groups), Dim::Fixed(channels / groups)];
    let wide = cx.op(Op::Expand(Expand { shape }), &[column], &[])?;
    cx.op(Op::Reshape(Reshape { shape: vec![Dim::Fixed(channels)] }), &[wide], &[])
}

pub(super) fn instance<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, weight, bias) = (cx.input(node, 0)?, cx.input(node, 1)?, cx.input(node, 2)?);
    let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
    let op = Op::InstanceNorm(InstanceNorm { epsilon });
    let y = match cx.is_constant(weight) && cx.is_constant(bias) {
        true => cx.op(op, &[x], &[weight, bias])?,
        false => return Err(node.runtime("weight or bias")),
    };
    cx.output(node, 0, y)
}
