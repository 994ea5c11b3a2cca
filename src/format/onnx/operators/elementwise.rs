//! What is computed element by element.

use super::linear::scalar;
use super::{Result, axis};
use crate::format::onnx::dtype;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph::op::{
    Activation, Alpha, Binary, Cast, Clip, Compare, Dropout, Line, Op, Reduce, Reduction, Scaled, Unary,
};
use crate::tensor::{DType, TensorData};

pub(super) fn activation<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let alpha = |default: f64| -> Result<Alpha> { Ok(Alpha { alpha: node.float("alpha")?.unwrap_or(default) }) };
    let activation = match node.op() {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "Softplus" => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        "HardSwish" => Activation::HardSwish,
        "Mish" => Activation::Mish,
        "Elu" => Activation::Elu(alpha(1.0)?),
        "LeakyRelu" => Activation::LeakyRelu(alpha(0.01)?),
        "Swish" => Activation::Swish(alpha(1.0)?),
        "Selu" => Activation::Selu(Scaled {
            alpha: node.float("alpha")?.unwrap_or(1.673_263_2),
            gamma: node.float("gamma")?.unwrap_or(1.050_701),
        }),
        "HardSigmoid" => {
            let beta = node.float("beta")?.unwrap_or(0.5);
            Activation::HardSigmoid(Line { alpha: alpha(0.2)?.alpha, beta })
        }
        _ => match node.text("approximate")?.as_deref() {
            None | Some("none") => Activation::Gelu,
            Some("tanh") => Activation::GeluTanh,
            Some(other) => return Err(node.wrong(format!("approximate '{other}' is not read"))),
        },
    };
    let y = cx.op(Op::Activation(activation), &[x], &[])?;
    cx.output(node, 0, y)
}

/// In older versions a slope of one axis is one number a channel.
pub(super) fn prelu<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (x, slope) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let (of_x, of_slope) = (cx.shape(x), cx.shape(slope));
    let slope = match of_slope[..] {
        [n] if of_x.len() > 2 && n > 1 && of_x.get(1) == Some(&n) && of_x.last() != Some(&n) => {
            let shape: Vec<usize> = std::iter::once(n).chain(of_x[2..].iter().map(|_| 1)).collect();
            cx.reshaped(slope, &shape)?
        }
        _ => slope,
    };
    let y = cx.op(Op::PRelu, &[x], &[slope])?;
    cx.output(node, 0, y)
}

/// Bounds are attributes in older versions. Of a number that is computed, the larger or smaller is taken.
pub(super) fn clip<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let mut y = cx.input(node, 0)?;
    let (lower, upper) = (cx.optional(node, 1), cx.optional(node, 2));
    let known = |cx: &Trace<'_>, bound: Option<Handle>| bound.is_none_or(|bound| cx.is_constant(bound));
    if known(cx, lower) && known(cx, upper) {
        let bound = |cx: &Trace<'_>, value: Option<Handle>, name: &str| match value {
            Some(value) => cx.number(node, value, name).map(Some),
            None => node.float(name),
        };
        // ONNX's default bounds are the largest numbers there are, which bind nothing.
        let binds = |bound: &f64| bound.abs() < f64::from(f32::MAX);
        let (min, max) = (bound(cx, lower, "min")?.filter(binds), bound(cx, upper, "max")?.filter(binds));
        y = cx.op(Op::Clip(Clip { min, max }), &[y], &[])?;
        return cx.output(node, 0, y);
    }
    for (bound, binary) in [(lower, Binary::Max), (upper, Binary::Min)] {
        if let Some(bound) = bound {
            y = cx.op(Op::Binary(binary), &[y, bound], &[])?;
        }
    }
    cx.output(node, 0, y)
}

pub(super) fn unary<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let unary = Unary::ALL.iter().find(|unary| unary.name() == node.op()).copied();
    let y = cx.op(Op::Unary(unary.ok_or_else(|| node.wrong("is not read"))?), &[x], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn binary<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (a, b) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let b = aligned(cx, node, a, b)?;
    let binary = match node.op() {
        "Mod" if node.flag("fmod", false)? => Some(Binary::Fmod),
        op => Binary::ALL.iter().find(|binary| binary.name() == op).copied(),
    };
    let y = cx.op(Op::Binary(binary.ok_or_else(|| node.wrong("is not read"))?), &[a, b], &[])?;
    cx.output(node, 0, y)
}

