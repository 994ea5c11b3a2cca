//! Images of another size.

use super::{Result, axes};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::Trace;
use crate::graph;
use crate::graph::Dim;
use crate::graph::op::{Op, Place, ResizeNearest, Rounding};
use crate::tensor::TensorData;

pub(super) fn resize<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let shape = cx.shape(x);
    if node.text("mode")?.is_some_and(|mode| mode != "nearest") {
        return Err(node.wrong("only the mode 'nearest' is read"));
    }
    let along: Vec<usize> = match node.ints("axes")? {
        Some(given) => {
            axes(node, &given, shape.len())?;
            given.iter().map(|axis| if *axis < 0 { *axis + shape.len() as i64 } else { *axis } as usize).collect()
        }
        None => (0..shape.len()).collect(),
    };
    // Before version 11 the scales were the second input or an attribute, and there was one rule.
    let old = node.opset < 11;
    let scales = match if old { cx.optional(node, 1) } else { cx.optional(node, 2) } {
        Some(value) => cx.numbers(node, value, "scales")?,
        None => node.floats("scales")?.unwrap_or_default(),
    };
    let sizes = match cx.optional(node, 3).filter(|_| !old) {
        Some(value) => cx.ints(node, value, "sizes")?,
        None => Vec::new(),
    };
    let (to, scales) = match (&scales[..], &sizes[..]) {
        ([], sizes) if sizes.len() == along.len() => sized(node, &shape, &along, sizes)?,
        (scales, []) if scales.len() == along.len() => scaled(node, &shape, &along, scales)?,
        _ => return Err(node.wrong(format!("it wants scales or sizes for {} axes", along.len()))),
    };
    let place = match node.text("coordinate_transformation_mode")?.as_deref() {
        _ if old => Place::Asymmetric,
        None | Some("half_pixel") => Place::HalfPixel,
        Some("half_pixel_symmetric") => Place::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Place::PytorchHalfPixel,
        Some("align_corners") => Place::AlignCorners,
        Some("asymmetric") => Place::Asymmetric,
        Some(other) => return Err(node.wrong(format!("coordinate_transformation_mode '{other}' is not read"))),
    };
    let rounding = match node.text("nearest_mode")?.as_deref() {
        _ if old => Rounding::Floor,
        None | Some("round_prefer_floor") => Rounding::HalfDown,
        Some("round_prefer_ceil") => Rounding::HalfUp,
        Some("floor") => Rounding::Floor,
        Some("ceil") => Rounding::Ceil,
        Some(other) => return Err(node.wrong(format!("nearest_mode '{other}' is not read"))),
    };
    let shape = to.into_iter().map(Dim::Fixed).collect();
    let y = cx.op(Op::ResizeNearest(ResizeNearest { shape, scales, place, rounding }), &[x], &[])?;
    cx.output(node, 0, y)
}

type Sizes = (Vec<usize>, Vec<f64>);

/// By scales: an axis of `n` places gets `floor(n scale)`.
fn scaled(node: &Node<'_>, shape: &[usize], along: &[usize], by: &[f64]) -> Result<Sizes> {
    let (mut to, mut scales) = (shape.to_vec(), vec![1.0; shape.len()]);
    for (axis, scale) in along.iter().zip(by) {
        let places = (shape[*axis] as f64 * scale).floor();
        if !(*scale > 0.0 && (1.0..=f64::from(1 << 24)).contains(&places)) {
            return Err(node.wrong(format!("an axis of {} places cannot be scaled by {scale}", shape[*axis])));
        }
        (to[*axis], scales[*axis]) = (places as usize, *scale);
    }
    Ok((to, scales))
}

/// By sizes, which a policy may shrink or grow so that the image keeps its form.
fn sized(node: &Node<'_>, shape: &[usize], along: &[usize], sizes: &[i64]) -> Result<Sizes> {
    let (mut to, mut scales) = (shape.to_vec(), vec![1.0; shape.len()]);
    let scale_of = |axis: usize, size: i64| -> Result<f64> {
        if shape[axis] == 0 || !(1..=1 << 24).contains(&size) {
            return Err(node.wrong(format!("an axis of {} places cannot become {size}", shape[axis])));
        }
        Ok(size as f64 / shape[axis] as f64)
    };
    let all = along.iter().zip(sizes).map(|(axis, size)| scale_of(*axis, *size)).collect::<Result<Vec<f64>>>()?;
    let one = match node.text("keep_aspect_ratio_policy")?.as_deref() {
        None | Some("stretch") => None,
        Some("not_larger") => all.iter().copied().reduce(f64::min),
        Some("not_smaller") => all.iter().copied().reduce(f64::max),
        Some(other) => return Err(node.wrong(format!("keep_aspect_ratio_policy '{other}' is not read"))),
    };
    for ((axis, size), own) in along.iter().zip(sizes).zip(all) {
        scales[*axis] = one.unwrap_or(own);
        to[*axis] = match one {
            Some(scale) => (scale * shape[*axis] as f64 + 0.5).floor() as usize,
            None => *size as usize,
        };
    }
    Ok((to, scales))
}

/// By scales where they say the same, else by sizes.
pub(super) fn write(w: &mut Writer<'_>, node: &graph::Node, config: &ResizeNearest) -> Option<Vec<String>> {
    let place = match config.place {
        Place::HalfPixel => "half_pixel",
        Place::PytorchHalfPixel => "pytorch_half_pixel",
        Place::AlignCorners => "align_corners",
        Place::Asymmetric => "asymmetric",
        // It came later than the version that is written.
        Place::HalfPixelSymmetric => return None,
    };
    let rounding = match config.rounding {
        Rounding::HalfDown => "round_prefer_floor",
        Rounding::HalfUp => "round_prefer_ceil",
        Rounding::Floor => "floor",
        Rounding::Ceil => "ceil",
    };
    let x = w.input(node, 0);
    let by_scale = w.value(node, 0).shape().iter().zip(&config.shape).zip(&config.scales).all(|((from, to), scale)| {
        match (from.fixed(), to.fixed()) {
            (Some(from), Some(to)) => (from as f64 * scale).floor() as usize == to,
            _ => from == to && *scale == 1.0,
        }
    });
    let attributes = vec![
        ("mode", "nearest".into()),
        ("coordinate_transformation_mode", place.into()),
        ("nearest_mode", rounding.into()),
    ];
    if by_scale {
        let scales: Vec<f32> = config.scales.iter().map(|scale| *scale as f32).collect();
        let scales = w.held("scales", TensorData::from_f32(vec![scales.len()], &scales).ok());
        return Some(w.last(node, "Resize", &[&x, "", &scales], attributes));
    }
    let sizes = w.shape(&config.shape);
    Some(w.last(node, "Resize", &[&x, "", "", &sizes], attributes))
}
