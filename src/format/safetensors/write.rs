//! Tensors to bytes. The same tensors and metadata always give the same bytes: keys are sorted, and nothing of the time,
//! the machine or the process goes in.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{MAX_HEADER, MAX_TENSORS, METADATA, check_name, check_shape};
use crate::format::FormatError;
use crate::tensor::TensorData;

/// Writes a safetensors file. The data begin at a multiple of 8 bytes, and tensors lie by falling size of their elements,
/// then by name, so that each is aligned to its elements. [`super::read`] gives back the same tensors and metadata.
pub fn write(
    tensors: &BTreeMap<String, TensorData>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FormatError> {
    if tensors.len() > MAX_TENSORS {
        return Err(FormatError::TensorCount);
    }
    let mut in_file_order: Vec<(&String, &TensorData)> = tensors.iter().collect();
    in_file_order.sort_by_key(|(name, tensor)| (Reverse(tensor.dtype().size()), *name));

    let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
    let mut end = 0;
    for (name, tensor) in &in_file_order {
        check_name(name)?;
        let shape: Vec<u64> = tensor.shape().iter().map(|d| *d as u64).collect();
        check_shape(name, tensor.dtype(), &shape)?;
        let begin = end;
        end += tensor.bytes().len();
        entries.insert(name, json!({"dtype": tensor.dtype().name(), "shape": shape, "data_offsets": [begin, end]}));
    }

    let header = header(&entries, metadata);
    if header.len() as u64 > MAX_HEADER {
        return Err(FormatError::HeaderTooLarge { bytes: header.len() as u64 });
    }
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header.as_bytes());
    for (_, tensor) in in_file_order {
        file.extend_from_slice(tensor.bytes());
    }
    Ok(file)
}

/// The header, padded with spaces to a multiple of 8 bytes.
fn header(entries: &BTreeMap<&str, Value>, metadata: &BTreeMap<String, String>) -> String {
    let mut fields: Vec<String> = Vec::with_capacity(entries.len() + 1);
    let mut field = |key: &str, value: String| fields.push(format!("{}:{value}", Value::from(key)));
    if !metadata.is_empty() {
        field(METADATA, json!(metadata).to_string());
    }
    for (name, entry) in entries {
        field(name, entry.to_string());
    }
    let mut header = format!("{{{}}}", fields.join(","));
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    header
}
