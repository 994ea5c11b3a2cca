//! The operators. The set is closed: passes and executors match on it exhaustively.
//!
//! One file a family holds the configurations and the facts: shapes ([`Op::infer`]) and work ([`Op::macs`]).

mod activation;
mod batch_norm;
mod conv;
mod linear;
mod pool;
mod shape;

use std::ops::Range;

use thiserror::Error;

use super::Dim;

pub use activation::Activation;
pub use batch_norm::BatchNorm;
pub use conv::Conv2d;
pub use pool::{AvgPool2d, MaxPool2d, Window};
pub use shape::{Pad, Slice};

/// What an operator does not accept.
#[derive(Debug, Error, PartialEq)]
pub enum OpError {
    /// The wrong number of inputs or parameters.
    #[error("{op} takes {expected} {what}, got {actual}")]
    Arity {
        /// The operator.
        op: &'static str,
        /// `inputs` or `parameters`.
        what: &'static str,
        /// What it takes, in words.
        expected: &'static str,
        /// What it got.
        actual: usize,
    },
    /// An input of the wrong shape.
    #[error("{op} wants an input of shape {expected}, got {actual}")]
    Input {
        /// The operator.
        op: &'static str,
        /// What it wants, in words.
        expected: String,
        /// What it got.
        actual: String,
    },
    /// A parameter of the wrong shape.
    #[error("{op} wants a {role} of shape {expected}, got {actual:?}")]
    Param {
        /// The operator.
        op: &'static str,
        /// `weight` or `bias`.
        role: &'static str,
        /// What it wants, in words.
        expected: String,
        /// What it got.
        actual: Vec<usize>,
    },
    /// A number in the operator's configuration that makes no sense.
    #[error("{op}: {field} {problem}")]
    Config {
        /// The operator.
        op: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// An operator with its configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `y = x W^T + b`; `W [out, in]`, `b [out]` (optional). `x [batch, in]`.
    Linear,
    /// Convolution; `W [out, in / groups, kh, kw]`, `b [out]` (optional). `x [batch, in, h, w]`.
    Conv2d(Conv2d),
    /// The largest value of each window. `x [batch, c, h, w]`.
    MaxPool2d(MaxPool2d),
    /// The mean of each window. `x [batch, c, h, w]`.
    AvgPool2d(AvgPool2d),
    /// The mean of each channel. `x [batch, c, h, w]` becomes `[batch, c, 1, 1]`.
    GlobalAvgPool,
    /// A function of each element.
    Activation(Activation),
    /// `(x - mean) / sqrt(var + epsilon) * weight + bias`, channel by channel. `x [batch, c]` or `[batch, c, h, w]`, all
    /// four parameters `[c]`.
    BatchNorm(BatchNorm),
    /// `a + b` of two values of one shape.
    Add,
    /// Zeros around one axis.
    Pad(Pad),
    /// Some places of one axis.
    Slice(Slice),
    /// While training, each element is zero with this probability and otherwise `x / (1 - rate)`; else `x`.
    Dropout(Dropout),
    /// Joins all axes after the first: `[batch, c, h, w]` becomes `[batch, c * h * w]`.
    Flatten,
}

/// Elements that are left out while training (Srivastava et al. 2014).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability that an element is left out, in `[0, 1)`.
    pub rate: f64,
}

