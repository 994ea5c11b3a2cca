//! Values of tensors that are written as numbers of protobuf instead of as bytes.
//!
//! ```text
//!   field        holds tensors of
//!   ──────────── ─────────────────────────────────────────────────────────────────────────
//!   float_data   F32
//!   int32_data   I32, I16, I8, U16, U8, BOOL, and the bits of F16 and BF16 as if they were U16
//!   int64_data   I64
//!   double_data  F64
//!   uint64_data  U64, U32
//! ```

use bytes::Bytes;

use super::error::{OnnxError, shown};
use super::proto::TensorProto;
use crate::tensor::DType;

/// The field that values of a format stand in.
fn field(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::U32 | DType::U64 => "uint64_data",
        DType::Bool | DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::F16 | DType::BF16 | DType::I32 => {
            "int32_data"
        }
    }
}

/// The fields that hold values, and how many.
pub(super) fn filled(tensor: &TensorProto) -> impl Iterator<Item = (&'static str, usize)> {
    let fields = [
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("string_data", tensor.string_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
    ];
    fields.into_iter().filter(|(_, values)| *values > 0)
}

/// The bytes of the values, which must be `elements` and in the field for their format.
pub(super) fn bytes(name: &str, tensor: &TensorProto, dtype: DType, elements: u64) -> Result<Bytes, OnnxError> {
    let refused = |problem: String| Err(OnnxError::Data { tensor: shown(name), problem });
    let own = field(dtype);
    if let Some((other, _)) = filled(tensor).find(|(field, _)| *field != own) {
        return refused(format!("it has values in {other}, but those of {dtype} stand in {own}"));
    }
    let values = filled(tensor).map(|(_, values)| values).sum::<usize>();
    if values as u64 != elements {
        return refused(format!("it has {values} values, but its shape has {elements}"));
    }
    let wide = &tensor.uint64_data;
    let bytes = match dtype {
        DType::F32 => flat(&tensor.float_data, |value| value.to_le_bytes()),
        DType::F64 => flat(&tensor.double_data, |value| value.to_le_bytes()),
        DType::I64 => flat(&tensor.int64_data, |value| value.to_le_bytes()),
        DType::U64 => flat(wide, |value| value.to_le_bytes()),
        DType::I32 => flat(&tensor.int32_data, |value| value.to_le_bytes()),
        DType::U32 => narrow(name, dtype, wide, |value| u32::try_from(value).ok().map(u32::to_le_bytes))?,
        _ => small(name, dtype, &tensor.int32_data)?,
    };
    Ok(bytes.into())
}

/// The bytes of formats of one or two bytes, which stand in numbers of four.
fn small(name: &str, dtype: DType, values: &[i32]) -> Result<Vec<u8>, OnnxError> {
    match dtype {
        DType::I8 => narrow(name, dtype, values, |value| i8::try_from(value).ok().map(i8::to_le_bytes)),
        DType::I16 => narrow(name, dtype, values, |value| i16::try_from(value).ok().map(i16::to_le_bytes)),
        DType::U16 | DType::F16 | DType::BF16 => {
            narrow(name, dtype, values, |value| u16::try_from(value).ok().map(u16::to_le_bytes))
        }
        // Whether truth values are 0 or 1 is asked of all of them, wherever they stand.
        _ => narrow(name, dtype, values, |value| u8::try_from(value).ok().map(u8::to_le_bytes)),
    }
}

fn flat<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|value| flat.extend(bytes(*value)));
    flat
}

/// The bytes of values that must fit into fewer bytes than they are written in.
fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    name: &str,
    dtype: DType,
    values: &[T],
    bytes: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Vec<u8>, OnnxError> {
    let mut flat = Vec::with_capacity(values.len() * N);
    for (index, value) in values.iter().enumerate() {
        let Some(bytes) = bytes(*value) else {
            let problem = format!("element {index} is {value}, which is no {dtype}");
            return Err(OnnxError::Data { tensor: shown(name), problem });
        };
        flat.extend(bytes);
    }
    Ok(flat)
}
