//! Dropout (Srivastava et al. 2014) in its inverted form: while training, each element is zero with probability `rate` and
//! otherwise `x / (1 - rate)`, so that nothing has to be scaled later.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rand::Rng;

use super::{numbers, tensor_like, with_slice};

const OP: &str = "dropout";

/// Leaves out elements of `x`, each with probability `rate` in `[0, 1)`, as `rng` has it.
pub fn dropout(x: &Tensor, rate: f64, rng: &mut impl Rng) -> Result<Tensor> {
    let scale = (1.0 / (1.0 - rate)) as f32;
    // An element goes where 32 random bits lie below the rate.
    let bound = (rate * 2f64.powi(32)) as u32;
    let factors = (0..x.elem_count()).map(|_| if rng.random::<u32>() < bound { 0.0 } else { scale }).collect();
    x.contiguous()?.apply_op1(Dropout { factors })
}

struct Dropout {
    /// What each element is multiplied with.
    factors: Vec<f32>,
}

impl Dropout {
    fn apply(&self, values: &[f32]) -> Vec<f32> {
        values.iter().zip(&self.factors).map(|(v, factor)| v * factor).collect()
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(numbers(OP, x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(tensor_like(with_slice(OP, dy, |dy| self.apply(dy))?, x)?))
    }
}
