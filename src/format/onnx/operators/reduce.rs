//! What runs over whole axes.

use super::{Result, axes, axis, reshape};
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::Trace;
use crate::graph::op::{ArgMax, CumSum, Op, Reduce, Reduction, Softmax};

/// Axes are an attribute in older versions. None means all, unless the node says that it means none.
pub(super) fn reduce<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let rank = cx.rank(x);
    let given = cx.ints_or(node, 1, "axes")?.unwrap_or_default();
    if given.is_empty() && node.flag("noop_with_empty_axes", false)? {
        return noop(cx, node);
    }
    let axes = if given.is_empty() { (0..rank).collect() } else { axes(node, &given, rank)? };
    let of = Reduction::ALL.iter().find(|of| of.op_name() == node.op()).copied();
    let of = of.ok_or_else(|| node.wrong("is not read"))?;
    let keep = node.flag("keepdims", true)?;
    let y = cx.op(Op::Reduce(Reduce { of, axes, keep }), &[x], &[])?;
    cx.output(node, 0, y)
}

/// Reducing over no axis: each element becomes what a sum of it alone would.
fn noop<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let of = Reduction::ALL.iter().find(|of| of.op_name() == node.op()).copied();
    let of = of.ok_or_else(|| node.wrong("is not read"))?;
    let y = match of {
        Reduction::Sum | Reduction::Mean | Reduction::Max | Reduction::Min | Reduction::Prod => x,
        _ => cx.op(Op::Reduce(Reduce { of, axes: Vec::new(), keep: true }), &[x], &[])?,
    };
    cx.output(node, 0, y)
}

pub(super) fn arg_max<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let config = ArgMax {
        axis: axis(node, node.int("axis")?.unwrap_or(0), cx.rank(x))?,
        keep: node.flag("keepdims", true)?,
        smallest: node.op() == "ArgMin",
        last: node.flag("select_last_index", false)?,
    };
    let y = cx.op(Op::ArgMax(config), &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn cum_sum<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, along) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let along = cx.int(node, along, "axis")?;
    let config = CumSum {
        axis: axis(node, along, cx.rank(x))?,
        exclusive: node.flag("exclusive", false)?,
        reverse: node.flag("reverse", false)?,
    };
    let y = cx.op(Op::CumSum(config), &[x], &[])?;
    cx.output(node, 0, y)
}

/// Before version 13 all axes from the given one on were taken together.
pub(super) fn softmax<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let (shape, rank) = (cx.shape(x), cx.rank(x));
    let along = axis(node, node.int("axis")?.unwrap_or(if node.opset < 13 { 1 } else { -1 }), rank)?;
    let op = |axis: usize| match node.op() {
        "Softmax" => Op::Softmax(Softmax { axis }),
        _ => Op::LogSoftmax(Softmax { axis }),
    };
    let y = if node.opset >= 13 || along + 1 == rank {
        cx.op(op(along), &[x], &[])?
    } else {
        let rows: usize = shape[..along].iter().product();
        let columns: usize = shape[along..].iter().product();
        let flat = cx.op(reshape(&[rows, columns]), &[x], &[])?;
        let y = cx.op(op(1), &[flat], &[])?;
        cx.op(reshape(&shape), &[y], &[])?
    };
    cx.output(node, 0, y)
}
