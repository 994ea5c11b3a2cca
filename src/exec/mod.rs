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
//! numbers. The computing is done by candle on the CPU, with kernels of our own where candle's are wrong; no candle type
//! leaves this module.
//!
//! candle walks the tape of a forward pass by recursion, one stack frame a node or more. A graph of thousands of nodes
//! overflows a thread's usual 2 MiB, which aborts the process: whoever trains does so inside [`with_large_stack`].

mod machine;
mod ops;
#[cfg(test)]
mod reference;
mod session;
mod tape;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::error::{Classify, Kind};
use crate::graph::GraphError;
use crate::tensor::TensorError;

pub use machine::{instruction_set, threads, with_large_stack};
pub use session::{Activations, Mode, ParamView, Session};

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
    /// The thread with the large stack could not be started.
    #[error("no thread with a stack of {bytes} bytes could be started: {reason}")]
    Stack {
        /// The stack's size.
        bytes: usize,
        /// What the operating system says.
        reason: String,
    },
}

impl Classify for ExecError {
    fn kind(&self) -> Kind {
        match self {
            ExecError::Input { .. } | ExecError::EmptyBatch => Kind::InvalidArgument,
            ExecError::Stack { .. } => Kind::ResourceExhausted,
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
            ExecError::Input { .. } | ExecError::EmptyBatch => "INPUT_SHAPE",
            ExecError::Stack { .. } => "NO_STACK",
            _ => "EXECUTION_FAILED",
        }
    }
}
