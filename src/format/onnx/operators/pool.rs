//! Pooling.

use super::Result;
use super::conv::{Window, window_attributes};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{self, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, Op, Window1d};

/// A window with the padding of each axis, the overhang of the last window among it.
struct Places {
    window: Window,
    pads: Vec<[usize; 2]>,
    overhang: Vec<usize>,
}

impl Places {
    fn read(cx: &Trace<'_>, node: &Node<'_>, x: Handle) -> Result<Self> {
        let shape = cx.shape(x);
        if !(3..=4).contains(&shape.len()) {
            return Err(node.wrong(format!("it wants images or sequences, has {shape:?}")));
        }
        let image = &shape[2..];
        let window = Window::read(node, image.len(), None)?;
        let mut pads = window.pads(node, image)?;
        let mut overhang = vec![0; image.len()];
        if node.flag("ceil_mode", false)? {
            for axis in 0..image.len() {
                overhang[axis] = hangs_over(&window, axis, image[axis], pads[axis]);
                pads[axis][1] += overhang[axis];
            }
        }
        Ok(Self { window, pads, overhang })
    }

    fn linear(&self) -> Window1d {
        let window = &self.window;
        Window1d {
            kernel: window.kernel[0],
            stride: window.stride[0],
            padding: self.pads[0],
            dilation: window.dilation[0],
        }
    }

    fn planar(&self) -> op::Window {
        let (window, pads) = (&self.window, &self.pads);
        let two = |all: &[usize]| [all[0], all[1]];
        op::Window {
            kernel: two(&window.kernel),
            stride: two(&window.stride),
            padding: [pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
            dilation: two(&window.dilation),
        }
    }
}

/// The pixels by which the last window hangs over where places are counted upwards: it begins within the image or the
/// padding before it.
fn hangs_over(window: &Window, axis: usize, image: usize, pads: [usize; 2]) -> usize {
    let (stride, reach) = (window.stride[axis], window.reach(axis));
    let padded = image + pads[0] + pads[1];
    let Some(rest) = padded.checked_sub(reach) else { return 0 };
    let mut last = rest.div_ceil(stride);
    if last * stride >= image + pads[0] {
        last = last.saturating_sub(1);
    }
    (last * stride + reach).saturating_sub(padded)
}

pub(super) fn max_pool<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    if cx.wants(node, 1) {
        return Err(node.wrong("the places of the largest values are not computed"));
    }
    let places = Places::read(cx, node, x)?;
    let op = match places.pads.len() {
        1 => Op::MaxPool1d(MaxPool1d { window: places.linear() }),
        _ => Op::MaxPool2d(MaxPool2d { window: places.planar() }),
    };
    let y = cx.op(op, &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn average_pool<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let places = Places::read(cx, node, x)?;
    let count_padding = node.flag("count_include_pad", false)?;
    let op = match places.pads.len() {
        1 => Op::AvgPool1d(AvgPool1d { window: places.linear(), count_padding, overhang: places.overhang[0] }),
        _ => {
            let overhang = [places.overhang[0], places.overhang[1]];
            Op::AvgPool2d(AvgPool2d { window: places.planar(), count_padding, overhang })
        }
    };
    let y = cx.op(op, &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn global<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let op = if node.op() == "GlobalMaxPool" { Op::GlobalMaxPool } else { Op::GlobalAvgPool };
    let y = cx.op(op, &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn write_max(
    w: &mut Writer<'_>,
    node: &graph::Node,
    window: &op::Window,
    axes: usize,
) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    Some(w.last(node, "MaxPool", &[&x], window_attributes(window, axes)))
}

/// Taps with gaps came in later than what is written, so they are refused.
pub(super) fn write_average(
    w: &mut Writer<'_>,
    node: &graph::Node,
    config: &AvgPool2d,
    axes: usize,
) -> Option<Vec<String>> {
    let mut window = config.window;
    if window.dilation != [1, 1] {
        return None;
    }
    for axis in 0..2 {
        window.padding[axis + 2] -= config.overhang[axis];
    }
    let mut attributes = window_attributes(&window, axes);
    attributes.retain(|(name, _)| *name != "dilations");
    attributes.push(("count_include_pad", config.count_padding.into()));
    attributes.push(("ceil_mode", (config.overhang != [0, 0]).into()));
    let x = w.input(node, 0);
    Some(w.last(node, "AveragePool", &[&x], attributes))
}
