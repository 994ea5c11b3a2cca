//! `Linear`: `y = x W^T + b` with `W [out, in]` and `b [out]`, PyTorch's layout.

use super::{Dim, OpError, shape_text};

pub(super) fn infer(input: &[Dim], params: &[&[usize]]) -> Result<Vec<Dim>, OpError> {
    let &[Dim::Batch, Dim::Fixed(features)] = input else {
        return Err(OpError::Input { op: "Linear", expected: "[N, in]".into(), actual: shape_text(input) });
    };
    let out = match *params[0] {
        [out, inner] if inner == features && out > 0 => out,
        _ => {
            let expected = format!("[out, {features}]");
            return Err(OpError::Param { op: "Linear", role: "weight", expected, actual: params[0].to_vec() });
        }
    };
    check_bias("Linear", params.get(1).copied(), out)?;
    Ok(vec![Dim::Batch, Dim::Fixed(out)])
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
