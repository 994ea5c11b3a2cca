//! Dropout (Srivastava et al. 2014) in its inverted form: while training, each element is zero with probability `rate` and
//! otherwise `x / (1 - rate)`, so that nothing has to be scaled later.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rand::Rng;

use super::map::map_pairs;
use super::{Kernel, numbers, tensor_like, with_slice};

const OP: &str = "dropout";

/// Leaves out some of `elements` elements, each with probability `rate` in `[0, 1)`, as `rng` has it.
pub fn dropout(elements: usize, rate: f64, rng: &mut impl Rng) -> Kernel {
    let mut factors = vec![0.0; elements];
    dropout_factors(rate, rng, &mut factors);
    Kernel::One(Box::new(Dropout { factors }))
}

/// Writes what each element is multiplied with.
pub fn dropout_factors(rate: f64, rng: &mut impl Rng, factors: &mut [f32]) {
    let scale = (1.0 / (1.0 - rate)) as f32;
    // An element goes where 32 random bits lie below the rate.
    let bound = (rate * 2f64.powi(32)) as u32;
    factors.iter_mut().for_each(|factor| *factor = if rng.random::<u32>() < bound { 0.0 } else { scale });
}

struct Dropout {
    /// What each element is multiplied with.
    factors: Vec<f32>,
}

impl Dropout {
    fn apply(&self, values: &[f32]) -> Vec<f32> {
        map_pairs(values, &self.factors, |v, factor| v * factor)
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{gradients, result};
    use crate::seed;

    #[test]
    fn elements_are_zero_or_scaled_and_so_are_their_gradients() {
        let x = Tensor::from_slice(&[1f32; 20_000], (100, 200), &Device::Cpu).unwrap();
        for rate in [0.0, 0.1, 0.5, 0.9] {
            let kernel = dropout(20_000, rate, &mut seed::stream(1, "dropout-test"));
            let y = result(&kernel, std::slice::from_ref(&x)).unwrap();
            let scale = (1.0 / (1.0 - rate)) as f32;
            assert!(y.iter().all(|v| *v == 0.0 || *v == scale), "{rate}");
            // Of 20,000 draws the share that is left out is within 4 standard deviations of the rate.
            let left_out = y.iter().filter(|v| **v == 0.0).count() as f64 / 20_000.0;
            let deviation = (rate * (1.0 - rate) / 20_000.0f64).sqrt();
            assert!((left_out - rate).abs() <= 4.0 * deviation, "{rate}: {left_out}");
            let gradient = gradients(&kernel, std::slice::from_ref(&x), &[2.0; 20_000]).remove(0);
            assert!(gradient.iter().zip(&y).all(|(g, y)| *g == 2.0 * y), "{rate}");
        }
    }
}
