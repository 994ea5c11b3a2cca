//! Shapes, and constants.

use super::{Result, axes, axis};
use crate::format::onnx::External;
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace, integers};
use crate::format::onnx::tensor;
use crate::graph;
use crate::graph::Dim;
use crate::graph::op::{
    Binary, Count, DepthToSpace, Expand, Op, Reduce, Reduction, Reshape, SpaceToDepth, Tile, Transpose, Trilu,
};
use crate::tensor::{DType, TensorData};

pub(super) fn constant<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let bad = |error: crate::tensor::TensorError| node.wrong(error.to_string());
    let scalar_or_list = |shape: Option<usize>| shape.map_or(Vec::new(), |n| vec![n]);
    let data = if let Some(tensor) = node.tensor("value")? {
        // What a constant says lies in the model: no file is named for it.
        tensor::read(node.label, tensor, &mut External::default())?
    } else if let Some(i) = node.int("value_int")? {
        TensorData::new(DType::I64, vec![], i.to_le_bytes().to_vec()).map_err(bad)?
    } else if let Some(all) = node.ints("value_ints")? {
        integers(&all)
    } else if let Some(f) = node.float("value_float")? {
        TensorData::from_f32(scalar_or_list(None), &[f as f32]).map_err(bad)?
    } else if let Some(all) = node.floats("value_floats")? {
        let all: Vec<f32> = all.iter().map(|f| *f as f32).collect();
        TensorData::from_f32(scalar_or_list(Some(all.len())), &all).map_err(bad)?
    } else {
        return Err(node.wrong("it has no value that is read"));
    };
    // Exporters write parameters as initializers; what a node says is part of the structure.
    let value = cx.literal(data);
    cx.output(node, 0, value)
}

pub(super) fn constant_of_shape<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let shape = cx.input(node, 0)?;
    let shape = sizes(node, &cx.ints(node, shape, "shape")?)?;
    let value = match node.tensor("value")? {
        Some(value) => tensor::read(node.label, value, &mut External::default())?,
        None => TensorData::zeros(vec![1]).map_err(|error| node.wrong(error.to_string()))?,
    };
    if value.elements() != 1 {
        return Err(node.wrong(format!("its value has {} numbers, not one", value.elements())));
    }
    let value = cx.literal(value);
    let value = cx.reshaped(value, &[])?;
    let y = cx.op(Op::Expand(Expand { shape }), &[value], &[])?;
    cx.output(node, 0, y)
}

/// Sizes of axes from numbers of the file.
fn sizes(node: &Node<'_>, numbers: &[i64]) -> Result<Vec<Dim>> {
    if numbers.len() > tensor::MAX_RANK {
        return Err(node.wrong(format!("a shape of {} axes", numbers.len())));
    }
    let size = |n: &i64| usize::try_from(*n).ok().filter(|n| *n as i64 <= tensor::MAX_DIM).map(Dim::Fixed);
    numbers.iter().map(|n| size(n).ok_or_else(|| node.wrong(format!("an axis of {n} places")))).collect()
}

pub(super) fn shape<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let rank = cx.rank(x) as i64;
    let place = |place: i64| (if place < 0 { place.saturating_add(rank) } else { place }).clamp(0, rank) as usize;
    let start = place(node.int("start")?.unwrap_or(0));
    let end = place(node.int("end")?.unwrap_or(rank)).max(start);
    let all = cx.op(Op::Shape, &[x], &[])?;
    let y = match end - start == rank as usize {
        true => all,
        false => cx.op(Op::Slice(crate::graph::op::Slice::places(0, start, end, 1)), &[all], &[])?,
    };
    cx.output(node, 0, y)
}

pub(super) fn size<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let all = cx.op(Op::Shape, &[x], &[])?;
    let y = cx.op(Op::Reduce(Reduce { of: Reduction::Prod, axes: vec![0], keep: false }), &[all], &[])?;
    cx.output(node, 0, y)
}

/// `start, start + delta, ...` below `limit`: our own counts from 0, the rest is arithmetic.
pub(super) fn range<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (start, limit, delta) = (cx.input(node, 0)?, cx.input(node, 1)?, cx.input(node, 2)?);
    let (from, to) = (cx.number(node, start, "start")?, cx.number(node, limit, "limit")?);
    let by = cx.number(node, delta, "delta")?;
    let count = ((to - from) / by).ceil().max(0.0);
    if count.is_nan() || count > tensor::MAX_DIM as f64 {
        return Err(node.wrong(format!("from {from} to {to} by {by} is no range")));
    }
    let dtype = cx.dtype(start);
    let mut y = cx.op(Op::Range(Count { count: Dim::Fixed(count as usize) }), &[], &[])?;
    if dtype != DType::I64 {
        y = cx.op(Op::Cast(crate::graph::op::Cast { to: dtype }), &[y], &[])?;
    }
    if by != 1.0 {
        let delta = cx.reshaped(delta, &[])?;
        y = cx.op(Op::Binary(Binary::Mul), &[y, delta], &[])?;
    }
    if from != 0.0 {
        let start = cx.reshaped(start, &[])?;
        y = cx.op(Op::ADD, &[y, start], &[])?;
    }
    cx.output(node, 0, y)
}

