//! Functions of each element that are no activations.
//!
//! ```text
//!   dx = dy f'(x)      0 for those that go by steps: ceil, floor, round, sign
//! ```
//!
//! Where no gradient comes in none goes out, even if the slope there is infinite.

use candle_core::Result;

use super::Kernel;
use super::broadcast::Walk;
use super::map::map;
use super::operator::{Array, Back, Made, Operator, exactly};
use crate::graph::op::{Clip, Unary};

/// The function of each element.
pub fn unary(function: Unary) -> Kernel {
    Kernel::of(Each(Function::Unary(function)))
}

/// Each element brought between the bounds. The gradient passes at the bounds and between them.
pub fn clip(config: &Clip) -> Kernel {
    let bound = |bound: Option<f64>, none: f32| bound.map_or(none, |bound| bound as f32);
    Kernel::of(Each(Function::Clip(bound(config.min, f32::NEG_INFINITY), bound(config.max, f32::INFINITY))))
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Unary(Unary),
    Clip(f32, f32),
}

struct Each(Function);

/// The number with the sign of `x`, or 0; NaN passes.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

impl Function {
    fn at(self, x: f32) -> f32 {
        match self {
            Function::Unary(Unary::Abs) => x.abs(),
            Function::Unary(Unary::Ceil) => x.ceil(),
            Function::Unary(Unary::Cos) => x.cos(),
            Function::Unary(Unary::Erf) => libm::erff(x),
            Function::Unary(Unary::Exp) => x.exp(),
            Function::Unary(Unary::Floor) => x.floor(),
            Function::Unary(Unary::Log) => x.ln(),
            Function::Unary(Unary::Neg) => -x,
            Function::Unary(Unary::Reciprocal) => 1.0 / x,
            Function::Unary(Unary::Round) => x.round_ties_even(),
            Function::Unary(Unary::Sign) => sign(x),
            Function::Unary(Unary::Sin) => x.sin(),
            Function::Unary(Unary::Sqrt) => x.sqrt(),
            // Truth values, which do not come here.
            Function::Unary(Unary::IsNaN | Unary::Not) => f32::NAN,
            Function::Clip(min, max) => {
                // Written so that NaN passes.
                let x = if x < min { min } else { x };
                if x > max { max } else { x }
            }
        }
    }

    /// The slope at `x`, where the value is `y`.
    fn slope(self, x: f32, y: f32) -> f32 {
        match self {
            Function::Unary(Unary::Abs) => sign(x),
            Function::Unary(Unary::Cos) => -x.sin(),
            Function::Unary(Unary::Erf) => std::f32::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
            Function::Unary(Unary::Exp) => y,
            Function::Unary(Unary::Log) => 1.0 / x,
            Function::Unary(Unary::Neg) => -1.0,
            Function::Unary(Unary::Reciprocal) => -y * y,
            Function::Unary(Unary::Sin) => x.cos(),
            Function::Unary(Unary::Sqrt) => 0.5 / y,
            Function::Clip(min, max) => {
                if x < min || x > max {
                    0.0
                } else {
                    1.0
                }
            }
            Function::Unary(Unary::Ceil | Unary::Floor | Unary::IsNaN | Unary::Not | Unary::Round | Unary::Sign) => 0.0,
        }
    }
}

impl Operator for Each {
    fn name(&self) -> &'static str {
        match self.0 {
            Function::Unary(unary) => unary.name(),
            Function::Clip(..) => "Clip",
        }
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let ([x], function) = (exactly(self.name(), args)?, self.0);
        Ok(vec![Made::new(x.shape, map(x.values, |x| function.at(x)))])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let (x, function) = (back.args[0], self.0);
        let walk = Walk::broadcast(x.shape, [x.shape; 3]);
        let gradient = |[x, y, dy]: [f32; 3]| if dy == 0.0 { 0.0 } else { dy * function.slope(x, y) };
        Ok(back.each(|_| walk.map([x.values, back.ys[0].values, back.dy()], gradient)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    #[test]
    fn halves_are_rounded_to_even_and_clipping_lets_not_a_number_pass() {
        let x = Tensor::from_slice(&[0.5f32, 1.5, -2.5, f32::NAN], 4, &Device::Cpu).unwrap();
        let round = result(&unary(Unary::Round), std::slice::from_ref(&x)).unwrap();
        assert_eq!(round[..3], [0.0, 2.0, -2.0]);
        let clipped = result(&clip(&Clip { min: Some(-1.0), max: Some(1.0) }), &[x]).unwrap();
        assert_eq!(clipped[..3], [0.5, 1.0, -1.0]);
        assert!(round[3].is_nan() && clipped[3].is_nan());
    }

    #[test]
    fn no_gradient_becomes_nothing_else_where_the_slope_is_infinite() {
        let x = Tensor::from_slice(&[0f32, 4.0], 2, &Device::Cpu).unwrap();
        assert_eq!(gradients(&unary(Unary::Sqrt), &[x], &[0.0, 1.0]), [[0.0, 0.25]]);
    }
}
