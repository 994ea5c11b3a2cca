//! The graph: what a network computes, as a plain value.
//!
//! A [`Graph`] is a flat list of [`Node`]s in execution order. A node reads *values* (activations, which have a batch
//! axis) and *parameters* (weights and biases, which have names and bytes), and writes one value. Nothing here touches a
//! device or a file.
//!
//! ```text
//!   inputs ──▶ node ──▶ value ──▶ node ──▶ … ──▶ output
//!               ▲
//!             params (weight [out, in], bias [out])
//! ```
//!
//! A graph changes only through [`Graph::edit`]: the draft is verified as a whole and either replaces the graph or is
//! dropped. Layout is PyTorch's: activations `[batch, channels, height, width]`, parameter names `fc1.weight`.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod builder;
pub mod cost;
pub mod dim;
pub mod dims;
mod display;
pub mod drawing;
mod edit;
pub mod glob;
pub mod init;
pub mod op;
pub mod preset;
mod verify;

use std::collections::HashSet;
use std::sync::Arc;

use thiserror::Error;

use crate::tensor::{DType, TensorData, TensorError};

pub use dim::Dim;
use dim::Sizes;
pub use edit::{Change, GraphEdit, NewNode};
pub use op::{Op, OpError, ValueType};
pub(crate) use verify::{MAX_NODES, check_name, check_size};

/// Names a value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

/// Names a parameter of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) u32);

impl ValueId {
    /// The place in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ParamId {
    /// The place in [`Graph::params`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// A name, unique in the graph.
    pub name: String,
    /// Its number format and axes; mostly the first is [`Dim::Batch`].
    pub ty: ValueType,
}

impl Value {
    /// The axes.
    pub fn shape(&self) -> &[Dim] {
        &self.ty.shape
    }

    /// The sizes for one sample: those after the batch axis, where that is the first. Open sequences count as one step.
    pub fn sample_shape(&self) -> Vec<usize> {
        let own = self.ty.shape.strip_prefix(&[Dim::Batch]).unwrap_or(&self.ty.shape);
        own.iter().map(|d| d.at(Sizes::of_batch(1)).unwrap_or(0)).collect()
    }
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// The name, unique in the graph; PyTorch's path, such as `conv1.weight`.
    pub name: String,
    /// The values.
    pub data: TensorData,
    /// Whether it is a number of the network's structure, which nobody trains or prunes: a table of places, a scale.
    pub fixed: bool,
    /// Where given, one flag an element: `false` says that it is zero and stays zero while training.
    pub mask: Option<Arc<[bool]>>,
}

