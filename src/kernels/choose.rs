//! By a condition, the element of one value or of another; all three are broadcast.
//!
//! ```text
//!   y = a where c, else b     da = dy where c, else 0     db = dy where not c, else 0
//! ```
//!
//! Elements are selected and not multiplied, so that what is not chosen may be infinite or no number.

use candle_core::{Error, Result};

use super::Kernel;
use super::broadcast::{Walk, joint};
use super::groups::sum_to;
use super::operator::{Array, Back, Made, Operator, exactly};

const OP: &str = "Where";

/// The choice by `condition`, which has that shape.
pub fn choose(condition: Vec<bool>, shape: &[usize]) -> Kernel {
    let condition = condition.into_iter().map(|c| if c { 1.0 } else { 0.0 }).collect();
    Kernel::of(Choose { condition, shape: shape.to_vec() })
}

struct Choose {
    /// 1 for the first value, 0 for the second.
    condition: Vec<f32>,
    shape: Vec<usize>,
}

impl Operator for Choose {
    fn name(&self) -> &'static str {
        OP
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [a, b] = exactly(OP, args)?;
        if self.condition.len() != self.shape.iter().product::<usize>() {
            return Err(Error::Msg(format!("{OP}: {} conditions of shape {:?}", self.condition.len(), self.shape)));
        }
        let shape = joint(&joint(a.shape, b.shape), &self.shape);
        let walk = Walk::broadcast(&shape, [&self.shape, a.shape, b.shape]);
        let values = walk.map([&self.condition, a.values, b.values], |[c, a, b]| if c != 0.0 { a } else { b });
        Ok(vec![Made::new(shape, values)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let shape = back.ys[0].shape;
        let walk = Walk::broadcast(shape, [&self.shape, shape]);
        Ok(back.each(|which| {
            let chosen = |[c, dy]: [f32; 2]| if (c != 0.0) == (which == 0) { dy } else { 0.0 };
            sum_to(walk.map([&self.condition, back.dy()], chosen), shape, back.args[which].shape)
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    #[test]
    fn what_is_not_chosen_may_be_infinite() {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        let args = [tensor(&[f32::NEG_INFINITY]), tensor(&[1.0, 2.0])];
        let kernel = choose(vec![true, false], &[2]);
        assert_eq!(result(&kernel, &args).unwrap(), [f32::NEG_INFINITY, 2.0]);
        assert_eq!(gradients(&kernel, &args, &[0.0, 3.0]), [vec![0.0], vec![0.0, 3.0]]);
    }
}
