//! To whole numbers of 8 bits and back: `q = saturate(round(x / scale) + zero_point)`, `x = (q - zero_point) * scale`.
//!
//! A quotient is rounded to the number format of its dividend before it is rounded, half to even, to a whole number.

use super::array::{Numbers, bounds, count, reals, rounded, wholes};
use super::{Output, ReferenceError};
use crate::tensor::{DType, TensorData};

/// Which scale each element has: one for all, or one a place of the axis.
fn scale_of(axis: usize, x: &[usize], scales: usize) -> impl Fn(usize) -> usize {
    let after = x.get(axis + 1..).map_or(1, count).max(1);
    move |element| if scales == 1 { 0 } else { element / after % scales }
}

/// What may have been stored in any format, as numbers of 64 bits.
fn zero_points(param: Option<&&TensorData>) -> Vec<i128> {
    let within = |zero: i128| zero.clamp(i64::MIN.into(), i64::MAX.into());
    param.map_or_else(|| vec![0], |zero| wholes(zero).into_iter().map(within).collect())
}

/// To whole numbers.
pub fn quantize(
    axis: usize,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
    exact: bool,
) -> Result<TensorData, ReferenceError> {
    let (scales, zeros) = (reals(params[0]), zero_points(params.get(1)));
    let (scale, zero) = (scale_of(axis, x.shape(), scales.len()), scale_of(axis, x.shape(), zeros.len()));
    let format = match x.dtype() {
        _ if exact => DType::F64,
        float if float.is_float() => float,
        _ => DType::F32,
    };
    let (least, most) = bounds(output.dtype);
    let quantized = reals(x).into_iter().enumerate().map(|(i, x)| {
        let quotient = rounded(x / scales[scale(i)], format).round_ties_even();
        // No number becomes 0, and no quotient is beyond all bounds.
        (quotient as i64 as i128 + zeros[zero(i)]).clamp(least, most)
    });
    output.of(Numbers::Whole(quantized.collect()))
}

/// Back from whole numbers.
pub fn dequantize(
    axis: usize,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let (scales, zeros) = (reals(params[0]), zero_points(params.get(1)));
    let (scale, zero) = (scale_of(axis, x.shape(), scales.len()), scale_of(axis, x.shape(), zeros.len()));
    let back = wholes(x).into_iter().enumerate().map(|(i, q)| (q - zeros[zero(i)]) as f64 * scales[scale(i)]);
    output.real(back.collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{one, real, tensor};
    use super::*;
    use crate::graph::Op;
    use crate::graph::op::{Dequantize, Quantize};
    use proptest::prelude::*;

    #[test]
    fn numbers_are_rounded_half_to_even_and_stop_at_the_bounds() {
        let x = real(&[8], &[1.0, 3.0, 5.0, -1.0, -3.0, 1e9, -1e9, f64::NAN]);
        let scale = real(&[], &[2.0]);
        let y = one(&Op::Quantize(Quantize { to: DType::I8, axis: 0 }), &[&x], &[&scale]);
        assert_eq!(y, tensor(DType::I8, &[8], &[0.0, 2.0, 2.0, 0.0, -2.0, 127.0, -128.0, 0.0]));
        let zero = tensor(DType::U8, &[1], &[128.0]);
        let y = one(&Op::Quantize(Quantize { to: DType::U8, axis: 0 }), &[&x], &[&scale, &zero]);
        assert_eq!(y, tensor(DType::U8, &[8], &[128.0, 130.0, 130.0, 128.0, 126.0, 255.0, 0.0, 128.0]));
        // In 32 bits the quotient of 0.35 by 0.1 is exactly 3.5.
        let y = one(&Op::Quantize(Quantize { to: DType::U8, axis: 0 }), &[&real(&[], &[0.35])], &[&real(&[], &[0.1])]);
        assert_eq!(y, tensor(DType::U8, &[], &[4.0]));
    }

    #[test]
    fn scales_differ_along_an_axis() {
        let x = tensor(DType::I8, &[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let (scale, zero) = (real(&[2], &[10.0, 0.5]), tensor(DType::I8, &[2], &[0.0, 2.0]));
        let y = one(&Op::Dequantize(Dequantize { axis: 1 }), &[&x], &[&scale, &zero]);
        assert_eq!(y, real(&[1, 2, 2], &[10.0, 20.0, 0.5, 1.0]));
        let back = one(&Op::Quantize(Quantize { to: DType::I8, axis: 1 }), &[&y], &[&scale, &zero]);
        assert_eq!(back, x);
    }

    proptest! {
        #[test]
        fn what_is_within_the_bounds_comes_back_within_half_a_scale(x in -100f64..100.0, scale in 1f64..3.0) {
            let (x, scale) = (real(&[1], &[x]), real(&[1], &[scale]));
            let q = one(&Op::Quantize(Quantize { to: DType::I8, axis: 0 }), &[&x], &[&scale]);
            let back = one(&Op::Dequantize(Dequantize { axis: 0 }), &[&q], &[&scale]);
            prop_assert!((reals(&x)[0] - reals(&back)[0]).abs() <= reals(&scale)[0] * 0.500001);
        }
    }
}
