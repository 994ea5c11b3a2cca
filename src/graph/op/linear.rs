//! Products with matrices: `Linear` with a weight, `MatMul` of two values, `BilinearPool` of two images.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, broadcast, wants};
use crate::graph::dim::Dim;

/// The outer product of two images' channels at each place, summed over the places (Lin, RoyChowdhury and Maji 2015):
/// `x [n, c, h, w]`, `y [n, d, h, w]` become `[n, c * d]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BilinearPool {
    /// Whether the sum is divided by the number of places.
    pub mean: bool,
}

/// `y = x W^T + b` over the last axis of `x [..., in]`; `W [out, in]`, `b [out]`.
pub(super) fn infer(x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
    let Some((Dim::Fixed(features), before)) = x.shape.split_last() else {
        return Err(wants("Linear", "[..., in]", x));
    };
    let out = match *params[0] {
        [out, inner] if inner == *features && out > 0 => out,
        _ => {
            let expected = format!("[out, {features}]");
            return Err(OpError::Param { op: "Linear", role: "weight", expected, actual: params[0].to_vec() });
        }
    };
    check_bias("Linear", params.get(1).copied(), out)?;
    Ok(x.with(before.iter().copied().chain([Dim::Fixed(out)]).collect()))
}

/// A bias, where there is one, has one number an output channel.
pub(super) fn check_bias(op: &'static str, bias: Option<&[usize]>, out: usize) -> Result<(), OpError> {
    match bias {
        Some(shape) if shape != [out] => {
            Err(OpError::Param { op, role: "bias", expected: format!("[{out}]"), actual: shape.to_vec() })
        }
        _ => Ok(()),
    }
}

/// `[..., m, k]` times `[..., k, n]`; the axes before the last two are broadcast, and a vector counts as a matrix of one
/// row (in front) or one column (behind) that goes away again. NumPy's `matmul`.
pub(super) fn matmul(a: &ValueType, b: &ValueType) -> Result<ValueType, OpError> {
    let misfit = || wants("MatMul", format!("that fits behind {a}"), b);
    let (rows, inner, before_a) = match &a.shape[..] {
        [] => return Err(misfit()),
        [k] => (None, *k, &[][..]),
        [before @ .., m, k] => (Some(*m), *k, before),
    };
    let (columns, inner_b, before_b) = match &b.shape[..] {
        [] => return Err(misfit()),
        [k] => (None, *k, &[][..]),
        [before @ .., k, n] => (Some(*n), *k, before),
    };
    if inner != inner_b || a.dtype != b.dtype {
        return Err(misfit());
    }
    let mut shape = broadcast(before_a, before_b).ok_or_else(misfit)?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(a.with(shape))
}

impl BilinearPool {
    pub(super) fn infer(&self, x: &ValueType, y: &ValueType) -> Result<ValueType, OpError> {
        match (&x.shape[..], &y.shape[..]) {
            (&[n, c, h, w], &[m, d, i, j]) if (n, h, w) == (m, i, j) && x.dtype == y.dtype => {
                let channels = c.times(d).ok_or_else(|| wants("BilinearPool", "fewer channels", y))?;
                Ok(x.with(vec![n, channels]))
            }
            _ => Err(wants("BilinearPool", format!("[n, d, h, w] with batch and places of {x}"), y)),
        }
    }
}
