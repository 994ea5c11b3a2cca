//! Values rounded to half precision and back: what they are where a network runs in that format. Rounding is to nearest,
//! ties to even; what is too large for the format becomes infinite.
//!
//! This is no kernel, for there is nothing to be done backwards: the gradient passes as if nothing were rounded (Bengio et
//! al. 2013, the straight-through estimator). That of the staircase is zero nearly everywhere.

use candle_core::{Error, Result, Tensor};
use niwaki_kernels::convert::{round_to_bf16, round_to_f16};

use super::{needs_gradient, tensor, with_slice};
use crate::tensor::DType;

const OP: &str = "round";

/// `x` rounded to the numbers that `dtype` has: `F16` or `BF16`, or `F32`, which has them all.
pub fn round(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let to = match dtype {
        DType::F32 => return Ok(x.clone()),
        DType::F16 => round_to_f16,
        DType::BF16 => round_to_bf16,
        other => return Err(Error::Msg(format!("{OP}: values do not pass through {other}"))),
    };
    let rounded = |x: &[f32]| {
        let mut y = x.to_vec();
        to(&mut y);
        y
    };
    tensor(with_slice(OP, x, rounded)?, x.shape(), needs_gradient(x))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_become_those_of_the_format() {
        // Half precision has 11 bits: above 2048 every second number, ties to even; its largest is 65504.
        let values = [1.0, 2049.0, 2051.0, 65519.0, 65520.0, -1e30, 1e-8];
        let x = Tensor::from_slice(&values, values.len(), &Device::Cpu).unwrap();
        let rounded = |dtype| round(&x, dtype).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(rounded(DType::F32), values);
        assert_eq!(rounded(DType::F16), [1.0, 2048.0, 2052.0, 65504.0, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        // bfloat16 has 8 bits and the range of f32.
        assert_eq!(rounded(DType::BF16)[..5], [1.0, 2048.0, 2048.0, 65536.0, 65536.0]);
        assert!(round(&x, DType::I8).is_err());
    }
}
