//! Functions of each element. The derivatives of three follow from their results `y`.
//!
//! ```text
//!   relu      max(x, 0)             dx = dy where y > 0, else 0
//!   sigmoid   1 / (1 + exp(-x))     dx = dy y (1 - y)
//!   tanh                            dx = dy (1 - y^2)
//! ```
//!
//! All others go by their arguments: the common ones in `f32`, the rare ones by [`Activation::at`].
//!
//! candle's own ReLU turns NaN into 0, so that a diverged network looks well, and has gradient 1 at 0, where the units of a
//! pruned network that lost all their inputs lie. Here NaN stays NaN and the gradient at 0 is 0, as in PyTorch.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::map::{map, map_pairs};
use super::{Kernel, numbers, tensor_like, with_slice};
use crate::graph::op::{Activation, Alpha};

/// The function of each element.
pub fn activation(activation: Activation) -> Kernel {
    Kernel::One(Box::new(Elementwise(activation)))
}

struct Elementwise(Activation);

impl CustomOp1 for Elementwise {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = numbers(self.name(), x, layout)?;
        let y = match self.0 {
            // Written as "not below 0", so that NaN passes.
            Activation::Relu => map(x, |x| if x < 0.0 { 0.0 } else { x }),
            Activation::Sigmoid => map(x, sigmoid),
            Activation::Tanh => map(x, f32::tanh),
            Activation::Gelu => map(x, |x| x * normal(x)),
            Activation::GeluTanh => map(x, |x| 0.5 * x * (1.0 + bent(x).0)),
            Activation::HardSwish => map(x, |x| x * gate(x)),
            Activation::LeakyRelu(Alpha { alpha }) => map(x, |x| if x > 0.0 { x } else { alpha as f32 * x }),
            Activation::Swish(Alpha { alpha }) => map(x, |x| x * sigmoid(alpha as f32 * x)),
            other => map(x, |x| other.at(f64::from(x)).0 as f32),
        };
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        // Three derivatives follow from the result, all others from the argument.
        let from = if matches!(self.0, Activation::Relu | Activation::Sigmoid | Activation::Tanh) { y } else { x };
        let gradient = |y: &[f32], dy: &[f32]| match self.0 {
            Activation::Relu => map_pairs(y, dy, |y, dy| if y == 0.0 { 0.0 } else { dy }),
            Activation::Sigmoid => map_pairs(y, dy, |y, dy| dy * y * (1.0 - y)),
            Activation::Tanh => map_pairs(y, dy, |y, dy| dy * (1.0 - y * y)),
            Activation::Gelu => map_pairs(y, dy, |x, dy| dy * (normal(x) + x * density(x))),
            Activation::GeluTanh => map_pairs(y, dy, |x, dy| {
                let (t, slope) = bent(x);
                dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
            }),
            Activation::HardSwish => map_pairs(y, dy, |x, dy| {
                let gate = gate(x);
                dy * if gate > 0.0 && gate < 1.0 { gate + x / 6.0 } else { gate }
            }),
            Activation::LeakyRelu(Alpha { alpha }) => {
                map_pairs(y, dy, |x, dy| if x > 0.0 { dy } else { alpha as f32 * dy })
            }
            Activation::Swish(Alpha { alpha }) => map_pairs(y, dy, |x, dy| {
                let (alpha, s) = (alpha as f32, sigmoid(alpha as f32 * x));
                dy * (s + x * alpha * s * (1.0 - s))
            }),
            other => map_pairs(y, dy, |x, dy| (f64::from(dy) * other.at(f64::from(x)).1) as f32),
        };
        let dx = with_slice(self.name(), from, |y| with_slice(self.name(), dy, |dy| gradient(y, dy)))??;
        Ok(Some(tensor_like(dx, y)?))
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution's function.
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The normal distribution's density.
fn density(x: f32) -> f32 {
    const FACTOR: f32 = 0.398_942_3;
    FACTOR * (-0.5 * x * x).exp()
}

/// What [`Activation::GeluTanh`] takes for `2 normal(x) - 1`: a hyperbolic tangent, and the slope of its argument.
fn bent(x: f32) -> (f32, f32) {
    const FACTOR: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    ((FACTOR * (x + CUBE * x * x * x)).tanh(), FACTOR * (1.0 + 3.0 * CUBE * x * x))
}

/// What [`Activation::HardSwish`] multiplies with.
fn gate(x: f32) -> f32 {
    (x / 6.0 + 0.5).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers, result};

    #[test]
    fn the_gradient_of_relu_is_that_of_the_positive_side_and_nothing_at_zero() {
        let x = Tensor::from_slice(&[-2f32, -0.0, 0.0, 3.0], 4, &Device::Cpu).unwrap();
        let relu = activation(Activation::Relu);
        assert_eq!(result(&relu, std::slice::from_ref(&x)).unwrap(), [0.0, 0.0, 0.0, 3.0]);
        assert_eq!(gradients(&relu, &[x], &[5.0, 6.0, 7.0, 8.0]), [[0.0, 0.0, 0.0, 8.0]]);
    }

    #[test]
    fn activations_and_gradients_are_those_of_the_definition_far_out_too() {
        for which in Activation::ALL.into_iter().filter(|which| *which != Activation::Relu) {
            let exact = |x: f64| which.at(x).0;
            let mut values: Vec<f32> = numbers(40, 3).into_iter().map(|v| v * 4.0).collect();
            values.extend([-100.0, 100.0]);
            let x = Tensor::from_slice(&values, values.len(), &Device::Cpu).unwrap();
            let found = result(&activation(which), std::slice::from_ref(&x)).unwrap();
            for (found, x) in found.iter().zip(&values) {
                assert!(close(*found, exact(f64::from(*x)), 1e-6), "{which:?} of {x}: {found}");
            }
            let upstream = numbers(values.len(), 4);
            let found = gradients(&activation(which), &[x], &upstream).remove(0);
            let expected =
                central_differences(&values, |x| x.iter().zip(&upstream).map(|(x, d)| exact(*x) * f64::from(*d)).sum());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(close(*found, *expected, 1e-5), "{which:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn sigmoid_is_that_of_candle_nn() {
        let x = Tensor::from_slice(&numbers(40, 5), 40, &Device::Cpu).unwrap();
        let found = result(&activation(Activation::Sigmoid), std::slice::from_ref(&x)).unwrap();
        let expected = candle_nn::ops::sigmoid(&x).unwrap().to_vec1::<f32>().unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!(close(*found, f64::from(*expected), 1e-6), "{found} {expected}");
        }
    }

    #[test]
    fn not_a_number_is_handed_on() {
        let x = Tensor::from_slice(&[f32::NAN], 1, &Device::Cpu).unwrap();
        for which in Activation::ALL {
            assert!(result(&activation(which), std::slice::from_ref(&x)).unwrap()[0].is_nan());
        }
    }
}
