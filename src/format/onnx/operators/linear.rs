//! Products of matrices.

use super::{Result, axes, reshape};
use crate::format::onnx::export::writer::Writer;
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{Binary, Op, Reduce, Reduction, Transpose};
use crate::tensor::{DType, TensorData};

/// `alpha A' B' + beta C`: a linear layer where `B` and `C` are its parameters.
pub(super) fn gemm<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (a, b, c) = (cx.input(node, 0)?, cx.input(node, 1)?, cx.optional(node, 2));
    if cx.rank(a) != 2 || cx.rank(b) != 2 {
        return Err(node.wrong("it wants two matrices"));
    }
    let alpha = node.float("alpha")?.unwrap_or(1.0);
    let beta = node.float("beta")?.unwrap_or(1.0);
    let a = if node.flag("transA", false)? { transposed(cx, a)? } else { a };
    let weighs_in = alpha == 1.0 && cx.dtype(a).is_float();
    if weighs_in && cx.is_constant(b) {
        // Our weights are [out, in].
        let weight = if node.flag("transB", false)? { b } else { untransposed(cx, b)? };
        let out = cx.shape(weight)[0];
        let bias = match c {
            Some(c) if beta == 1.0 && cx.is_constant(c) && is_vector(&cx.shape(c), out) => {
                Some(cx.reshaped(c, &[out])?)
            }
            _ => None,
        };
        let params: Vec<Handle> = std::iter::once(weight).chain(bias).collect();
        let y = cx.op(Op::Linear, &[a], &params)?;
        let y = if bias.is_some() { y } else { plus(cx, y, c, beta)? };
        return cx.output(node, 0, y);
    }
    let b = if node.flag("transB", false)? { transposed(cx, b)? } else { b };
    let mut y = cx.op(Op::MatMul, &[a, b], &[])?;
    if alpha != 1.0 {
        let alpha = scalar(cx, node, alpha, y)?;
        y = cx.op(Op::Binary(Binary::Mul), &[y, alpha], &[])?;
    }
    let y = plus(cx, y, c, beta)?;
    cx.output(node, 0, y)
}

fn is_vector(shape: &[usize], out: usize) -> bool {
    shape == [out] || shape == [1, out]
}

/// `y + beta c`.
fn plus(cx: &mut Trace<'_>, y: Handle, c: Option<Handle>, beta: f64) -> Result<Handle> {
    let Some(mut c) = c.filter(|_| beta != 0.0) else { return Ok(y) };
    if beta != 1.0 {
        let beta = TensorData::from_f64(DType::F64, vec![], &[beta]).ok().and_then(|t| t.to_float(cx.dtype(y)).ok());
        let Some(beta) = beta else { return Ok(y) };
        let beta = cx.literal(beta);
        c = cx.op(Op::Binary(Binary::Mul), &[c, beta], &[])?;
    }
    cx.op(Op::ADD, &[y, c], &[])
}

/// `number` in the format of `like`.
pub(super) fn scalar(cx: &mut Trace<'_>, node: &Node<'_>, number: f64, like: Handle) -> Result<Handle> {
    let dtype = cx.dtype(like);
    let data = TensorData::from_f64(dtype, vec![], &[number]);
    let data = data.map_err(|_| node.wrong(format!("{dtype} cannot be multiplied by {number}")))?;
    Ok(cx.literal(data))
}

fn transposed(cx: &mut Trace<'_>, value: Handle) -> Result<Handle> {
    cx.op(Op::Transpose(Transpose { axes: vec![1, 0] }), &[value], &[])
}

/// The transpose of a constant: what it was before somebody transposed it, if that is so.
fn untransposed(cx: &mut Trace<'_>, value: Handle) -> Result<Handle> {
    match cx.before_transpose(value) {
        Some(before) => Ok(before),
        None => cx.transposed(value),
    }
}

