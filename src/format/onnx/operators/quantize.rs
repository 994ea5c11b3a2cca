//! To whole numbers of 8 bits and back.

use super::{Result, axis};
use crate::format::onnx::dtype;
use crate::format::onnx::export::writer::{Attribute, Writer};
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{Dequantize, Op, Quantize};
use crate::tensor::{DType, TensorData};

pub(super) fn quantize<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, params, axis) = scales(cx, node)?;
    let stated = node.int("output_dtype")?.and_then(|n| i32::try_from(n).ok()).filter(|n| *n != 0);
    let to = match (params.get(1), stated) {
        (Some(zero), _) => cx.dtype(*zero),
        (None, Some(number)) => {
            dtype::dtype(number).ok_or_else(|| node.wrong(format!("to {} is not read", dtype::name(number))))?
        }
        (None, None) => cx.optional(node, 2).map_or(DType::U8, |zero| cx.dtype(zero)),
    };
    let y = cx.op(Op::Quantize(Quantize { to, axis }), &[x], &params)?;
    cx.output(node, 0, y)
}

pub(super) fn dequantize<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, params, axis) = scales(cx, node)?;
    let y = cx.op(Op::Dequantize(Dequantize { axis }), &[x], &params)?;
    cx.output(node, 0, y)
}

fn scales(cx: &mut Trace<'_>, node: &Node<'_>) -> Result<(Handle, Vec<Handle>, usize)> {
    let (x, scale) = (cx.input(node, 0)?, cx.input(node, 1)?);
    if node.int("block_size")?.unwrap_or(0) != 0 {
        return Err(node.wrong("scales of blocks are not read"));
    }
    let rank = cx.rank(x);
    let along = node.int("axis")?.unwrap_or(1);
    // One scale for all has no axis.
    let axis = if cx.rank(scale) == 0 || rank < 2 { 0 } else { axis(node, along, rank)? };
    // What our own writer says of a zero point that is none: the format alone.
    let is_told = |zero: &Handle| {
        let held = node.proto.input.get(2).is_some_and(|name| cx.source.initializers.contains_key(name));
        held || cx.constant(*zero).is_none_or(|zero| zero.nonzero() > 0)
    };
    let zero = cx.optional(node, 2).filter(is_told);
    Ok((x, std::iter::once(scale).chain(zero).collect(), axis))
}

/// The format follows from the zero point's.
pub(super) fn write_quantize(w: &mut Writer<'_>, node: &graph::Node, config: &Quantize) -> Option<Vec<String>> {
    let (x, scale) = (w.input(node, 0), w.param(node, 0)?);
    let zero = match w.param(node, 1) {
        Some(zero) => zero,
        None => {
            let shape = w.graph.param(node.params[0]).data.shape().to_vec();
            let zeros = vec![0u8; shape.iter().product()];
            let zeros = TensorData::new(config.to, shape, zeros).ok()?;
            w.part("Constant", &[], vec![("value", Attribute::Tensor(zeros))])
        }
    };
    Some(w.last(node, "QuantizeLinear", &[&x, &scale, &zero], vec![("axis", config.axis.into())]))
}

pub(super) fn write_dequantize(w: &mut Writer<'_>, node: &graph::Node, config: &Dequantize) -> Option<Vec<String>> {
    let (x, scale) = (w.input(node, 0), w.param(node, 0)?);
    let zero = w.param(node, 1);
    let inputs: Vec<&str> = [&x, &scale].into_iter().chain(&zero).map(String::as_str).collect();
    Some(w.last(node, "DequantizeLinear", &inputs, vec![("axis", config.axis.into())]))
}