pub(super) fn compare<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (a, b) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let b = aligned(cx, node, a, b)?;
    let compare = Compare::ALL.iter().find(|compare| compare.name() == node.op()).copied();
    let y = cx.op(Op::Compare(compare.ok_or_else(|| node.wrong("is not read"))?), &[a, b], &[])?;
    cx.output(node, 0, y)
}

/// Before version 7 the second input was aligned at the axis that an attribute names.
fn aligned(cx: &mut Trace<'_>, node: &Node<'_>, a: Handle, b: Handle) -> Result<Handle> {
    if node.opset >= 7 || !node.flag("broadcast", false)? {
        return Ok(b);
    }
    let (rank, mut shape) = (cx.rank(a), cx.shape(b));
    let Some(first) = node.int("axis")? else { return Ok(b) };
    let first = axis(node, first, rank)?;
    while first + shape.len() < rank {
        shape.push(1);
    }
    cx.reshaped(b, &shape)
}

/// Any number of inputs, taken one after the other.
pub(super) fn variadic<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let inputs = cx.inputs(node)?;
    let binary = match node.op() {
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        _ => Binary::Add,
    };
    let mut y = inputs[0];
    for input in &inputs[1..] {
        y = cx.op(Op::Binary(binary), &[y, *input], &[])?;
    }
    if node.op() == "Mean" && inputs.len() > 1 {
        let count = scalar(cx, node, inputs.len() as f64, y)?;
        y = cx.op(Op::Binary(Binary::Div), &[y, count], &[])?;
    }
    cx.output(node, 0, y)
}

pub(super) fn choose<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let inputs = [cx.input(node, 0)?, cx.input(node, 1)?, cx.input(node, 2)?];
    let y = cx.op(Op::Where, &inputs, &[])?;
    cx.output(node, 0, y)
}

pub(super) fn cast<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let to = match node.op() {
        "CastLike" => cx.dtype(cx.input(node, 1)?),
        _ => {
            let number = node.int("to")?.and_then(|to| i32::try_from(to).ok()).unwrap_or(0);
            dtype::dtype(number).ok_or_else(|| node.wrong(format!("to {} is not read", dtype::name(number))))?
        }
    };
    let y = if cx.dtype(x) == to { x } else { cx.op(Op::Cast(Cast { to }), &[x], &[])? };
    cx.output(node, 0, y)
}

/// As a network is used, nothing is left out; the rate is kept for whoever trains it.
pub(super) fn dropout<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    let rate = match cx.optional(node, 1) {
        Some(rate) => cx.number(node, rate, "ratio")?,
        None => node.float("ratio")?.unwrap_or(0.5),
    };
    // Numbers of 32 bits are shown as people write them.
    let rate = (rate as f32).to_string().parse().unwrap_or(rate);
    let y = cx.op(Op::Dropout(Dropout { rate }), &[x], &[])?;
    cx.output(node, 0, y)?;
    if !cx.wants(node, 1) {
        return Ok(());
    }
    // Which elements stay: all of them.
    let shape = cx.ty(x).shape.clone();
    let truth = TensorData::new(DType::Bool, vec![], vec![1u8]).map_err(|e| node.wrong(e.to_string()))?;
    let truth = cx.literal(truth);
    let mask = cx.op(Op::Expand(crate::graph::op::Expand { shape }), &[truth], &[])?;
    cx.output(node, 1, mask)
}

pub(super) fn identity<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let x = cx.input(node, 0)?;
    cx.output(node, 0, x)
}

/// The sum over axes from `first` on, kept: of use to several families.
pub(super) fn mean_from(cx: &mut Trace<'_>, x: Handle, first: usize) -> Result<Handle> {
    let axes = (first..cx.rank(x)).collect();
    cx.op(Op::Reduce(Reduce { of: Reduction::Mean, axes, keep: true }), &[x], &[])
}
