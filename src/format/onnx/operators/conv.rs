//! Convolutions.

use super::Result;
use crate::format::onnx::export::writer::{Attribute, Attributes, Writer};
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{self, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Op};

/// Padding of each axis: before it, and after it.
type Pads = Vec<[usize; 2]>;

/// The numbers that windows of all kinds have, one an axis of the image.
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) stride: Vec<usize>,
    pub(super) dilation: Vec<usize>,
}

impl Window {
    /// Reads them; `kernel` is that of the weight, where there is one.
    pub(super) fn read(node: &Node<'_>, axes: usize, kernel: Option<&[usize]>) -> Result<Self> {
        let numbers = |name: &str, default: usize| match node.ints(name)? {
            Some(all) if all.len() == axes => all.iter().map(|n| size(node, name, *n)).collect(),
            Some(all) => Err(node.wrong(format!("{name} has {} numbers for {axes} axes", all.len()))),
            None => Ok(vec![default; axes]),
        };
        let stated = if node.has("kernel_shape") { Some(numbers("kernel_shape", 1)?) } else { None };
        let kernel = match (kernel, stated) {
            (Some(kernel), Some(stated)) if stated != kernel => {
                return Err(node.wrong(format!("kernel_shape is {stated:?}, the weight's is {kernel:?}")));
            }
            (Some(kernel), _) => kernel.to_vec(),
            (None, Some(stated)) => stated,
            (None, None) => return Err(node.wrong("kernel_shape is missing")),
        };
        let window = Self { kernel, stride: numbers("strides", 1)?, dilation: numbers("dilations", 1)? };
        let all = window.kernel.iter().chain(&window.stride).chain(&window.dilation);
        match all.clone().find(|n| **n == 0 || **n > 1 << 20) {
            Some(n) => Err(node.wrong(format!("its window has a size, stride or dilation of {n}"))),
            None => Ok(window),
        }
    }

    /// Pixels that the taps span along an axis.
    pub(super) fn reach(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// The padding for an image of these sizes.
    pub(super) fn pads(&self, node: &Node<'_>, image: &[usize]) -> Result<Pads> {
        match node.text("auto_pad")?.as_deref() {
            None | Some("NOTSET" | "") => pads(node, image.len()),
            Some("VALID") => Ok(vec![[0, 0]; image.len()]),
            Some(same @ ("SAME_UPPER" | "SAME_LOWER")) => Ok((0..image.len())
                .map(|axis| {
                    let places = image[axis].div_ceil(self.stride[axis]);
                    let reached = (places.max(1) - 1) * self.stride[axis] + self.reach(axis);
                    halves(reached.saturating_sub(image[axis]), same == "SAME_UPPER")
                })
                .collect()),
            Some(other) => Err(node.wrong(format!("auto_pad '{other}' is not read"))),
        }
    }
}

/// So much on both sides, an odd one at the end or at the beginning.
fn halves(total: usize, at_the_end: bool) -> [usize; 2] {
    let (small, large) = (total / 2, total - total / 2);
    if at_the_end { [small, large] } else { [large, small] }
}

/// The attribute `pads`: all beginnings, then all ends.
pub(super) fn pads(node: &Node<'_>, axes: usize) -> Result<Pads> {
    let Some(all) = node.ints("pads")? else { return Ok(vec![[0, 0]; axes]) };
    if all.len() != 2 * axes {
        return Err(node.wrong(format!("pads has {} numbers for {axes} axes", all.len())));
    }
    (0..axes).map(|axis| Ok([size(node, "pads", all[axis])?, size(node, "pads", all[axis + axes])?])).collect()
}

fn size(node: &Node<'_>, name: &str, n: i64) -> Result<usize> {
    usize::try_from(n).ok().filter(|n| *n <= 1 << 20).ok_or_else(|| node.wrong(format!("{name} has the number {n}")))
}

/// What the weight, the image and the padding of two axes are in our order.
fn four(pads: &Pads) -> [usize; 4] {
    [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
}

fn groups(node: &Node<'_>) -> Result<usize> {
    let groups = node.int("group")?.unwrap_or(1);
    usize::try_from(groups).map_err(|_| node.wrong(format!("group is {groups}")))
}

/// The sizes after the first two axes of an image and a weight that go together.
fn images(cx: &Trace<'_>, node: &Node<'_>, x: Handle, weight: Handle) -> Result<(Vec<usize>, Vec<usize>)> {
    let (x, weight) = (cx.shape(x), cx.shape(weight));
    if x.len() != weight.len() || !(3..=4).contains(&x.len()) {
        let problem = format!("it wants images or sequences and a weight alike, has {x:?} and {weight:?}");
        return Err(node.wrong(problem));
    }
    Ok((x[2..].to_vec(), weight[2..].to_vec()))
}

/// The weight and, where there is one, the bias, which must be constants.
fn params(cx: &Trace<'_>, node: &Node<'_>, weight: Handle) -> Vec<Handle> {
    std::iter::once(weight).chain(cx.optional(node, 2)).collect()
}

pub(super) fn conv<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, weight) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let (image, kernel) = images(cx, node, x, weight)?;
    let window = Window::read(node, image.len(), Some(&kernel))?;
    let (pads, groups) = (window.pads(node, &image)?, groups(node)?);
    let op = match image.len() {
        1 => Op::Conv1d(Conv1d { stride: window.stride[0], padding: pads[0], dilation: window.dilation[0], groups }),
        _ => Op::Conv2d(Conv2d {
            stride: [window.stride[0], window.stride[1]],
            padding: four(&pads),
            dilation: [window.dilation[0], window.dilation[1]],
            groups,
        }),
    };
    let params = params(cx, node, weight);
    let y = cx.op(op, &[x], &params)?;
    cx.output(node, 0, y)
}

