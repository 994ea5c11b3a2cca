//! The operators. The set is closed: passes and executors match on it exhaustively.
//!
//! One file a family holds the configurations and the facts: shapes ([`Op::infer`]) and work ([`Op::macs`]). Names and
//! layouts are PyTorch's where it has the operator, else ONNX's.

mod activation;
mod axis;
mod batch_norm;
mod conv;
mod custom;
mod elementwise;
mod gather;
mod layer_norm;
mod linear;
mod moves;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod sized;
mod text;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::dim::{Dim, shape_text};
use crate::tensor::DType;

pub use activation::{Activation, Alpha, Line, Scaled};
pub use axis::{Concat, Fill, Pad, Reverse, Slice, Split};
pub use batch_norm::BatchNorm;
pub use conv::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d};
pub use custom::Custom;
pub use elementwise::{Binary, Cast, Clip, Compare, Unary};
pub use gather::{Gather, GatherElements, GatherNd, Select};
pub use layer_norm::{GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use linear::BilinearPool;
pub use moves::{MAX_ELEMENTS, Moves, Places, Run};
pub use pool::{AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, Window, Window1d};
pub use quantize::{Dequantize, Quantize};
pub use recurrent::{Direction, Gru, Lstm};
pub use reduce::{ArgMax, CumSum, Reduce, Reduction, Softmax};
pub use resize::{Place, ResizeNearest, Rounding};
pub use shape::{DepthToSpace, Expand, Reshape, SpaceToDepth, Tile, Transpose};
pub use text::OpTextError;

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
    /// An input of the wrong shape or number format.
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

/// What a value is made of: the number format, and the sizes of the axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueType {
    /// The number format.
    pub dtype: DType,
    /// The axes.
    pub shape: Vec<Dim>,
}

impl ValueType {
    /// Numbers of that format and shape.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Self {
        Self { dtype, shape }
    }

    /// Elements for one sample and one step.
    pub fn sample_elements(&self) -> u64 {
        let one = super::dim::Sizes { batch: 1, sequence: 1 };
        self.shape.iter().map(|d| d.at(one).unwrap_or(0) as u64).fold(1, u64::saturating_mul)
    }

    /// Another shape in the same number format.
    fn with(&self, shape: Vec<Dim>) -> Self {
        Self { dtype: self.dtype, shape }
    }

    /// The size of an axis.
    fn axis(&self, op: &'static str, axis: usize) -> Result<Dim, OpError> {
        let size = self.shape.get(axis).copied();
        size.ok_or_else(|| config(op, "axis", format!("must be an axis of {}, is {axis}", shape_text(&self.shape))))
    }

    fn with_axis(&self, axis: usize, size: Dim) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = size;
        self.with(shape)
    }
}

/// `F32[N, 3]`.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, shape_text(&self.shape))
    }
}

