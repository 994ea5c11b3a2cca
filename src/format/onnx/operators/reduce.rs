//! What runs over whole axes.

use super::{Result, axes, axis, reshape};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::Trace;
use crate::graph;
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

/// Axes are an attribute in the version that is written, but for the sum's.
pub(super) fn write_reduce(w: &mut Writer<'_>, node: &graph::Node, config: &Reduce) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    if config.axes.is_empty() {
        return Some(write_each(w, node, &x, config.of));
    }
    let (op, keep) = (config.of.op_name(), ("keepdims", config.keep.into()));
    Some(match config.of {
        Reduction::Sum => {
            let axes: Vec<i64> = config.axes.iter().map(|axis| *axis as i64).collect();
            let axes = w.integers(&axes);
            w.last(node, op, &[&x, &axes], vec![keep])
        }
        _ => w.last(node, op, &[&x], vec![("axes", config.axes.as_slice().into()), keep]),
    })
}

/// Over no axis, each element is reduced alone.
fn write_each(w: &mut Writer<'_>, node: &graph::Node, x: &str, of: Reduction) -> Vec<String> {
    match of {
        Reduction::L1 | Reduction::L2 => w.last(node, "Abs", &[x], Vec::new()),
        Reduction::LogSum => w.last(node, "Log", &[x], Vec::new()),
        Reduction::SumSquare => w.last(node, "Mul", &[x, x], Vec::new()),
        _ => w.last(node, "Identity", &[x], Vec::new()),
    }
}

pub(super) fn write_arg_max(w: &mut Writer<'_>, node: &graph::Node, config: &ArgMax) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let attributes =
        vec![("axis", config.axis.into()), ("keepdims", config.keep.into()), ("select_last_index", config.last.into())];
    Some(w.last(node, if config.smallest { "ArgMin" } else { "ArgMax" }, &[&x], attributes))
}

pub(super) fn write_cum_sum(w: &mut Writer<'_>, node: &graph::Node, config: &CumSum) -> Option<Vec<String>> {
    let (x, axis) = (w.input(node, 0), w.integer(config.axis as i64));
    let attributes = vec![("exclusive", config.exclusive.into()), ("reverse", config.reverse.into())];
    Some(w.last(node, "CumSum", &[&x, &axis], attributes))
}
