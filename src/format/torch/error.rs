//! What cannot be said in PyTorch.

use thiserror::Error;

use crate::error::{Classify, Kind};

/// Why a graph has no file in PyTorch.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TorchError {
    /// An operator without a counterpart.
    #[error("node '{node}': {op} cannot be expressed in PyTorch")]
    Inexpressible {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// An open size that no input has as an axis.
    #[error("no input has {size}, the open size, as an axis")]
    Size {
        /// `N` or `S`.
        size: &'static str,
    },
}

impl Classify for TorchError {
    fn kind(&self) -> Kind {
        Kind::FailedPrecondition
    }

    fn reason(&self) -> &'static str {
        "UNWRITTEN"
    }
}
