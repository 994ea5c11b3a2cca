//! ONNX models: what exporters of other frameworks write.
//!
//! ```text
//!   file ──▶ wire: walked over, counted, refused ──▶ decode: messages ──▶ tensor: their tensors ──▶ …
//!              schema: what may stand where             proto: as prost        ▲
//!              tally: what it would become              writes them         external: files beside the model
//! ```
//!
//! The format is the ONNX project's (<https://onnx.ai/onnx/repo-docs/IR.html>, release 1.23.2). A file is a protobuf of up
//! to 2 GiB; tensors may lie in files beside it. Nothing of a file is believed: its protobuf is walked over before prost
//! takes memory for it, names of files are keys and no paths, and a tensor's bytes must be exactly those of its shape.

mod decode;
mod dtype;
mod error;
mod external;
mod import;
mod operators;
mod proto;
mod schema;
mod tally;
mod tensor;
mod typed;
mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::tensor::TensorData;
use error::shown;

pub use error::OnnxError;
pub use external::External;
pub use import::{Given, import};

/// The tensors of a model's graph, by their names. They share the bytes of the model's file and of the files beside it,
/// but for those that are written as numbers.
pub fn initializers(file: Bytes, files: &mut External) -> Result<BTreeMap<String, TensorData>, OnnxError> {
    let graph = decode::decode(file)?.graph.unwrap_or_default();
    let mut tensors = BTreeMap::new();
    for tensor in &graph.initializer {
        let read = tensor::read(&tensor.name, tensor, files)?;
        if tensors.insert(tensor.name.clone(), read).is_some() {
            return Err(OnnxError::DuplicateName { what: "tensors", name: shown(&tensor.name) });
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn tensors_are_read_by_name_and_a_name_stands_once() {
        let tensor = TensorData::from_f32(vec![2], &[0.5, -1.0]).unwrap();
        let model = |names: &[&str]| {
            let initializer = names.iter().map(|name| tensor::write(name, &tensor)).collect();
            let graph = proto::GraphProto { initializer, ..Default::default() };
            Bytes::from(proto::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec())
        };
        let read = initializers(model(&["a", "b"]), &mut External::default()).unwrap();
        assert_eq!(read, ["a", "b"].map(|name| (name.to_string(), tensor.clone())).into());
        let error = initializers(model(&["a", "a"]), &mut External::default()).unwrap_err();
        assert_eq!(error, OnnxError::DuplicateName { what: "tensors", name: "a".into() });
    }

    /// Models of others, where `NIWAKI_TEST_DATA` names a folder that has them under `onnx-zoo`.
    #[test]
    fn models_of_others_are_read() {
        let Some(folder) = std::env::var_os("NIWAKI_TEST_DATA") else {
            eprintln!("skipped: NIWAKI_TEST_DATA is not set");
            return;
        };
        let (mut folders, mut read) = (vec![std::path::PathBuf::from(folder).join("onnx-zoo")], 0);
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "onnx") {
                    let tensors = initializers(std::fs::read(&path).unwrap().into(), &mut External::default());
                    assert!(tensors.is_ok(), "{}: {}", path.display(), tensors.unwrap_err());
                    read += 1;
                }
            }
        }
        println!("{read} models");
    }
}