/// A product of values; a linear layer where the second is a constant matrix.
pub(super) fn matmul<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let (a, b) = (cx.input(node, 0)?, cx.input(node, 1)?);
    let learned = cx.is_constant(b) && !cx.is_constant(a) && cx.rank(b) == 2 && cx.dtype(b).is_float();
    let y = match learned && cx.shape(b).iter().all(|n| *n > 0) {
        true => {
            let weight = untransposed(cx, b)?;
            cx.op(Op::Linear, &[a], &[weight])?
        }
        false => cx.op(Op::MatMul, &[a, b], &[])?,
    };
    cx.output(node, 0, y)
}

/// The longest equation that is read.
const MAX_EQUATION: usize = 200;

/// Einstein's sums of one or two values without repeated letters, as products of matrices.
pub(super) fn einsum<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let equation: String = node.text("equation")?.unwrap_or_default().chars().filter(|c| *c != ' ').collect();
    if equation.len() > MAX_EQUATION {
        return Err(node.wrong(format!("the equation has {} letters", equation.len())));
    }
    let inputs = cx.inputs(node)?;
    let unread = || node.wrong(format!("the equation '{equation}' is not read"));
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), right.to_string()),
        None => (equation.clone(), implied(&equation)),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let right: Vec<char> = right.chars().collect();
    let sound = |term: &Vec<char>| {
        term.iter().all(char::is_ascii_alphabetic) && term.iter().enumerate().all(|(i, c)| !term[..i].contains(c))
    };
    let fits = terms.len() == inputs.len()
        && terms.iter().all(sound)
        && sound(&right)
        && terms.iter().zip(&inputs).all(|(term, input)| term.len() == cx.rank(*input))
        && right.iter().all(|c| terms.iter().any(|term| term.contains(c)));
    if !fits {
        return Err(unread());
    }
    let y = match (&terms[..], &inputs[..]) {
        ([a], [x]) => {
            let (x, a) = summed(cx, node, *x, a, &right)?;
            permuted(cx, x, &a, &right)?
        }
        ([a, b], [x, y]) => pair(cx, node, (*x, a), (*y, b), &right)?,
        _ => return Err(unread()),
    };
    cx.output(node, 0, y)
}

/// Letters that stand once, in alphabetical order.
fn implied(left: &str) -> String {
    let mut letters: Vec<char> = left.chars().filter(|c| *c != ',').collect();
    letters.sort_unstable();
    let once = |c: &&char| letters.iter().filter(|other| other == c).count() == 1;
    letters.iter().filter(once).collect()
}

/// Sums over the letters that nobody else has.
fn summed(cx: &mut Trace<'_>, node: &Node<'_>, x: Handle, term: &[char], kept: &[char]) -> Result<(Handle, Vec<char>)> {
    let over: Vec<i64> = (0..term.len()).filter(|i| !kept.contains(&term[*i])).map(|i| i as i64).collect();
    if over.is_empty() {
        return Ok((x, term.to_vec()));
    }
    let axes = axes(node, &over, term.len())?;
    let x = cx.op(Op::Reduce(Reduce { of: Reduction::Sum, axes, keep: false }), &[x], &[])?;
    Ok((x, term.iter().copied().filter(|c| kept.contains(c)).collect()))
}

fn permuted(cx: &mut Trace<'_>, x: Handle, from: &[char], to: &[char]) -> Result<Handle> {
    let axes: Vec<usize> = to.iter().filter_map(|c| from.iter().position(|f| f == c)).collect();
    if axes.iter().copied().eq(0..from.len()) {
        return Ok(x);
    }
    cx.op(Op::Transpose(Transpose { axes }), &[x], &[])
}