pub(super) fn conv_transpose<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, weight) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let (image, kernel) = images(cx, node, x, weight)?;
    let axes = image.len();
    let window = Window::read(node, axes, Some(&kernel))?;
    let list = |name: &str| -> Result<Option<Vec<usize>>> {
        let all = node.ints(name)?.map(|all| all.iter().map(|n| size(node, name, *n)).collect::<Result<Vec<_>>>());
        let all = all.transpose()?;
        match &all {
            Some(all) if all.len() != axes => {
                Err(node.wrong(format!("{name} has {} numbers for {axes} axes", all.len())))
            }
            _ => Ok(all),
        }
    };
    let mut more = list("output_padding")?.unwrap_or_else(|| vec![0; axes]);
    let auto_pad = node.text("auto_pad")?.unwrap_or_default();
    let wished = match (list("output_shape")?, auto_pad.as_str()) {
        (Some(shape), _) => Some(shape),
        (None, "SAME_UPPER" | "SAME_LOWER") => Some((0..axes).map(|axis| image[axis] * window.stride[axis]).collect()),
        _ => None,
    };
    let pads = match wished {
        None if auto_pad == "VALID" => vec![[0, 0]; axes],
        None => pads(node, axes)?,
        Some(wished) => (0..axes)
            .map(|axis| {
                let whole = window.stride[axis] * (image[axis].max(1) - 1) + more[axis] + window.reach(axis);
                match whole.checked_sub(wished[axis]) {
                    Some(total) => Ok(halves(total, auto_pad != "SAME_LOWER")),
                    // What is wished is larger than what there is: the rest is added at the end.
                    None => {
                        more[axis] += wished[axis] - whole;
                        Ok([0, 0])
                    }
                }
            })
            .collect::<Result<_>>()?,
    };
    let groups = groups(node)?;
    let op = match axes {
        1 => Op::ConvTranspose1d(ConvTranspose1d {
            stride: window.stride[0],
            padding: pads[0],
            dilation: window.dilation[0],
            groups,
            output_padding: more[0],
        }),
        _ => Op::ConvTranspose2d(ConvTranspose2d {
            stride: [window.stride[0], window.stride[1]],
            padding: four(&pads),
            dilation: [window.dilation[0], window.dilation[1]],
            groups,
            output_padding: [more[0], more[1]],
        }),
    };
    let params = params(cx, node, weight);
    let y = cx.op(op, &[x], &params)?;
    cx.output(node, 0, y)
}

/// The numbers of a window as attributes.
pub(super) fn window_attributes(window: &op::Window, axes: usize) -> Attributes {
    // A window over sequences is one over images of height 1.
    let two = |all: [usize; 2]| Attribute::from(&all[2 - axes..]);
    let [top, left, bottom, right] = window.padding;
    let pads = if axes == 1 { vec![left, right] } else { vec![top, left, bottom, right] };
    vec![
        ("kernel_shape", two(window.kernel)),
        ("strides", two(window.stride)),
        ("pads", pads.as_slice().into()),
        ("dilations", two(window.dilation)),
    ]
}

/// The sizes of a weight's kernel, that of a sequence with height 1.
fn kernel(w: &Writer<'_>, node: &graph::Node) -> Option<[usize; 2]> {
    match *w.graph.param(*node.params.first()?).data.shape() {
        [_, _, h, width] => Some([h, width]),
        [_, _, length] => Some([1, length]),
        _ => None,
    }
}

pub(super) fn write_conv(w: &mut Writer<'_>, node: &graph::Node, config: &Conv2d, axes: usize) -> Option<Vec<String>> {
    let mut attributes = window_attributes(&config.window(kernel(w, node)?), axes);
    attributes.push(("group", config.groups.into()));
    write_layer(w, node, "Conv", attributes)
}

pub(super) fn write_transpose(
    w: &mut Writer<'_>,
    node: &graph::Node,
    config: &ConvTranspose2d,
    axes: usize,
) -> Option<Vec<String>> {
    let ConvTranspose2d { stride, padding, dilation, groups, output_padding } = *config;
    let window = op::Window { kernel: kernel(w, node)?, stride, padding, dilation };
    let mut attributes = window_attributes(&window, axes);
    attributes.push(("group", groups.into()));
    attributes.push(("output_padding", output_padding[2 - axes..].into()));
    write_layer(w, node, "ConvTranspose", attributes)
}

/// An operator with a weight and perhaps a bias.
fn write_layer(w: &mut Writer<'_>, node: &graph::Node, op: &str, attributes: Attributes) -> Option<Vec<String>> {
    let (x, weight) = (w.input(node, 0), w.param(node, 0)?);
    let bias = w.param(node, 1);
    let inputs: Vec<&str> = [&x, &weight].into_iter().chain(&bias).map(String::as_str).collect();
    Some(w.last(node, op, &inputs, attributes))
}
