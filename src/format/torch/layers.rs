//! Layers: what has parameters.

use super::Writer;
use super::parts::Part;
use super::text::{dtype, each, keywords, number, tuple};
use crate::graph::Node;
use crate::graph::op::{Conv2d, ConvTranspose2d, Dequantize, Direction, Op, Quantize};
use crate::tensor::DType;

/// The expression of a layer; `None` for other operators.
pub(super) fn write(w: &mut Writer<'_>, node: &Node) -> Option<String> {
    match &node.op {
        Op::Constant(c) => return constant(w, node, c.dtype),
        Op::Lstm(_) | Op::Gru(_) => return recurrent(w, node),
        _ => {}
    }
    let x = if node.inputs.is_empty() { String::new() } else { w.input(node, 0) };
    let (weight, bias) = (w.param_or_none(node, 0), w.param_or_none(node, 1));
    Some(match &node.op {
        Op::Linear => biased("F.linear", &x, &weight, w.param(node, 1)) + ")",
        Op::Embedding => format!("{weight}[{x}]"),
        Op::Conv2d(c) => conv(w, node, c, 2),
        Op::Conv1d(c) => conv(w, node, &c.planar(), 1),
        Op::ConvTranspose2d(c) => transposed(w, node, c, 2)?,
        Op::ConvTranspose1d(c) => transposed(w, node, &c.planar(), 1)?,
        Op::BatchNorm(c) => {
            let (mean, var) = (w.param(node, 2)?, w.param(node, 3)?);
            let (momentum, eps) = (number(c.momentum), number(c.epsilon));
            format!("F.batch_norm({x}, {mean}, {var}, {weight}, {bias}, self.training, {momentum}, {eps})")
        }
        Op::LayerNorm(c) => {
            let (over, eps) = (format!("{x}.shape[{}:]", c.axis), number(c.epsilon));
            match has_shape_of(w, node, c.axis) {
                true => format!("F.layer_norm({x}, {over}, {weight}, {bias}, {eps})"),
                false => {
                    let plus = w.param(node, 1).map_or(String::new(), |bias| format!(" + {bias}"));
                    format!("F.layer_norm({x}, {over}, eps={eps}) * {weight}{plus}")
                }
            }
        }
        Op::RmsNorm(c) => {
            let (over, eps) = (format!("{x}.shape[{}:]", c.axis), number(c.epsilon));
            match has_shape_of(w, node, c.axis) {
                true => format!("F.rms_norm({x}, {over}, {weight}, {eps})"),
                false => format!("F.rms_norm({x}, {over}, eps={eps}) * {weight}"),
            }
        }
        Op::GroupNorm(c) => format!("F.group_norm({x}, {}, {weight}, {bias}, {})", c.groups, number(c.epsilon)),
        // Each channel is a group of its own.
        Op::InstanceNorm(c) => format!("F.group_norm({x}, {x}.shape[1], {weight}, {bias}, {})", number(c.epsilon)),
        Op::PRelu => format!("torch.where({x} > 0, {x}, {weight} * {x})"),
        Op::Quantize(c) => quantize(w, node, c)?,
        Op::Dequantize(c) => dequantize(w, node, c)?,
        _ => return None,
    })
}

fn constant(w: &Writer<'_>, node: &Node, to: DType) -> Option<String> {
    let value = w.param(node, 0)?;
    let own = super::widened(w.graph, *node.params.first()?);
    Some(if own == to { value } else { format!("{value}.to({})", dtype(to)) })
}

/// Whether all parameters have the shape of the axes from `axis` on.
fn has_shape_of(w: &Writer<'_>, node: &Node, axis: usize) -> bool {
    let shape: Option<Vec<usize>> = w.graph.value(node.inputs[0]).shape()[axis..].iter().map(|d| d.fixed()).collect();
    shape.is_some_and(|shape| node.params.iter().all(|id| w.graph.param(*id).data.shape() == shape))
}

/// Both axes of an image, or the one of a sequence.
fn of_axes(numbers: [usize; 2], axes: usize) -> String {
    each(&numbers[2 - axes..])
}

/// A call with a bias, where there is one.
fn biased(function: &str, x: &str, weight: &str, bias: Option<String>) -> String {
    let bias = bias.map_or(String::new(), |bias| format!(", {bias}"));
    format!("{function}({x}, {weight}{bias}")
}

fn conv(w: &Writer<'_>, node: &Node, config: &Conv2d, axes: usize) -> String {
    let [top, left, bottom, right] = config.padding;
    let (mut x, mut padding) = (w.input(node, 0), [top, left]);
    if (top, left) != (bottom, right) {
        x = format!("F.pad({x}, {})", tuple(&[left, right, top, bottom][..2 * axes]));
        padding = [0, 0];
    }
    let call = biased(&format!("F.conv{axes}d"), &x, &w.param_or_none(node, 0), w.param(node, 1));
    let more = keywords(&[
        ("stride", of_axes(config.stride, axes), "1"),
        ("padding", of_axes(padding, axes), "0"),
        ("dilation", of_axes(config.dilation, axes), "1"),
        ("groups", config.groups.to_string(), "1"),
    ]);
    format!("{call}{more})")
}

