//! `Custom`: an operator that niwaki does not know. It stays in the graph, so that all of them can be told at once, and
//! refuses to run.

use super::ValueType;

/// An operator by its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custom {
    /// Whose operator it is; empty for ONNX's own.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// What its outputs are, as the file says.
    pub outputs: Vec<ValueType>,
}
