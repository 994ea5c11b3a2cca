//! What is computed element by element; two elements are broadcast as in NumPy.
//!
//! Of whole numbers, quotients are rounded towards zero and results wrap; a division by zero is an error. A comparison with
//! what is no number is false, and the larger and the smaller of two are no number where one of them is none.

use super::array::{Array, Numbers, reals};
use super::moved::expanded;
use super::{Output, ReferenceError};
use crate::graph::op::{Activation, Binary, Clip, Compare, Unary};
use crate::tensor::TensorData;

/// A function of each element.
pub fn unary(unary: Unary, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let numbers = match Array::of(x).numbers {
        Numbers::Real(values) if unary == Unary::IsNaN => whole(values.iter().map(|v| i128::from(v.is_nan()))),
        Numbers::Real(values) => Numbers::Real(values.into_iter().map(|v| of_real(unary, v)).collect()),
        Numbers::Whole(values) => whole(values.into_iter().map(|v| match unary {
            Unary::Abs => v.abs(),
            Unary::Neg => -v,
            Unary::Sign => v.signum(),
            // All others are of floating point numbers.
            _ => i128::from(v == 0),
        })),
    };
    output.of(numbers)
}

fn of_real(unary: Unary, v: f64) -> f64 {
    match unary {
        Unary::Abs => v.abs(),
        Unary::Ceil => v.ceil(),
        Unary::Cos => v.cos(),
        Unary::Erf => libm::erf(v),
        Unary::Exp => v.exp(),
        Unary::Floor => v.floor(),
        Unary::Log => v.ln(),
        Unary::Neg => -v,
        Unary::Reciprocal => 1.0 / v,
        Unary::Round => v.round_ties_even(),
        Unary::Sign if v == 0.0 || v.is_nan() => v,
        Unary::Sign => v.signum(),
        Unary::Sin => v.sin(),
        Unary::Sqrt => v.sqrt(),
        // These two give truth values.
        Unary::IsNaN => f64::from(u8::from(v.is_nan())),
        Unary::Not => f64::from(u8::from(v == 0.0)),
    }
}

/// An activation; of whole numbers there is ReLU only.
pub fn activation(activation: Activation, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    output.of(match Array::of(x).numbers {
        Numbers::Real(values) => Numbers::Real(values.into_iter().map(|v| activation.at(v).0).collect()),
        Numbers::Whole(values) => whole(values.into_iter().map(|v| v.max(0))),
    })
}

/// `x` where it is positive, else `slope x`.
pub fn prelu(x: &TensorData, slope: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let slopes = expanded(reals(slope), slope.shape(), &output.shape)?;
    output.real(reals(x).into_iter().zip(slopes).map(|(v, slope)| if v > 0.0 { v } else { slope * v }).collect())
}

/// First not below the lower bound, then not above the upper one. What is no number stays so.
pub fn clip(config: &Clip, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    output.of(match Array::of(x).numbers {
        Numbers::Real(values) => {
            let above = |v: f64| config.min.filter(|min| v < *min).unwrap_or(v);
            let below = |v: f64| config.max.filter(|max| v > *max).unwrap_or(v);
            Numbers::Real(values.into_iter().map(|v| below(above(v))).collect())
        }
        Numbers::Whole(values) => {
            let min = config.min.map_or(i128::MIN, |min| min as i128);
            let max = config.max.map_or(i128::MAX, |max| max as i128);
            whole(values.into_iter().map(|v| v.max(min).min(max)))
        }
    })
}

/// A function of two elements.
pub fn binary(op: Binary, a: &TensorData, b: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let numbers = match (wide(a, output)?, wide(b, output)?) {
        (Numbers::Whole(a), Numbers::Whole(b)) if op == Binary::Pow && b.iter().all(|b| *b >= 0) => {
            whole(a.into_iter().zip(b).map(|(a, b)| power(a, b)))
        }
        (Numbers::Whole(a), Numbers::Whole(b)) if op != Binary::Pow => {
            let results: Option<Vec<i128>> = a.into_iter().zip(b).map(|(a, b)| of_wholes(op, a, b)).collect();
            let problem = || "by zero, of whole numbers".to_string();
            Numbers::Whole(results.ok_or_else(|| ReferenceError::Input { op: op.name(), problem: problem() })?)
        }
        (a, b) => Numbers::Real(a.reals().into_iter().zip(b.reals()).map(|(a, b)| of_reals(op, a, b)).collect()),
    };
    output.of(numbers)
}

/// Whether a comparison holds, element by element.
pub fn compare(op: Compare, a: &TensorData, b: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    fn holds<T: PartialOrd>(op: Compare, a: Vec<T>, b: Vec<T>) -> Numbers {
        whole(a.into_iter().zip(b).map(|(a, b)| {
            i128::from(match op {
                Compare::Equal => a == b,
                Compare::Greater => a > b,
                Compare::GreaterOrEqual => a >= b,
                Compare::Less => a < b,
                Compare::LessOrEqual => a <= b,
            })
        }))
    }
    output.of(match (wide(a, output)?, wide(b, output)?) {
        (Numbers::Whole(a), Numbers::Whole(b)) => holds(op, a, b),
        (a, b) => holds(op, a.reals(), b.reals()),
    })
}

