//! To whole numbers of 8 bits and back.

use super::{Result, axis};
use crate::format::onnx::dtype;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph::op::{Dequantize, Op, Quantize};
use crate::tensor::DType;

pub(super) fn quantize<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, params, axis) = scales(cx, node)?;
    let stated = node.int("output_dtype")?.and_then(|n| i32::try_from(n).ok()).filter(|n| *n != 0);
    let to = match (params.get(1), stated) {
        (Some(zero), _) => cx.dtype(*zero),
        (None, Some(number)) => {
            dtype::dtype(number).ok_or_else(|| node.wrong(format!("to {} is not read", dtype::name(number))))?
        }
        (None, None) => DType::U8,
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
    Ok((x, std::iter::once(scale).chain(cx.optional(node, 2)).collect(), axis))
}