impl Op {
    /// The operator's name, as files and tables show it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Linear => "Linear",
            Op::Conv2d(_) => "Conv2d",
            Op::MaxPool2d(_) => "MaxPool2d",
            Op::AvgPool2d(_) => "AvgPool2d",
            Op::GlobalAvgPool => "GlobalAvgPool",
            Op::Activation(a) => a.name(),
            Op::BatchNorm(_) => "BatchNorm",
            Op::Add => "Add",
            Op::Pad(_) => "Pad",
            Op::Slice(_) => "Slice",
            Op::Dropout(_) => "Dropout",
            Op::Flatten => "Flatten",
        }
    }

    /// What the parameters are, in order, and how many of them must be there.
    pub fn roles(&self) -> (&'static [&'static str], usize) {
        match self {
            Op::Linear | Op::Conv2d(_) => (&["weight", "bias"], 1),
            Op::BatchNorm(_) => (&["weight", "bias", "running_mean", "running_var"], 4),
            _ => (&[], 0),
        }
    }

    /// The places among the roles of those parameters that are measured and not learned.
    pub fn statistics(&self) -> Range<usize> {
        match self {
            Op::BatchNorm(_) => 2..4,
            _ => 0..0,
        }
    }

    /// The output's shape for these input shapes (with batch axis) and parameter shapes.
    pub fn infer(&self, inputs: &[&[Dim]], params: &[&[usize]]) -> Result<Vec<Dim>, OpError> {
        let (roles, needed) = self.roles();
        if params.len() < needed || params.len() > roles.len() {
            let expected = match roles.len() {
                0 => "no",
                2 => "1 or 2",
                _ => "4",
            };
            return Err(OpError::Arity { op: self.name(), what: "parameters", expected, actual: params.len() });
        }
        if let (Op::Add, [a, b]) = (self, inputs) {
            return shape::add(a, b);
        }
        let (&[input], false) = (inputs, *self == Op::Add) else {
            let expected = if *self == Op::Add { "2" } else { "1" };
            return Err(OpError::Arity { op: self.name(), what: "inputs", expected, actual: inputs.len() });
        };
        match self {
            Op::Linear => linear::infer(input, params),
            Op::Conv2d(config) => config.infer(input, params),
            Op::MaxPool2d(config) => config.window.infer("MaxPool2d", input),
            Op::AvgPool2d(config) => config.window.infer("AvgPool2d", input),
            Op::GlobalAvgPool => pool::global(input),
            Op::Activation(_) | Op::Add => Ok(input.to_vec()),
            Op::BatchNorm(config) => config.infer(input, params),
            Op::Pad(config) => config.infer(input),
            Op::Slice(config) => config.infer(input),
            Op::Dropout(config) => config.infer(input),
            Op::Flatten => shape::flatten(input),
        }
    }

    /// Multiply-accumulate operations for one sample, given the parameter shapes and the output's sample shape. Only
    /// products with weights are counted, as is the custom.
    pub fn macs(&self, params: &[&[usize]], output: &[usize]) -> u64 {
        match self {
            Op::Linear => params[0].iter().map(|&d| d as u64).product(),
            Op::Conv2d(_) => {
                let weights: u64 = params[0].iter().map(|&d| d as u64).product();
                weights * output[1..].iter().map(|&d| d as u64).product::<u64>()
            }
            _ => 0,
        }
    }

    /// Numbers for one sample that a convolution unfolds its input to before it multiplies: each output place sees its
    /// taps. 0 for all others.
    pub fn columns(&self, params: &[&[usize]], output: &[usize]) -> u64 {
        match self {
            Op::Conv2d(config) => {
                // One group at a time, and only its own input channels.
                let taps = params[0][1..].iter().map(|&d| d as u64).fold(1, u64::saturating_mul);
                let places = output[1..].iter().map(|&d| d as u64).fold(1, u64::saturating_mul);
                if config.window([params[0][2], params[0][3]]).is_pointwise() { 0 } else { taps.saturating_mul(places) }
            }
            _ => 0,
        }
    }
}

impl Dropout {
    fn infer(&self, input: &[Dim]) -> Result<Vec<Dim>, OpError> {
        // Written so that NaN is refused as well.
        if !(self.rate >= 0.0 && (self.rate as f32) < 1.0) {
            let problem = format!("must be at least 0 and below 1, is {}", self.rate);
            return Err(OpError::Config { op: "Dropout", field: "rate", problem });
        }
        Ok(input.to_vec())
    }
}

/// A shape as people write it: `[N, 1, 28, 28]`.
pub fn shape_text(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| match d {
            Dim::Batch => "N".to_string(),
            Dim::Fixed(n) => n.to_string(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