/// Two terms: letters of both and the result are batches, letters of both alone are summed over.
fn pair(
    cx: &mut Trace<'_>,
    node: &Node<'_>,
    (x, a): (Handle, &[char]),
    (y, b): (Handle, &[char]),
    right: &[char],
) -> Result<Handle> {
    let (x, a) = summed(cx, node, x, a, &[b, right].concat())?;
    let (y, b) = summed(cx, node, y, b, &[&a, right].concat())?;
    let pick =
        |of: &[char], wanted: &dyn Fn(&char) -> bool| of.iter().copied().filter(|c| wanted(c)).collect::<Vec<_>>();
    let batch = pick(&a, &|c| b.contains(c) && right.contains(c));
    let inner = pick(&a, &|c| b.contains(c) && !right.contains(c));
    let rows = pick(&a, &|c| !b.contains(c));
    let columns = pick(&b, &|c| !a.contains(c));
    let size = |c: &char| {
        let at = |term: &[char], value: Handle| term.iter().position(|t| t == c).map(|i| cx.shape(value)[i]);
        at(&a, x).or_else(|| at(&b, y)).unwrap_or(1)
    };
    let sizes = |letters: &[char]| letters.iter().map(size).collect::<Vec<usize>>();
    let product = |letters: &[char]| sizes(letters).iter().product::<usize>();
    let (of_batch, of_rows, of_columns) = (sizes(&batch), sizes(&rows), sizes(&columns));
    let (m, k, n) = (product(&rows), product(&inner), product(&columns));
    let left = permuted(cx, x, &a, &[&batch[..], &rows, &inner].concat())?;
    let left = cx.op(reshape(&[&of_batch[..], &[m, k]].concat()), &[left], &[])?;
    let other = permuted(cx, y, &b, &[&batch[..], &inner, &columns].concat())?;
    let other = cx.op(reshape(&[&of_batch[..], &[k, n]].concat()), &[other], &[])?;
    let result = cx.op(Op::MatMul, &[left, other], &[])?;
    let result = cx.op(reshape(&[of_batch, of_rows, of_columns].concat()), &[result], &[])?;
    permuted(cx, result, &[batch, rows, columns].concat(), right)
}

/// A linear layer: one operator for matrices, three for what has more axes.
pub(super) fn write_linear(w: &mut Writer<'_>, node: &graph::Node) -> Option<Vec<String>> {
    let (x, weight) = (w.input(node, 0), w.param(node, 0)?);
    let bias = w.param(node, 1);
    if w.value(node, 0).shape().len() == 2 {
        let inputs: Vec<&str> = [&x, &weight].into_iter().chain(&bias).map(String::as_str).collect();
        return Some(w.last(node, "Gemm", &inputs, vec![("transB", true.into())]));
    }
    let weight = w.part("Transpose", &[&weight], vec![("perm", [1, 0].as_slice().into())]);
    match bias {
        None => Some(w.last(node, "MatMul", &[&x, &weight], Vec::new())),
        Some(bias) => {
            let product = w.layer("MatMul", &[&x, &weight]);
            Some(w.last(node, "Add", &[&product, &bias], Vec::new()))
        }
    }
}

/// The places of each image become an axis of a matrix, and the product sums over it.
pub(super) fn write_bilinear(w: &mut Writer<'_>, node: &graph::Node, mean: bool) -> Option<Vec<String>> {
    let places: Option<usize> = w.value(node, 0).shape()[2..].iter().map(|d| d.fixed()).product();
    let flat = w.integers(&[0, 0, -1]);
    let (x, y) = (w.input(node, 0), w.input(node, 1));
    let x = w.part("Reshape", &[&x, &flat], Vec::new());
    let y = w.part("Reshape", &[&y, &flat], Vec::new());
    let y = w.part("Transpose", &[&y], vec![("perm", [0, 2, 1].as_slice().into())]);
    let mut product = w.part("MatMul", &[&x, &y], Vec::new());
    if mean {
        let count = w.scalar(places? as f64, w.float());
        product = w.part("Div", &[&product, &count], Vec::new());
    }
    Some(w.last(node, "Flatten", &[&product], vec![("axis", 1i64.into())]))
}
