//! Values rounded to half precision and back: what they are where a network runs in that format. Rounding is to nearest,
//! ties to even; what is too large for the format becomes infinite.
//!
//! The gradient passes as if nothing were rounded (Bengio et al. 2013, the straight-through estimator): that of the
//! staircase is zero nearly everywhere.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use half::{bf16, f16};

use super::numbers;
use crate::tensor::DType;

const OP: &str = "round";

/// `x` rounded to the numbers that `dtype` has: `F16` or `BF16`, or `F32`, which has them all.
pub fn round(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let to: fn(f32) -> f32 = match dtype {
        DType::F32 => return Ok(x.clone()),
        DType::F16 => |v| f16::from_f32(v).to_f32(),
        DType::BF16 => |v| bf16::from_f32(v).to_f32(),
        other => return Err(Error::Msg(format!("{OP}: values do not pass through {other}"))),
    };
    x.contiguous()?.apply_op1(Round(to))
}

struct Round(fn(f32) -> f32);

impl CustomOp1 for Round {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = numbers(OP, x, layout)?.iter().map(|v| self.0(*v)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(dy.clone()))
    }
}
