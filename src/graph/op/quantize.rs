//! To whole numbers of 8 bits and back: `q = saturate(round(x / scale) + zero_point)`, `x = (q - zero_point) * scale`.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::tensor::DType;

/// Numbers as multiples of a scale. Parameters: `scale` and `zero_point`, one number or one a place of `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {
    /// The format: `I8` or `U8`.
    pub to: DType,
    /// The axis along which scales differ.
    pub axis: usize,
}

/// The inverse of [`Quantize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequantize {
    /// The axis along which scales differ.
    pub axis: usize,
}

impl Quantize {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        if !matches!(self.to, DType::I8 | DType::U8) {
            return Err(config("Quantize", "to", format!("must be I8 or U8, is {}", self.to)));
        }
        if !x.dtype.is_float() && x.dtype != DType::I32 {
            return Err(wants("Quantize", "floating point numbers", x));
        }
        check_scales("Quantize", self.axis, x, params)?;
        Ok(ValueType::new(self.to, x.shape.clone()))
    }
}

impl Dequantize {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        if !matches!(x.dtype, DType::I8 | DType::U8 | DType::I32) {
            return Err(wants("Dequantize", "whole numbers of 8 or 32 bits", x));
        }
        check_scales("Dequantize", self.axis, x, params)?;
        Ok(ValueType::new(DType::F32, x.shape.clone()))
    }
}

fn check_scales(op: &'static str, axis: usize, x: &ValueType, params: &[&[usize]]) -> Result<(), OpError> {
    for (role, shape) in ["scale", "zero_point"].into_iter().zip(params) {
        let along = |n: usize| x.shape.get(axis).and_then(|size| size.fixed()) == Some(n);
        match **shape {
            [] | [1] => {}
            [n] if along(n) => {}
            _ => {
                let expected = format!("one number, or one for each place of axis {axis} of {x}");
                return Err(OpError::Param { op, role, expected, actual: shape.to_vec() });
            }
        }
    }
    Ok(())
}
