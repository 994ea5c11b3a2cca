//! A model's graph as the file has it, checked as far as names go: everything that is read is written before, and once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::decode;
use super::super::dtype;
use super::super::error::{OnnxError, shown, told};
use super::super::external::External;
use super::super::operators;
use super::super::proto::tensor_shape_proto::dimension;
use super::super::proto::type_proto;
use super::super::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::super::tensor;
use super::{MAX_OPSET, MIN_OPSET};
use crate::format::error::MAX_PROBLEMS;
use crate::tensor::{DType, TensorData};
use bytes::Bytes;

/// A graph with its tensors.
pub(in super::super) struct Source {
    pub(in super::super) name: String,
    /// What the file says of itself.
    pub(super) metadata: BTreeMap<String, String>,
    /// The version of ONNX's operators.
    pub(in super::super) opset: i64,
    pub(in super::super) nodes: Vec<NodeProto>,
    /// What errors call each node.
    labels: Vec<String>,
    pub(in super::super) initializers: HashMap<String, TensorData>,
    /// What is fed: the graph's inputs without those that are initializers.
    pub(in super::super) inputs: Vec<Declared>,
    pub(in super::super) outputs: Vec<String>,
    /// What the file says of other values.
    pub(in super::super) declared: HashMap<String, Declared>,
}

/// A value as the file declares it.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Declared {
    pub(in super::super) name: String,
    pub(in super::super) dtype: DType,
    pub(in super::super) axes: Vec<Axis>,
}

/// The size of an axis as a file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Axis {
    Fixed(usize),
    /// Open, with a name or none.
    Named(String),
}

/// So many axes a value may have.
const MAX_AXES: usize = 16;

impl Source {
    /// Reads a file.
    pub(super) fn read(file: Bytes, files: &mut External) -> Result<Self, OnnxError> {
        let ModelProto { graph, opset_import, metadata_props, .. } = decode::decode(file)?;
        let graph = graph.unwrap_or_default();
        let of_onnx = opset_import.iter().filter(|set| is_onnx(&set.domain));
        let opset = of_onnx.map(|set| set.version).max().unwrap_or(0);
        if !(MIN_OPSET..=MAX_OPSET).contains(&opset) {
            return Err(OnnxError::Opset { version: opset });
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(wrong("it has sparse tensors, which are not read".into()));
        }
        let mut initializers = HashMap::new();
        for initializer in &graph.initializer {
            if initializer.name.is_empty() {
                return Err(wrong("one of its tensors has no name".into()));
            }
            let read = tensor::read(&initializer.name, initializer, files)?;
            if initializers.insert(initializer.name.clone(), read).is_some() {
                return Err(OnnxError::DuplicateName { what: "tensors", name: shown(&initializer.name) });
            }
        }
        let fed = graph.input.iter().filter(|input| !initializers.contains_key(&input.name));
        let inputs = fed.map(declared).collect::<Result<Vec<_>, _>>()?;
        let known = graph.value_info.iter().chain(&graph.output);
        let known = known.filter_map(|info| declared(info).ok()).map(|known| (known.name.clone(), known)).collect();
        let GraphProto { name, node: nodes, output, .. } = graph;
        let outputs: Vec<String> = output.into_iter().map(|output| output.name).collect();
        let labels = nodes.iter().map(label).collect();
        let metadata = metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
        let source = Self { name, metadata, opset, nodes, labels, initializers, inputs, outputs, declared: known };
        source.check_names()?;
        source.check_operators()?;
        Ok(source)
    }

    /// The node's name, or what its first output is called where it has none.
    pub(in super::super) fn label(&self, node: usize) -> &str {
        &self.labels[node]
    }

    /// Operators that niwaki does not have stay in the graph if the file says what they give. Otherwise all of them are
    /// told, so that the model's owner sees how far it is from being read.
    fn check_operators(&self) -> Result<(), OnnxError> {
        let unknown = |node: &&NodeProto| !operators::is_known(&node.domain, &node.op_type);
        let is_declared = |node: &NodeProto| node.output.iter().all(|name| self.declared.contains_key(name));
        if self.nodes.iter().filter(unknown).all(is_declared) {
            return Ok(());
        }
        let all = || self.nodes.iter().zip(&self.labels).filter(|(node, _)| unknown(node));
        let told = all().take(MAX_PROBLEMS).map(|(node, label)| match node.domain.as_str() {
            domain if is_onnx(domain) => format!("{} (node '{label}')", shown(&node.op_type)),
            domain => format!("{}.{} (node '{label}')", shown(domain), shown(&node.op_type)),
        });
        Err(OnnxError::Unsupported { nodes: told.collect(), total: all().count() })
    }

