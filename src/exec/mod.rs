//! Runs graphs: a [`Session`] computes a graph's outputs and, after a forward pass for training, its gradients.
//!
//! ```text
//!   graph ──▶ Session::new ──▶ forward(inputs) ──▶ outputs, taps
//!                 │                                    │ whoever trains computes the loss
//!               params  ◀── step ──  gradients ◀── backward(d_outputs, d_taps)
//!                 └──▶ write_back(graph)
//! ```
//!
//! Parameters and gradients are flat `f32` buffers, whatever the graph stores, so that an optimizer is a loop over
//! numbers. Those that are trained come first in the buffers, frozen ones and running statistics behind them.
//!
//! There are two ways to compute, and [`Session::executor`] says which one a graph takes. Where all operators are covered
//! and there is one input of samples, an execution plan is made (`plan`): kernels of our own, in memory that is laid out
//! before. All else is done by `kernels` over candle's tensors, operator by operator; the tape of a forward pass is the
//! session's own, a list that is walked back in a loop, so that no graph is too deep. No candle type leaves this module.
//!
//! Floating point values are `f32` tensors, whatever format the graph gives them. Whole numbers and truth values (places,
//! masks, lengths: they are small) are plain data, computed by [`reference`](crate::reference), as is what has no
//! gradient.
//!
//! Where the graph says so ([`Graph::activations`](crate::graph::Graph::activations)), values are rounded after each node
//! to what they are in half precision; gradients pass as if they were not.

mod held;
mod inputs;
mod machine;
mod ops;
mod params;
mod pass;
mod plan;
mod session;
mod tape;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::error::{Classify, Kind};
use crate::graph::GraphError;
use crate::tensor::TensorError;

pub use machine::{compute_here, instruction_set, lanes, threads};
pub use niwaki_kernels::Awake;
pub use params::ParamView;
pub use session::{Activations, Executor, Mode, Results, Session};

/// Why a graph does not run.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The inputs are not those of that many samples.
    #[error("a batch of {batch} samples of {sample} values takes {}, got {actual}", batch * sample)]
    Input {
        /// Samples.
        batch: usize,
        /// Values of one sample.
        sample: usize,
        /// Values that were given.
        actual: usize,
    },
    /// Inputs of another number, number format or shape than the graph's.
    #[error("the inputs do not fit: {problem}")]
    Inputs {
        /// What is wrong with them.
        problem: String,
    },
    /// A batch of no samples.
    #[error("a batch needs at least one sample")]
    EmptyBatch,
    /// A value to tap that the graph does not have.
    #[error("the graph has no value with number {index} to tap, it has {values}")]
    NoSuchValue {
        /// The number asked for.
        index: usize,
        /// Values in the graph.
        values: usize,
    },
    /// A node could not be computed.
    #[error("node '{node}' ({op}): {reason}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What the kernel says.
        reason: String,
    },
    /// The gradients could not be computed.
    #[error("the backward pass failed: {reason}")]
    Backward {
        /// What the kernel says.
        reason: String,
    },
    /// A backward pass without a forward pass in [`Mode::Train`] before it.
    #[error("a backward pass needs a forward pass for training before it")]
    NoForward,
    /// Gradients that do not belong to what the forward pass returned.
    #[error("{what} {index} takes a gradient of {expected} values, got {actual}")]
    Gradient {
        /// `output` or `tap`.
        what: &'static str,
        /// Which of them.
        index: usize,
        /// The values it has.
        expected: usize,
        /// The values that were given.
        actual: usize,
    },
    /// A graph of another structure than the session's.
    #[error("the graph is not the session's: {problem}")]
    OtherGraph {
        /// What differs.
        problem: String,
    },
    /// A parameter could not be read or stored.
    #[error("parameter '{name}': {source}")]
    Param {
        /// The parameter.
        name: String,
        /// Why.
        source: TensorError,
    },
    /// The graph does not accept the parameters.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Classify for ExecError {
    fn kind(&self) -> Kind {
        match self {
            ExecError::Input { .. } | ExecError::Inputs { .. } | ExecError::EmptyBatch => Kind::InvalidArgument,
            ExecError::NoSuchValue { .. }
            | ExecError::Node { .. }
            | ExecError::Backward { .. }
            | ExecError::NoForward
            | ExecError::Gradient { .. }
            | ExecError::OtherGraph { .. }
            | ExecError::Param { .. }
            | ExecError::Graph(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            ExecError::Input { .. } | ExecError::Inputs { .. } | ExecError::EmptyBatch => "INPUT_SHAPE",
            _ => "EXECUTION_FAILED",
        }
    }
}