fn of_reals(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Min if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Mod => {
            let rest = a % b;
            if rest == 0.0 {
                0f64.copysign(b)
            } else if (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            }
        }
        Binary::Fmod => a % b,
        Binary::Pow => a.powf(b),
        Binary::And => f64::from(u8::from(a != 0.0 && b != 0.0)),
        Binary::Or => f64::from(u8::from(a != 0.0 || b != 0.0)),
        Binary::Xor => f64::from(u8::from((a != 0.0) != (b != 0.0))),
    }
}

/// `None` for a division by zero. Of two numbers of 64 bits nothing here loses any of the lower 64 bits.
fn of_wholes(op: Binary, a: i128, b: i128) -> Option<i128> {
    Some(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => a.checked_div(b)?,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::Mod => match a.checked_rem(b)? {
            rest if rest != 0 && (rest < 0) != (b < 0) => rest + b,
            rest => rest,
        },
        Binary::Fmod => a.checked_rem(b)?,
        Binary::And => i128::from(a != 0 && b != 0),
        Binary::Or => i128::from(a != 0 || b != 0),
        Binary::Xor => i128::from((a != 0) != (b != 0)),
        Binary::Pow => power(a, b.max(0)),
    })
}

/// By squaring, modulo 2^128.
fn power(mut base: i128, mut exponent: i128) -> i128 {
    let mut power = 1i128;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    power
}

/// An input's numbers broadcast to the output's shape.
fn wide(x: &TensorData, output: &Output) -> Result<Numbers, ReferenceError> {
    Ok(match Array::of(x).numbers {
        Numbers::Real(values) => Numbers::Real(expanded(values, x.shape(), &output.shape)?),
        Numbers::Whole(values) => Numbers::Whole(expanded(values, x.shape(), &output.shape)?),
    })
}

