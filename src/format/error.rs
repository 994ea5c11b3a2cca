//! Why a file is no model, with the names and numbers that let its owner mend it.

use std::fmt;

use thiserror::Error;

use super::onnx::OnnxError;
use super::safetensors::{MAX_DIM, MAX_HEADER, MAX_METADATA, MAX_NAME, MAX_RANK, MAX_TENSORS};
use crate::error::{Classify, Kind, Violation, list};
use crate::graph::GraphError;
use crate::graph::preset::{self, PresetError};
use crate::tensor::DType;

/// So many problems are told one by one; the rest is counted.
pub(super) const MAX_PROBLEMS: usize = 10;

/// Why a file is no model, or a model does not go into a file.
#[derive(Debug, Error, PartialEq)]
pub enum FormatError {
    /// The content is something else altogether.
    #[error("this is no safetensors file: it looks like {looks_like}")]
    Foreign {
        /// What it looks like, in words.
        looks_like: &'static str,
    },
    /// The file ends too early.
    #[error("the file is cut short (or no safetensors file): {what} needs {expected} bytes, {actual} are there")]
    Truncated {
        /// `the header length`, `the header` or `the data`.
        what: &'static str,
        /// Bytes that the file says it has.
        expected: u64,
        /// Bytes that it has.
        actual: u64,
    },
    /// A header beyond the limit.
    #[error("the header has {bytes} bytes, at most {MAX_HEADER} (8 MiB) are allowed")]
    HeaderTooLarge {
        /// Bytes of the header.
        bytes: u64,
    },
    /// A header with too many tensors.
    #[error("the file has more than {MAX_TENSORS} tensors, which is the limit")]
    TensorCount,
    /// A header with too many entries of metadata.
    #[error("the file has more than {MAX_METADATA} entries of metadata, which is the limit")]
    MetadataCount,
    /// A header that is not what the format asks for.
    #[error("the header is malformed{}: {problem}", near(at))]
    Header {
        /// The key that was being read; empty before the first.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// Two tensors or two metadata entries of one name.
    #[error("there are two {what} named '{name}'")]
    DuplicateName {
        /// `tensors` or `metadata entries`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor name that is not allowed.
    #[error(
        "tensor name {name:?} is not allowed: names have 1 to {MAX_NAME} printable ASCII characters, no backslash, no \
         space at either end, and no empty, '.' or '..' part between slashes"
    )]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// A number format niwaki does not know.
    #[error("tensor '{tensor}' has dtype '{dtype}'; supported are {}", dtypes())]
    DType {
        /// The tensor.
        tensor: String,
        /// The dtype as the file spells it.
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
    /// Files that are not one model.
    #[error("the files: {problem}")]
    Files {
        /// What is wrong.
        problem: String,
    },
    /// A graph for a model that has one.
    #[error("an ONNX model carries its graph; none may be given beside it")]
    ArchitectureGiven,
    /// Bytes of a tensor that are not where they must be.
    #[error("tensor '{tensor}' has data_offsets [{begin}, {end}], {problem}")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// First byte.
        begin: u64,
        /// First byte after it.
        end: u64,
        /// What is wrong.
        problem: String,
    },
    /// Bytes after the last tensor.
    #[error("{bytes} bytes follow the last tensor; nothing may")]
    Trailing {
        /// How many.
        bytes: u64,
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
    /// Weights that are no numbers.
    #[error("tensor '{tensor}' holds {count} values that are NaN or infinite")]
    NonFinite {
        /// The first such tensor.
        tensor: String,
        /// How many such values it has.
        count: usize,
    },
    /// A variance that is none.
    #[error("tensor '{tensor}' holds variances, but element {index} is {value}; none is below 0")]
    Variance {
        /// The tensor.
        tensor: String,
        /// The element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A description of a graph that makes no sense.
    #[error("{origin}: {problem}")]
    Description {
        /// Where the graph comes from.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// A described graph that does not hold together.
    #[error("{origin}: {source}")]
    Graph {
        /// Where the graph comes from.
        origin: Origin,
        /// What is wrong.
        source: Box<GraphError>,
    },
    /// Tensors that are not those of the graph.
    #[error("the file's tensors do not fit {origin}: {}{}", list(problems), more(problems.len(), *total))]
    Mismatch {
        /// Where the graph comes from.
        origin: Origin,
        /// The first problems.
        problems: Vec<TensorProblem>,
        /// How many there are altogether.
        total: usize,
    },
    /// Weights without a graph.
    #[error(
        "the file holds weights but no graph. Give an architecture: the name of a built-in network ({}), or a graph in \
         niwaki's JSON form; or upload a file written by niwaki, which carries its graph",
        presets()
    )]
    ArchitectureMissing,
    /// A built-in network that does not exist, or not with these options.
    #[error(transparent)]
    Preset {
        /// What is wrong.
        source: PresetError,
    },
    /// An architecture for a file that carries another one.
    #[error("the file carries its own graph, which differs from {origin}: {difference}")]
    Contradiction {
        /// Where the given graph comes from.
        origin: Origin,
        /// The first difference.
        difference: String,
    },
    /// A file that is no ONNX model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

/// Where a graph comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file's own metadata.
    Metadata,
    /// A built-in network.
    Preset(String),
    /// A graph given as JSON.
    Json,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Metadata => f.write_str("the graph in the file's metadata"),
            Origin::Preset(name) => write!(f, "the built-in network '{name}'"),
            Origin::Json => f.write_str("the given graph"),
        }
    }
}

