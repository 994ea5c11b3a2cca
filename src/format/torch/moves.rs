//! What moves elements and computes nothing.

use super::Writer;
use super::parts::Part;
use super::text::{listed, number_of, size, tuple};
use crate::graph::op::{Fill, Op, Pad, Place, ResizeNearest, Rounding};
use crate::graph::{Dim, Node};
use crate::tensor::DType;

/// The expression of such an operator; `None` for others.
pub(super) fn write(w: &mut Writer<'_>, node: &Node) -> Option<String> {
    if let Op::Range(c) = &node.op {
        let (count, device) = (size(c.count, &mut w.sizes), w.names.value(*w.graph.inputs().first()?));
        return Some(format!("torch.arange({count}, device={device}.device)"));
    }
    if node.inputs.is_empty() {
        return None;
    }
    let x = w.input(node, 0);
    Some(match &node.op {
        Op::Reshape(c) => format!("{x}.reshape({})", w.shape(&c.shape)),
        Op::Flatten if w.rank(node) == 1 => format!("{x}.unsqueeze(1)"),
        Op::Flatten => format!("{x}.flatten(1)"),
        Op::Transpose(c) => format!("{x}.permute({})", tuple(&c.axes)),
        Op::Expand(c) => format!("{x}.expand({})", w.shape(&c.shape)),
        Op::Tile(c) => format!("{x}.repeat({})", w.shape(&c.repeats)),
        Op::DepthToSpace(c) if c.channel_first => format!("F.pixel_shuffle({x}, {})", c.block),
        Op::DepthToSpace(c) => {
            let block = c.block;
            format!("{x}.unflatten(1, ({block}, {block}, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)")
        }
        Op::SpaceToDepth(c) if c.channel_first => format!("F.pixel_unshuffle({x}, {})", c.block),
        Op::SpaceToDepth(c) => {
            let block = c.block;
            format!(
                "{x}.unflatten(3, (-1, {block})).unflatten(2, (-1, {block})).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)"
            )
        }
        Op::Pad(c) => pad(w, node, c),
        Op::Slice(c) => {
            let (start, end) = (size(c.start, &mut w.sizes), size(c.end, &mut w.sizes));
            let step = if c.step == 1 { String::new() } else { format!(":{}", c.step) };
            indexed(&x, c.axis, &format!("{start}:{end}{step}"))
        }
        Op::Reverse(c) => format!("{x}.flip({})", c.axis),
        Op::Concat(c) => {
            let all: Vec<String> = (0..node.inputs.len()).map(|index| w.input(node, index)).collect();
            format!("torch.cat({}, {})", listed(&all), c.axis)
        }
        Op::Split(c) => format!("{x}.split({}, {})", w.shape(&c.sizes), c.axis),
        Op::Trilu(c) => format!("{x}.{}({})", if c.upper { "triu" } else { "tril" }, c.diagonal),
        Op::Gather(c) => indexed(&x, c.axis, &w.input(node, 1)),
        Op::Select(c) => format!("{x}.select({}, {})", c.axis, c.index),
        Op::GatherElements(c) => {
            // A place below 0 counts from the end.
            let (places, axis) = (w.input(node, 1), c.axis);
            format!("{x}.gather({axis}, {places}.long() % {x}.shape[{axis}])")
        }
        Op::GatherNd(c) => {
            w.parts.insert(Part::GatherNd);
            format!("gather_nd({x}, {}, {})", w.input(node, 1), c.batch_axes)
        }
        Op::ResizeNearest(c) => resize(w, node, c)?,
        Op::Shape => format!("torch.tensor({x}.shape, device={x}.device)"),
        _ => return None,
    })
}

/// `x[:, :, places]`.
fn indexed(x: &str, axis: usize, places: &str) -> String {
    format!("{x}[{}{places}]", ":, ".repeat(axis))
}

fn pad(w: &mut Writer<'_>, node: &Node, config: &Pad) -> String {
    let Pad { axis, before, after, fill } = *config;
    let x = w.input(node, 0);
    let way = match fill {
        Fill::Value(value) => {
            let mut around = vec![0; 2 * (w.rank(node) - 1 - axis)];
            around.extend([before, after]);
            let value = match w.dtype(node, 0) {
                DType::Bool => if value == 0.0 { "False" } else { "True" }.to_string(),
                dtype => number_of(value, dtype),
            };
            return format!("F.pad({x}, {}, value={value})", tuple(&around));
        }
        Fill::Reflect => "reflect",
        Fill::Edge => "edge",
        Fill::Wrap => "wrap",
    };
    w.parts.insert(Part::Around);
    format!("around({x}, {axis}, {before}, {after}, \"{way}\")")
}

/// By PyTorch's own function where that finds the same places, else by the places themselves.
fn resize(w: &Writer<'_>, node: &Node, config: &ResizeNearest) -> Option<String> {
    let (x, from) = (w.input(node, 0), w.graph.value(node.inputs[0]).shape());
    let changed: Vec<usize> = (0..from.len()).filter(|axis| from[*axis] != config.shape[*axis]).collect();
    let sizes = |axis: usize| Some((from[axis].fixed()?, config.shape[axis].fixed()?));
    let whole =
        |axis: usize| sizes(axis).is_some_and(|(from, to)| to % from == 0 && config.scales[axis] == (to / from) as f64);
    let plain = config.place == Place::Asymmetric && config.rounding == Rounding::Floor;
    if plain && from.len() == 4 && [2, 3].into_iter().all(whole) && changed.iter().all(|axis| *axis > 1) {
        let (height, width) = (config.shape[2].fixed()?, config.shape[3].fixed()?);
        return Some(format!("F.interpolate({x}, ({height}, {width}), mode=\"nearest\")"));
    }
    let mut y = x.clone();
    for axis in 0..from.len() {
        let (from, to) = match (from[axis], config.shape[axis]) {
            (Dim::Fixed(from), Dim::Fixed(to)) => (from, to),
            // What is open stays as it is, if its scale says so.
            _ if config.scales[axis] == 1.0 && !changed.contains(&axis) => continue,
            _ => return None,
        };
        let places: Vec<usize> = (0..to).map(|new| config.source(axis, new, from, to)).collect();
        if !places.iter().copied().eq(0..from) {
            let places: Vec<String> = places.iter().map(usize::to_string).collect();
            y = format!("{y}.index_select({axis}, torch.tensor([{}], device={x}.device))", places.join(", "));
        }
    }
    Some(y)
}
