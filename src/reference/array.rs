//! Numbers of any format as numbers to compute with, and back.
//!
//! Floating point numbers become `f64`, which holds all of them exactly, and whole numbers and truth values (0 and 1)
//! `i128`, in which no sum or product of two of them overflows. On the way back there is one rounding: to nearest even to a
//! floating point format, towards zero and to the bounds from a floating point number to a whole one. Whole numbers wrap,
//! as in two's complement.

use half::{bf16, f16};

use crate::tensor::{DType, TensorData, TensorError, elements};

/// Numbers with a shape, and the format that they had.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The sizes of the axes.
    pub shape: Vec<usize>,
    /// The format.
    pub dtype: DType,
    /// The numbers, in row-major order.
    pub numbers: Numbers,
}

/// Numbers to compute with.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Of a floating point format.
    Real(Vec<f64>),
    /// Of a whole or truth format.
    Whole(Vec<i128>),
}

impl Array {
    /// The numbers of a tensor, exactly.
    pub fn of(tensor: &TensorData) -> Self {
        Self { shape: tensor.shape().to_vec(), dtype: tensor.dtype(), numbers: numbers(tensor) }
    }

    /// As a tensor of the array's own format.
    pub fn tensor(&self) -> Result<TensorData, TensorError> {
        self.numbers.tensor(self.dtype, self.shape.clone())
    }
}

impl Numbers {
    /// As a tensor of another format and shape, whose elements must be as many.
    pub fn tensor(&self, dtype: DType, shape: Vec<usize>) -> Result<TensorData, TensorError> {
        let bytes = match self {
            Numbers::Real(values) => stored(values, dtype),
            Numbers::Whole(values) => stored_whole(values, dtype),
        };
        TensorData::new(dtype, shape, bytes)
    }

    /// As floating point numbers; whole ones to nearest.
    pub fn reals(self) -> Vec<f64> {
        match self {
            Numbers::Real(values) => values,
            Numbers::Whole(values) => values.into_iter().map(|value| value as f64).collect(),
        }
    }

    /// As whole numbers; floating point ones towards zero.
    pub fn wholes(self) -> Vec<i128> {
        match self {
            Numbers::Real(values) => values.into_iter().map(|value| value as i128).collect(),
            Numbers::Whole(values) => values,
        }
    }
}

/// The numbers of a tensor as floating point numbers.
pub fn reals(tensor: &TensorData) -> Vec<f64> {
    numbers(tensor).reals()
}

/// The numbers of a tensor as whole numbers.
pub fn wholes(tensor: &TensorData) -> Vec<i128> {
    numbers(tensor).wholes()
}

fn numbers(tensor: &TensorData) -> Numbers {
    fn each<const N: usize, T>(tensor: &TensorData, of: impl Fn([u8; N]) -> T) -> Vec<T> {
        tensor.bytes().as_chunks::<N>().0.iter().map(|bytes| of(*bytes)).collect()
    }
    let whole = |values: Vec<i128>| Numbers::Whole(values);
    match tensor.dtype() {
        DType::Bool => whole(each(tensor, |[byte]| i128::from(byte != 0))),
        DType::U8 => whole(each(tensor, |b| u8::from_le_bytes(b).into())),
        DType::I8 => whole(each(tensor, |b| i8::from_le_bytes(b).into())),
        DType::U16 => whole(each(tensor, |b| u16::from_le_bytes(b).into())),
        DType::I16 => whole(each(tensor, |b| i16::from_le_bytes(b).into())),
        DType::U32 => whole(each(tensor, |b| u32::from_le_bytes(b).into())),
        DType::I32 => whole(each(tensor, |b| i32::from_le_bytes(b).into())),
        DType::U64 => whole(each(tensor, |b| u64::from_le_bytes(b).into())),
        DType::I64 => whole(each(tensor, |b| i64::from_le_bytes(b).into())),
        DType::F16 => Numbers::Real(each(tensor, |b| f16::from_le_bytes(b).into())),
        DType::BF16 => Numbers::Real(each(tensor, |b| bf16::from_le_bytes(b).into())),
        DType::F32 => Numbers::Real(each(tensor, |b| f32::from_le_bytes(b).into())),
        DType::F64 => Numbers::Real(each(tensor, f64::from_le_bytes)),
    }
}

/// The smallest and the largest number of a whole or truth format.
pub fn bounds(dtype: DType) -> (i128, i128) {
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let bits = 8 * dtype.size() as u32;
    match dtype {
        DType::Bool => (0, 1),
        _ if signed => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    }
}

/// A number as it is rounded to a floating point format; as it is for other formats.
pub fn rounded(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f32(odd(value)).into(),
        DType::BF16 => bf16::from_f32(odd(value)).into(),
        DType::F32 => f64::from(value as f32),
        _ => value,
    }
}

fn pack<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().map(|value| of(*value)).collect::<Vec<[u8; N]>>().into_flattened()
}

