//! Samples as tensors of a safetensors file: inputs `[n, ...]` (U8, or floating point, which becomes f32) and labels `[n]`
//! (any integer type).

use super::{Labels, MAX_BYTES, Samples, labels, part, unreadable};
use crate::data::{DataError, Files, Inputs, Part};
use crate::format::safetensors::{self, Container};
use crate::tensor::{DType, TensorData};

/// Reads the tensors of these names from a file.
pub(super) fn read(files: &Files, file: &str, inputs_name: &str, labels_name: &str) -> Result<Part, DataError> {
    let path = files.path(file)?;
    let bytes = path.metadata().map_err(unreadable(file))?.len();
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge { file: file.to_string(), bytes, limit: MAX_BYTES });
    }
    let container = safetensors::open(path)
        .map_err(unreadable(file))?
        .map_err(|source| DataError::Container { file: file.to_string(), source: Box::new(source) })?;
    let inputs = samples(file, inputs_name, tensor(file, &container, inputs_name)?)?;
    let labels = classes(file, labels_name, tensor(file, &container, labels_name)?)?;
    part(inputs, labels)
}

fn tensor<'c>(file: &str, container: &'c Container, name: &str) -> Result<&'c TensorData, DataError> {
    container.tensors.get(name).ok_or_else(|| {
        let known: Vec<&str> = container.tensors.keys().map(String::as_str).take(10).collect();
        let problem = format!("it has no tensor '{name}'; it has {}", known.join(", "));
        DataError::Format { file: file.to_string(), problem }
    })
}

fn samples(file: &str, name: &str, tensor: &TensorData) -> Result<Samples, DataError> {
    let bad = |problem: String| DataError::Format { file: file.to_string(), problem };
    let [count, sample_shape @ ..] = tensor.shape() else {
        return Err(bad(format!("tensor '{name}' has no axes; inputs are [samples, ...]")));
    };
    if sample_shape.is_empty() {
        return Err(bad(format!("tensor '{name}' has one axis; inputs are [samples, ...]")));
    }
    let values =
        match tensor.dtype() {
            DType::U8 => Inputs::U8(tensor.bytes().clone()),
            dtype => Inputs::F32(tensor.to_f32().map_err(|_| {
                bad(format!("tensor '{name}' has dtype {dtype}; inputs are U8, F32, F16, BF16 or F64"))
            })?),
        };
    Ok(Samples { file: file.to_string(), count: *count, sample_shape: sample_shape.to_vec(), values })
}

fn classes(file: &str, name: &str, tensor: &TensorData) -> Result<Labels, DataError> {
    let bad = |problem: String| DataError::Format { file: file.to_string(), problem };
    if tensor.shape().len() != 1 {
        return Err(bad(format!("tensor '{name}' has shape {:?}; labels are [samples]", tensor.shape())));
    }
    fn each<const N: usize, T: Into<i128>>(t: &TensorData, from: fn([u8; N]) -> T) -> impl Iterator<Item = i128> {
        t.bytes().as_chunks::<N>().0.iter().map(move |b| from(*b).into())
    }
    match tensor.dtype() {
        DType::U8 => labels(file, each(tensor, u8::from_le_bytes)),
        DType::I8 => labels(file, each(tensor, i8::from_le_bytes)),
        DType::U16 => labels(file, each(tensor, u16::from_le_bytes)),
        DType::I16 => labels(file, each(tensor, i16::from_le_bytes)),
        DType::U32 => labels(file, each(tensor, u32::from_le_bytes)),
        DType::I32 => labels(file, each(tensor, i32::from_le_bytes)),
        DType::U64 => labels(file, each(tensor, u64::from_le_bytes)),
        DType::I64 => labels(file, each(tensor, i64::from_le_bytes)),
        dtype => Err(bad(format!("tensor '{name}' has dtype {dtype}; labels are integers"))),
    }
}

#[cfg(test)]
mod tests;
