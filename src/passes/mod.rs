//! Passes: what changes a graph to make the network smaller. One file a technique.

use prune::channels::plan::Metric;
use thiserror::Error;

use crate::error::{Classify, Kind, Violation};
use crate::graph::dims::CutError;
use crate::graph::{Change, Graph, GraphEdit, GraphError};
use crate::tensor::TensorError;
use crate::tensor::linalg::LinalgError;

pub mod fold;
pub mod insert_batch_norm;
pub mod insert_dropout;
pub mod low_rank;
pub mod prune;
pub mod quantize;
pub mod rewind;
mod select;
#[cfg(test)]
mod testing;

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
    /// A name or glob that fits no node, or none of the right kind.
    #[error("'{pattern}' in `{field}` fits no {what} of the model")]
    NoSuchNode {
        /// The configuration's field.
        field: &'static str,
        /// The name or glob.
        pattern: String,
        /// What it should have named, in words, such as `activation`.
        what: &'static str,
    },
    /// A value that a batch normalisation does not take.
    #[error("`{field}`: node '{node}' works on {shape}, a batch normalisation on [N, c] or [N, c, h, w]")]
    NotNormalisable {
        /// The configuration's field.
        field: &'static str,
        /// The activation.
        node: String,
        /// The shape of the value it works on.
        shape: String,
    },
    /// Moments that are not those of a value's channels.
    #[error("the moments of value '{value}' {problem}")]
    Moments {
        /// The value.
        value: String,
        /// What is wrong with them.
        problem: String,
    },
    /// Scores that are not those of a parameter's values.
    #[error("the scores of parameter '{name}' {problem}")]
    Scores {
        /// The parameter.
        name: String,
        /// What is wrong with them.
        problem: String,
    },
    /// More is asked for than the smallest ranks give.
    #[error(
        "`{field}` {asked} cannot be met: with the smallest ranks the network still takes {reachable:.4} of its \
         multiply-accumulate operations"
    )]
    OutOfReach {
        /// The configuration's field.
        field: &'static str,
        /// The share asked for.
        asked: f64,
        /// The least share that can be had, rounded up to four places.
        reachable: f64,
    },
    /// A network that has not the parameters it had.
    #[error("parameter '{name}' is not what it was when the parameters were marked: {problem}")]
    OtherParams {
        /// The parameter.
        name: String,
        /// What has changed.
        problem: String,
    },
    /// A layer whose outputs cannot be cut.
    #[error("`layers`: the outputs of '{layer}' cannot be cut, because of '{node}': {why}")]
    Frozen {
        /// The layer.
        layer: String,
        /// The node or value that says so.
        node: String,
        /// What it says.
        why: &'static str,
    },
    /// No group can be cut.
    #[error("there is nothing to cut with {because}; `niwaki analyze` says what can be cut, and what cannot and why")]
    NothingToCut {
        /// The limits in force.
        because: String,
    },
    /// The limits do not let as much go as a budget asks for.
    #[error("{}", .metric.out_of_reach(*.asked, *.reachable, because))]
    BudgetOutOfReach {
        /// What is counted.
        metric: Metric,
        /// The share asked for of what is left.
        asked: f64,
        /// The least share that can be had.
        reachable: f64,
        /// The limits that decide it.
        because: String,
    },
    /// The limits do not let as much go as a time asks for.
    #[error(
        "`latency_ratio` {asked} cannot be met: {reachable:.4} of the time is the least that was measured with {because}"
    )]
    TimeOutOfReach {
        /// The share asked for.
        asked: f64,
        /// The least share that was measured, rounded up to four places.
        reachable: f64,
        /// The limits in force.
        because: String,
    },
    /// A network that was to be timed could not be run.
    #[error("the time of the network cannot be measured: {problem}")]
    Unmeasured {
        /// What the executor says.
        problem: String,
    },
    /// A group without a batch normalisation has no scale.
    #[error(
        "the channels of '{group}' have no batch normalisation whose scale could tell what they matter: ask for another importance"
    )]
    NoScale {
        /// The group.
        group: String,
    },
    /// A group that no plain layer reads has no values to measure.
    #[error(
        "no linear layer or plain convolution reads the channels of '{group}', so their values tell nothing: ask for another importance"
    )]
    NoReader {
        /// The group.
        group: String,
    },
    /// A weight that is not a number has no magnitude to compare.
    #[error("parameter '{name}' holds {count} values that are not finite")]
    NonFinite {
        /// The parameter.
        name: String,
        /// How many.
        count: usize,
    },
    /// A weight could not be decomposed.
    #[error("parameter '{name}': {source}")]
    Linalg {
        /// The parameter.
        name: String,
        /// Why.
        source: LinalgError,
    },
    /// The changed graph does not hold together; a defect of the pass.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A tensor could not be read or made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Channels could not be cut; a defect of the rules that say what goes together.
    #[error(transparent)]
    Cut(#[from] CutError),
}

