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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::safetensors::{Container, read};
    use crate::tensor::DType;
    use proptest::prelude::*;

    fn containers() -> impl Strategy<Value = Container> {
        let tensor = (0..DType::ALL.len(), prop::collection::vec(0usize..4, 0..4)).prop_map(|(dtype, shape)| {
            let dtype = DType::ALL[dtype];
            let bytes = vec![1u8; shape.iter().product::<usize>() * dtype.size()];
            TensorData::new(dtype, shape, bytes).unwrap()
        });
        let tensors = prop::collection::btree_map("[a-zA-Z0-9_.:-]{1,12}[a-z]", tensor, 0..6);
        (tensors, prop::collection::btree_map(any::<String>(), any::<String>(), 0..3))
            .prop_map(|(tensors, metadata)| Container { tensors, metadata })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(container in containers()) {
            let file = write(&container.tensors, &container.metadata).unwrap();
            prop_assert_eq!(read(file.into()).unwrap(), container);
        }
    }

    #[test]
    fn keys_are_sorted_and_tensors_are_aligned_to_their_elements() {
        let tensor = |dtype: DType| TensorData::new(dtype, vec![1], vec![1; dtype.size()]).unwrap();
        let tensors = [("a", DType::U8), ("b", DType::F64), ("c", DType::F16), ("d", DType::F32), ("e", DType::F64)];
        let tensors = tensors.map(|(name, dtype)| (name.to_string(), tensor(dtype))).into();
        let metadata = [("z".to_string(), "\"".to_string()), ("k".to_string(), "v".to_string())].into();
        let file = write(&tensors, &metadata).unwrap();
        let end = file.len() - 23;
        assert_eq!(end % 8, 0);
        assert_eq!(
            std::str::from_utf8(&file[8..end]).unwrap().trim_end(),
            r#"{"__metadata__":{"k":"v","z":"\""},"a":{"data_offsets":[22,23],"dtype":"U8","shape":[1]},"b":{"data_offsets":[0,8],"dtype":"F64","shape":[1]},"c":{"data_offsets":[20,22],"dtype":"F16","shape":[1]},"d":{"data_offsets":[16,20],"dtype":"F32","shape":[1]},"e":{"data_offsets":[8,16],"dtype":"F64","shape":[1]}}"#
        );
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let one = |name: &str| [(name.to_string(), TensorData::zeros(vec![1]).unwrap())].into();
        let none = BTreeMap::new();
        assert!(matches!(write(&one("../w"), &none), Err(FormatError::Name { .. })));
        assert!(matches!(write(&one("__metadata__"), &none), Err(FormatError::Name { .. })));
        let long = [("k".to_string(), "x".repeat(MAX_HEADER as usize))].into();
        assert!(matches!(write(&one("w"), &long), Err(FormatError::HeaderTooLarge { .. })));
    }
}