/// An operator with its configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `y = x W^T + b`; `W [out, in]`, `b [out]` (optional). `x [..., in]`.
    Linear,
    /// The product of two values as matrices.
    MatMul,
    /// The outer product of two images' channels, pooled.
    BilinearPool(BilinearPool),
    /// Rows of a table `W [rows, width]`, by their numbers.
    Embedding,
    /// Convolution of images; `W [out, in / groups, kh, kw]`, `b [out]` (optional). `x [n, in, h, w]`.
    Conv2d(Conv2d),
    /// Convolution of sequences; `W [out, in / groups, k]`, `b [out]` (optional). `x [n, in, l]`.
    Conv1d(Conv1d),
    /// Transposed convolution; `W [in, out / groups, kh, kw]`, `b [out]` (optional). `x [n, in, h, w]`.
    ConvTranspose2d(ConvTranspose2d),
    /// Transposed convolution of sequences; `W [in, out / groups, k]`, `b [out]` (optional). `x [n, in, l]`.
    ConvTranspose1d(ConvTranspose1d),
    /// The largest value of each window. `x [n, c, h, w]`.
    MaxPool2d(MaxPool2d),
    /// The largest value of each window. `x [n, c, l]`.
    MaxPool1d(MaxPool1d),
    /// The mean of each window. `x [n, c, h, w]`.
    AvgPool2d(AvgPool2d),
    /// The mean of each window. `x [n, c, l]`.
    AvgPool1d(AvgPool1d),
    /// The mean of each channel. `x [n, c, h, w]` becomes `[n, c, 1, 1]`.
    GlobalAvgPool,
    /// The largest value of each channel. `x [n, c, h, w]` becomes `[n, c, 1, 1]`.
    GlobalMaxPool,
    /// `(x - mean) / sqrt(var + epsilon) * weight + bias`, channel by channel. `x [n, c, ...]`, all four parameters `[c]`.
    BatchNorm(BatchNorm),
    /// Normalisation over the last axes.
    LayerNorm(LayerNorm),
    /// Normalisation by the root of the mean square.
    RmsNorm(RmsNorm),
    /// Normalisation over groups of channels.
    GroupNorm(GroupNorm),
    /// Normalisation over the places of each channel.
    InstanceNorm(InstanceNorm),
    /// A function that separates layers.
    Activation(Activation),
    /// `x` where it is positive, else `weight x`; the weight is broadcast to `x`.
    PRelu,
    /// A function of each element.
    Unary(Unary),
    /// A function of two elements.
    Binary(Binary),
    /// A comparison of two elements.
    Compare(Compare),
    /// Elements brought between bounds.
    Clip(Clip),
    /// By a condition, the element of one or of another value.
    Where,
    /// Another number format.
    Cast(Cast),
    /// One number for the elements along axes.
    Reduce(Reduce),
    /// The place of the largest or smallest element.
    ArgMax(ArgMax),
    /// Running sums.
    CumSum(CumSum),
    /// `exp(x) / sum(exp(x))`.
    Softmax(Softmax),
    /// The logarithm of [`Op::Softmax`].
    LogSoftmax(Softmax),
    /// Another shape.
    Reshape(Reshape),
    /// Joins all axes after the first: `[n, c, h, w]` becomes `[n, c * h * w]`.
    Flatten,
    /// Another order of axes.
    Transpose(Transpose),
    /// Axes of size 1 repeated.
    Expand(Expand),
    /// Axes repeated as a whole.
    Tile(Tile),
    /// Channels to pixels.
    DepthToSpace(DepthToSpace),
    /// Pixels to channels.
    SpaceToDepth(SpaceToDepth),
    /// Values around one axis.
    Pad(Pad),
    /// Some places of one axis.
    Slice(Slice),
    /// The places of one axis backwards.
    Reverse(Reverse),
    /// Values side by side.
    Concat(Concat),
    /// The parts of an axis.
    Split(Split),
    /// The upper or lower triangle of matrices.
    Trilu(Trilu),
    /// The slices of an axis at places.
    Gather(Gather),
    /// One slice of an axis.
    Select(Select),
    /// Elements at places along an axis.
    GatherElements(GatherElements),
    /// Slices at coordinates.
    GatherNd(GatherNd),
    /// Pixels of an image of another size.
    ResizeNearest(ResizeNearest),
    /// A recurrent layer with cells.
    Lstm(Lstm),
    /// A recurrent layer.
    Gru(Gru),
    /// To whole numbers of 8 bits.
    Quantize(Quantize),
    /// Back from whole numbers.
    Dequantize(Dequantize),
    /// While training, each element is zero with this probability and otherwise `x / (1 - rate)`; else `x`.
    Dropout(Dropout),
    /// A parameter as a value.
    Constant(Constant),
    /// The sizes of the axes of a value, as `I64`.
    Shape,
    /// `0, 1, ... ` below a size, as `I64`.
    Range(Count),
    /// An operator that niwaki does not know.
    Custom(Custom),
}

/// Elements that are left out while training (Srivastava et al. 2014).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability that an element is left out, in `[0, 1)`.
    pub rate: f64,
}

/// Elements of the last two axes that stay; all others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trilu {
    /// Whether those above the diagonal stay, or those below.
    pub upper: bool,
    /// Places by which the diagonal is moved to the right.
    pub diagonal: i64,
}

/// A parameter as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// The value's number format. A parameter of floating point numbers may be stored in another one.
    pub dtype: DType,
}

/// A number of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// How many.
    pub count: Dim,
}

impl Op {
    /// The sum of two values.
    pub const ADD: Op = Op::Binary(Binary::Add);

