//! What is computed element by element, and what runs over whole axes.

use super::Writer;
use super::text::{dtype, number, number_of, tuple};
use crate::graph::op::{
    Activation, Alpha, ArgMax, Binary, Compare, CumSum, Line, Op, Reduce, Reduction, Scaled, Unary,
};
use crate::graph::{Dim, Node};
use crate::tensor::DType;

/// The expression of such an operator; `None` for others.
pub(super) fn write(w: &mut Writer<'_>, node: &Node) -> Option<String> {
    if node.inputs.is_empty() {
        return None;
    }
    let (x, own) = (w.input(node, 0), w.dtype(node, 0));
    Some(match &node.op {
        Op::Activation(activation) => activated(&x, *activation),
        Op::Unary(unary) => format!("torch.{}({x})", function(*unary)),
        Op::Binary(of) => binary(*of, &x, &w.input(node, 1), own, w.dtype(node, 1)),
        Op::Compare(compare) => format!("{x} {} {}", sign(*compare), w.input(node, 1)),
        Op::Clip(c) => {
            let bound = |name: &str, bound: Option<f64>| bound.map(|b| format!(", {name}={}", number_of(b, own)));
            match (bound("min", c.min), bound("max", c.max)) {
                (None, None) => x,
                (min, max) => format!("torch.clamp({x}{}{})", min.unwrap_or_default(), max.unwrap_or_default()),
            }
        }
        Op::Where => format!("torch.where({x}, {}, {})", w.input(node, 1), w.input(node, 2)),
        Op::Cast(c) => format!("{x}.to({})", dtype(c.to)),
        Op::Dropout(c) => format!("F.dropout({x}, {}, self.training)", number(c.rate)),
        Op::MatMul => format!("torch.matmul({x}, {})", w.input(node, 1)),
        Op::Softmax(c) => format!("torch.softmax({x}, {})", c.axis),
        Op::LogSoftmax(c) => format!("torch.log_softmax({x}, {})", c.axis),
        // PyTorch has no largest element of none.
        Op::Reduce(c) if matches!(c.of, Reduction::Max | Reduction::Min) && is_empty(w, node, &c.axes) => return None,
        Op::Reduce(c) => reduce(&x, c, own)?,
        Op::ArgMax(c) => arg_max(&x, c),
        Op::CumSum(c) => running_sum(&x, c, own),
        _ => return None,
    })
}

fn activated(x: &str, activation: Activation) -> String {
    match activation {
        Activation::Relu => format!("F.relu({x})"),
        Activation::Sigmoid => format!("torch.sigmoid({x})"),
        Activation::Tanh => format!("torch.tanh({x})"),
        Activation::Elu(Alpha { alpha }) => format!("F.elu({x}, {})", number(alpha)),
        Activation::Gelu => format!("F.gelu({x})"),
        Activation::GeluTanh => format!("F.gelu({x}, approximate=\"tanh\")"),
        Activation::HardSigmoid(Line { alpha, beta: 0.5 }) if alpha as f32 == 1.0 / 6.0 => {
            format!("F.hardsigmoid({x})")
        }
        Activation::HardSigmoid(Line { alpha, beta }) => {
            format!("torch.clamp({} * {x} + {}, 0.0, 1.0)", number(alpha), number(beta))
        }
        Activation::HardSwish => format!("F.hardswish({x})"),
        Activation::LeakyRelu(Alpha { alpha }) => format!("F.leaky_relu({x}, {})", number(alpha)),
        Activation::Mish => format!("F.mish({x})"),
        Activation::Selu(Scaled { alpha, gamma }) => format!("{} * F.elu({x}, {})", number(gamma), number(alpha)),
        Activation::Swish(Alpha { alpha: 1.0 }) => format!("F.silu({x})"),
        Activation::Swish(Alpha { alpha }) => format!("{x} * torch.sigmoid({} * {x})", number(alpha)),
        Activation::Softplus => format!("F.softplus({x})"),
        Activation::Softsign => format!("F.softsign({x})"),
    }
}

fn function(unary: Unary) -> &'static str {
    match unary {
        Unary::Abs => "abs",
        Unary::Ceil => "ceil",
        Unary::Cos => "cos",
        Unary::Erf => "erf",
        Unary::Exp => "exp",
        Unary::Floor => "floor",
        Unary::IsNaN => "isnan",
        Unary::Log => "log",
        Unary::Neg => "neg",
        Unary::Not => "logical_not",
        Unary::Reciprocal => "reciprocal",
        Unary::Round => "round",
        Unary::Sign => "sign",
        Unary::Sin => "sin",
        Unary::Sqrt => "sqrt",
    }
}

