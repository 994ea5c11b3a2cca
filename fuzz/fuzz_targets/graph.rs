//! A graph's JSON, with weights of zeros in just the shapes that it names, so that it is the graph that is judged.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use niwaki::format::{Architecture, native, open_model, safetensors};
use niwaki::tensor::{DType, TensorData};
use serde_json::Value;

/// Weights larger than this say nothing more about the reader.
const MAX_BYTES: usize = 1 << 22;

fn weights(json: &Value) -> Option<BTreeMap<String, TensorData>> {
    let mut left = MAX_BYTES;
    let mut found = BTreeMap::new();
    for param in json.get("params")?.as_array()? {
        let shape: Option<Vec<usize>> =
            param.get("shape")?.as_array()?.iter().map(|d| Some(d.as_u64()? as usize)).collect();
        let shape = shape?;
        let bytes = shape.iter().try_fold(4usize, |n, d| n.checked_mul(*d)).filter(|bytes| *bytes <= left)?;
        left -= bytes;
        let data = TensorData::new(DType::F32, shape, vec![0u8; bytes]).ok()?;
        found.insert(param.get("name")?.as_str()?.to_string(), data);
    }
    Some(found)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let weights = serde_json::from_str(text).ok().and_then(|json| weights(&json)).unwrap_or_default();
    let Ok(file) = safetensors::write(&weights, &BTreeMap::new()) else { return };
    let Ok(model) = open_model(file.into(), Some(&Architecture::GraphJson(text.to_string()))) else { return };
    // What was taken can be written, and is read back as the same.
    let written = native::write(&model.graph, &BTreeMap::new()).expect("what was read can be written");
    assert_eq!(open_model(written.into(), None).expect("and read again").graph, model.graph);
});
