//! Files to graphs and back. (Being written.)

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use crate::error::{Classify, Kind};
use crate::graph::Graph;

/// A network's graph, for weights that come without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architecture {
    /// A built-in network, by name.
    Preset(String),
    /// A graph in niwaki's JSON form.
    GraphJson(String),
}

/// A model as it was read from a file.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph, with the file's weights.
    pub graph: Graph,
    /// The file's other metadata, without the graph.
    pub metadata: BTreeMap<String, String>,
}

/// Why a file is no model.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Not written yet.
    #[error("not written yet")]
    Stub,
}

impl Classify for FormatError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        "FORMAT"
    }
}

/// Reads a model from the bytes of a `.safetensors` file.
pub fn open_model(_bytes: Bytes, _architecture: Option<&Architecture>) -> Result<Model, FormatError> {
    Err(FormatError::Stub)
}