/// Where PyTorch has no such padding, the result is cut and widened by hand, before the bias is added.
fn transposed(w: &Writer<'_>, node: &Node, config: &ConvTranspose2d, axes: usize) -> Option<String> {
    let (x, weight) = (w.input(node, 0), w.param(node, 0)?);
    let ConvTranspose2d { stride, padding: [top, left, bottom, right], dilation, groups, output_padding } = *config;
    let call = |bias: Option<String>, padding: [usize; 2], more: [usize; 2]| {
        let call = biased(&format!("F.conv_transpose{axes}d"), &x, &weight, bias);
        let more = keywords(&[
            ("stride", of_axes(stride, axes), "1"),
            ("padding", of_axes(padding, axes), "0"),
            ("output_padding", of_axes(more, axes), "0"),
            ("groups", groups.to_string(), "1"),
            ("dilation", of_axes(dilation, axes), "1"),
        ]);
        format!("{call}{more})")
    };
    let fits = (0..2).all(|axis| output_padding[axis] < stride[axis].max(dilation[axis]) || output_padding[axis] == 0);
    if (top, left) == (bottom, right) && fits {
        return Some(call(w.param(node, 1), [top, left], output_padding));
    }
    let cut = |cut: usize, more: usize| more as i64 - cut as i64;
    let around = [cut(left, 0), cut(right, output_padding[1]), cut(top, 0), cut(bottom, output_padding[0])]
        .map(|n| n.to_string());
    let whole = format!("F.pad({}, ({}))", call(None, [0, 0], [0, 0]), around[..2 * axes].join(", "));
    let column = if axes == 1 { "(-1, 1)" } else { "(-1, 1, 1)" };
    Some(match w.param(node, 1) {
        Some(bias) => format!("{whole} + {bias}.reshape{column}"),
        None => whole,
    })
}

/// `scale` or `zero_point` so that it goes with the axis.
fn along(w: &Writer<'_>, node: &Node, index: usize, axis: usize) -> Option<String> {
    let (param, own) = (w.param(node, index)?, w.graph.param(node.params[index]));
    let after = w.rank(node).saturating_sub(axis + 1);
    Some(match (own.data.shape().len(), after) {
        (1, after) if after > 0 && own.data.elements() > 1 => {
            let shape: Vec<String> = std::iter::once("-1".into()).chain((0..after).map(|_| "1".to_string())).collect();
            format!("{param}.reshape({})", shape.join(", "))
        }
        _ => param,
    })
}

fn quantize(w: &Writer<'_>, node: &Node, config: &Quantize) -> Option<String> {
    let (x, scale) = (w.input(node, 0), along(w, node, 0, config.axis)?);
    let (least, most) = if config.to == DType::U8 { (0, 255) } else { (-128, 127) };
    let zero = along(w, node, 1, config.axis).map_or(String::new(), |zero| format!(" + {zero}"));
    Some(format!("(torch.round({x} / {scale}){zero}).clamp({least}, {most}).to({})", dtype(config.to)))
}

fn dequantize(w: &Writer<'_>, node: &Node, config: &Dequantize) -> Option<String> {
    let (x, scale) = (w.input(node, 0), along(w, node, 0, config.axis)?);
    Some(match along(w, node, 1, config.axis) {
        Some(zero) => format!("({x}.long() - {zero}.long()).float() * {scale}"),
        None => format!("{x}.float() * {scale}"),
    })
}

fn recurrent(w: &mut Writer<'_>, node: &Node) -> Option<String> {
    let (cell, direction, lengths, state, more) = match &node.op {
        Op::Lstm(c) => {
            w.parts.extend([Part::Recurrent, Part::Lstm]);
            let more = w.param(node, 3).map_or(String::new(), |peephole| format!(", peephole={peephole}"));
            ("lstm", c.direction, c.lengths, c.state, more)
        }
        Op::Gru(c) => {
            w.parts.extend([Part::Recurrent, Part::Gru]);
            ("gru", c.direction, c.lengths, c.state, if c.reset_after { "" } else { ", reset_after=False" }.to_string())
        }
        _ => return None,
    };
    let backwards = match direction {
        Direction::Forward => "(False,)",
        Direction::Reverse => "(True,)",
        Direction::Both => "(False, True)",
    };
    let params: Vec<String> = (0..3).map(|index| w.param_or_none(node, index)).collect();
    let mut arguments = vec![w.input(node, 0), params.join(", "), backwards.to_string()];
    let mut next = 1;
    if lengths {
        arguments.push(format!("lengths={}", w.input(node, next)));
        next += 1;
    }
    if state {
        let states: Vec<String> = (next..node.inputs.len()).map(|index| w.input(node, index)).collect();
        arguments.push(format!("state={}", super::text::listed(&states)));
    }
    Some(format!("{cell}({}{more})", arguments.join(", ")))
}
