//! Bytes to a model's messages.

use bytes::Bytes;
use prost::Message;

use super::error::OnnxError;
use super::proto::ModelProto;
use super::wire;
use crate::format::foreign;

/// Decodes a model whose graph is there, once the walk over the file has found no reason against it. Tensors' `raw_data`
/// share the file's bytes.
pub(super) fn decode(file: Bytes) -> Result<ModelProto, OnnxError> {
    let looks_like = looks_like(&file);
    let foreign = |error| looks_like.map_or(error, |looks_like| OnnxError::Foreign { looks_like });
    wire::scan(&file).map_err(|error| match error {
        OnnxError::Truncated { .. } | OnnxError::Protobuf { .. } => foreign(error),
        _ => error,
    })?;
    let model = ModelProto::decode(file).map_err(|error| OnnxError::Protobuf {
        field: String::new(),
        at: 0,
        problem: error.to_string(),
    })?;
    if model.graph.is_none() { Err(foreign(OnnxError::NoGraph)) } else { Ok(model) }
}

/// What else a file may be, by its first bytes.
fn looks_like(file: &[u8]) -> Option<&'static str> {
    match file {
        // A header's length of less than 2^40, then the header.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Some("a safetensors file"),
        _ => foreign::looks_like(file),
    }
}