fn binary(of: Binary, a: &str, b: &str, own: DType, other: DType) -> String {
    match of {
        Binary::Add => format!("{a} + {b}"),
        Binary::Sub => format!("{a} - {b}"),
        Binary::Mul => format!("{a} * {b}"),
        Binary::Div if own.is_float() => format!("{a} / {b}"),
        Binary::Div => format!("torch.div({a}, {b}, rounding_mode=\"trunc\")"),
        Binary::And => format!("{a} & {b}"),
        Binary::Or => format!("{a} | {b}"),
        Binary::Xor => format!("{a} ^ {b}"),
        Binary::Max => format!("torch.maximum({a}, {b})"),
        Binary::Min => format!("torch.minimum({a}, {b})"),
        Binary::Mod => format!("torch.remainder({a}, {b})"),
        Binary::Fmod => format!("torch.fmod({a}, {b})"),
        // The result has the format of the first.
        Binary::Pow if own != other => format!("torch.pow({a}, {b}).to({})", dtype(own)),
        Binary::Pow => format!("torch.pow({a}, {b})"),
    }
}

fn sign(compare: Compare) -> &'static str {
    match compare {
        Compare::Equal => "==",
        Compare::Greater => ">",
        Compare::GreaterOrEqual => ">=",
        Compare::Less => "<",
        Compare::LessOrEqual => "<=",
    }
}

/// Whether one of the axes has no place.
fn is_empty(w: &Writer<'_>, node: &Node, axes: &[usize]) -> bool {
    let shape = w.graph.value(node.inputs[0]).shape();
    axes.iter().any(|axis| shape[*axis] == Dim::Fixed(0))
}

fn reduce(x: &str, config: &Reduce, own: DType) -> Option<String> {
    let axes = tuple(&config.axes);
    let keep = if config.keep { ", keepdim=True" } else { "" };
    if config.axes.is_empty() {
        return Some(match config.of {
            Reduction::L1 | Reduction::L2 => format!("{x}.abs()"),
            Reduction::LogSum => format!("{x}.log()"),
            Reduction::SumSquare => format!("{x}.square()"),
            _ => x.to_string(),
        });
    }
    // Sums of whole numbers are widened by PyTorch.
    let back = if own.is_float() || own == DType::I64 { String::new() } else { format!(".to({})", dtype(own)) };
    Some(match config.of {
        Reduction::L1 => format!("{x}.abs().sum({axes}{keep}){back}"),
        Reduction::L2 if own.is_float() => format!("torch.linalg.vector_norm({x}, 2, {axes}{keep})"),
        Reduction::LogSum if own.is_float() => format!("{x}.sum({axes}{keep}).log()"),
        Reduction::LogSumExp if own.is_float() => format!("torch.logsumexp({x}, {axes}{keep})"),
        Reduction::Max => format!("{x}.amax({axes}{keep})"),
        Reduction::Min => format!("{x}.amin({axes}{keep})"),
        Reduction::Mean if own.is_float() => format!("{x}.mean({axes}{keep})"),
        // One axis at a time, the last first.
        Reduction::Prod => {
            let each: Vec<String> = config.axes.iter().rev().map(|axis| format!(".prod({axis}{keep})")).collect();
            format!("{x}{}{back}", each.concat())
        }
        Reduction::Sum => format!("{x}.sum({axes}{keep}){back}"),
        Reduction::SumSquare => format!("{x}.square().sum({axes}{keep}){back}"),
        _ => return None,
    })
}

fn arg_max(x: &str, config: &ArgMax) -> String {
    let (of, axis) = (if config.smallest { "argmin" } else { "argmax" }, config.axis);
    let keep = if config.keep { ", keepdim=True" } else { "" };
    match config.last {
        false => format!("{x}.{of}({axis}{keep})"),
        true => format!("{x}.shape[{axis}] - 1 - {x}.flip({axis}).{of}({axis}{keep})"),
    }
}

fn running_sum(x: &str, config: &CumSum, own: DType) -> String {
    let axis = config.axis;
    let back = if own.is_float() || own == DType::I64 { String::new() } else { format!(".to({})", dtype(own)) };
    let sum = match config.reverse {
        false => format!("{x}.cumsum({axis}){back}"),
        true => format!("{x}.flip({axis}).cumsum({axis}).flip({axis}){back}"),
    };
    if config.exclusive { format!("{sum} - {x}") } else { sum }
}
