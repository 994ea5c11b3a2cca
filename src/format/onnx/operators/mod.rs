//! ONNX's operators in terms of ours, one file a family.

mod conv;
mod elementwise;
mod gather;
mod linear;
mod norm;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod splits;

use super::error::OnnxError;
use super::export::writer::Writer;
use super::import::node::{Node, decimal};
use super::import::source::{Axis, is_onnx};
use super::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::Custom;
use crate::graph::{Dim, Op, ValueType};
use crate::tensor::{DType, TensorData};

type Result<T = ()> = std::result::Result<T, OnnxError>;

/// How the operators of one name are read.
type Reader = for<'s> fn(&mut Trace<'s>, &Node<'s>) -> Result;

/// Converts a node: says what its outputs are.
pub(super) fn read<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    match reader(&node.proto.domain, node.op()) {
        Some(reader) => reader(cx, node),
        None => custom(cx, node),
    }
}

/// Whether niwaki has the operator.
pub(super) fn is_known(domain: &str, op: &str) -> bool {
    reader(domain, op).is_some()
}

fn reader(domain: &str, op: &str) -> Option<Reader> {
    if !is_onnx(domain) {
        return None;
    }
    Some(match op {
        "Gemm" => linear::gemm,
        "MatMul" => linear::matmul,
        "Einsum" => linear::einsum,
        "Conv" => conv::conv,
        "ConvTranspose" => conv::conv_transpose,
        "MaxPool" => pool::max_pool,
        "AveragePool" => pool::average_pool,
        "GlobalAveragePool" | "GlobalMaxPool" => pool::global,
        "BatchNormalization" => norm::batch,
        "LayerNormalization" | "RMSNormalization" => norm::layer,
        "GroupNormalization" => norm::group,
        "InstanceNormalization" => norm::instance,
        "Relu" | "Sigmoid" | "Tanh" | "Softplus" | "Softsign" | "Elu" | "Selu" | "LeakyRelu" | "HardSigmoid"
        | "HardSwish" | "Gelu" | "Mish" | "Swish" => elementwise::activation,
        "PRelu" => elementwise::prelu,
        "Clip" => elementwise::clip,
        "Abs" | "Ceil" | "Cos" | "Erf" | "Exp" | "Floor" | "IsNaN" | "Log" | "Neg" | "Not" | "Reciprocal" | "Round"
        | "Sign" | "Sin" | "Sqrt" => elementwise::unary,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Xor" | "Mod" => elementwise::binary,
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => elementwise::compare,
        "Sum" | "Max" | "Min" | "Mean" => elementwise::variadic,
        "Where" => elementwise::choose,
        "Cast" | "CastLike" => elementwise::cast,
        "Dropout" => elementwise::dropout,
        "Identity" => elementwise::identity,
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => reduce::reduce,
        "ArgMax" | "ArgMin" => reduce::arg_max,
        "CumSum" => reduce::cum_sum,
        "Softmax" | "LogSoftmax" => reduce::softmax,
        "Constant" => shape::constant,
        "ConstantOfShape" => shape::constant_of_shape,
        "Shape" => shape::shape,
        "Size" => shape::size,
        "Range" => shape::range,
        "Reshape" => shape::reshape,
        "Flatten" => shape::flatten,
        "Squeeze" => shape::squeeze,
        "Unsqueeze" => shape::unsqueeze,
        "Transpose" => shape::transpose,
        "Expand" => shape::expand,
        "Tile" => shape::tile,
        "DepthToSpace" | "SpaceToDepth" => shape::depth,
        "Trilu" => shape::trilu,
        "Concat" => splits::concat,
        "Split" | "SplitToSequence" => splits::split,
        "SequenceAt" => splits::sequence_at,
        "Slice" => splits::slice,
        "Pad" => splits::pad,
        "Gather" => gather::gather,
        "GatherElements" => gather::gather_elements,
        "GatherND" => gather::gather_nd,
        "Resize" | "Upsample" => resize::resize,
        "LSTM" => recurrent::lstm,
        "GRU" => recurrent::gru,
        "QuantizeLinear" => quantize::quantize,
        "DequantizeLinear" => quantize::dequantize,
        _ => return None,
    })
}

/// An operator that niwaki does not have: it stays, if the file says what it gives.
fn custom<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let inputs: Vec<Handle> = (0..node.proto.input.len()).filter_map(|index| cx.optional(node, index)).collect();
    let types: Option<Vec<ValueType>> = node.proto.output.iter().map(|name| cx.declared(name)).collect();
    let (domain, name) = (plain_name(&node.proto.domain), plain_name(node.op()));
    let outputs =
        types.ok_or_else(|| node.wrong("niwaki does not have it, and the file does not say what it gives"))?;
    let results = cx.ops(Op::Custom(Custom { domain, name, outputs }), &inputs, &[])?;
    for (index, result) in results.into_iter().enumerate() {
        cx.output(node, index, result)?;
    }
    Ok(())
}