fn whole(values: impl Iterator<Item = i128>) -> Numbers {
    Numbers::Whole(values.collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{eval, one, real, tensor};
    use super::*;
    use crate::graph::Op;
    use crate::graph::op::Cast;
    use crate::tensor::DType;
    use proptest::prelude::*;

    fn of(binary: Binary, dtype: DType, a: &[f64], b: &[f64]) -> Vec<f64> {
        reals(&one(&Op::Binary(binary), &[&tensor(dtype, &[a.len()], a), &tensor(dtype, &[b.len()], b)], &[]))
    }

    #[test]
    fn whole_numbers_are_divided_as_in_their_languages() {
        let (a, b) = ([7.0, -7.0, 7.0, -7.0], [3.0, 3.0, -3.0, -3.0]);
        for dtype in [DType::I32, DType::I64] {
            assert_eq!(of(Binary::Div, dtype, &a, &b), [2.0, -2.0, -2.0, 2.0]);
            assert_eq!(of(Binary::Fmod, dtype, &a, &b), [1.0, -1.0, 1.0, -1.0]);
        }
        for dtype in [DType::I32, DType::F32] {
            assert_eq!(of(Binary::Mod, dtype, &a, &b), [1.0, 2.0, -2.0, -1.0]);
        }
        for op in [Binary::Div, Binary::Mod, Binary::Fmod] {
            let (one, zero) = (tensor(DType::U8, &[], &[1.0]), tensor(DType::U8, &[], &[0.0]));
            let error = eval(&Op::Binary(op), &[&one, &zero], &[]).unwrap_err().to_string();
            assert_eq!(error, format!("{} by zero, of whole numbers", op.name()));
        }
        // The one quotient that does not fit wraps.
        let least = Numbers::Whole(vec![i64::MIN.into()]).tensor(DType::I64, vec![1]).unwrap();
        let minus = tensor(DType::I64, &[1], &[-1.0]);
        assert_eq!(one(&Op::Binary(Binary::Div), &[&least, &minus], &[]), least);
    }

    #[test]
    fn whole_numbers_wrap() {
        assert_eq!(of(Binary::Add, DType::U8, &[250.0], &[10.0]), [4.0]);
        assert_eq!(of(Binary::Mul, DType::I8, &[100.0], &[2.0]), [-56.0]);
        assert_eq!(of(Binary::Sub, DType::U16, &[0.0], &[1.0]), [65535.0]);
        assert_eq!(of(Binary::Pow, DType::I32, &[3.0, -2.0, 2.0], &[4.0, 3.0, -1.0]), [81.0, -8.0, 0.0]);
        assert_eq!(of(Binary::Pow, DType::I32, &[2.0, 3.0], &[31.0, 40.0])[0], f64::from(i32::MIN));
    }

    #[test]
    fn a_power_has_the_format_of_its_base() {
        let (whole, half) = (tensor(DType::I32, &[2], &[4.0, 10.0]), real(&[], &[0.5]));
        assert_eq!(one(&Op::Binary(Binary::Pow), &[&whole, &half], &[]), tensor(DType::I32, &[2], &[2.0, 3.0]));
        assert_eq!(one(&Op::Binary(Binary::Pow), &[&half, &whole], &[]), real(&[2], &[0.0625, 0.0009765625]));
    }

    #[test]
    fn shapes_are_broadcast() {
        let (column, row) = (real(&[2, 1], &[10.0, 20.0]), real(&[3], &[1.0, 2.0, 3.0]));
        let sum = one(&Op::ADD, &[&column, &row], &[]);
        assert_eq!(sum, real(&[2, 3], &[11.0, 12.0, 13.0, 21.0, 22.0, 23.0]));
        let less = one(&Op::Compare(Compare::Less), &[&row, &column], &[]);
        assert_eq!(less, tensor(DType::Bool, &[2, 3], &[1.0; 6]));
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let x = real(&[3], &[f64::NAN, -0.5, 2.5]);
        let nan = |y: &TensorData| reals(y)[0].is_nan();
        assert!(nan(&one(&Op::Clip(Clip { min: Some(0.0), max: Some(1.0) }), &[&x], &[])));
        assert!(nan(&one(&Op::Binary(Binary::Max), &[&x, &real(&[], &[1.0])], &[])));
        assert!(nan(&one(&Op::Unary(Unary::Sign), &[&x], &[])));
        assert!(nan(&one(&Op::Activation(Activation::Relu), &[&x], &[])));
        assert_eq!(one(&Op::Unary(Unary::IsNaN), &[&x], &[]), tensor(DType::Bool, &[3], &[1.0, 0.0, 0.0]));
        assert_eq!(reals(&one(&Op::Unary(Unary::Round), &[&x], &[]))[1..], [0.0, 2.0]);
    }

    #[test]
    fn bounds_of_whole_numbers_may_be_infinite() {
        let x = tensor(DType::U8, &[3], &[0.0, 100.0, 255.0]);
        let clip = Clip { min: Some(f64::NEG_INFINITY), max: Some(200.0) };
        assert_eq!(one(&Op::Clip(clip), &[&x], &[]), tensor(DType::U8, &[3], &[0.0, 100.0, 200.0]));
    }

    #[test]
    fn slopes_and_casts() {
        let x = real(&[2, 2], &[-1.0, 2.0, -3.0, 4.0]);
        let y = one(&Op::PRelu, &[&x], &[&real(&[2, 1], &[0.5, 2.0])]);
        assert_eq!(y, real(&[2, 2], &[-0.5, 2.0, -6.0, 4.0]));
        let cast = |to| one(&Op::Cast(Cast { to }), &[&real(&[3], &[-1.9, 300.7, 0.0])], &[]);
        assert_eq!(cast(DType::I32), tensor(DType::I32, &[3], &[-1.0, 300.0, 0.0]));
        assert_eq!(cast(DType::U8), tensor(DType::U8, &[3], &[0.0, 255.0, 0.0]));
        assert_eq!(cast(DType::Bool), tensor(DType::Bool, &[3], &[1.0, 1.0, 0.0]));
    }

    proptest! {
        #[test]
        fn a_quotient_and_its_rest_give_the_dividend(a: i64, b: i64) {
            prop_assume!(b != 0);
            let (a, b) = (i128::from(a), i128::from(b));
            let (quotient, rest) = (of_wholes(Binary::Div, a, b).unwrap(), of_wholes(Binary::Fmod, a, b).unwrap());
            prop_assert_eq!(quotient * b + rest, a);
            let python = of_wholes(Binary::Mod, a, b).unwrap();
            prop_assert!((a - python) % b == 0 && python.abs() < b.abs());
            prop_assert!(python == 0 || (python < 0) == (b < 0));
        }
    }

    #[test]
    fn every_unary_function_of_a_number_is_known() {
        for unary in Unary::ALL {
            let x = if *unary == Unary::Not { tensor(DType::Bool, &[1], &[1.0]) } else { real(&[1], &[0.25]) };
            let expected = match unary {
                Unary::Abs => 0.25,
                Unary::Ceil | Unary::Sign => 1.0,
                Unary::Cos => 0.9689124217106447,
                Unary::Erf => 0.2763263901682369,
                Unary::Exp => 1.2840254166877414,
                Unary::Floor | Unary::IsNaN | Unary::Not | Unary::Round => 0.0,
                Unary::Log => -1.3862943611198906,
                Unary::Neg => -0.25,
                Unary::Reciprocal => 4.0,
                Unary::Sin => 0.24740395925452294,
                Unary::Sqrt => 0.5,
            };
            let y = reals(&one(&Op::Unary(*unary), &[&x], &[]))[0];
            assert!((y - expected).abs() < 1e-7, "{}: {y}", unary.name());
        }
    }
}
