//! A naive evaluator of every operator over plain data of every number format: each by its definition, one number at a
//! time.
//!
//! It is what is right, not what is fast. It folds constants when a file in ONNX is read, runs ONNX's own conformance
//! cases, computes the few values of a network that are no floating point numbers (places, masks, lengths), and is what
//! the fast executors are held against.
//!
//! Floating point numbers are computed in `f64` and rounded once to the result's format; whole numbers are computed exactly
//! and wrap at the end, as in two's complement. Elements that only move keep their bytes ([`Op::moves`]).

mod array;
mod conv;
mod elementwise;
mod linear;
mod moved;
mod network;
mod norm;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::graph::Op;
use crate::graph::dim::{Dim, Sizes};
use crate::graph::op::{MAX_ELEMENTS, OpError, ValueType};
use crate::tensor::{DType, TensorData, TensorError, elements};

pub use array::{Array, Numbers, bounds, cast, rounded};
pub use network::{NodeError, values};

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
    /// The operator does not accept inputs of such formats and shapes.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A result that does not fit into memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// More elements than a computed value may have: each takes 8 or 16 bytes meanwhile.
const MAX_COMPUTED: usize = 1 << 29;

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

/// What an output is: the shape, and the format that it is rounded to.
#[derive(Debug, Clone, PartialEq)]
struct Output {
    shape: Vec<usize>,
    dtype: DType,
}

impl Output {
    fn count(&self) -> usize {
        array::count(&self.shape)
    }

    /// The output of these numbers.
    fn of(&self, numbers: Numbers) -> Result<TensorData, ReferenceError> {
        Ok(numbers.tensor(self.dtype, self.shape.clone())?)
    }

    /// The output of these floating point numbers.
    fn real(&self, values: Vec<f64>) -> Result<TensorData, ReferenceError> {
        self.of(Numbers::Real(values))
    }
}

/// The outputs of `op` for these inputs and parameters; the parameters are in the order of [`Op::roles`]. Inputs that
/// [`Op::infer`] does not accept are an error, and so is a result of too many elements: more than 2^31 of
/// those that only move, or 2^29 of others.
pub fn eval(
    op: &Op,
    inputs: &[&TensorData],
    params: &[&TensorData],
    context: &Context,
) -> Result<Vec<TensorData>, ReferenceError> {
    if let Op::Custom(custom) = op {
        return Err(ReferenceError::Unknown { op: custom.name.clone() });
    }
    let outputs = outputs(op, inputs, params, context)?;
    if let Some(moved) = moved::eval(op, inputs, params, context.sizes) {
        return moved?.iter().zip(&outputs).map(|(y, output)| Ok(cast(y, output.dtype)?)).collect();
    }
    if let Some(output) = outputs.iter().find(|output| output.count() > MAX_COMPUTED) {
        return Err(TensorError::TooLarge { shape: output.shape.clone() }.into());
    }
    match op {
        Op::Lstm(config) => recurrent::lstm(config, inputs, params, &outputs),
        Op::Gru(config) => recurrent::gru(config, inputs, params, &outputs),
        _ => Ok(vec![single(op, inputs, params, &outputs[0], context)?]),
    }
}

/// What the outputs are.
fn outputs(
    op: &Op,
    inputs: &[&TensorData],
    params: &[&TensorData],
    context: &Context,
) -> Result<Vec<Output>, ReferenceError> {
    let fixed = |x: &TensorData| x.shape().iter().map(|size| Dim::Fixed(*size)).collect();
    let types: Vec<ValueType> = inputs.iter().map(|x| ValueType::new(x.dtype(), fixed(x))).collect();
    let params: Vec<&[usize]> = params.iter().map(|x| x.shape()).collect();
    let inferred = op.sized(context.sizes)?.infer(&types.iter().collect::<Vec<_>>(), &params)?;
    let output = |ty: ValueType| {
        // Of inputs and operators of known sizes, so are the outputs.
        let shape: Vec<usize> = ty.shape.iter().map(|size| size.at(context.sizes).unwrap_or(usize::MAX)).collect();
        match elements(&shape) {
            Some(0..=MAX_ELEMENTS) => Ok(Output { shape, dtype: context.float(ty.dtype) }),
            _ => Err(TensorError::TooLarge { shape }.into()),
        }
    };
    inferred.into_iter().map(output).collect()
}

