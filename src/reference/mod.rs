//! A naive evaluator of every operator over plain data of every number format: each by its definition, one number at a
//! time.
//!
//! It is what is right, not what is fast. It folds constants when a file in ONNX is read, runs ONNX's own conformance
//! cases, computes the few values of a network that are no floating point numbers (places, masks, lengths), and is what
//! the fast executors are held against.
//!
//! Floating point numbers are computed in `f64` and rounded once to the result's format; whole numbers are computed exactly
//! and wrap at the end, as in two's complement.

mod array;

use thiserror::Error;

use crate::graph::Op;
use crate::graph::dim::Sizes;
use crate::tensor::{DType, TensorData, TensorError};

/// Why an operator could not be evaluated.
#[derive(Debug, Error, PartialEq)]
pub enum ReferenceError {
    /// niwaki does not know the operator.
    #[error("{op} is no operator that runs")]
    Unknown {
        /// Its name.
        op: String,
    },
    /// The operator is not for such inputs.
    #[error("{op} {problem}")]
    Input {
        /// The operator.
        op: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A result that does not fit into memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What an operator is evaluated with beside its inputs and parameters.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// What the open sizes are.
    pub sizes: Sizes,
    /// Whether batch normalisation goes by the batch's statistics. Dropout leaves out nothing, ever.
    pub train: bool,
    /// Whether floating point numbers stay `F64` whatever the graph says: for central differences.
    pub exact: bool,
}

impl Context {
    /// As a network is used, for these sizes.
    pub fn eval(sizes: Sizes) -> Self {
        Self { sizes, train: false, exact: false }
    }

    /// What a floating point result of this format is rounded to.
    fn float(&self, dtype: DType) -> DType {
        if self.exact && dtype.is_float() { DType::F64 } else { dtype }
    }
}

/// The outputs of `op` for these inputs and parameters, which have the number and shapes that [`Op::infer`] accepts; the
/// parameters are in the order of [`Op::roles`].
pub fn eval(
    op: &Op,
    inputs: &[&TensorData],
    params: &[&TensorData],
    context: &Context,
) -> Result<Vec<TensorData>, ReferenceError> {
    let _ = (inputs, params, context);
    Err(ReferenceError::Unknown { op: op.name().to_string() })
}