/// A name that may stand in drawings and texts.
fn plain_name(name: &str) -> String {
    name.chars().take(200).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}

impl Trace<'_> {
    /// What the file says of a value, for the sizes of this walk.
    fn declared(&self, name: &str) -> Option<ValueType> {
        let declared = self.source.declared.get(name)?;
        let shape = declared.axes.iter().map(|axis| match axis {
            Axis::Fixed(n) => Some(Dim::Fixed(*n)),
            Axis::Named(_) => None,
        });
        Some(ValueType::new(declared.dtype, shape.collect::<Option<_>>()?))
    }

    /// Whole numbers that must be known.
    fn ints(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<Vec<i64>> {
        let data = self.few(node, value, what)?;
        integers(data).ok_or_else(|| node.wrong(format!("its {what} are {}, not whole numbers", data.dtype())))
    }

    /// One whole number that must be known.
    fn int(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<i64> {
        match self.ints(node, value, what)?[..] {
            [number] => Ok(number),
            _ => Err(node.wrong(format!("its {what} is no single number"))),
        }
    }

    /// Numbers that must be known.
    fn numbers(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<Vec<f64>> {
        let data = self.few(node, value, what)?;
        numbers(data).ok_or_else(|| node.wrong(format!("its {what} are {}, not numbers", data.dtype())))
    }

    /// One number that must be known.
    fn number(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<f64> {
        match self.numbers(node, value, what)?[..] {
            [number] => Ok(number),
            _ => Err(node.wrong(format!("its {what} is no single number"))),
        }
    }

    /// One number that must be known, as people write it: a number of 32 bits as the shortest decimal one.
    fn decimal(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<f64> {
        let number = self.number(node, value, what)?;
        Ok(if self.dtype(value) == DType::F32 { decimal(number as f32) } else { number })
    }

    /// Whole numbers of an input, or of an attribute in older versions.
    fn ints_or(&self, node: &Node<'_>, index: usize, name: &str) -> Result<Option<Vec<i64>>> {
        match self.optional(node, index) {
            Some(value) => self.ints(node, value, name).map(Some),
            None => node.ints(name),
        }
    }

    /// The value with that shape.
    fn reshaped(&mut self, value: Handle, shape: &[usize]) -> Result<Handle> {
        if self.shape(value) == shape {
            return Ok(value);
        }
        shape::reshape_to(self, value, shape.to_vec())
    }
}

/// `axis`, which may count from the end, among `rank`.
fn axis(node: &Node<'_>, axis: i64, rank: usize) -> Result<usize> {
    let from = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank);
    found.ok_or_else(|| node.wrong(format!("axis {axis} is none of {rank}")))
}

/// Axes in order, each once.
fn axes(node: &Node<'_>, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    if axes.len() > rank {
        return Err(node.wrong(format!("it has {} axes of {rank}", axes.len())));
    }
    let mut found = axes.iter().map(|a| axis(node, *a, rank)).collect::<Result<Vec<_>>>()?;
    found.sort_unstable();
    match found.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(node.wrong(format!("axis {} is given twice", pair[0]))),
        None => Ok(found),
    }
}

fn reshape(shape: &[usize]) -> Op {
    Op::Reshape(crate::graph::op::Reshape { shape: shape.iter().map(|n| Dim::Fixed(*n)).collect() })
}

/// The whole numbers of a tensor of a whole number format.
fn integers(data: &TensorData) -> Option<Vec<i64>> {
    let bytes = data.bytes();
    Some(match data.dtype() {
        DType::I64 => bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect(),
        DType::I32 => bytes.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|b| i64::from(*b)).collect(),
        DType::I8 => bytes.iter().map(|b| i64::from(*b as i8)).collect(),
        _ => return None,
    })
}

/// The numbers of a tensor.
fn numbers(data: &TensorData) -> Option<Vec<f64>> {
    match data.to_f64() {
        Ok(numbers) => Some(numbers),
        Err(_) => integers(data).map(|all| all.into_iter().map(|n| n as f64).collect()),
    }
}

/// Writes a node of ours; gives what its outputs are called in the file.
pub(super) fn write(w: &mut Writer<'_>, node: &graph::Node) -> Result<Vec<String>> {
    let unwritten = || OnnxError::Unwritten { node: node.name.clone(), op: node.op.name() };
    written(w, node).ok_or_else(unwritten)
}