impl Param {
    /// Whether it counts as a weight: two or more axes. Biases and scales have one.
    pub fn is_weight(&self) -> bool {
        !self.fixed && self.data.shape().len() >= 2
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name, unique in the graph, such as `conv1`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// The values it reads.
    pub inputs: Vec<ValueId>,
    /// The parameters it reads, in the order of [`Op::roles`].
    pub params: Vec<ParamId>,
    /// The values it writes: one or more.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// The value it writes; the first, where it writes several.
    pub fn output(&self) -> ValueId {
        self.outputs[0]
    }
}

/// What can be wrong with a graph.
#[derive(Debug, Error, PartialEq)]
pub enum GraphError {
    /// Two things have one name.
    #[error("two {what}s are named '{name}'")]
    DuplicateName {
        /// `node`, `value` or `parameter`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name of no use: empty, too long or with control characters.
    #[error("{what} name {name:?} is not allowed: 1 to 512 printable characters are")]
    BadName {
        /// `node`, `value` or `parameter`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A node reads what does not exist (yet).
    #[error("node '{node}' reads {what} '{name}', which {problem}")]
    Dangling {
        /// The node.
        node: String,
        /// `value` or `parameter`.
        what: &'static str,
        /// The name.
        name: String,
        /// What is the matter with it.
        problem: &'static str,
    },
    /// A value is written twice.
    #[error("node '{node}' writes value '{value}', which is written before")]
    Rewritten {
        /// The node.
        node: String,
        /// The value.
        value: String,
    },
    /// A node's operator does not accept its inputs or parameters.
    #[error("node '{node}': {source}")]
    Op {
        /// The node.
        node: String,
        /// What the operator says.
        source: Box<OpError>,
    },
    /// The graph has no output.
    #[error("the graph has no output")]
    NoOutput,
    /// A model without an input: it would give the same for every sample.
    #[error("the graph has no input")]
    NoInput,
    /// A node to change that is not there.
    #[error("there is no node '{name}'")]
    NoSuchNode {
        /// The name.
        name: String,
    },
    /// An output that no node writes.
    #[error("output '{value}' is written by no node")]
    OutputMissing {
        /// The value.
        value: String,
    },
    /// A value's stored type is not what its node produces.
    #[error("value '{value}' is said to be {stated}, but its node produces {inferred}")]
    Shape {
        /// The value.
        value: String,
        /// The stored number format and shape.
        stated: String,
        /// The inferred ones.
        inferred: String,
    },
    /// A node with another number of outputs than its operator has.
    #[error("node '{node}' writes {stated} values, its operator has {inferred} outputs")]
    Outputs {
        /// The node.
        node: String,
        /// What it writes.
        stated: usize,
        /// What its operator has.
        inferred: usize,
    },
    /// No node reads a parameter.
    #[error("parameter '{name}' is read by no node")]
    UnusedParam {
        /// The parameter.
        name: String,
    },
    /// A parameter that is learned is no floating point tensor.
    #[error("parameter '{name}': {source}")]
    Param {
        /// The parameter.
        name: String,
        /// Why.
        source: TensorError,
    },
    /// A mask of another length than its parameter.
    #[error("the mask of parameter '{name}' has {mask} flags for {elements} values")]
    Mask {
        /// The parameter.
        name: String,
        /// Flags.
        mask: usize,
        /// Elements.
        elements: usize,
    },
    /// Values cannot pass through that number format.
    #[error("values cannot pass through {dtype}, only through F32, F16 and BF16")]
    Activations {
        /// The format.
        dtype: DType,
    },
    /// A value, or the columns that a convolution unfolds its input to, would take too much memory.
    #[error("value '{value}': {what} {elements} numbers a sample, at most {limit} are allowed")]
    TooLarge {
        /// The value.
        value: String,
        /// `it has`, or `its convolution unfolds to`.
        what: &'static str,
        /// Numbers a sample.
        elements: u64,
        /// How many there may be.
        limit: u64,
    },
    /// More than the format allows.
    #[error("the graph has {count} {what}s, at most {limit} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// A network. See the [module documentation](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
    values: Vec<Value>,
    params: Vec<Param>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    activations: DType,
}

impl Graph {
    /// An empty graph, to be filled by [`Graph::edit`]. Most callers want a [`builder::GraphBuilder`].
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            nodes: Vec::new(),
            values: Vec::new(),
            params: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            activations: DType::F32,
        }
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values; [`ValueId`] names a place in it.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The parameters; [`ParamId`] names a place in it.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The number format that values pass through between nodes: whoever runs the network rounds every node's result to
    /// it. Within a node sums are taken in `f32`. [`DType::F32`] rounds nothing.
    pub fn activations(&self) -> DType {
        self.activations
    }

    /// The parameters that are not learned: running means and variances, which are measured, and what is fixed.
    pub fn statistics(&self) -> HashSet<ParamId> {
        let of_node = |node: &'_ Node| node.params.get(node.op.statistics()).unwrap_or_default().to_vec();
        let fixed = self.param_ids().filter(|id| self.param(*id).fixed);
        self.nodes.iter().flat_map(of_node).chain(fixed).collect()
    }

    /// Whether the first output is a probability a class already, where a loss expects what a softmax is taken of.
    pub fn ends_in_softmax(&self) -> bool {
        let last = self.outputs.first().and_then(|output| self.producer(*output));
        last.is_some_and(|node| matches!(node.op, Op::Softmax(_)))
    }

    /// The operators that niwaki does not have, with their nodes.
    pub fn unknown_operators(&self) -> Vec<String> {
        let unknown = self.nodes.iter().filter_map(|node| match &node.op {
            Op::Custom(custom) if custom.domain.is_empty() => Some(format!("{} (node '{}')", custom.name, node.name)),
            Op::Custom(custom) => Some(format!("{}.{} (node '{}')", custom.domain, custom.name, node.name)),
            _ => None,
        });
        unknown.collect()
    }

    /// The node that writes a value; `None` for the inputs.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.outputs.contains(&value))
    }

    /// The nodes that read a value.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.inputs.contains(&value))
    }

    /// The values that are fed.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The values that are the result.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The value of that id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The parameter of that id.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// The parameter of that name.
    pub fn param_id(&self, name: &str) -> Option<ParamId> {
        self.params.iter().position(|p| p.name == name).map(|i| ParamId(i as u32))
    }

    /// All parameter ids, in order.
    pub fn param_ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.params.len() as u32).map(ParamId)
    }

    /// The shape of one input sample.
    pub fn input_shape(&self) -> Vec<usize> {
        self.inputs.first().map(|v| self.value(*v).sample_shape()).unwrap_or_default()
    }

    /// The shape of the first output for one sample.
    pub fn output_shape(&self) -> Vec<usize> {
        self.outputs.first().map(|v| self.value(*v).sample_shape()).unwrap_or_default()
    }

    /// What the open sizes are for inputs of these shapes, in the order of [`Graph::inputs`]; `None` where the shapes do
    /// not fit.
    pub fn sizes(&self, shapes: &[&[usize]]) -> Option<Sizes> {
        let types: Vec<&[Dim]> = self.inputs.iter().map(|id| self.value(*id).shape()).collect();
        dim::sizes_of(&types, shapes)
    }

    /// Starts a change. The draft replaces the graph when it is committed.
    pub fn edit(&mut self) -> GraphEdit<'_> {
        GraphEdit::new(self)
    }

    /// Checks everything that a graph promises: names, order, arity, shapes.
    pub fn verify(&self) -> Result<(), GraphError> {
        verify::verify(self)
    }
}