/// 0 is the size of the input's axis, -1 what is left.
pub(super) fn reshape_target(node: &Node<'_>, from: &[usize], wished: &[i64]) -> Result<Vec<usize>> {
    if wished.len() > tensor::MAX_RANK {
        return Err(node.wrong(format!("a shape of {} axes", wished.len())));
    }
    let copies = !node.flag("allowzero", false)?;
    let mut open = None;
    let mut shape = Vec::with_capacity(wished.len());
    for (place, n) in wished.iter().enumerate() {
        shape.push(match *n {
            0 if copies => {
                *from.get(place).ok_or_else(|| node.wrong(format!("axis {place} of {from:?} is not there")))?
            }
            -1 if open.is_none() => {
                open = Some(place);
                1
            }
            -1 => return Err(node.wrong(format!("{wished:?} has two open axes"))),
            n => usize::try_from(n)
                .ok()
                .filter(|n| *n as i64 <= tensor::MAX_DIM)
                .ok_or_else(|| node.wrong(format!("an axis of {n} places")))?,
        });
    }
    if let Some(place) = open {
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        let (whole, rest) = (product(from), product(&shape));
        let left = whole.zip(rest).filter(|(whole, rest)| *rest > 0 && whole.is_multiple_of(*rest));
        let (whole, rest) = left.ok_or_else(|| node.wrong(format!("{from:?} does not become {wished:?}")))?;
        shape[place] = whole / rest;
    }
    Ok(shape)
}

pub(super) fn reshape_to(cx: &mut Trace<'_>, x: Handle, mut to: Vec<usize>) -> Result<Handle> {
    let from = cx.shape(x);
    // A batch of one that the file fixes here, too.
    if let (Some(freed), Some(first)) = (cx.freed(), to.first_mut())
        && *first == freed.from
    {
        let product = |sizes: &[usize]| sizes.iter().copied().map(|n| n as u128).product::<u128>();
        if product(&from) == product(&[&[freed.to], &to[1..]].concat()) && product(&from) != product(&to) {
            to[0] = freed.to;
        }
    }
    let flat = |to: &[usize]| to.len() == 2 && from.len() >= 2 && to[0] == from[0];
    let op = if flat(&to) { Op::Flatten } else { super::reshape(&to) };
    if op == Op::Flatten && from[1..].iter().copied().product::<usize>() != to[1] {
        return cx.op(super::reshape(&to), &[x], &[]);
    }
    cx.op(op, &[x], &[])
}

pub(super) fn reshape<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let wished = match cx.optional(node, 1) {
        Some(shape) => cx.ints(node, shape, "shape")?,
        None => node.ints("shape")?.ok_or_else(|| node.wrong("its shape is missing"))?,
    };
    let to = reshape_target(node, &cx.shape(x), &wished)?;
    let y = reshape_to(cx, x, to)?;
    cx.output(node, 0, y)
}

pub(super) fn flatten<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let (shape, rank) = (cx.shape(x), cx.rank(x));
    let given = node.int("axis")?.unwrap_or(1);
    let first = if given == rank as i64 { rank } else { axis(node, given, rank)? };
    let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    let (Some(rows), Some(columns)) = (product(&shape[..first]), product(&shape[first..])) else {
        return Err(node.wrong("its result is too large"));
    };
    let y = match first == 1 && rank >= 1 {
        true => cx.op(Op::Flatten, &[x], &[])?,
        false => cx.op(super::reshape(&[rows, columns]), &[x], &[])?,
    };
    cx.output(node, 0, y)
}

pub(super) fn squeeze<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let shape = cx.shape(x);
    let gone = match cx.ints_or(node, 1, "axes")? {
        Some(given) => axes(node, &given, shape.len())?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    if let Some(axis) = gone.iter().find(|axis| shape[**axis] != 1) {
        return Err(node.wrong(format!("axis {axis} of {shape:?} has more than one place")));
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|axis| !gone.contains(axis)).map(|axis| shape[axis]).collect();
    let y = cx.reshaped(x, &kept)?;
    cx.output(node, 0, y)
}

pub(super) fn unsqueeze<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let shape = cx.shape(x);
    let given = cx.ints_or(node, 1, "axes")?.ok_or_else(|| node.wrong("its axes are missing"))?;
    if given.len() > tensor::MAX_RANK {
        return Err(node.wrong(format!("{} axes are too many", given.len())));
    }
    let new = axes(node, &given, shape.len() + given.len())?;
    let mut old = shape.iter();
    let wide: Vec<usize> = (0..shape.len() + new.len())
        .map(|axis| if new.contains(&axis) { 1 } else { old.next().copied().unwrap_or(1) })
        .collect();
    let y = cx.reshaped(x, &wide)?;
    cx.output(node, 0, y)
}