    fn check_names(&self) -> Result<(), OnnxError> {
        let mut written: HashSet<&str> = self.initializers.keys().map(String::as_str).collect();
        for input in &self.inputs {
            if input.name.is_empty() || !written.insert(&input.name) {
                return Err(OnnxError::DuplicateName { what: "inputs", name: shown(&input.name) });
            }
        }
        for (place, node) in self.nodes.iter().enumerate() {
            if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !written.contains(name.as_str())) {
                let later = self.nodes[place..].iter().position(|later| later.output.contains(name));
                let problem = match later {
                    Some(0) => format!("'{}' reads its own output '{}'", self.label(place), shown(name)),
                    Some(later) => format!(
                        "node '{}' reads '{}', which node '{}' writes after it: a cycle, or nodes out of order",
                        self.label(place),
                        shown(name),
                        self.label(place + later)
                    ),
                    None => format!("node '{}' reads '{}', which nothing writes", self.label(place), shown(name)),
                };
                return Err(wrong(problem));
            }
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                if !written.insert(output) {
                    return Err(OnnxError::DuplicateName { what: "values", name: shown(output) });
                }
            }
            let mut names = HashSet::new();
            if let Some(twice) = node.attribute.iter().find(|attribute| !names.insert(attribute.name.as_str())) {
                let problem = format!("it has two attributes '{}'", shown(&twice.name));
                return Err(OnnxError::Node { node: self.label(place).to_string(), op: shown(&node.op_type), problem });
            }
        }
        if self.outputs.is_empty() {
            return Err(wrong("it has no output".into()));
        }
        let mut seen = HashSet::new();
        for output in &self.outputs {
            if !written.contains(output.as_str()) {
                return Err(wrong(format!("its output '{}' is written by nothing", shown(output))));
            }
            if !seen.insert(output) {
                return Err(OnnxError::DuplicateName { what: "outputs", name: shown(output) });
            }
        }
        Ok(())
    }
}

/// A node's name, or what its first output is called where it has none.
fn label(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.iter().find(|name| !name.is_empty()) } else { Some(&node.name) };
    name.map_or_else(|| "without a name".to_string(), |name| shown(name))
}

/// Whether a domain is that of ONNX's own operators.
pub(in super::super) fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn declared(info: &ValueInfoProto) -> Result<Declared, OnnxError> {
    let problem = |problem: &str| wrong(format!("value '{}' {problem}", shown(&info.name)));
    let Some(type_proto::Value::TensorType(ty)) = info.r#type.as_ref().and_then(|ty| ty.value.as_ref()) else {
        return Err(problem("is no tensor"));
    };
    let dtype = dtype::dtype(ty.elem_type)
        .ok_or_else(|| OnnxError::DType { tensor: shown(&info.name), dtype: dtype::name(ty.elem_type) })?;
    let Some(shape) = &ty.shape else { return Err(problem("has no shape")) };
    if shape.dim.len() > MAX_AXES {
        return Err(problem(&format!("has {} axes, at most {MAX_AXES} are allowed", shape.dim.len())));
    }
    let axes = shape.dim.iter().map(|dim| match &dim.value {
        Some(dimension::Value::DimValue(size)) if (0..=tensor::MAX_DIM).contains(size) => {
            Ok(Axis::Fixed(*size as usize))
        }
        Some(dimension::Value::DimValue(size)) => Err(problem(&format!("has an axis of {size} places"))),
        Some(dimension::Value::DimParam(name)) => Ok(Axis::Named(name.clone())),
        None => Ok(Axis::Named(String::new())),
    });
    Ok(Declared { name: info.name.clone(), dtype, axes: axes.collect::<Result<_, _>>()? })
}

pub(super) fn wrong(problem: String) -> OnnxError {
    OnnxError::Graph { problem: told(problem) }
}
