//! The graph's JSON as plain structs, and operators to and from their attributes.

use serde::{Deserialize, Serialize};

use super::super::error::{Origin, shorten};
use super::super::pairs::{Pairs, bounded};
use super::super::safetensors::MAX_HEADER;
use super::FormatError;
use crate::graph::op::{Activation, AvgPool2d, BatchNorm, Conv2d, Dropout, MaxPool2d, Pad, Slice, Window};
use crate::graph::{Graph, Op, ValueId};
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
    pub(super) inputs: Vec<Shaped>,
    #[serde(deserialize_with = "bounded")]
    pub(super) params: Vec<Shaped>,
    #[serde(deserialize_with = "bounded")]
    pub(super) nodes: Vec<NodeText>,
    pub(super) outputs: Vec<String>,
}

/// A name with a shape.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shaped {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

/// A node; `params` goes by role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeText {
    pub(super) name: String,
    pub(super) op: String,
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub(super) attributes: Attributes,
    pub(super) inputs: Vec<String>,
    #[serde(default, skip_serializing_if = "has_none")]
    pub(super) params: Pairs<String>,
}

fn has_none(params: &Pairs<String>) -> bool {
    params.0.is_empty()
}

/// The attributes of all operators; each has its own of them, and needs all of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<[usize; 4]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dilation: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_padding: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    axis: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
}

impl GraphText {
    /// The text of a graph.
    pub(in super::super) fn of(graph: &Graph) -> Self {
        let value_names = |ids: &[ValueId]| ids.iter().map(|v| graph.value(*v).name.clone()).collect();
        let shaped = |name: &str, shape: &[usize]| Shaped { name: name.to_string(), shape: shape.to_vec() };
        let inputs = graph.inputs().iter().map(|v| graph.value(*v));
        let nodes = graph.nodes().iter().map(|node| {
            let roles = node.op.roles().0.iter().map(|role| role.to_string());
            let params = node.params.iter().map(|p| graph.param(*p).name.clone());
            NodeText {
                name: node.name.clone(),
                op: node.op.name().to_string(),
                attributes: Attributes::of(&node.op),
                inputs: value_names(&node.inputs),
                params: Pairs(roles.zip(params).collect()),
            }
        });
        Self {
            version: VERSION,
            name: graph.name().to_string(),
            activations: (graph.activations() != DType::F32).then(|| graph.activations().name().to_string()),
            inputs: inputs.map(|v| shaped(&v.name, &v.sample_shape())).collect(),
            params: graph.params().iter().map(|p| shaped(&p.name, p.data.shape())).collect(),
            nodes: nodes.collect(),
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

/// Why a node's operator cannot be read.
#[derive(Debug)]
pub(super) enum OpProblem {
    /// There is no such operator.
    Unknown,
    /// Attributes are missing or not the operator's.
    Attributes(String),
}

impl NodeText {
    /// The operator, with exactly its own attributes.
    pub(super) fn op(&self) -> Result<Op, OpProblem> {
        let a = &self.attributes;
        let op = match self.op.as_str() {
            "Linear" => Op::Linear,
            "Flatten" => Op::Flatten,
            "Add" => Op::Add,
            "GlobalAvgPool" => Op::GlobalAvgPool,
            "BatchNorm" => Op::BatchNorm(BatchNorm {
                epsilon: need("epsilon", a.epsilon)?,
                momentum: need("momentum", a.momentum)?,
            }),
            "Dropout" => Op::Dropout(Dropout { rate: need("rate", a.rate)? }),
            "Pad" => Op::Pad(Pad {
                axis: need("axis", a.axis)?,
                before: need("before", a.before)?,
                after: need("after", a.after)?,
            }),
            "Slice" => Op::Slice(Slice {
                axis: need("axis", a.axis)?,
                start: need("start", a.start)?,
                end: need("end", a.end)?,
                step: need("step", a.step)?,
            }),
            "Conv2d" => Op::Conv2d(Conv2d {
                stride: need("stride", a.stride)?,
                padding: need("padding", a.padding)?,
                dilation: need("dilation", a.dilation)?,
                groups: need("groups", a.groups)?,
            }),
            "MaxPool2d" => Op::MaxPool2d(MaxPool2d { window: a.window()? }),
            "AvgPool2d" => {
                let count_padding = need("count_padding", a.count_padding)?;
                Op::AvgPool2d(AvgPool2d { window: a.window()?, count_padding })
            }
            name => match Activation::ALL.into_iter().find(|activation| activation.name() == name) {
                Some(activation) => Op::Activation(activation),
                None => return Err(OpProblem::Unknown),
            },
        };
        // All of its own are there, so whatever differs is one too many.
        if Attributes::of(&op) != *a {
            return Err(OpProblem::Attributes(format!("has attributes that {} does not have", self.op)));
        }
        Ok(op)
    }
}

impl Attributes {
    fn of(op: &Op) -> Self {
        match op {
            Op::Linear | Op::Flatten | Op::Activation(_) | Op::Add | Op::GlobalAvgPool => Self::default(),
            Op::BatchNorm(c) => Self { epsilon: Some(c.epsilon), momentum: Some(c.momentum), ..Self::default() },
            Op::Dropout(c) => Self { rate: Some(c.rate), ..Self::default() },
            Op::Pad(c) => Self { axis: Some(c.axis), before: Some(c.before), after: Some(c.after), ..Self::default() },
            Op::Slice(c) => Self {
                axis: Some(c.axis),
                start: Some(c.start),
                end: Some(c.end),
                step: Some(c.step),
                ..Self::default()
            },
            Op::Conv2d(c) => Self {
                stride: Some(c.stride),
                padding: Some(c.padding),
                dilation: Some(c.dilation),
                groups: Some(c.groups),
                ..Self::default()
            },
            Op::MaxPool2d(pool) => Self::of_window(&pool.window),
            Op::AvgPool2d(pool) => Self { count_padding: Some(pool.count_padding), ..Self::of_window(&pool.window) },
        }
    }

    fn of_window(window: &Window) -> Self {
        Self {
            kernel: Some(window.kernel),
            stride: Some(window.stride),
            padding: Some(window.padding),
            dilation: Some(window.dilation),
            ..Self::default()
        }
    }

    fn window(&self) -> Result<Window, OpProblem> {
        Ok(Window {
            kernel: need("kernel", self.kernel)?,
            stride: need("stride", self.stride)?,
            padding: need("padding", self.padding)?,
            dilation: need("dilation", self.dilation)?,
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn need<T>(name: &str, value: Option<T>) -> Result<T, OpProblem> {
    value.ok_or_else(|| OpProblem::Attributes(format!("lacks the attribute '{name}'")))
}
