//! What looks things up.

use super::{Result, axis};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{Cast, Gather, GatherElements, GatherNd, Op, Select};
use crate::tensor::DType;

/// A table of constants that is looked up by rows is an embedding; one known place of an axis is a selection.
pub(super) fn gather<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, places) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let along = axis(node, node.int("axis")?.unwrap_or(0), cx.rank(x))?;
    let is_table = cx.is_constant(x)
        && !cx.is_constant(places)
        && along == 0
        && cx.rank(x) == 2
        && cx.dtype(x) == DType::F32
        && cx.shape(x).iter().all(|n| *n > 1);
    let y = if is_table {
        cx.op(Op::Embedding, &[places], &[x])?
    } else if cx.rank(places) == 0 && cx.is_constant(places) {
        let index = cx.int(node, places, "place")?;
        cx.op(Op::Select(Select { axis: along, index }), &[x], &[])?
    } else {
        cx.op(Op::Gather(Gather { axis: along }), &[x, places], &[])?
    };
    cx.output(node, 0, y)
}

pub(super) fn gather_elements<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, places) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let axis = axis(node, node.int("axis")?.unwrap_or(0), cx.rank(x))?;
    let places = whole(cx, places)?;
    let y = cx.op(Op::GatherElements(GatherElements { axis }), &[x, places], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn gather_nd<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, places) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let batch_axes = node.int("batch_dims")?.unwrap_or(0);
    let batch_axes = usize::try_from(batch_axes).map_err(|_| node.wrong(format!("batch_dims is {batch_axes}")))?;
    let places = whole(cx, places)?;
    let y = cx.op(Op::GatherNd(GatherNd { batch_axes }), &[x, places], &[])?;
    cx.output(node, 0, y)
}

/// Places as 64-bit numbers.
fn whole(cx: &mut Trace<'_>, places: Handle) -> Result<Handle> {
    match cx.dtype(places) {
        DType::I64 | DType::I32 => Ok(places),
        _ => cx.op(Op::Cast(Cast { to: DType::I64 }), &[places], &[]),
    }
}

pub(super) fn write_embedding(w: &mut Writer<'_>, node: &graph::Node) -> Option<Vec<String>> {
    let (places, table) = (w.input(node, 0), w.param(node, 0)?);
    Some(w.last(node, "Gather", &[&table, &places], vec![("axis", 0i64.into())]))
}

pub(super) fn write_select(w: &mut Writer<'_>, node: &graph::Node, config: &Select) -> Option<Vec<String>> {
    let (x, place) = (w.input(node, 0), w.integer(config.index));
    Some(w.last(node, "Gather", &[&x, &place], vec![("axis", config.axis.into())]))
}
