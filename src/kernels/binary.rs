//! Functions of two elements, broadcast as in NumPy.
//!
//! ```text
//!   y = f(a, b)     da = sum over what a lacks of dy df/da     db = sum over what b lacks of dy df/db
//!
//!   pow      a^b                 b a^(b-1)          a^b ln a, 0 at a = 0
//!   max      the larger          1 or 0; 1/2 each where both are equal
//!   mod      a - b floor(a/b)    1                  -floor(a/b)
//!   prelu    a or b a            1 or b             0 or a
//! ```
//!
//! Where no gradient comes in none goes out, even if the slope there is infinite.

use candle_core::Result;

use super::Kernel;
use super::broadcast::{Walk, joint};
use super::groups::sum_to;
use super::map::map_pairs;
use super::operator::{Array, Back, Made, Operator, exactly};
use crate::graph::op::Binary;

/// The function of the elements of two values.
pub fn binary(function: Binary) -> Kernel {
    Kernel::of(Pairs { function: Function::Binary(function) })
}

/// `x` where it is positive, else `weight x`.
pub fn prelu() -> Kernel {
    Kernel::of(Pairs { function: Function::PRelu })
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Binary(Binary),
    PRelu,
}

/// The operator of a function of two elements.
pub(super) struct Pairs {
    function: Function,
}

impl Function {
    fn at(self, a: f32, b: f32) -> f32 {
        match self {
            Function::Binary(Binary::Add) => a + b,
            Function::Binary(Binary::Sub) => a - b,
            Function::Binary(Binary::Mul) => a * b,
            Function::Binary(Binary::Div) => a / b,
            Function::Binary(Binary::Pow) => a.powf(b),
            // Written so that NaN passes, whichever it is.
            Function::Binary(Binary::Max) => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Function::Binary(Binary::Min) => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Function::Binary(Binary::Mod) => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            Function::Binary(Binary::Fmod) => a % b,
            // Of truth values, which do not come here.
            Function::Binary(Binary::And | Binary::Or | Binary::Xor) => f32::NAN,
            Function::PRelu => {
                if a > 0.0 {
                    a
                } else {
                    b * a
                }
            }
        }
    }

    /// The slope along the first argument, or along the second.
    fn slope(self, second: bool, a: f32, b: f32) -> f32 {
        match (self, second) {
            (Function::Binary(Binary::Add), _) => 1.0,
            (Function::Binary(Binary::Sub), _) => {
                if second {
                    -1.0
                } else {
                    1.0
                }
            }
            (Function::Binary(Binary::Mul), false) => b,
            (Function::Binary(Binary::Mul), true) => a,
            (Function::Binary(Binary::Div), false) => 1.0 / b,
            (Function::Binary(Binary::Div), true) => -a / b / b,
            (Function::Binary(Binary::Pow), false) => {
                if b == 0.0 {
                    0.0
                } else {
                    b * a.powf(b - 1.0)
                }
            }
            (Function::Binary(Binary::Pow), true) => {
                if a == 0.0 {
                    0.0
                } else {
                    a.powf(b) * a.ln()
                }
            }
            (Function::Binary(Binary::Max), _) => share(if second { b - a } else { a - b }),
            (Function::Binary(Binary::Min), _) => share(if second { a - b } else { b - a }),
            (Function::Binary(Binary::Mod | Binary::Fmod), false) => 1.0,
            (Function::Binary(Binary::Mod), true) => -(a / b).floor(),
            (Function::Binary(Binary::Fmod), true) => -(a / b).trunc(),
            (Function::Binary(Binary::And | Binary::Or | Binary::Xor), _) => 0.0,
            (Function::PRelu, false) => {
                if a > 0.0 {
                    1.0
                } else {
                    b
                }
            }
            (Function::PRelu, true) => {
                if a > 0.0 {
                    0.0
                } else {
                    a
                }
            }
        }
    }
}

/// How much of a maximum is that of a number which is larger than the other by `lead`.
fn share(lead: f32) -> f32 {
    if lead > 0.0 {
        1.0
    } else if lead == 0.0 {
        0.5
    } else {
        0.0
    }
}

/// `f` of the elements of two values, with a loop for the commonest functions.
fn zip(function: Function, a: Array<'_>, b: Array<'_>, shape: &[usize]) -> Vec<f32> {
    fn with(a: Array<'_>, b: Array<'_>, shape: &[usize], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        if a.shape == b.shape {
            return map_pairs(a.values, b.values, f);
        }
        Walk::broadcast(shape, [a.shape, b.shape]).zip(a.values, b.values, f)
    }
    match function {
        Function::Binary(Binary::Add) => with(a, b, shape, |a, b| a + b),
        Function::Binary(Binary::Mul) => with(a, b, shape, |a, b| a * b),
        other => with(a, b, shape, move |a, b| other.at(a, b)),
    }
}

impl Operator for Pairs {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Binary(binary) => binary.name(),
            Function::PRelu => "PRelu",
        }
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [a, b] = exactly(self.name(), args)?;
        let shape = joint(a.shape, b.shape);
        let values = zip(self.function, a, b, &shape);
        Ok(vec![Made::new(shape, values)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let [a, b] = exactly(self.name(), back.args)?;
        let (shape, dy, function) = (joint(a.shape, b.shape), back.dy(), self.function);
        let gradient = |second: bool| match function {
            Function::Binary(Binary::Add) => dy.to_vec(),
            Function::Binary(Binary::Sub) if !second => dy.to_vec(),
            Function::Binary(Binary::Mul) => {
                let (other, dy) = (if second { a } else { b }, Array { shape: &shape, values: dy });
                zip(function, dy, other, &shape)
            }
            function => {
                let walk = Walk::broadcast(&shape, [a.shape, b.shape, &shape]);
                walk.map(
                    [a.values, b.values, dy],
                    |[a, b, dy]| {
                        if dy == 0.0 { 0.0 } else { dy * function.slope(second, a, b) }
                    },
                )
            }
        };
        Ok(back.each(|which| sum_to(gradient(which == 1), &shape, back.args[which].shape)))
    }
}

impl Pairs {
    /// The power of the elements of the first.
    pub(super) const POWER: Pairs = Pairs { function: Function::Binary(Binary::Pow) };
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    fn args(a: &[f32], b: &[f32]) -> [Tensor; 2] {
        [a, b].map(|v| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap())
    }

    #[test]
    fn equal_numbers_share_the_gradient_of_a_maximum() {
        let args = args(&[1.0, 2.0, 3.0], &[2.0]);
        assert_eq!(result(&binary(Binary::Max), &args).unwrap(), [2.0, 2.0, 3.0]);
        assert_eq!(gradients(&binary(Binary::Max), &args, &[8.0, 4.0, 2.0]), [vec![0.0, 2.0, 2.0], vec![10.0]]);
    }

    #[test]
    fn no_gradient_becomes_nothing_else_where_a_slope_is_infinite() {
        let args = args(&[0.0, 4.0], &[0.5, 0.5]);
        assert_eq!(gradients(&binary(Binary::Pow), &args, &[0.0, 1.0])[0], [0.0, 0.25]);
        assert!(
            result(&binary(Binary::Max), &self::args(&[f32::NAN, 1.0], &[1.0, f32::NAN]))
                .unwrap()
                .iter()
                .all(|v| v.is_nan())
        );
    }
}