pub(super) fn transpose<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let rank = cx.rank(x);
    let order = match node.ints("perm")? {
        Some(given) => given.iter().map(|a| axis(node, *a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    let y = match order.iter().copied().eq(0..rank) {
        true => x,
        false => cx.op(Op::Transpose(Transpose { axes: order }), &[x], &[])?,
    };
    cx.output(node, 0, y)
}

/// The wished shape is itself broadcast with the input's.
pub(super) fn expand<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, wished) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let wished = sizes(node, &cx.ints(node, wished, "shape")?)?;
    let shape = crate::graph::op::broadcast(&cx.ty(x).shape, &wished);
    let shape = shape.ok_or_else(|| node.wrong(format!("{} does not expand to {wished:?}", cx.ty(x))))?;
    let y = if shape == cx.ty(x).shape { x } else { cx.op(Op::Expand(Expand { shape }), &[x], &[])? };
    cx.output(node, 0, y)
}

pub(super) fn tile<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, repeats) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let repeats = sizes(node, &cx.ints(node, repeats, "repeats")?)?;
    let y = cx.op(Op::Tile(Tile { repeats }), &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn depth<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let block = node.int("blocksize")?.and_then(|n| usize::try_from(n).ok());
    let block = block.ok_or_else(|| node.wrong("blocksize is missing or below 0"))?;
    let channel_first = match node.text("mode")?.as_deref() {
        None | Some("DCR") => false,
        Some("CRD") => true,
        Some(other) => return Err(node.wrong(format!("mode '{other}' is not read"))),
    };
    let op = match node.op() {
        "DepthToSpace" => Op::DepthToSpace(DepthToSpace { block, channel_first }),
        _ => Op::SpaceToDepth(SpaceToDepth { block, channel_first }),
    };
    let y = cx.op(op, &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn trilu<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let diagonal = match cx.optional(node, 1) {
        Some(k) => cx.int(node, k, "diagonal")?,
        None => 0,
    };
    let upper = node.flag("upper", true)?;
    let y = cx.op(Op::Trilu(Trilu { upper, diagonal }), &[x], &[])?;
    cx.output(node, 0, y)
}

/// 0 stands for the input's size and -1 for what is left, so that a shape with one open size needs no computation.
pub(super) fn write_reshape(w: &mut Writer<'_>, node: &graph::Node, config: &Reshape) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let from = w.value(node, 0).shape();
    let mut left = 1;
    let no_zero = !config.shape.contains(&Dim::Fixed(0)) && !from.contains(&Dim::Fixed(0));
    let short: Option<Vec<i64>> = config
        .shape
        .iter()
        .enumerate()
        .map(|(place, dim)| match dim {
            Dim::Fixed(n) => Some(*n as i64),
            open if from.get(place) == Some(open) => Some(0),
            _ => {
                left -= 1;
                (left >= 0).then_some(-1)
            }
        })
        .collect();
    let all_zero = if no_zero { Vec::new() } else { vec![("allowzero", true.into())] };
    let shape = match short.filter(|_| no_zero) {
        Some(short) => w.integers(&short),
        None => w.shape(&config.shape),
    };
    Some(w.last(node, "Reshape", &[&x, &shape], all_zero))
}

pub(super) fn write_depth(w: &mut Writer<'_>, node: &graph::Node, config: &DepthToSpace) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let mode = if config.channel_first { "CRD" } else { "DCR" };
    Some(w.last(node, "DepthToSpace", &[&x], vec![("blocksize", config.block.into()), ("mode", mode.into())]))
}

/// With the channel first the operator came later than the version that is written.
pub(super) fn write_space(w: &mut Writer<'_>, node: &graph::Node, config: &SpaceToDepth) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    if !config.channel_first {
        return Some(w.last(node, "SpaceToDepth", &[&x], vec![("blocksize", config.block.into())]));
    }
    let [n, c, h, width] = w.value(node, 0).shape()[..] else { return None };
    let block = Dim::Fixed(config.block);
    let (h, width) = (h.divided_by(block)?, width.divided_by(block)?);
    let blocks = w.shape(&[n, c, h, block, width, block]);
    let blocks = w.part("Reshape", &[&x, &blocks], Vec::new());
    let turned = w.part("Transpose", &[&blocks], vec![("perm", [0, 1, 3, 5, 2, 4].as_slice().into())]);
    let shape = w.shape(&[n, c.times(block.times(block)?)?, h, width]);
    Some(w.last(node, "Reshape", &[&turned, &shape], Vec::new()))
}

pub(super) fn write_range(w: &mut Writer<'_>, node: &graph::Node, config: &Count) -> Option<Vec<String>> {
    let (zero, one, count) = (w.integer(0), w.integer(1), w.shape(&[config.count]));
    let scalar = w.integers(&[]);
    let count = w.part("Reshape", &[&count, &scalar], Vec::new());
    Some(w.last(node, "Range", &[&zero, &count, &one], Vec::new()))
}
