//! Tensors of a model to niwaki's and back.
//!
//! A tensor's values stand in one of three places: as bytes in `raw_data`, which are shared with the file; as numbers (see
//! [`typed`]); or in another file (see [`super::external`]). A tensor with values in two places is refused, as two programs
//! would read two things.

use super::dtype;
use super::error::{OnnxError, shown};
use super::external::External;
use super::proto::tensor_proto::DataLocation;
use super::proto::{StringStringEntryProto, TensorProto};
use super::typed;
use crate::tensor::{DType, TensorData};

/// The most axes of a tensor. Graphs in files have constants with more axes than parameters may have.
pub(super) const MAX_RANK: usize = 16;
/// The largest axis of a tensor.
pub(super) const MAX_DIM: i64 = 1 << 31;

/// Reads a tensor, which is called `name` in errors: those in attributes have none of their own.
pub(super) fn read(name: &str, tensor: &TensorProto, files: &mut External) -> Result<TensorData, OnnxError> {
    let Some(dtype) = dtype::dtype(tensor.data_type) else {
        return Err(OnnxError::DType { tensor: shown(name), dtype: dtype::name(tensor.data_type) });
    };
    let refused = |problem: &str| Err(OnnxError::Data { tensor: shown(name), problem: problem.to_string() });
    let (shape, elements) = shape(name, dtype, &tensor.dims)?;
    let expected = elements * dtype.size() as u64;
    if tensor.segment.is_some() {
        return refused("it is a segment of a tensor, which is not read");
    }
    let inside = typed::filled(tensor).next().map(|(field, _)| field);
    let bytes = match DataLocation::try_from(tensor.data_location) {
        Err(_) => return refused("it lies neither in the model nor in another file (data_location)"),
        Ok(DataLocation::External) => {
            if inside.is_some() || !tensor.raw_data.is_empty() {
                return refused("it has values in the model and in another file");
            }
            files.bytes(name, &tensor.external_data, expected)?
        }
        Ok(DataLocation::Default) if !tensor.external_data.is_empty() => {
            return refused("it lies in the model (data_location), but external_data name another place");
        }
        Ok(DataLocation::Default) if tensor.raw_data.is_empty() => typed::bytes(name, tensor, dtype, elements)?,
        Ok(DataLocation::Default) => {
            if let Some(field) = inside {
                return refused(&format!("it has values in raw_data and in {field}"));
            }
            tensor.raw_data.clone()
        }
    };
    if bytes.len() as u64 != expected {
        return refused(&format!("it has {} bytes, but shape {shape:?} of {dtype} takes {expected}", bytes.len()));
    }
    if dtype == DType::Bool
        && let Some(index) = bytes.iter().position(|byte| *byte > 1)
    {
        return Err(OnnxError::Bool { tensor: shown(name), index, value: bytes[index] });
    }
    TensorData::new(dtype, shape, bytes).map_err(|e| OnnxError::Data { tensor: shown(name), problem: e.to_string() })
}

/// A shape and the number of its elements. The product is checked as if no axis were 0, as it is for safetensors.
fn shape(name: &str, dtype: DType, dims: &[i64]) -> Result<(Vec<usize>, u64), OnnxError> {
    let refused = |problem: String| Err(OnnxError::Shape { tensor: shown(name), problem });
    if dims.len() > MAX_RANK {
        return refused(format!("it has {} axes", dims.len()));
    }
    if let Some(dim) = dims.iter().find(|dim| !(0..=MAX_DIM).contains(*dim)) {
        return refused(format!("it has an axis of {dim}"));
    }
    let mut bytes = dims.iter().map(|dim| (*dim).max(1) as u64).try_fold(dtype.size() as u64, u64::checked_mul);
    bytes = bytes.filter(|bytes| *bytes <= isize::MAX as u64);
    let Some(bytes) = bytes else {
        return refused(format!("shape {dims:?} of {dtype} needs 2^63 bytes or more"));
    };
    let elements = if dims.contains(&0) { 0 } else { bytes / dtype.size() as u64 };
    Ok((dims.iter().map(|dim| *dim as usize).collect(), elements))
}

/// A tensor of a model, with its bytes in it: they are shared.
pub(super) fn write(name: &str, tensor: &TensorData) -> TensorProto {
    TensorProto { raw_data: tensor.bytes().clone(), ..described(name, tensor.dtype(), tensor.shape()) }
}

/// A tensor of a model that lies in the file `location`, from the byte `offset` on.
pub(super) fn write_external(name: &str, tensor: &TensorData, location: &str, offset: u64) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_string(), value };
    TensorProto {
        data_location: DataLocation::External as i32,
        external_data: vec![
            entry("location", location.to_string()),
            entry("offset", offset.to_string()),
            entry("length", tensor.bytes().len().to_string()),
        ],
        ..described(name, tensor.dtype(), tensor.shape())
    }
}

fn described(name: &str, dtype: DType, shape: &[usize]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        data_type: dtype::number(dtype),
        dims: shape.iter().map(|dim| *dim as i64).collect(),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests;