impl PassError {
    /// The field of the pass's configuration that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            PassError::NoSuchParam { field, .. }
            | PassError::NoSuchNode { field, .. }
            | PassError::NotNormalisable { field, .. }
            | PassError::OutOfReach { field, .. } => Some(field),
            PassError::Frozen { .. } => Some("layers"),
            PassError::BudgetOutOfReach { metric, .. } => Some(metric.field()),
            PassError::TimeOutOfReach { .. } => Some("latency_ratio"),
            PassError::NoScale { .. } | PassError::NoReader { .. } => Some("importance"),
            PassError::NothingToCut { .. } => None,
            PassError::Moments { .. }
            | PassError::Scores { .. }
            | PassError::OtherParams { .. }
            | PassError::NonFinite { .. }
            | PassError::Linalg { .. }
            | PassError::Graph(_)
            | PassError::Tensor(_)
            | PassError::Unmeasured { .. }
            | PassError::Cut(_) => None,
        }
    }
}

impl Classify for PassError {
    fn kind(&self) -> Kind {
        match self {
            PassError::NoSuchParam { .. }
            | PassError::NoSuchNode { .. }
            | PassError::NotNormalisable { .. }
            | PassError::OutOfReach { .. }
            | PassError::Frozen { .. }
            | PassError::NothingToCut { .. }
            | PassError::BudgetOutOfReach { .. }
            | PassError::TimeOutOfReach { .. }
            | PassError::NoScale { .. }
            | PassError::NoReader { .. } => Kind::InvalidArgument,
            PassError::NonFinite { .. }
            | PassError::Moments { .. }
            | PassError::Scores { .. }
            | PassError::OtherParams { .. } => Kind::FailedPrecondition,
            PassError::Linalg { .. }
            | PassError::Graph(_)
            | PassError::Tensor(_)
            | PassError::Unmeasured { .. }
            | PassError::Cut(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            PassError::NoSuchParam { .. } => "NO_SUCH_PARAMETER",
            PassError::NoSuchNode { .. } => "NO_SUCH_NODE",
            PassError::NotNormalisable { .. } => "NOT_NORMALISABLE",
            PassError::OutOfReach { .. } | PassError::BudgetOutOfReach { .. } | PassError::TimeOutOfReach { .. } => {
                "OUT_OF_REACH"
            }
            PassError::Frozen { .. } => "CANNOT_BE_CUT",
            PassError::NothingToCut { .. } => "NOTHING_TO_CUT",
            PassError::NoScale { .. } => "NO_SCALE",
            PassError::NoReader { .. } => "NO_READER",
            PassError::NonFinite { .. } => "NON_FINITE",
            PassError::Moments { .. } => "BAD_MOMENTS",
            PassError::Scores { .. } => "BAD_SCORES",
            PassError::OtherParams { .. } => "OTHER_PARAMETERS",
            PassError::Linalg { .. }
            | PassError::Graph(_)
            | PassError::Tensor(_)
            | PassError::Unmeasured { .. }
            | PassError::Cut(_) => "PASS_FAILED",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        self.field().map(|field| Violation::new(field, self.to_string())).into_iter().collect()
    }
}
