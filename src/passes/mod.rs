//! Passes: what changes a graph to make the network smaller. One file a technique.

use thiserror::Error;

use crate::error::{Classify, Kind};
use crate::graph::{Change, Graph, GraphEdit, GraphError};
use crate::tensor::TensorError;

pub mod insert_batch_norm;
pub mod insert_dropout;
pub mod low_rank;
pub mod prune;
pub mod quantize;

/// A technique that changes a graph.
pub trait Pass {
    /// Its name in reports and logs, such as `prune-weights`.
    fn name(&self) -> &'static str;

    /// Makes the changes in the draft; an error drops the draft.
    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError>;
}

/// Applies a pass: the graph is changed as a whole or not at all.
pub fn apply(pass: &dyn Pass, graph: &mut Graph) -> Result<Vec<Change>, PassError> {
    let mut edit = graph.edit();
    pass.apply(&mut edit)?;
    Ok(edit.commit()?)
}

/// Why a pass cannot be applied.
#[derive(Debug, Error, PartialEq)]
pub enum PassError {
    /// A name or glob that fits no parameter.
    #[error("'{pattern}' in `{field}` fits no parameter of the model")]
    NoSuchParam {
        /// The configuration's field.
        field: &'static str,
        /// The name or glob.
        pattern: String,
    },
    /// A weight that is not a number has no magnitude to compare.
    #[error("parameter '{name}' holds {count} values that are not finite")]
    NonFinite {
        /// The parameter.
        name: String,
        /// How many.
        count: usize,
    },
    /// The changed graph does not hold together; a defect of the pass.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A tensor could not be read or made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Classify for PassError {
    fn kind(&self) -> Kind {
        match self {
            PassError::NoSuchParam { .. } => Kind::InvalidArgument,
            PassError::NonFinite { .. } => Kind::FailedPrecondition,
            PassError::Graph(_) | PassError::Tensor(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            PassError::NoSuchParam { .. } => "NO_SUCH_PARAMETER",
            PassError::NonFinite { .. } => "NON_FINITE",
            PassError::Graph(_) | PassError::Tensor(_) => "PASS_FAILED",
        }
    }
}
