//! `max(x, 0)`, where NaN stays NaN and the gradient at 0 is 0, as in PyTorch.
//!
//! candle's own turns NaN into 0, so that a diverged network looks well, and has gradient 1 at 0, where the units of a
//! pruned network that lost all their inputs lie.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::map::{map, map_pairs};
use super::{numbers, tensor_like, with_slice};

const OP: &str = "relu";

/// `max(x, 0)` of each element.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Relu)
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // Written as "not below 0", so that NaN passes.
        let y = map(numbers(OP, x, layout)?, |v| if v < 0.0 { 0.0 } else { v });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let gradient = |y: &[f32], dy: &[f32]| map_pairs(y, dy, |y, dy| if y == 0.0 { 0.0 } else { dy });
        let dx = with_slice(OP, y, |y| with_slice(OP, dy, |dy| gradient(y, dy)))??;
        Ok(Some(tensor_like(dx, y)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::gradients;

    #[test]
    fn the_gradient_is_that_of_the_positive_side_and_nothing_at_zero() {
        let x = Tensor::from_slice(&[-2f32, -0.0, 0.0, 3.0], 4, &Device::Cpu).unwrap();
        assert_eq!(relu(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 0.0, 3.0]);
        let found = gradients(&[x], &[5.0, 6.0, 7.0, 8.0], |a| relu(&a[0]).unwrap());
        assert_eq!(found, [[0.0, 0.0, 0.0, 8.0]]);
    }

    #[test]
    fn not_a_number_is_handed_on() {
        let x = Tensor::from_slice(&[f32::NAN], 1, &Device::Cpu).unwrap();
        assert!(relu(&x).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
    }
}
