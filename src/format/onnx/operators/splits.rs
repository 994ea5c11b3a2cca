//! What works along one axis: joining, splitting, slicing and padding.

use super::{Result, axes, axis};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{Concat, Fill, Op, Pad, Reverse, Slice, Split};

pub(super) fn concat<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let inputs = cx.inputs(node)?;
    let along = axis(node, node.int("axis")?.unwrap_or(1), cx.rank(inputs[0]))?;
    let y = match inputs[..] {
        [one] => one,
        _ => cx.op(Op::Concat(Concat { axis: along }), &inputs, &[])?,
    };
    cx.output(node, 0, y)
}

/// The most parts that something is split into.
const MAX_PARTS: usize = 1 << 16;

pub(super) fn split<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let sequence = node.op() == "SplitToSequence";
    let along = axis(node, node.int("axis")?.unwrap_or(0), cx.rank(x))?;
    let size = cx.shape(x)[along];
    let given = cx.ints_or(node, 1, "split")?;
    let sizes: Vec<usize> = match given {
        // One number says how large the parts of a sequence are.
        Some(one) if sequence && one.len() == 1 => parts(node, size, one[0])?,
        Some(all) => {
            few(node, all.len())?;
            let size = |n: &i64| usize::try_from(*n).map_err(|_| node.wrong(format!("a part of {n} places")));
            all.iter().map(size).collect::<Result<_>>()?
        }
        None if sequence => parts(node, size, 1)?,
        None => {
            let count = node.int("num_outputs")?.unwrap_or(node.proto.output.len() as i64);
            let part = usize::try_from(count).ok().filter(|n| *n > 0).map(|n| size.div_ceil(n));
            let part = part.ok_or_else(|| node.wrong(format!("num_outputs is {count}")))?;
            let parts = (0..count as usize).map(|i| part.min(size.saturating_sub(i * part)));
            if count as usize != node.proto.output.len() {
                return Err(node.wrong(format!("it has {} outputs for {count} parts", node.proto.output.len())));
            }
            parts.collect()
        }
    };
    let parts = match sizes.len() {
        1 if sizes[0] == size => vec![x],
        _ => {
            let sizes = sizes.iter().map(|n| (*n).into()).collect();
            cx.ops(Op::Split(Split { axis: along, sizes }), &[x], &[])?
        }
    };
    if sequence {
        let keep = node.flag("keepdims", true)? || cx.optional(node, 1).is_some();
        let mut sequence = Vec::with_capacity(parts.len());
        for part in parts {
            let mut shape = cx.shape(part);
            if !keep {
                shape.remove(along);
            }
            sequence.push(cx.reshaped(part, &shape)?);
        }
        return cx.sequence(node, sequence);
    }
    if parts.len() != node.proto.output.len() {
        return Err(node.wrong(format!("it has {} outputs for {} parts", node.proto.output.len(), parts.len())));
    }
    for (index, part) in parts.into_iter().enumerate() {
        cx.output(node, index, part)?;
    }
    Ok(())
}

/// Parts of `part` places, the last one smaller.
fn parts(node: &Node<'_>, size: usize, part: i64) -> Result<Vec<usize>> {
    let part = usize::try_from(part).ok().filter(|n| *n > 0);
    let part = part.ok_or_else(|| node.wrong("a part of no places"))?;
    few(node, size.div_ceil(part))?;
    Ok((0..size.div_ceil(part)).map(|i| part.min(size - i * part)).collect())
}

fn few(node: &Node<'_>, parts: usize) -> Result {
    match parts {
        0..=MAX_PARTS => Ok(()),
        _ => Err(node.wrong(format!("{parts} parts, at most {MAX_PARTS} are read"))),
    }
}

pub(super) fn sequence_at<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let place = cx.input(node, 1)?;
    let place = cx.int(node, place, "place")?;
    let parts = cx.parts(node)?;
    let part = parts[axis(node, place, parts.len())?];
    cx.output(node, 0, part)
}

