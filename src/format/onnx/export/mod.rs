//! A graph of ours to ONNX.
//!
//! Models are written for version 17 of the operators, which is read almost everywhere: what came later is written in
//! terms of what was there. Files are written without time or host, so that the same graph gives the same bytes.
//!
//! A graph whose values pass through half precision is written with values of that format: a cast at each end, and 32 bits
//! within for what loses too much.

mod half;
pub(super) mod writer;

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::dtype;
use super::error::OnnxError;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use super::tensor;
use super::wire::MAX_FILE;
use crate::graph::{Dim, Graph, Value, ValueId};
use crate::tensor::DType;
use writer::Writer;

/// The version of ONNX's operators that is written.
const OPSET: i64 = 17;
/// The version of the format that goes with it.
const IR_VERSION: i64 = 8;

/// Where a model's tensors go.
#[derive(Debug, Clone, Default)]
pub enum Tensors {
    /// Into the file itself.
    #[default]
    Inside,
    /// They are in the file of that name, each at its first byte.
    Beside {
        /// The file's name, without a folder.
        file: String,
        /// The first byte of each tensor, by its name.
        offsets: HashMap<String, u64>,
    },
}

/// The file of a graph.
pub fn export(graph: &Graph, tensors: &Tensors) -> Result<Vec<u8>, OnnxError> {
    write(graph, tensors, &BTreeMap::new())
}

/// The file of a graph, with this said of it (`metadata_props`).
pub fn write(graph: &Graph, tensors: &Tensors, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, OnnxError> {
    let said = metadata.iter().map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() });
    let model = ModelProto { metadata_props: said.collect(), ..model(graph, tensors)? };
    let bytes = model.encoded_len() as u64;
    if bytes > MAX_FILE {
        return Err(OnnxError::FileSize { bytes });
    }
    Ok(model.encode_to_vec())
}

fn model(graph: &Graph, tensors: &Tensors) -> Result<ModelProto, OnnxError> {
    let mut writer = Writer::new(graph);
    writer.inputs();
    for node in graph.nodes() {
        writer.write(node)?;
    }
    writer.outputs();
    let Writer { nodes, tensors: held, .. } = writer;
    let initializer = held.into_iter().map(|held| match tensors {
        Tensors::Beside { file, offsets } if offsets.contains_key(&held.name) => {
            tensor::write_external(&held.name, &held.data, file, offsets[&held.name])
        }
        _ => tensor::write(&held.name, &held.data),
    });
    let proto = GraphProto {
        name: graph.name().to_string(),
        initializer: initializer.collect(),
        input: infos(graph, graph.inputs()),
        output: infos(graph, graph.outputs()),
        node: nodes,
        ..GraphProto::default()
    };
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "niwaki".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(proto),
        ..ModelProto::default()
    })
}

fn infos(graph: &Graph, ids: &[ValueId]) -> Vec<ValueInfoProto> {
    ids.iter().map(|id| info(graph.value(*id))).collect()
}

fn info(value: &Value) -> ValueInfoProto {
    let dim = value.shape().iter().map(|dim| Dimension {
        value: Some(match dim {
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
            open => dimension::Value::DimParam(open.to_string()),
        }),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: dtype::number(value.ty.dtype),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: value.name.clone(), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// Whether values of the graph are of this format in the file: half precision where they pass through it.
fn carried(graph: &Graph, dtype: DType) -> DType {
    if dtype == DType::F32 { graph.activations() } else { dtype }
}
