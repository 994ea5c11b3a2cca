//! `a + b` of two values of one shape.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};

use super::map::map_pairs;
use super::{Kernel, numbers};

const OP: &str = "add";

/// The sum, element by element.
pub fn add() -> Kernel {
    Kernel::Two(Box::new(Add))
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        if al.shape() != bl.shape() {
            return Err(Error::Msg(format!("{OP} of {:?} and {:?}: shapes differ", al.dims(), bl.dims())));
        }
        let y = map_pairs(numbers(OP, a, al)?, numbers(OP, b, bl)?, |a, b| a + b);
        Ok((CpuStorage::F32(y), al.shape().clone()))
    }

    fn bwd(&self, _a: &Tensor, _b: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dy.clone()), Some(dy.clone())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{gradients, result};

    #[test]
    fn both_summands_get_the_whole_gradient() {
        let tensor = |values: [f32; 3]| Tensor::from_slice(&values, 3, &Device::Cpu).unwrap();
        let args = [tensor([1.0, 2.0, 3.0]), tensor([10.0, 20.0, 30.0])];
        assert_eq!(result(&add(), &args).unwrap(), [11.0, 22.0, 33.0]);
        assert_eq!(gradients(&add(), &args, &[1.0, 2.0, 3.0]), [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]);
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        let tensor = |n: usize| Tensor::from_slice(&vec![0f32; n], n, &Device::Cpu).unwrap();
        assert!(result(&add(), &[tensor(3), tensor(2)]).is_err());
    }
}
