//! What is computed element by element.

use super::linear::scalar;
use super::{Result, axis};
use crate::format::onnx::dtype;
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
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
        "Selu" => {
            // The usual numbers have more digits than a number of 32 bits shows.
            let known = |name: &str, usual: f64| -> Result<f64> {
                Ok(node.float(name)?.filter(|given| *given as f32 != usual as f32).unwrap_or(usual))
            };
            Activation::Selu(Scaled {
                alpha: known("alpha", 1.673_263_192_176_818_8)?,
                gamma: known("gamma", 1.050_701_022_148_132_3)?,
            })
        }
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
            Some(value) => cx.decimal(node, value, name).map(Some),
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
        Some(rate) => cx.decimal(node, rate, "ratio")?,
        None => node.float("ratio")?.unwrap_or(0.5),
    };
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

/// What came later than the version that is written is written in terms of what was there.
pub(super) fn write_activation(w: &mut Writer<'_>, node: &graph::Node, activation: Activation) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let float = w.float();
    let attributes = match activation {
        Activation::Elu(c) | Activation::LeakyRelu(c) => vec![("alpha", c.alpha.into())],
        Activation::HardSigmoid(c) => vec![("alpha", c.alpha.into()), ("beta", c.beta.into())],
        Activation::Selu(c) => vec![("alpha", c.alpha.into()), ("gamma", c.gamma.into())],
        Activation::Gelu => {
            let root = w.scalar(2f64.sqrt(), float);
            let scaled = w.part("Div", &[&x, &root], Vec::new());
            let erf = w.part("Erf", &[&scaled], Vec::new());
            return Some(halved(w, node, &x, &erf));
        }
        Activation::GeluTanh => {
            let (cubic, outer) = (w.scalar(0.044715, float), w.scalar((2.0 / std::f64::consts::PI).sqrt(), float));
            let square = w.part("Mul", &[&x, &x], Vec::new());
            let cube = w.part("Mul", &[&square, &x], Vec::new());
            let cube = w.part("Mul", &[&cube, &cubic], Vec::new());
            let sum = w.part("Add", &[&x, &cube], Vec::new());
            let scaled = w.part("Mul", &[&sum, &outer], Vec::new());
            let tanh = w.part("Tanh", &[&scaled], Vec::new());
            return Some(halved(w, node, &x, &tanh));
        }
        Activation::Mish => {
            let softplus = w.part("Softplus", &[&x], Vec::new());
            let tanh = w.part("Tanh", &[&softplus], Vec::new());
            return Some(w.last(node, "Mul", &[&x, &tanh], Vec::new()));
        }
        Activation::Swish(Alpha { alpha }) => {
            let scaled = match alpha {
                1.0 => x.clone(),
                _ => {
                    let alpha = w.scalar(alpha, float);
                    w.part("Mul", &[&x, &alpha], Vec::new())
                }
            };
            let gate = w.part("Sigmoid", &[&scaled], Vec::new());
            return Some(w.last(node, "Mul", &[&x, &gate], Vec::new()));
        }
        _ => Vec::new(),
    };
    Some(w.last(node, activation.name(), &[&x], attributes))
}

/// `x (1 + gate) / 2`.
fn halved(w: &mut Writer<'_>, node: &graph::Node, x: &str, gate: &str) -> Vec<String> {
    let (one, half) = (w.scalar(1.0, w.float()), w.scalar(0.5, w.float()));
    let gate = w.part("Add", &[gate, &one], Vec::new());
    let product = w.part("Mul", &[x, &gate], Vec::new());
    w.last(node, "Mul", &[&product, &half], Vec::new())
}

pub(super) fn write_prelu(w: &mut Writer<'_>, node: &graph::Node) -> Option<Vec<String>> {
    let (x, slope) = (w.input(node, 0), w.param(node, 0)?);
    Some(w.last(node, "PRelu", &[&x, &slope], Vec::new()))
}

/// Of floating point numbers ONNX has the remainder of C alone.
pub(super) fn write_binary(w: &mut Writer<'_>, node: &graph::Node, binary: Binary) -> Option<Vec<String>> {
    let (a, b) = (w.input(node, 0), w.input(node, 1));
    let is_float = w.value(node, 0).ty.dtype.is_float();
    Some(match binary {
        Binary::Mod if is_float => {
            // That has the sign of the first; where it is another one than the second's, one divisor is missing.
            let dtype = w.float();
            let zero = w.scalar(0.0, dtype);
            let rest = w.part("Mod", &[&a, &b], vec![("fmod", true.into())]);
            let below = w.part("Less", &[&rest, &zero], Vec::new());
            let above = w.part("Greater", &[&rest, &zero], Vec::new());
            let divisor_below = w.part("Less", &[&b, &zero], Vec::new());
            let divisor_above = w.part("Greater", &[&b, &zero], Vec::new());
            let one = w.part("And", &[&below, &divisor_above], Vec::new());
            let other = w.part("And", &[&above, &divisor_below], Vec::new());
            let differs = w.part("Or", &[&one, &other], Vec::new());
            let sum = w.part("Add", &[&rest, &b], Vec::new());
            w.last(node, "Where", &[&differs, &sum, &rest], Vec::new())
        }
        Binary::Fmod => w.last(node, "Mod", &[&a, &b], vec![("fmod", true.into())]),
        binary => w.last(node, binary.name(), &[&a, &b], Vec::new()),
    })
}

pub(super) fn write_clip(w: &mut Writer<'_>, node: &graph::Node, config: &Clip) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let dtype = w.format(w.value(node, 0).ty.dtype);
    let mut bound = |bound: Option<f64>| bound.map(|bound| w.scalar(bound, dtype)).unwrap_or_default();
    let (min, max) = (bound(config.min), bound(config.max));
    Some(w.last(node, "Clip", &[&x, &min, &max], Vec::new()))
}

pub(super) fn write_cast(w: &mut Writer<'_>, node: &graph::Node, to: DType) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let to = w.format(to);
    Some(w.last(node, "Cast", &[&x], vec![("to", i64::from(dtype::number(to)).into())]))
}

pub(super) fn write_dropout(w: &mut Writer<'_>, node: &graph::Node, rate: f64) -> Option<Vec<String>> {
    let x = w.input(node, 0);
    let rate = w.scalar(rate, DType::F32);
    Some(w.last(node, "Dropout", &[&x, &rate], Vec::new()))
}