/// Conversions to whole numbers stop at the bounds, and no number becomes 0.
fn stored(values: &[f64], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F64 => pack(values, f64::to_le_bytes),
        DType::F32 => pack(values, |value| (value as f32).to_le_bytes()),
        DType::F16 => pack(values, |value| f16::from_f32(odd(value)).to_le_bytes()),
        DType::BF16 => pack(values, |value| bf16::from_f32(odd(value)).to_le_bytes()),
        // No number is not zero.
        DType::Bool => pack(values, |value| [u8::from(value != 0.0)]),
        DType::U8 => pack(values, |value| (value as u8).to_le_bytes()),
        DType::I8 => pack(values, |value| (value as i8).to_le_bytes()),
        DType::U16 => pack(values, |value| (value as u16).to_le_bytes()),
        DType::I16 => pack(values, |value| (value as i16).to_le_bytes()),
        DType::U32 => pack(values, |value| (value as u32).to_le_bytes()),
        DType::I32 => pack(values, |value| (value as i32).to_le_bytes()),
        DType::U64 => pack(values, |value| (value as u64).to_le_bytes()),
        DType::I64 => pack(values, |value| (value as i64).to_le_bytes()),
    }
}

fn stored_whole(values: &[i128], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Bool => pack(values, |value| [u8::from(value != 0)]),
        DType::U8 | DType::I8 => pack(values, |value| (value as u8).to_le_bytes()),
        DType::U16 | DType::I16 => pack(values, |value| (value as u16).to_le_bytes()),
        DType::U32 | DType::I32 => pack(values, |value| (value as u32).to_le_bytes()),
        DType::U64 | DType::I64 => pack(values, |value| (value as u64).to_le_bytes()),
        DType::F64 => pack(values, |value| (value as f64).to_le_bytes()),
        DType::F32 | DType::F16 | DType::BF16 => {
            stored(&values.iter().map(|value| odd_whole(*value)).collect::<Vec<f64>>(), dtype)
        }
    }
}

/// `value` in 32 bits, rounded to odd: what is not exact gets an odd last digit, so that rounding it once more, to two
/// digits less or fewer, gives what rounding `value` itself gives.
fn odd(value: f64) -> f32 {
    let near = value as f32;
    if value.is_nan() || f64::from(near) == value {
        return near;
    }
    let bits = near.to_bits();
    f32::from_bits(if f64::from(near).abs() > value.abs() { bits - 1 } else { bits } | 1)
}

/// As [`odd`], of a whole number in 64 bits.
fn odd_whole(value: i128) -> f64 {
    let near = value as f64;
    if near as i128 == value {
        return near;
    }
    let bits = near.to_bits();
    f64::from_bits(if (near as i128).unsigned_abs() > value.unsigned_abs() { bits - 1 } else { bits } | 1)
}

/// The same numbers in another format; the bytes are shared where it is the same.
pub fn cast(tensor: &TensorData, dtype: DType) -> Result<TensorData, TensorError> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    numbers(tensor).tensor(dtype, tensor.shape().to_vec())
}

/// How many elements a shape has that was found small enough.
pub fn count(shape: &[usize]) -> usize {
    elements(shape).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(dtype: DType, values: &[i128]) -> TensorData {
        Numbers::Whole(values.to_vec()).tensor(dtype, vec![values.len()]).unwrap()
    }

    fn real(dtype: DType, values: &[f64]) -> TensorData {
        Numbers::Real(values.to_vec()).tensor(dtype, vec![values.len()]).unwrap()
    }

    #[test]
    fn every_format_holds_its_bounds() {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_float()) {
            let (least, most) = bounds(dtype);
            assert_eq!(wholes(&whole(dtype, &[least, most])), [least, most], "{dtype}");
            // Floating point numbers stop there; whole ones go around.
            assert_eq!(wholes(&real(dtype, &[f64::NEG_INFINITY, 1e30]))[1], most, "{dtype}");
            if dtype != DType::Bool {
                assert_eq!(wholes(&real(dtype, &[f64::NEG_INFINITY, f64::NAN, 1.9])), [least, 0, 1], "{dtype}");
                assert_eq!(wholes(&whole(dtype, &[most + 1, least - 1])), [least, most], "{dtype}");
            }
        }
        assert_eq!(wholes(&real(DType::Bool, &[0.0, -0.5, f64::NAN])), [0, 1, 1]);
    }

    /// Values just beside the middle of two neighbours, where rounding twice goes wrong.
    #[test]
    fn numbers_are_rounded_once() {
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(reals(&real(DType::F16, &[tie, tie + 2f64.powi(-50)])), [1.0, 1.0 + 2f64.powi(-10)]);
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(reals(&real(DType::BF16, &[tie, tie + 2f64.powi(-50)])), [1.0, 1.0 + 2f64.powi(-7)]);
        let tie = (1i128 << 62) + (1 << 38);
        assert_eq!(reals(&whole(DType::F32, &[tie, tie + 1])), [2f64.powi(62), 2f64.powi(62) + 2f64.powi(39)]);
        let tie = (1i128 << 62) + (1 << 54);
        assert_eq!(reals(&whole(DType::BF16, &[tie, -tie - 1])), [2f64.powi(62), -2f64.powi(62) - 2f64.powi(55)]);
        assert_eq!(reals(&real(DType::F16, &[1e9, -1e-30, 65519.999])), [f64::INFINITY, -0.0, 65504.0]);
    }

    proptest! {
        #[test]
        fn sixteen_bits_survive(bits: u16) {
            for dtype in [DType::F16, DType::BF16] {
                let tensor = TensorData::new(dtype, vec![1], bits.to_le_bytes().to_vec()).unwrap();
                let back = Array::of(&tensor).tensor().unwrap();
                prop_assert!(back == tensor || reals(&tensor)[0].is_nan());
            }
        }

        #[test]
        fn whole_numbers_are_rounded_to_the_nearest(value: i64) {
            prop_assert_eq!(reals(&whole(DType::F32, &[value.into()]))[0], f64::from(value as f32));
        }
    }
}
