//! Normalisations.

use super::elementwise::mean_from;
use super::linear::scalar;
use super::{Result, axis};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::Dim;
use crate::graph::op::{BatchNorm, Binary, Expand, GroupNorm, InstanceNorm, LayerNorm, Op, Reshape, RmsNorm, Unary};
use crate::tensor::TensorData;

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

pub(super) fn write_batch(w: &mut Writer<'_>, node: &graph::Node, config: &BatchNorm) -> Option<Vec<String>> {
    let mut inputs = vec![w.input(node, 0)];
    for index in 0..4 {
        inputs.push(w.param(node, index)?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let attributes = vec![("epsilon", config.epsilon.into()), ("momentum", (1.0 - config.momentum).into())];
    Some(w.last(node, "BatchNormalization", &inputs, attributes))
}

pub(super) fn write_layer(w: &mut Writer<'_>, node: &graph::Node, config: &LayerNorm) -> Option<Vec<String>> {
    let (x, weight, bias) = (w.input(node, 0), w.param(node, 0)?, w.param(node, 1));
    let inputs: Vec<&str> = [&x, &weight].into_iter().chain(&bias).map(String::as_str).collect();
    let attributes = vec![("axis", config.axis.into()), ("epsilon", config.epsilon.into())];
    Some(w.last(node, "LayerNormalization", &inputs, attributes))
}

pub(super) fn write_instance(w: &mut Writer<'_>, node: &graph::Node, config: &InstanceNorm) -> Option<Vec<String>> {
    let (x, weight, bias) = (w.input(node, 0), w.param(node, 0)?, w.param(node, 1)?);
    let attributes = vec![("epsilon", config.epsilon.into())];
    Some(w.last(node, "InstanceNormalization", &[&x, &weight, &bias], attributes))
}

/// The operator came later than the version that is written.
pub(super) fn write_rms(w: &mut Writer<'_>, node: &graph::Node, config: &RmsNorm) -> Option<Vec<String>> {
    let (x, weight) = (w.input(node, 0), w.param(node, 0)?);
    let axes: Vec<usize> = (config.axis..w.value(node, 0).shape().len()).collect();
    let squares = w.part("Mul", &[&x, &x], Vec::new());
    let mean = w.part("ReduceMean", &[&squares], vec![("axes", axes.as_slice().into()), ("keepdims", true.into())]);
    let epsilon = w.scalar(config.epsilon, w.float());
    let above = w.part("Add", &[&mean, &epsilon], Vec::new());
    let root = w.part("Sqrt", &[&above], Vec::new());
    let normal = w.part("Div", &[&x, &root], Vec::new());
    Some(w.last(node, "Mul", &[&normal, &weight], Vec::new()))
}

/// The operator came later than the version that is written: each group is one channel of an instance normalisation.
pub(super) fn write_group(w: &mut Writer<'_>, node: &graph::Node, config: &GroupNorm) -> Option<Vec<String>> {
    let shape = w.value(node, 0).shape().to_vec();
    let channels = shape.get(1)?.fixed()?;
    let x = w.input(node, 0);
    let grouped = w.integers(&[0, config.groups as i64, -1]);
    let grouped = w.part("Reshape", &[&x, &grouped], Vec::new());
    let ones = TensorData::from_f64(w.float(), vec![config.groups], &vec![1.0; config.groups]).ok();
    let zeros = TensorData::from_f64(w.float(), vec![config.groups], &vec![0.0; config.groups]).ok();
    let (ones, zeros) = (w.held("ones", ones), w.held("zeros", zeros));
    let attributes = vec![("epsilon", config.epsilon.into())];
    let normal = w.part("InstanceNormalization", &[&grouped, &ones, &zeros], attributes);
    let back = w.shape(&shape);
    let normal = w.part("Reshape", &[&normal, &back], Vec::new());
    let column: Vec<usize> = std::iter::once(channels).chain(shape[2..].iter().map(|_| 1)).collect();
    let (weight, bias) = (w.param_as(node, 0, column.clone())?, w.param_as(node, 1, column)?);
    let scaled = w.part("Mul", &[&normal, &weight], Vec::new());
    Some(w.last(node, "Add", &[&scaled, &bias], Vec::new()))
}