fn written(w: &mut Writer<'_>, node: &graph::Node) -> Option<Vec<String>> {
    match &node.op {
        Op::Linear => linear::write_linear(w, node),
        Op::BilinearPool(c) => linear::write_bilinear(w, node, c.mean),
        Op::Embedding => gather::write_embedding(w, node),
        Op::Conv2d(c) => conv::write_conv(w, node, c, 2),
        Op::Conv1d(c) => conv::write_conv(w, node, &c.planar(), 1),
        Op::ConvTranspose2d(c) => conv::write_transpose(w, node, c, 2),
        Op::ConvTranspose1d(c) => conv::write_transpose(w, node, &c.planar(), 1),
        Op::MaxPool2d(c) => pool::write_max(w, node, &c.window, 2),
        Op::MaxPool1d(c) => pool::write_max(w, node, &c.window.planar(), 1),
        Op::AvgPool2d(c) => pool::write_average(w, node, c, 2),
        Op::AvgPool1d(c) => pool::write_average(w, node, &c.planar(), 1),
        Op::BatchNorm(c) => norm::write_batch(w, node, c),
        Op::LayerNorm(c) => norm::write_layer(w, node, c),
        Op::RmsNorm(c) => norm::write_rms(w, node, c),
        Op::GroupNorm(c) => norm::write_group(w, node, c),
        Op::InstanceNorm(c) => norm::write_instance(w, node, c),
        Op::Activation(activation) => elementwise::write_activation(w, node, *activation),
        Op::PRelu => elementwise::write_prelu(w, node),
        Op::Binary(binary) => elementwise::write_binary(w, node, *binary),
        Op::Clip(c) => elementwise::write_clip(w, node, c),
        Op::Cast(c) => elementwise::write_cast(w, node, c.to),
        Op::Dropout(c) => elementwise::write_dropout(w, node, c.rate),
        Op::Reduce(c) => reduce::write_reduce(w, node, c),
        Op::ArgMax(c) => reduce::write_arg_max(w, node, c),
        Op::CumSum(c) => reduce::write_cum_sum(w, node, c),
        Op::Reshape(c) => shape::write_reshape(w, node, c),
        Op::DepthToSpace(c) => shape::write_depth(w, node, c),
        Op::SpaceToDepth(c) => shape::write_space(w, node, c),
        Op::Range(c) => shape::write_range(w, node, c),
        Op::Pad(c) => splits::write_pad(w, node, c),
        Op::Slice(c) => splits::write_slice(w, node, c),
        Op::Reverse(c) => splits::write_reverse(w, node, c),
        Op::Split(c) => splits::write_split(w, node, c),
        Op::Select(c) => gather::write_select(w, node, c),
        Op::ResizeNearest(c) => resize::write(w, node, c),
        Op::Lstm(c) => recurrent::write_lstm(w, node, c),
        Op::Gru(c) => recurrent::write_gru(w, node, c),
        Op::Quantize(c) => quantize::write_quantize(w, node, c),
        Op::Dequantize(c) => quantize::write_dequantize(w, node, c),
        Op::Constant(c) => w.constant(node, c.dtype).map(|name| vec![name]),
        Op::Custom(_) => None,
        op => plain(w, node, op),
    }
}

/// Operators that are ONNX's by the same name, or nearly, with their inputs in the same order.
fn plain(w: &mut Writer<'_>, node: &graph::Node, op: &Op) -> Option<Vec<String>> {
    let mut inputs: Vec<String> = (0..node.inputs.len()).map(|index| w.input(node, index)).collect();
    let (name, attributes) = match op {
        Op::GlobalAvgPool => ("GlobalAveragePool", Vec::new()),
        Op::GlobalMaxPool => ("GlobalMaxPool", Vec::new()),
        Op::Softmax(c) | Op::LogSoftmax(c) => (op.name(), vec![("axis", c.axis.into())]),
        Op::Flatten => ("Flatten", vec![("axis", 1i64.into())]),
        Op::Transpose(c) => ("Transpose", vec![("perm", c.axes.as_slice().into())]),
        Op::Concat(c) => ("Concat", vec![("axis", c.axis.into())]),
        Op::Gather(c) => ("Gather", vec![("axis", c.axis.into())]),
        Op::GatherElements(c) => ("GatherElements", vec![("axis", c.axis.into())]),
        Op::GatherNd(c) => ("GatherND", vec![("batch_dims", c.batch_axes.into())]),
        Op::Expand(c) => {
            inputs.push(w.shape(&c.shape));
            ("Expand", Vec::new())
        }
        Op::Tile(c) => {
            inputs.push(w.shape(&c.repeats));
            ("Tile", Vec::new())
        }
        Op::Trilu(c) => {
            inputs.push(w.integer(c.diagonal));
            ("Trilu", vec![("upper", c.upper.into())])
        }
        Op::MatMul | Op::Unary(_) | Op::Compare(_) | Op::Where | Op::Shape => (op.name(), Vec::new()),
        _ => return None,
    };
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Some(w.last(node, name, &inputs, attributes))
}