/// Starts and ends are attributes in older versions. Several axes are sliced one after the other; a step below 0 is the
/// axis backwards.
pub(super) fn slice<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let mut y = cx.input(node, 0)?;
    let missing = |what: &str| node.wrong(format!("its {what} are missing"));
    let starts = cx.ints_or(node, 1, "starts")?.ok_or_else(|| missing("starts"))?;
    let ends = cx.ints_or(node, 2, "ends")?.ok_or_else(|| missing("ends"))?;
    let along = cx.ints_or(node, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match cx.optional(node, 4) {
        Some(steps) => cx.ints(node, steps, "steps")?,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || along.len() != starts.len() || steps.len() != starts.len() {
        return Err(node.wrong("its starts, ends, axes and steps are not equally many"));
    }
    axes(node, &along, cx.rank(y))?;
    for place in 0..starts.len() {
        let axis = axis(node, along[place], cx.rank(y))?;
        y = slice_one(cx, node, y, axis, [starts[place], ends[place], steps[place]])?;
    }
    cx.output(node, 0, y)
}

fn slice_one(
    cx: &mut Trace<'_>,
    node: &Node<'_>,
    x: Handle,
    axis: usize,
    [start, end, step]: [i64; 3],
) -> Result<Handle> {
    let n = cx.shape(x)[axis] as i64;
    let from_end = |place: i64| if place < 0 { place.saturating_add(n) } else { place };
    if step == 0 {
        return Err(node.wrong("a step of 0"));
    }
    // The places as an ascending range, and whether they are read backwards.
    let (start, end) = match step > 0 {
        true => (from_end(start).clamp(0, n), from_end(end).clamp(0, n)),
        false => {
            let (first, limit) = (from_end(start).clamp(-1, n - 1), from_end(end).clamp(-1, n - 1));
            let count = (first - limit).max(0) as u64;
            let count = count.div_ceil(step.unsigned_abs()) as i64;
            let last = first - (count - 1).max(0) * step.saturating_abs();
            if count == 0 { (0, 0) } else { (last, first + 1) }
        }
    };
    let (start, end) = (start as usize, end.max(start) as usize);
    let step_size = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    let mut y = x;
    if (start, end, step_size) != (0, n as usize, 1) {
        y = cx.op(Op::Slice(Slice::places(axis, start, end, step_size)), &[y], &[])?;
    }
    if step < 0 {
        y = cx.op(Op::Reverse(Reverse { axis }), &[y], &[])?;
    }
    Ok(y)
}

/// Pads are an attribute in older versions. One below 0 cuts.
pub(super) fn pad<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let mut y = cx.input(node, 0)?;
    let rank = cx.rank(y);
    let pads = match node.ints("paddings")? {
        Some(pads) => pads,
        None => cx.ints_or(node, 1, "pads")?.ok_or_else(|| node.wrong("its pads are missing"))?,
    };
    let along = match cx.optional(node, 3) {
        Some(axes) => cx.ints(node, axes, "axes")?,
        None => (0..rank as i64).collect(),
    };
    axes(node, &along, rank)?;
    if pads.len() != 2 * along.len() {
        return Err(node.wrong(format!("it has {} pads for {} axes", pads.len(), along.len())));
    }
    let fill = match node.text("mode")?.as_deref() {
        None | Some("constant") => match cx.optional(node, 2) {
            Some(value) => Fill::Value(cx.decimal(node, value, "value")?),
            None => Fill::Value(node.float("value")?.unwrap_or(0.0)),
        },
        Some("reflect") => Fill::Reflect,
        Some("edge") => Fill::Edge,
        Some("wrap") => Fill::Wrap,
        Some(other) => return Err(node.wrong(format!("mode '{other}' is not read"))),
    };
    for (place, given) in along.iter().enumerate() {
        let axis = axis(node, *given, rank)?;
        let [before, after] = [pads[place], pads[place + along.len()]];
        if before < 0 || after < 0 {
            let n = cx.shape(y)[axis] as i64;
            let end = n.saturating_add(after.min(0)).max(0);
            y = slice_one(cx, node, y, axis, [before.min(0).saturating_neg(), end, 1])?;
        }
        let [before, after] = [before, after].map(|n| usize::try_from(n).unwrap_or(0));
        if before + after > 0 {
            y = cx.op(Op::Pad(Pad { axis, before, after, fill }), &[y], &[])?;
        }
    }
    cx.output(node, 0, y)
}

pub(super) fn write_slice(w: &mut Writer<'_>, node: &graph::Node, config: &Slice) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let (start, end) = (w.shape(&[config.start]), w.shape(&[config.end]));
    let (axis, step) = (w.integers(&[config.axis as i64]), w.integers(&[config.step as i64]));
    Some(w.last(node, "Slice", &[&x, &start, &end, &axis, &step], Vec::new()))
}

pub(super) fn write_reverse(w: &mut Writer<'_>, node: &graph::Node, config: &Reverse) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let (start, end, axis) = (w.integers(&[-1]), w.integers(&[i64::MIN]), w.integers(&[config.axis as i64]));
    Some(w.last(node, "Slice", &[&x, &start, &end, &axis, &start], Vec::new()))
}

pub(super) fn write_split(w: &mut Writer<'_>, node: &graph::Node, config: &Split) -> Option<Vec<String>> {
    let (x, sizes) = (w.input(node, 0), w.shape(&config.sizes));
    Some(w.last(node, "Split", &[&x, &sizes], vec![("axis", config.axis.into())]))
}

/// From the other end: the parts of the axis are put side by side, as the mode came later than what is written.
pub(super) fn write_pad(w: &mut Writer<'_>, node: &graph::Node, config: &Pad) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let ty = &w.value(node, 0).ty;
    let mut pads = vec![0; 2 * ty.shape.len()];
    pads[config.axis] = config.before as i64;
    pads[config.axis + ty.shape.len()] = config.after as i64;
    let dtype = w.format(ty.dtype);
    let mode = match config.fill {
        Fill::Value(value) => {
            let (pads, value) = (w.integers(&pads), w.scalar(value, dtype));
            return Some(w.last(node, "Pad", &[&x, &pads, &value], vec![("mode", "constant".into())]));
        }
        Fill::Reflect => "reflect",
        Fill::Edge => "edge",
        Fill::Wrap => return write_wrap(w, node, config, &x),
    };
    let pads = w.integers(&pads);
    Some(w.last(node, "Pad", &[&x, &pads], vec![("mode", mode.into())]))
}

fn write_wrap(w: &mut Writer<'_>, node: &graph::Node, config: &Pad, x: &str) -> Option<Vec<String>> {
    let size = w.value(node, 0).shape()[config.axis].fixed()?;
    if config.before > size || config.after > size {
        return None;
    }
    let axis = w.integers(&[config.axis as i64]);
    let mut parts = Vec::new();
    for (start, end) in [(size - config.before, size), (0, size), (0, config.after)] {
        if (start, end) == (0, size) {
            parts.push(x.to_string());
        } else if end > start {
            let (start, end) = (w.integers(&[start as i64]), w.integers(&[end as i64]));
            parts.push(w.part("Slice", &[x, &start, &end, &axis], Vec::new()));
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(w.last(node, "Concat", &parts, vec![("axis", config.axis.into())]))
}