/// One tensor that is not as the graph has it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorProblem {
    /// The graph has it, the file has not.
    #[error("'{tensor}' {expected:?} is missing")]
    Missing {
        /// The tensor.
        tensor: String,
        /// Its shape in the graph.
        expected: Vec<usize>,
    },
    /// The file has it, the graph has not.
    #[error("'{tensor}' {actual:?} is not part of it")]
    Extra {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        actual: Vec<usize>,
    },
    /// The shapes differ.
    #[error("'{tensor}' should have shape {expected:?}, has {actual:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the graph.
        expected: Vec<usize>,
        /// Its shape in the file.
        actual: Vec<usize>,
    },
    /// A parameter that is no floating point tensor.
    #[error("'{tensor}' has dtype {dtype}, parameters are floating point numbers")]
    DType {
        /// The tensor.
        tensor: String,
        /// Its dtype in the file.
        dtype: DType,
    },
}

impl TensorProblem {
    /// The tensor's name.
    pub fn tensor(&self) -> &str {
        match self {
            TensorProblem::Missing { tensor, .. }
            | TensorProblem::Extra { tensor, .. }
            | TensorProblem::Shape { tensor, .. }
            | TensorProblem::DType { tensor, .. } => tensor,
        }
    }
}

impl Classify for FormatError {
    fn kind(&self) -> Kind {
        match self {
            FormatError::HeaderTooLarge { .. } | FormatError::TensorCount | FormatError::MetadataCount => {
                Kind::ResourceExhausted
            }
            FormatError::Onnx(error) => error.kind(),
            _ => Kind::InvalidArgument,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            FormatError::Foreign { .. } => "FORMAT",
            FormatError::Truncated { .. } => "TRUNCATED",
            FormatError::HeaderTooLarge { .. } => "HEADER_TOO_LARGE",
            FormatError::TensorCount => "TENSOR_COUNT",
            FormatError::MetadataCount => "METADATA_COUNT",
            FormatError::Header { .. } => "HEADER",
            FormatError::DuplicateName { .. } => "DUPLICATE_NAME",
            FormatError::Name { .. } => "TENSOR_NAME",
            FormatError::DType { .. } => "DTYPE_UNSUPPORTED",
            FormatError::Shape { .. } => "SHAPE",
            FormatError::Offsets { .. } | FormatError::Trailing { .. } => "OFFSETS",
            FormatError::Bool { .. } => "BOOL_VALUE",
            FormatError::NonFinite { .. } => "NON_FINITE",
            FormatError::Variance { .. } => "VARIANCE",
            FormatError::Description { origin, .. } | FormatError::Graph { origin, .. } => match origin {
                Origin::Metadata => "GRAPH_METADATA",
                Origin::Preset(_) | Origin::Json => "ARCHITECTURE_INVALID",
            },
            FormatError::Mismatch { origin: Origin::Metadata, .. } => "GRAPH_METADATA",
            FormatError::Mismatch { .. } | FormatError::Contradiction { .. } => "ARCHITECTURE_MISMATCH",
            FormatError::Files { .. } => "MODEL_FILES",
            FormatError::ArchitectureGiven => "ARCHITECTURE_GIVEN",
            FormatError::ArchitectureMissing => "ARCHITECTURE_MISSING",
            FormatError::Preset { .. } => "ARCHITECTURE_INVALID",
            FormatError::Onnx(error) => error.reason(),
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            FormatError::Mismatch { problems, .. } => {
                problems.iter().map(|p| Violation::new(p.tensor(), p.to_string())).collect()
            }
            FormatError::DType { tensor, .. }
            | FormatError::Shape { tensor, .. }
            | FormatError::Offsets { tensor, .. }
            | FormatError::Bool { tensor, .. }
            | FormatError::NonFinite { tensor, .. }
            | FormatError::Variance { tensor, .. } => vec![Violation::new(tensor, self.to_string())],
            FormatError::ArchitectureMissing
            | FormatError::ArchitectureGiven
            | FormatError::Contradiction { .. }
            | FormatError::Description { origin: Origin::Json, .. }
            | FormatError::Graph { origin: Origin::Json, .. } => {
                vec![Violation::new("architecture", self.to_string())]
            }
            FormatError::Preset { .. } => vec![Violation::new("architecture.preset", self.to_string())],
            FormatError::Onnx(error) => error.violations(),
            _ => Vec::new(),
        }
    }
}

/// What a client sent, cut to a length that suits a message.
pub(super) fn shorten(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn near(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at '{at}'") }
}

fn more(told: usize, total: usize) -> String {
    if told < total { format!("; and {} more", total - told) } else { String::new() }
}

fn presets() -> String {
    preset::names().collect::<Vec<_>>().join(", ")
}

fn dtypes() -> String {
    DType::ALL.map(DType::name).join(", ")
}
