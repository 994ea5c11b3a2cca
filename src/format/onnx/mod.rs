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
mod export;
mod external;
mod import;
mod operators;
mod proto;
mod schema;
mod tally;
mod tensor;
mod typed;
mod wire;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prost::Message;

use crate::graph::Graph;
use crate::tensor::TensorData;

pub use error::OnnxError;
pub use export::{Tensors, export, write};
pub use external::External;
pub use import::{Given, import};

/// The names of the inputs that are fed: all but those that have a value in the file.
pub fn fed(file: Bytes) -> Result<Vec<String>, OnnxError> {
    let graph = decode::decode(file)?.graph.unwrap_or_default();
    let held: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let names = graph.input.iter().map(|input| input.name.clone());
    Ok(names.filter(|name| !held.contains(name.as_str())).collect())
}

/// The names of the files that tensors of a model lie in, as far as they are names that niwaki reads.
pub fn beside(file: Bytes) -> Result<Vec<String>, OnnxError> {
    let graph = decode::decode(file)?.graph.unwrap_or_default();
    let entries = graph.initializer.iter().flat_map(|tensor| &tensor.external_data);
    let locations = entries.filter(|entry| entry.key == "location" && external::is_plain(&entry.value));
    let names: HashSet<&str> = locations.map(|entry| entry.value.as_str()).collect();
    Ok(names.into_iter().map(str::to_string).collect())
}

/// Reads a model and what else it says of itself.
pub(super) fn open(file: Bytes, files: &mut External) -> Result<(Graph, BTreeMap<String, String>), OnnxError> {
    import::open(file, files)
}

/// Whether a file of that name can hold a model's tensors.
pub fn is_plain_name(name: &str) -> bool {
    external::is_plain(name)
}

/// Reads a file that is one tensor, as ONNX's own test data are.
pub fn read_tensor(file: Bytes) -> Result<TensorData, OnnxError> {
    let read = proto::TensorProto::decode(file).map_err(|error| OnnxError::Protobuf {
        field: "tensor".into(),
        at: 0,
        problem: error.to_string(),
    })?;
    tensor::read("tensor", &read, &mut External::default())
}

#[cfg(test)]
mod tests;
