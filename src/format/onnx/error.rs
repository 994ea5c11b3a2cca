//! Why a file is no ONNX model that niwaki reads, by the field, tensor or node.

use thiserror::Error;

use super::import::{MAX_OPSET, MIN_OPSET};
use super::tensor::{MAX_DIM, MAX_RANK};
use super::wire::{MAX_FILE, MAX_NESTED, MAX_TEXT};
use crate::error::{Classify, Kind, Violation};
use crate::format::error::shorten;
use crate::graph::{GraphError, OpError};
use crate::tensor::DType;

/// Why a file is no ONNX model that niwaki reads. Names in it are shortened and escaped.
#[derive(Debug, Error, PartialEq)]
pub enum OnnxError {
    /// The content is something else altogether.
    #[error("this is no ONNX model: it looks like {looks_like}")]
    Foreign {
        /// What it looks like, in words.
        looks_like: &'static str,
    },
    /// The content may be a protobuf, but no model.
    #[error("this is no ONNX model: it has no graph")]
    NoGraph,
    /// A file beyond what a protobuf may be.
    #[error(
        "the file has {bytes} bytes, at most {MAX_FILE} are allowed; larger models keep their tensors in other files"
    )]
    FileSize {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file ends too early.
    #[error("the file is cut short (or no ONNX model): {} needs {expected} bytes, {actual} are there", place(field))]
    Truncated {
        /// The field that was being read; empty between two.
        field: String,
        /// Bytes that the file says it has.
        expected: u64,
        /// Bytes that it has.
        actual: u64,
    },
    /// A file that is no protobuf of a model.
    #[error("the file is malformed at byte {at}, in {}: {problem}", place(field))]
    Protobuf {
        /// The field that was being read; empty between two.
        field: String,
        /// The byte.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// Graphs within graphs, or types within types, without end.
    #[error("{field}: more than {MAX_NESTED} of {message} lie within each other, which is the limit")]
    Depth {
        /// The field that is too deep.
        field: String,
        /// What it is.
        message: &'static str,
    },
    /// Too many things.
    #[error("{field}: the file has more than {limit} {what}, which is the limit")]
    Count {
        /// The first field beyond the limit.
        field: String,
        /// What there is too many of.
        what: &'static str,
        /// How many are allowed.
        limit: u32,
    },
    /// A small file of many things that are large in memory.
    #[error("{field}: the file would take more than {limit} bytes of memory, which is the limit for one of its size")]
    Memory {
        /// The first field beyond the limit.
        field: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A name without end.
    #[error("{field} has {bytes} bytes, at most {MAX_TEXT} are allowed")]
    Text {
        /// The field.
        field: String,
        /// Bytes that it has.
        bytes: usize,
    },
    /// A number format niwaki does not know.
    #[error("tensor '{tensor}' has type {dtype}; supported are {}", dtypes())]
    DType {
        /// The tensor.
        tensor: String,
        /// ONNX's name of the type, or its number.
        dtype: String,
    },
    /// A shape beyond the limits.
    #[error("tensor '{tensor}': {problem}; at most {MAX_RANK} axes of at most {MAX_DIM} are allowed")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// Values that are not those of the shape and type.
    #[error("tensor '{tensor}': {problem}")]
    Data {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("tensor '{tensor}' is BOOL, but element {index} is {value}; only 0 and 1 are allowed")]
    Bool {
        /// The tensor.
        tensor: String,
        /// The element.
        index: usize,
        /// Its byte.
        value: u8,
    },
    /// A name of a file that could not be the name of one.
    #[error(
        "tensor '{tensor}' lies in the file '{location}', which is no plain name: 1 to 255 letters, digits, '.', '_' and \
         '-' are allowed, not beginning with a dot"
    )]
    ExternalName {
        /// The tensor.
        tensor: String,
        /// The name.
        location: String,
    },
    /// A file that is not there.
    #[error("tensor '{tensor}' lies in the file '{location}', which did not come with the model{}", came(files))]
    ExternalMissing {
        /// The tensor.
        tensor: String,
        /// The name.
        location: String,
        /// The files that came with the model.
        files: String,
    },
    /// Something said of where a tensor lies that is not understood.
    #[error("tensor '{tensor}' has external_data '{key}', {problem}")]
    ExternalKey {
        /// The tensor.
        tensor: String,
        /// The key.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Bytes of a tensor that are not where they must be.
    #[error("tensor '{tensor}' lies in the file '{location}' {problem}")]
    ExternalRange {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// What is wrong.
        problem: String,
    },
    /// A set of operators that is not read.
    #[error(
        "the model says that it goes by version {version} of ONNX's operators; {MIN_OPSET} to {MAX_OPSET} are read"
    )]
    Opset {
        /// The version; 0 where it says none.
        version: i64,
    },
    /// Operators that niwaki does not have.
    #[error("the model has operators that niwaki does not have: {}", list(nodes, *total))]
    Unsupported {
        /// The first of them, with their nodes.
        nodes: Vec<String>,
        /// How many there are.
        total: usize,
    },
    /// A graph that does not hold together.
    #[error("the graph: {problem}")]
    Graph {
        /// What is wrong.
        problem: String,
    },
    /// A node that makes no sense.
    #[error("node '{node}' ({op}): {problem}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        problem: String,
    },
    /// A node with the wrong number of inputs or outputs.
    #[error("node '{node}' ({op}) lacks its input {index}{}", or_more(*index))]
    Arity {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Which input, counted from 0.
        index: usize,
    },
    /// A value that must be known before the network runs.
    #[error("node '{node}' ({op}): its {what} is computed while the network runs; it must be known before")]
    Runtime {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What it is needed for.
        what: String,
    },
    /// A node whose operator does not accept its inputs.
    #[error("node '{node}': {source}")]
    Op {
        /// The node.
        node: String,
        /// What the operator says.
        source: Box<OpError>,
    },
    /// Numbers that a small file asks for.
    #[error("node '{node}' ({op}): its result has {bytes} bytes, and {limit} are left for what the graph computes")]
    Folded {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Bytes of the result.
        bytes: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A value beyond all bounds.
    #[error("{of} would be {ty}, which is too large")]
    Size {
        /// The value or node, in words.
        of: String,
        /// Its format and shape.
        ty: String,
    },
    /// Work that a small file asks for.
    #[error("node '{node}' ({op}): reading it takes {asked} steps more, and {left} are left for the graph")]
    Work {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What it takes.
        asked: u64,
        /// What is left.
        left: u64,
    },
    /// Tensors that are shared and become each layer's own.
    #[error("node '{node}': its tensors are shared so often that all together have more than {limit} bytes")]
    Shared {
        /// The node.
        node: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A node of ours that ONNX has no words for.
    #[error("node '{node}' ({op}) cannot be written as ONNX (version 17 of its operators)")]
    Unwritten {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// The graph that came of it does not hold together.
    #[error("the graph: {0}")]
    Built(Box<GraphError>),
    /// Two things of one name.
    #[error("there are two {what} named '{name}'")]
    DuplicateName {
        /// What they are.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Classify for OnnxError {
    fn kind(&self) -> Kind {
        match self {
            OnnxError::FileSize { .. }
            | OnnxError::Count { .. }
            | OnnxError::Memory { .. }
            | OnnxError::Folded { .. }
            | OnnxError::Size { .. }
            | OnnxError::Work { .. }
            | OnnxError::Shared { .. } => Kind::ResourceExhausted,
            OnnxError::Built(error) if is_size(error) => Kind::ResourceExhausted,
            OnnxError::Unwritten { .. } => Kind::FailedPrecondition,
            _ => Kind::InvalidArgument,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            OnnxError::Foreign { .. } | OnnxError::NoGraph => "FORMAT",
            OnnxError::FileSize { .. } => "FILE_TOO_LARGE",
            OnnxError::Truncated { .. } => "TRUNCATED",
            OnnxError::Protobuf { .. } => "PROTOBUF",
            OnnxError::Depth { .. } => "DEPTH",
            OnnxError::Count { .. } | OnnxError::Memory { .. } => "FIELD_COUNT",
            OnnxError::Text { .. } => "TEXT_LENGTH",
            OnnxError::DType { .. } => "DTYPE_UNSUPPORTED",
            OnnxError::Shape { .. } => "SHAPE",
            OnnxError::Data { .. } => "TENSOR_DATA",
            OnnxError::Bool { .. } => "BOOL_VALUE",
            OnnxError::ExternalName { .. } => "EXTERNAL_DATA_NAME",
            OnnxError::ExternalMissing { .. } => "EXTERNAL_DATA_MISSING",
            OnnxError::ExternalKey { .. } => "EXTERNAL_DATA_KEY",
            OnnxError::ExternalRange { .. } => "EXTERNAL_DATA_RANGE",
            OnnxError::DuplicateName { .. } => "DUPLICATE_NAME",
            OnnxError::Opset { .. } => "OPSET",
            OnnxError::Unsupported { .. } => "UNSUPPORTED_OPERATORS",
            OnnxError::Built(error) if is_size(error) => "GRAPH_SIZE",
            OnnxError::Graph { .. } | OnnxError::Built(_) => "GRAPH",
            OnnxError::Arity { .. } => "ARITY",
            OnnxError::Node { .. } | OnnxError::Runtime { .. } | OnnxError::Op { .. } => "NODE",
            OnnxError::Unwritten { .. } => "UNWRITTEN",
            OnnxError::Folded { .. } | OnnxError::Shared { .. } => "TENSOR_SIZE",
            OnnxError::Work { .. } => "WORK",
            OnnxError::Size { .. } => "GRAPH_SIZE",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            OnnxError::Truncated { field, .. } | OnnxError::Protobuf { field, .. } if field.is_empty() => Vec::new(),
            OnnxError::Truncated { field, .. }
            | OnnxError::Protobuf { field, .. }
            | OnnxError::Depth { field, .. }
            | OnnxError::Count { field, .. }
            | OnnxError::Memory { field, .. }
            | OnnxError::Text { field, .. } => vec![Violation::new(field, self.to_string())],
            OnnxError::DType { tensor, .. }
            | OnnxError::Shape { tensor, .. }
            | OnnxError::Data { tensor, .. }
            | OnnxError::Bool { tensor, .. }
            | OnnxError::ExternalName { tensor, .. }
            | OnnxError::ExternalMissing { tensor, .. }
            | OnnxError::ExternalKey { tensor, .. }
            | OnnxError::ExternalRange { tensor, .. } => vec![Violation::new(tensor, self.to_string())],
            OnnxError::DuplicateName { name, .. } => vec![Violation::new(name, self.to_string())],
            OnnxError::Node { node, .. }
            | OnnxError::Arity { node, .. }
            | OnnxError::Runtime { node, .. }
            | OnnxError::Op { node, .. }
            | OnnxError::Unwritten { node, .. }
            | OnnxError::Folded { node, .. }
            | OnnxError::Work { node, .. }
            | OnnxError::Shared { node, .. } => vec![Violation::new(node, self.to_string())],
            OnnxError::Opset { .. } | OnnxError::Unsupported { .. } | OnnxError::Graph { .. } | OnnxError::Built(_) => {
                Vec::new()
            }
            OnnxError::Foreign { .. } | OnnxError::NoGraph | OnnxError::FileSize { .. } | OnnxError::Size { .. } => {
                Vec::new()
            }
        }
    }
}

/// A name from a file as a message has it: not too long, and without signs that do something to what shows them.
pub(super) fn shown(name: &str) -> String {
    shorten(&shorten(name).escape_debug().to_string())
}

/// Whether a graph is one but for its size.
fn is_size(error: &GraphError) -> bool {
    matches!(error, GraphError::TooMany { .. } | GraphError::TooLarge { .. })
}

/// The longest text about what is wrong, in bytes.
const MAX_PROBLEM: usize = 1000;

/// A text about what is wrong that has words of the file in it: not too long, and without signs that do something to what
/// shows them.
pub(super) fn told(problem: String) -> String {
    let end = problem.char_indices().map(|(place, _)| place).find(|place| *place >= MAX_PROBLEM);
    let (text, more) = end.map_or((problem.as_str(), ""), |end| (&problem[..end], "…"));
    let escaped = |c: char| -> String {
        // Quotes are our own.
        if matches!(c, '\'' | '"' | '\\') { c.to_string() } else { c.escape_debug().to_string() }
    };
    format!("{}{more}", text.chars().map(escaped).collect::<String>())
}

fn list(nodes: &[String], total: usize) -> String {
    let more = if total > nodes.len() { format!(" and {} more", total - nodes.len()) } else { String::new() };
    format!("{}{more}", told(nodes.join(", ")))
}

fn or_more(index: usize) -> &'static str {
    if index == 0 { " or all of them" } else { "" }
}

fn place(field: &str) -> &str {
    if field.is_empty() { "what follows" } else { field }
}

fn came(files: &str) -> String {
    if files.is_empty() { String::new() } else { format!("; with it came {files}") }
}

fn dtypes() -> String {
    DType::ALL.map(DType::name).join(", ")
}
