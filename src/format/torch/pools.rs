//! Pooling.

use super::Writer;
use super::parts::Part;
use super::text::{each, keywords, tuple};
use crate::graph::Node;
use crate::graph::op::{AvgPool2d, Op, Window};

/// The expression of a pooling; `None` for other operators.
pub(super) fn write(w: &mut Writer<'_>, node: &Node) -> Option<String> {
    match &node.op {
        Op::MaxPool2d(c) => max(w, node, &c.window, 2),
        Op::MaxPool1d(c) => max(w, node, &c.window.planar(), 1),
        Op::AvgPool2d(c) => Some(mean(w, node, c, 2)),
        Op::AvgPool1d(c) => Some(mean(w, node, &c.planar(), 1)),
        Op::GlobalAvgPool => Some(format!("{}.mean({}, keepdim=True)", w.input(node, 0), places(w, node))),
        Op::GlobalMaxPool => Some(format!("{}.amax({}, keepdim=True)", w.input(node, 0), places(w, node))),
        Op::BilinearPool(c) => {
            let (x, y) = (w.input(node, 0), w.input(node, 1));
            let mean = if c.mean { format!(" / ({x}.shape[2] * {x}.shape[3])") } else { String::new() };
            Some(format!("torch.einsum(\"nchw,ndhw->ncd\", {x}, {y}).flatten(1){mean}"))
        }
        _ => None,
    }
}

/// The axes after the channel's.
fn places(w: &Writer<'_>, node: &Node) -> String {
    tuple(&(2..w.rank(node)).collect::<Vec<_>>())
}

/// The padding that PyTorch's own pooling does, where it does that.
fn own_padding(window: &Window) -> Option<[usize; 2]> {
    let [top, left, bottom, right] = window.padding;
    let fits = (top, left) == (bottom, right) && 2 * top <= window.kernel[0] && 2 * left <= window.kernel[1];
    fits.then_some([top, left])
}

fn max(w: &Writer<'_>, node: &Node, window: &Window, axes: usize) -> Option<String> {
    if !w.dtype(node, 0).is_float() {
        return None;
    }
    let of = |numbers: [usize; 2]| each(&numbers[2 - axes..]);
    let [top, left, bottom, right] = window.padding;
    let (mut x, own) = (w.input(node, 0), own_padding(window));
    if own.is_none() {
        x = format!("F.pad({x}, {}, value=-torch.inf)", tuple(&[left, right, top, bottom][..2 * axes]));
    }
    let kernel = of(window.kernel);
    let more = keywords(&[
        ("stride", of(window.stride), &kernel),
        ("padding", of(own.unwrap_or_default()), "0"),
        ("dilation", of(window.dilation), "1"),
    ]);
    Some(format!("F.max_pool{axes}d({x}, {kernel}{more})"))
}

fn mean(w: &mut Writer<'_>, node: &Node, config: &AvgPool2d, axes: usize) -> String {
    let (window, x) = (&config.window, w.input(node, 0));
    let of = |numbers: [usize; 2]| each(&numbers[2 - axes..]);
    if let Some(padding) = own_padding(window)
        && window.dilation == [1, 1]
        && config.overhang == [0, 0]
    {
        let kernel = of(window.kernel);
        let counted = if config.count_padding || padding == [0, 0] { "True" } else { "False" };
        let more = keywords(&[
            ("stride", of(window.stride), &kernel),
            ("padding", of(padding), "0"),
            ("count_include_pad", counted.into(), "True"),
        ]);
        return format!("F.avg_pool{axes}d({x}, {kernel}{more})");
    }
    w.parts.insert(Part::AveragePool);
    let [top, left, bottom, right] = window.padding;
    let [below, beside] = config.overhang;
    let counted = if config.count_padding { [left, right - beside, top, bottom - below] } else { [0; 4] };
    let (kernel, stride, dilation) = (tuple(&window.kernel), tuple(&window.stride), tuple(&window.dilation));
    let around = tuple(&[left, right, top, bottom]);
    let (image, back) = if axes == 1 { (format!("{x}.unsqueeze(2)"), ".squeeze(2)") } else { (x, "") };
    format!("average_pool({image}, {kernel}, {stride}, {dilation}, {around}, {}){back}", tuple(&counted))
}