    /// The operator's name, as files and tables show it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Linear => "Linear",
            Op::MatMul => "MatMul",
            Op::BilinearPool(_) => "BilinearPool",
            Op::Embedding => "Embedding",
            Op::Conv2d(_) => "Conv2d",
            Op::Conv1d(_) => "Conv1d",
            Op::ConvTranspose2d(_) => "ConvTranspose2d",
            Op::ConvTranspose1d(_) => "ConvTranspose1d",
            Op::MaxPool2d(_) => "MaxPool2d",
            Op::MaxPool1d(_) => "MaxPool1d",
            Op::AvgPool2d(_) => "AvgPool2d",
            Op::AvgPool1d(_) => "AvgPool1d",
            Op::GlobalAvgPool => "GlobalAvgPool",
            Op::GlobalMaxPool => "GlobalMaxPool",
            Op::BatchNorm(_) => "BatchNorm",
            Op::LayerNorm(_) => "LayerNorm",
            Op::RmsNorm(_) => "RmsNorm",
            Op::GroupNorm(_) => "GroupNorm",
            Op::InstanceNorm(_) => "InstanceNorm",
            Op::Activation(a) => a.name(),
            Op::PRelu => "PRelu",
            Op::Unary(u) => u.name(),
            Op::Binary(b) => b.name(),
            Op::Compare(c) => c.name(),
            Op::Clip(_) => "Clip",
            Op::Where => "Where",
            Op::Cast(_) => "Cast",
            Op::Reduce(r) => r.of.op_name(),
            Op::ArgMax(a) => a.op_name(),
            Op::CumSum(_) => "CumSum",
            Op::Softmax(_) => "Softmax",
            Op::LogSoftmax(_) => "LogSoftmax",
            Op::Reshape(_) => "Reshape",
            Op::Flatten => "Flatten",
            Op::Transpose(_) => "Transpose",
            Op::Expand(_) => "Expand",
            Op::Tile(_) => "Tile",
            Op::DepthToSpace(_) => "DepthToSpace",
            Op::SpaceToDepth(_) => "SpaceToDepth",
            Op::Pad(_) => "Pad",
            Op::Slice(_) => "Slice",
            Op::Reverse(_) => "Reverse",
            Op::Concat(_) => "Concat",
            Op::Split(_) => "Split",
            Op::Trilu(_) => "Trilu",
            Op::Gather(_) => "Gather",
            Op::Select(_) => "Select",
            Op::GatherElements(_) => "GatherElements",
            Op::GatherNd(_) => "GatherNd",
            Op::ResizeNearest(_) => "ResizeNearest",
            Op::Lstm(_) => "Lstm",
            Op::Gru(_) => "Gru",
            Op::Quantize(_) => "Quantize",
            Op::Dequantize(_) => "Dequantize",
            Op::Dropout(_) => "Dropout",
            Op::Constant(_) => "Constant",
            Op::Shape => "Shape",
            Op::Range(_) => "Range",
            Op::Custom(_) => "Custom",
        }
    }

    /// What the parameters are, in order, and how many of them must be there.
    pub fn roles(&self) -> (&'static [&'static str], usize) {
        match self {
            Op::Linear | Op::Conv2d(_) | Op::Conv1d(_) | Op::ConvTranspose2d(_) | Op::ConvTranspose1d(_) => {
                (&["weight", "bias"], 1)
            }
            Op::Embedding | Op::PRelu | Op::RmsNorm(_) => (&["weight"], 1),
            Op::LayerNorm(_) => (&["weight", "bias"], 1),
            Op::GroupNorm(_) | Op::InstanceNorm(_) => (&["weight", "bias"], 2),
            Op::BatchNorm(_) => (&["weight", "bias", "running_mean", "running_var"], 4),
            Op::Lstm(_) => (&["weight_ih", "weight_hh", "bias", "peephole"], 2),
            Op::Gru(_) => (&["weight_ih", "weight_hh", "bias"], 2),
            Op::Quantize(_) | Op::Dequantize(_) => (&["scale", "zero_point"], 1),
            Op::Constant(_) => (&["value"], 1),
            _ => (&[], 0),
        }
    }

    /// Whether it multiplies by a weight: what people call a layer. Normalisations only scale.
    pub fn is_layer(&self) -> bool {
        use Op::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, Gru, Linear, Lstm};
        let convolution = matches!(self, Conv2d(_) | Conv1d(_) | ConvTranspose2d(_) | ConvTranspose1d(_));
        convolution || matches!(self, Linear | Embedding | Lstm(_) | Gru(_))
    }

    /// Whether each of its outputs reads every channel of its input: a linear layer, or a convolution of one group. Its
    /// weight is `[outputs, inputs, ..]`.
    pub fn is_dense(&self) -> bool {
        match self {
            Op::Linear => true,
            Op::Conv2d(config) => config.groups == 1,
            Op::Conv1d(config) => config.groups == 1,
            _ => false,
        }
    }

    /// The places among the roles of those parameters that are measured and not learned.
    pub fn statistics(&self) -> Range<usize> {
        match self {
            Op::BatchNorm(_) => 2..4,
            _ => 0..0,
        }
    }

    /// How many inputs it takes: at least, and at most.
    fn arity(&self) -> (usize, usize) {
        match self {
            Op::Constant(_) | Op::Range(_) => (0, 0),
            Op::MatMul
            | Op::BilinearPool(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::GatherNd(_) => (2, 2),
            Op::Where => (3, 3),
            Op::Concat(_) => (1, usize::MAX),
            Op::Lstm(_) => (1, 4),
            Op::Gru(_) => (1, 3),
            Op::Custom(_) => (0, usize::MAX),
            _ => (1, 1),
        }
    }

    /// What the outputs are for inputs of these types and parameters of these shapes.
    pub fn infer(&self, inputs: &[&ValueType], params: &[&[usize]]) -> Result<Vec<ValueType>, OpError> {
        let (roles, needed) = self.roles();
        if params.len() < needed || params.len() > roles.len() {
            let expected = amount(needed, roles.len());
            return Err(OpError::Arity { op: self.name(), what: "parameters", expected, actual: params.len() });
        }
        let (least, most) = self.arity();
        if inputs.len() < least || inputs.len() > most {
            let expected = amount(least, most);
            return Err(OpError::Arity { op: self.name(), what: "inputs", expected, actual: inputs.len() });
        }
        match (self, inputs) {
            (Op::Split(config), [x]) => return config.infer(x),
            (Op::Lstm(config), inputs) => return config.infer(inputs, params),
            (Op::Gru(config), inputs) => return config.infer(inputs, params),
            (Op::Custom(config), _) => return Ok(config.outputs.clone()),
            _ => {}
        }
        self.infer_one(inputs, params).map(|output| vec![output])
    }

    /// The output of an operator that has one.
    fn infer_one(&self, inputs: &[&ValueType], params: &[&[usize]]) -> Result<ValueType, OpError> {
        match (self, inputs) {
            (Op::Constant(config), []) => {
                Ok(ValueType::new(config.dtype, params[0].iter().map(|n| Dim::Fixed(*n)).collect()))
            }
            (Op::Range(config), []) => Ok(ValueType::new(DType::I64, vec![config.count])),
            (Op::Concat(config), inputs) => config.infer(inputs),
            (Op::MatMul, [a, b]) => linear::matmul(a, b),
            (Op::BilinearPool(config), [a, b]) => config.infer(a, b),
            (Op::Binary(binary), [a, b]) => binary.infer(a, b),
            (Op::Compare(compare), [a, b]) => compare.infer(a, b),
            (Op::Gather(config), [x, places]) => config.infer(x, places),
            (Op::GatherElements(config), [x, places]) => config.infer(x, places),
            (Op::GatherNd(config), [x, places]) => config.infer(x, places),
            (Op::Where, [condition, a, b]) => elementwise::choose(condition, a, b),
            (_, [x]) => self.infer_of(x, params),
            _ => Err(OpError::Arity { op: self.name(), what: "inputs", expected: "other", actual: inputs.len() }),
        }
    }

    /// The output of an operator that has one input and one output.
    fn infer_of(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        match self {
            Op::Linear => linear::infer(x, params),
            Op::Embedding => gather::embedding(x, params),
            Op::Conv2d(config) => config.infer("Conv2d", x, params),
            Op::Conv1d(config) => config.infer(x, params),
            Op::ConvTranspose2d(config) => config.infer("ConvTranspose2d", x, params),
            Op::ConvTranspose1d(config) => config.infer(x, params),
            Op::MaxPool2d(config) => config.window.infer("MaxPool2d", x),
            Op::MaxPool1d(config) => config.window.infer("MaxPool1d", x),
            Op::AvgPool2d(config) => config.infer(x),
            Op::AvgPool1d(config) => config.infer(x),
            Op::GlobalAvgPool | Op::GlobalMaxPool => pool::global(self.name(), x),
            Op::BatchNorm(config) => config.infer(x, params),
            Op::LayerNorm(config) => config.infer(x, params),
            Op::RmsNorm(config) => config.infer(x, params),
            Op::GroupNorm(config) => config.infer(x, params),
            Op::InstanceNorm(config) => config.infer(x, params),
            Op::Activation(activation) => activation.infer(x),
            Op::PRelu => prelu(x, params[0]),
            Op::Unary(unary) => unary.infer(x),
            Op::Clip(config) => config.infer(x),
            Op::Cast(config) => Ok(ValueType::new(config.to, x.shape.clone())),
            Op::Reduce(config) => config.infer(x),
            Op::ArgMax(config) => config.infer(x),
            Op::CumSum(config) => config.infer(x),
            Op::Softmax(config) | Op::LogSoftmax(config) => config.infer(self.name(), x),
            Op::Reshape(config) => config.infer(x),
            Op::Flatten => shape::flatten(x),
            Op::Transpose(config) => config.infer(x),
            Op::Expand(config) => config.infer(x),
            Op::Tile(config) => config.infer(x),
            Op::DepthToSpace(config) => config.infer(x),
            Op::SpaceToDepth(config) => config.infer(x),
            Op::Pad(config) => config.infer(x),
            Op::Slice(config) => config.infer(x),
            Op::Reverse(config) => config.infer(x),
            Op::Trilu(_) if x.shape.len() >= 2 => Ok(x.clone()),
            Op::Select(config) => config.infer(x),
            Op::ResizeNearest(config) => config.infer(x),
            Op::Quantize(config) => config.infer(x, params),
            Op::Dequantize(config) => config.infer(x, params),
            Op::Dropout(config) => config.infer(x),
            Op::Shape => Ok(ValueType::new(DType::I64, vec![Dim::Fixed(x.shape.len())])),
            // All others have another number of inputs or outputs, or too few axes.
            _ => Err(wants(self.name(), "another shape", x)),
        }
    }

    /// Multiply-accumulate operations for one sample, given the types of the inputs, the parameter shapes and the output's
    /// size for one sample. Only products of matrices are counted, as is the custom.
    pub fn macs(&self, inputs: &[&ValueType], params: &[&[usize]], output: u64) -> u64 {
        let product = |sizes: &[usize]| sizes.iter().map(|&d| d as u64).fold(1, u64::saturating_mul);
        let last = |x: &ValueType| x.shape.last().and_then(|d| d.fixed()).unwrap_or(1) as u64;
        match (self, inputs) {
            (Op::Linear, _) => output.saturating_mul(params[0][1] as u64),
            (Op::Conv2d(_) | Op::Conv1d(_), _) => output.saturating_mul(product(&params[0][1..])),
            (Op::ConvTranspose2d(_) | Op::ConvTranspose1d(_), [x]) => {
                x.sample_elements().saturating_mul(product(&params[0][1..]))
            }
            (Op::MatMul, [a, _]) => output.saturating_mul(last(a)),
            (Op::BilinearPool(_), [x, _]) => {
                let places: u64 = x.shape[2..].iter().map(|d| d.fixed().unwrap_or(1) as u64).product();
                output.saturating_mul(places)
            }
            (Op::Lstm(_) | Op::Gru(_), [x, ..]) => {
                let steps = x.shape[0].fixed().unwrap_or(1) as u64;
                steps.saturating_mul(product(params[0]).saturating_add(product(params[1])))
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
    fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        // Written so that NaN is refused as well.
        if !(self.rate >= 0.0 && (self.rate as f32) < 1.0) {
            return Err(config("Dropout", "rate", format!("must be at least 0 and below 1, is {}", self.rate)));
        }
        Ok(x.clone())
    }
}

fn prelu(x: &ValueType, slope: &[usize]) -> Result<ValueType, OpError> {
    let slopes: Vec<Dim> = slope.iter().map(|n| Dim::Fixed(*n)).collect();
    if broadcast(&x.shape, &slopes).as_ref() != Some(&x.shape) || !x.dtype.is_float() {
        let expected = format!("that is broadcast to {x}");
        return Err(OpError::Param { op: "PRelu", role: "weight", expected, actual: slope.to_vec() });
    }
    Ok(x.clone())
}

/// The shape that both are broadcast to, as in NumPy: aligned at the last axis, sizes of 1 become the other's.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| shape[i]);
    let sizes = (0..rank).map(|axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y => Some(x),
        (Dim::Fixed(1), y) => Some(y),
        (x, Dim::Fixed(1)) => Some(x),
        _ => None,
    });
    sizes.collect()
}

/// An input that an operator does not accept.
fn wants(op: &'static str, expected: impl Into<String>, actual: &ValueType) -> OpError {
    OpError::Input { op, expected: expected.into(), actual: actual.to_string() }
}

/// A number of a configuration that makes no sense.
fn config(op: &'static str, field: &'static str, mut problem: String) -> OpError {
    // Lists of numbers, such as the parts of an axis, have any length.
    const LONGEST: usize = 400;
    if let Some((end, _)) = problem.char_indices().find(|(place, _)| *place >= LONGEST) {
        problem.truncate(end);
        problem.push('…');
    }
    OpError::Config { op, field, problem }
}

/// `least` to `most`, in words.
fn amount(least: usize, most: usize) -> &'static str {
    match (least, most) {
        (0, 0) => "no",
        (1, 1) => "1",
        (1, 2) => "1 or 2",
        (2, 2) => "2",
        (1, 3) => "1 to 3",
        (2, 3) => "2 or 3",
        (1, 4) => "1 to 4",
        (2, 4) => "2 to 4",
        (3, 3) => "3",
        (4, 4) => "4",
        _ => "1 or more",
    }
}
