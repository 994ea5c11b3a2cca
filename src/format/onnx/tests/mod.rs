//! Reading whole models that were made to be refused, or to cost more than they should. Numbers in names are those of the
//! list in docs/security.md.

mod attributes;
mod costs;
mod graphs;
mod operands;
mod random;
mod written;

use prost::Message as _;

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use super::{External, Given, OnnxError, dtype, import, tensor};
use crate::error::{Classify, Kind};
use crate::graph::Graph;
use crate::tensor::{DType, TensorData};

/// A value as a file declares it; an axis of -1 is open.
fn value(name: &str, dtype: DType, axes: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| {
        let value = match size {
            -1 => dimension::Value::DimParam("batch".into()),
            size => dimension::Value::DimValue(*size),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = Some(TensorShapeProto { dim: axes.iter().map(dim).collect() });
    let ty = type_proto::Value::TensorType(type_proto::Tensor { elem_type: dtype::number(dtype), shape });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(ty), ..Default::default() }),
        ..Default::default()
    }
}

/// A tensor with a name.
fn named(name: &str, data: &TensorData) -> TensorProto {
    tensor::write(name, data)
}

/// Whole numbers with a name.
fn numbers(name: &str, shape: &[usize], all: &[i64]) -> TensorProto {
    let bytes: Vec<u8> = all.iter().flat_map(|n| n.to_le_bytes()).collect();
    named(name, &TensorData::new(DType::I64, shape.to_vec(), bytes).unwrap())
}

/// A tensor of this number everywhere.
fn filled(name: &str, shape: &[usize], number: f32) -> TensorProto {
    named(name, &TensorData::from_f32(shape.to_vec(), &vec![number; shape.iter().product()]).unwrap())
}

fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: ty as i32, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.as_bytes().to_vec().into(), ..attribute(name, AttributeType::String) }
}

/// A node of one output or more, which errors call by the first.
fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: outputs.iter().map(|name| name.to_string()).collect(),
        attribute: attributes,
        ..Default::default()
    }
}

/// A graph with an input `x` of this shape and the output `y`.
fn graph(x: &[i64], initializer: Vec<TensorProto>, nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        input: vec![value("x", DType::F32, x)],
        output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
        initializer,
        node: nodes,
        ..Default::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 18 }],
        graph: Some(graph),
        ..Default::default()
    }
}

/// What is said of a model: a graph that holds together, or a refusal that could be shown to anybody.
fn read(model: &ModelProto) -> Result<Graph, OnnxError> {
    read_bytes(model.encode_to_vec())
}

/// As [`read`], of any bytes.
fn read_bytes(file: Vec<u8>) -> Result<Graph, OnnxError> {
    let read = import(file.into(), &mut External::default(), &Given::default());
    match &read {
        Ok(graph) => assert_eq!(graph.verify(), Ok(())),
        Err(error) => {
            let told = error.to_string();
            assert_ne!(error.kind(), Kind::Internal, "{told}");
            assert!(told.len() < 4000 && !told.chars().any(char::is_control), "{} bytes: {told}", told.len());
        }
    }
    read
}

/// The kind, reason and words of a refusal.
#[track_caller]
fn refused(model: &ModelProto) -> (Kind, &'static str, String) {
    match read(model) {
        Ok(graph) => panic!("it is read: {graph}"),
        Err(error) => (error.kind(), error.reason(), error.to_string()),
    }
}

/// The reason and words of the refusal of a graph.
#[track_caller]
fn refused_graph(graph: GraphProto) -> (&'static str, String) {
    let (_, reason, told) = refused(&model(graph));
    (reason, told)
}

/// The reason and words of the refusal of one node that reads `x` of this shape and these tensors, and writes `y`.
#[track_caller]
fn refused_node(x: &[i64], tensors: Vec<TensorProto>, node: NodeProto) -> (&'static str, String) {
    refused_graph(graph(x, tensors, vec![node]))
}
