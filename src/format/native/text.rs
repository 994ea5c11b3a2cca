//! The graph's JSON as plain structs, and operators to and from their attributes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::{Origin, shorten};
use super::super::pairs::{Pairs, bounded};
use super::super::safetensors::MAX_HEADER;
use super::FormatError;
use crate::graph::op::OpTextError;
use crate::graph::{Dim, Graph, Node, Op, Value, ValueId, ValueType};
use crate::tensor::DType;

/// The version this code writes, and the only one it reads.
const VERSION: u64 = 1;

/// A graph as its JSON has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct GraphText {
    pub(super) version: u64,
    pub(super) name: String,
    /// What values pass through between nodes; absent: `F32`.
    #[serde(default)]
    activations: Option<String>,
    pub(super) inputs: Vec<InputText>,
    #[serde(deserialize_with = "bounded")]
    pub(super) params: Vec<ParamText>,
    #[serde(deserialize_with = "bounded")]
    pub(super) nodes: Vec<NodeText>,
    pub(super) outputs: Vec<String>,
}

/// An input: samples of a shape, or, where the batch is not the first axis, a value with all its axes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputText {
    pub(super) name: String,
    /// The axes after the batch's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<Dim>>,
    /// All axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axes: Option<Vec<Dim>>,
    /// Absent: `F32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<DType>,
}

/// A parameter; its number format is that of its tensor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParamText {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Whether it is part of the structure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) fixed: bool,
}

/// A node; `params` goes by role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeText {
    pub(super) name: String,
    op: String,
    /// Absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<Box<RawValue>>,
    pub(super) inputs: Vec<String>,
    /// Absent: one that is named like the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<String>,
    #[serde(default, skip_serializing_if = "has_none")]
    pub(super) params: Pairs<String>,
}

fn has_none(params: &Pairs<String>) -> bool {
    params.0.is_empty()
}

impl InputText {
    fn of(value: &Value) -> Self {
        let sample = value.shape().strip_prefix(&[Dim::Batch]);
        Self {
            name: value.name.clone(),
            shape: sample.map(<[Dim]>::to_vec),
            axes: sample.is_none().then(|| value.shape().to_vec()),
            dtype: (value.ty.dtype != DType::F32).then_some(value.ty.dtype),
        }
    }

    /// The type, or why there is none.
    pub(super) fn ty(&self) -> Result<ValueType, String> {
        let axes = match (&self.shape, &self.axes) {
            (Some(shape), None) => [&[Dim::Batch], &shape[..]].concat(),
            (None, Some(axes)) => axes.clone(),
            _ => return Err(format!("input '{}' needs either 'shape' or 'axes'", shorten(&self.name))),
        };
        Ok(ValueType::new(self.dtype.unwrap_or(DType::F32), axes))
    }
}

impl NodeText {
    fn of(graph: &Graph, node: &Node) -> Self {
        let name = |id: &ValueId| graph.value(*id).name.clone();
        let outputs: Vec<String> = node.outputs.iter().map(name).collect();
        let roles = node.op.roles().0.iter().map(|role| role.to_string());
        let params = node.params.iter().map(|p| graph.param(*p).name.clone());
        let attributes = Some(node.op.attributes()).filter(|text| text != "{}");
        Self {
            name: node.name.clone(),
            op: node.op.name().to_string(),
            attributes: attributes.map(|text| RawValue::from_string(text).expect("attributes are JSON")),
            inputs: node.inputs.iter().map(name).collect(),
            outputs: if outputs == [node.name.as_str()] { Vec::new() } else { outputs },
            params: Pairs(roles.zip(params).collect()),
        }
    }

    /// The names of its outputs.
    pub(super) fn outputs(&self) -> &[String] {
        if self.outputs.is_empty() { std::slice::from_ref(&self.name) } else { &self.outputs }
    }

    /// The operator, with exactly its own attributes.
    pub(super) fn op(&self) -> Result<Op, OpTextError> {
        Op::from_text(&self.op, self.attributes.as_ref().map_or("{}", |text| text.get()))
    }

    /// The operator's name, as the file has it.
    pub(super) fn op_name(&self) -> String {
        shorten(&self.op)
    }
}

impl GraphText {
    /// The text of a graph.
    pub(in super::super) fn of(graph: &Graph) -> Self {
        let value_names = |ids: &[ValueId]| ids.iter().map(|v| graph.value(*v).name.clone()).collect();
        Self {
            version: VERSION,
            name: graph.name().to_string(),
            activations: (graph.activations() != DType::F32).then(|| graph.activations().name().to_string()),
            inputs: graph.inputs().iter().map(|v| InputText::of(graph.value(*v))).collect(),
            params: graph
                .params()
                .iter()
                .map(|p| ParamText { name: p.name.clone(), shape: p.data.shape().to_vec(), fixed: p.fixed })
                .collect(),
            nodes: graph.nodes().iter().map(|node| NodeText::of(graph, node)).collect(),
            outputs: value_names(graph.outputs()),
        }
    }

    /// Reads a graph's JSON: its form and version, not its sense.
    pub(in super::super) fn parse(json: &str, origin: &Origin) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u64,
        }
        let bad = |problem: String| FormatError::Description { origin: origin.clone(), problem: shorten(&problem) };
        if json.len() as u64 > MAX_HEADER {
            return Err(bad(format!("{} bytes of JSON, at most {MAX_HEADER} are allowed", json.len())));
        }
        // The version first: a later version's fields are no mistake of the client's.
        let VersionOnly { version } = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        if version != VERSION {
            return Err(bad(format!("version {version} is not supported, only version {VERSION} is")));
        }
        serde_json::from_str(json).map_err(|e| bad(e.to_string()))
    }

    /// The number format that values pass through, or why it is none.
    pub(super) fn activations(&self) -> Result<DType, String> {
        let Some(name) = &self.activations else { return Ok(DType::F32) };
        let dtype = [DType::F16, DType::BF16].into_iter().find(|dtype| dtype.name() == name);
        dtype.ok_or_else(|| format!("activations is '{}'; it is F16 or BF16, or left out for F32", shorten(name)))
    }

    /// The JSON, with one line a parameter and a node.
    pub(super) fn to_json(&self) -> String {
        fn json<T: Serialize + ?Sized>(value: &T) -> String {
            serde_json::to_string(value).expect("strings, numbers and arrays of them always have a JSON form")
        }
        fn lines<T: Serialize>(items: &[T]) -> String {
            items.iter().map(|item| format!("\n{}", json(item))).collect::<Vec<_>>().join(",")
        }
        let activations = self.activations.iter().map(|name| format!(",\"activations\":{}", json(name)));
        format!(
            "{{\"version\":{},\"name\":{}{},\n\"inputs\":[{}],\n\"params\":[{}],\n\"nodes\":[{}],\n\"outputs\":{}}}\n",
            self.version,
            json(&self.name),
            activations.collect::<String>(),
            lines(&self.inputs),
            lines(&self.params),
            lines(&self.nodes),
            json(&self.outputs),
        )
    }
}