/// An operator of one output that does not only move elements. Inputs and parameters are as [`outputs`] found them.
fn single(
    op: &Op,
    inputs: &[&TensorData],
    params: &[&TensorData],
    output: &Output,
    context: &Context,
) -> Result<TensorData, ReferenceError> {
    match (op, inputs) {
        (Op::Constant(_), _) => Ok(cast(params[0], output.dtype)?),
        (Op::Range(_), _) => output.of(Numbers::Whole((0..output.count() as i128).collect())),
        (Op::Concat(config), _) => moved::concat(config.axis, inputs, output),
        (Op::MatMul, [a, b]) => linear::matmul(a, b, output),
        (Op::BilinearPool(config), [a, b]) => linear::bilinear_pool(config, a, b, output),
        (Op::Binary(binary), [a, b]) => elementwise::binary(*binary, a, b, output),
        (Op::Compare(compare), [a, b]) => elementwise::compare(*compare, a, b, output),
        (Op::Where, [condition, a, b]) => moved::choose(condition, a, b, output),
        (_, [x]) => of_one(op, x, params, output, context),
        _ => {
            Err(OpError::Arity { op: op.name(), what: "inputs", expected: "another number", actual: inputs.len() }
                .into())
        }
    }
}

/// An operator of one input and one output.
fn of_one(
    op: &Op,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
    context: &Context,
) -> Result<TensorData, ReferenceError> {
    match op {
        Op::Linear => linear::linear(x, params, output),
        Op::Conv2d(config) => conv::conv(config, x, params, output),
        Op::Conv1d(config) => conv::conv(&config.planar(), x, params, output),
        Op::ConvTranspose2d(config) => conv::transposed(config, x, params, output),
        Op::ConvTranspose1d(config) => conv::transposed(&config.planar(), x, params, output),
        Op::MaxPool2d(config) => pool::max(&config.window, x, output),
        Op::MaxPool1d(config) => pool::max(&config.window.planar(), x, output),
        Op::AvgPool2d(config) => pool::mean(config, x, output),
        Op::AvgPool1d(config) => pool::mean(&config.planar(), x, output),
        Op::GlobalAvgPool => pool::global_mean(x, output),
        Op::GlobalMaxPool => pool::global_max(x, output),
        Op::BatchNorm(config) => norm::batch(config, x, params, context.train, output),
        Op::LayerNorm(config) => norm::layer(config, x, params, output),
        Op::RmsNorm(config) => norm::rms(config, x, params, output),
        Op::GroupNorm(config) => norm::group(config.groups, config.epsilon, x, params, output),
        Op::InstanceNorm(config) => norm::group(x.shape()[1], config.epsilon, x, params, output),
        Op::Activation(activation) => elementwise::activation(*activation, x, output),
        Op::PRelu => elementwise::prelu(x, params[0], output),
        Op::Unary(unary) => elementwise::unary(*unary, x, output),
        Op::Clip(config) => elementwise::clip(config, x, output),
        Op::Cast(_) => Ok(cast(x, output.dtype)?),
        Op::Dropout(_) => Ok(cast(x, output.dtype)?),
        Op::Reduce(config) => reduce::reduce(config, x, output),
        Op::ArgMax(config) => reduce::place(config, x, output),
        Op::CumSum(config) => reduce::running_sum(config, x, output),
        Op::Softmax(config) => reduce::softmax(config.axis, false, x, output),
        Op::LogSoftmax(config) => reduce::softmax(config.axis, true, x, output),
        Op::Quantize(config) => quantize::quantize(config.axis, x, params, output, context.exact),
        Op::Dequantize(config) => quantize::dequantize(config.axis, x, params, output),
        Op::Shape => Ok(moved::sizes(x)?),
        _ => Err(ReferenceError::Unknown { op: op.name().to_string() }),
    }
}
