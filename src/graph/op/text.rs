//! Operators as files and tables show them: a name, and the attributes as a JSON object.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Activation, Binary, Compare, Constant, Custom, Op, Reduce, Reduction, Unary, ValueType};
use crate::graph::dim::Dim;
use crate::tensor::DType;

/// Why a text is no operator.
#[derive(Debug, PartialEq, Eq)]
pub enum OpTextError {
    /// There is no operator of that name.
    Unknown,
    /// The attributes are not the operator's.
    Attributes(String),
}

/// [`Reduce`] without its kind, which the operator's name says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Axes {
    axes: Vec<usize>,
    keep: bool,
}

/// [`Custom`] with its types.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomText {
    domain: String,
    name: String,
    outputs: Vec<TypeText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeText {
    dtype: DType,
    shape: Vec<Dim>,
}

/// Attributes of an operator that has none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct None {}

impl Op {
    /// The attributes as a JSON object, keys in the order of the operator's definition.
    pub fn attributes(&self) -> String {
        match self {
            Op::Linear
            | Op::MatMul
            | Op::Embedding
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::PRelu
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Where
            | Op::Flatten
            | Op::Shape => json(&None {}),
            Op::BilinearPool(c) => json(c),
            Op::Conv2d(c) => json(c),
            Op::Conv1d(c) => json(c),
            Op::ConvTranspose2d(c) => json(c),
            Op::ConvTranspose1d(c) => json(c),
            Op::MaxPool2d(c) => json(c),
            Op::MaxPool1d(c) => json(c),
            Op::AvgPool2d(c) => json(c),
            Op::AvgPool1d(c) => json(c),
            Op::BatchNorm(c) => json(c),
            Op::LayerNorm(c) => json(c),
            Op::RmsNorm(c) => json(c),
            Op::GroupNorm(c) => json(c),
            Op::InstanceNorm(c) => json(c),
            Op::Activation(activation) => match activation {
                Activation::Elu(c) | Activation::LeakyRelu(c) | Activation::Swish(c) => json(c),
                Activation::HardSigmoid(c) => json(c),
                Activation::Selu(c) => json(c),
                _ => json(&None {}),
            },
            Op::Clip(c) => json(c),
            Op::Cast(c) => json(c),
            Op::Reduce(c) => json(&Axes { axes: c.axes.clone(), keep: c.keep }),
            Op::ArgMax(c) => json(c),
            Op::CumSum(c) => json(c),
            Op::Softmax(c) | Op::LogSoftmax(c) => json(c),
            Op::Reshape(c) => json(c),
            Op::Transpose(c) => json(c),
            Op::Expand(c) => json(c),
            Op::Tile(c) => json(c),
            Op::DepthToSpace(c) => json(c),
            Op::SpaceToDepth(c) => json(c),
            Op::Pad(c) => json(c),
            Op::Slice(c) => json(c),
            Op::Reverse(c) => json(c),
            Op::Concat(c) => json(c),
            Op::Split(c) => json(c),
            Op::Trilu(c) => json(c),
            Op::Gather(c) => json(c),
            Op::Select(c) => json(c),
            Op::GatherElements(c) => json(c),
            Op::GatherNd(c) => json(c),
            Op::ResizeNearest(c) => json(c),
            Op::Lstm(c) => json(c),
            Op::Gru(c) => json(c),
            Op::Quantize(c) => json(c),
            Op::Dequantize(c) => json(c),
            Op::Dropout(c) => json(c),
            Op::Constant(c) => json(c),
            Op::Range(c) => json(c),
            Op::Custom(c) => json(&CustomText {
                domain: c.domain.clone(),
                name: c.name.clone(),
                outputs: c.outputs.iter().map(|ty| TypeText { dtype: ty.dtype, shape: ty.shape.clone() }).collect(),
            }),
        }
    }

    /// The operator of that name with these attributes: exactly its own.
    pub fn from_text(name: &str, attributes: &str) -> Result<Op, OpTextError> {
        if let Some(op) = without_attributes(name) {
            return read::<None>(attributes).map(|_| op);
        }
        if let Some(of) = Reduction::ALL.iter().find(|of| of.op_name() == name) {
            return read(attributes).map(|Axes { axes, keep }| Op::Reduce(Reduce { of: *of, axes, keep }));
        }
        Ok(match name {
            "BilinearPool" => Op::BilinearPool(read(attributes)?),
            "Conv2d" => Op::Conv2d(read(attributes)?),
            "Conv1d" => Op::Conv1d(read(attributes)?),
            "ConvTranspose2d" => Op::ConvTranspose2d(read(attributes)?),
            "ConvTranspose1d" => Op::ConvTranspose1d(read(attributes)?),
            "MaxPool2d" => Op::MaxPool2d(read(attributes)?),
            "MaxPool1d" => Op::MaxPool1d(read(attributes)?),
            "AvgPool2d" => Op::AvgPool2d(read(attributes)?),
            "AvgPool1d" => Op::AvgPool1d(read(attributes)?),
            "BatchNorm" => Op::BatchNorm(read(attributes)?),
            "LayerNorm" => Op::LayerNorm(read(attributes)?),
            "RmsNorm" => Op::RmsNorm(read(attributes)?),
            "GroupNorm" => Op::GroupNorm(read(attributes)?),
            "InstanceNorm" => Op::InstanceNorm(read(attributes)?),
            "Elu" => Op::Activation(Activation::Elu(read(attributes)?)),
            "HardSigmoid" => Op::Activation(Activation::HardSigmoid(read(attributes)?)),
            "LeakyRelu" => Op::Activation(Activation::LeakyRelu(read(attributes)?)),
            "Selu" => Op::Activation(Activation::Selu(read(attributes)?)),
            "Swish" => Op::Activation(Activation::Swish(read(attributes)?)),
            "Clip" => Op::Clip(read(attributes)?),
            "Cast" => Op::Cast(read(attributes)?),
            "ArgMax" | "ArgMin" => Op::ArgMax(read(attributes)?),
            "CumSum" => Op::CumSum(read(attributes)?),
            "Softmax" => Op::Softmax(read(attributes)?),
            "LogSoftmax" => Op::LogSoftmax(read(attributes)?),
            "Reshape" => Op::Reshape(read(attributes)?),
            "Transpose" => Op::Transpose(read(attributes)?),
            "Expand" => Op::Expand(read(attributes)?),
            "Tile" => Op::Tile(read(attributes)?),
            "DepthToSpace" => Op::DepthToSpace(read(attributes)?),
            "SpaceToDepth" => Op::SpaceToDepth(read(attributes)?),
            "Pad" => Op::Pad(read(attributes)?),
            "Slice" => Op::Slice(read(attributes)?),
            "Reverse" => Op::Reverse(read(attributes)?),
            "Concat" => Op::Concat(read(attributes)?),
            "Split" => Op::Split(read(attributes)?),
            "Trilu" => Op::Trilu(read(attributes)?),
            "Gather" => Op::Gather(read(attributes)?),
            "Select" => Op::Select(read(attributes)?),
            "GatherElements" => Op::GatherElements(read(attributes)?),
            "GatherNd" => Op::GatherNd(read(attributes)?),
            "ResizeNearest" => Op::ResizeNearest(read(attributes)?),
            "Lstm" => Op::Lstm(read(attributes)?),
            "Gru" => Op::Gru(read(attributes)?),
            "Quantize" => Op::Quantize(read(attributes)?),
            "Dequantize" => Op::Dequantize(read(attributes)?),
            "Dropout" => Op::Dropout(read(attributes)?),
            "Constant" => Op::Constant(read::<Constant>(attributes)?),
            "Range" => Op::Range(read(attributes)?),
            "Custom" => {
                let CustomText { domain, name, outputs } = read(attributes)?;
                let outputs = outputs.into_iter().map(|ty| ValueType::new(ty.dtype, ty.shape)).collect();
                Op::Custom(Custom { domain, name, outputs })
            }
            _ => return Err(OpTextError::Unknown),
        })
    }
}

fn without_attributes(name: &str) -> Option<Op> {
    let plain = [
        Op::Linear,
        Op::MatMul,
        Op::Embedding,
        Op::GlobalAvgPool,
        Op::GlobalMaxPool,
        Op::PRelu,
        Op::Where,
        Op::Flatten,
        Op::Shape,
    ];
    let activations = [
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::HardSwish,
        Activation::Mish,
        Activation::Softplus,
        Activation::Softsign,
    ];
    plain
        .into_iter()
        .chain(activations.map(Op::Activation))
        .chain(Unary::ALL.iter().map(|unary| Op::Unary(*unary)))
        .chain(Binary::ALL.iter().map(|binary| Op::Binary(*binary)))
        .chain(Compare::ALL.iter().map(|compare| Op::Compare(*compare)))
        .find(|op| op.name() == name)
}

fn json(config: &impl Serialize) -> String {
    serde_json::to_string(config).expect("numbers, names and lists of them have a JSON form")
}

fn read<T: DeserializeOwned>(attributes: &str) -> Result<T, OpTextError> {
    serde_json::from_str(attributes).map_err(|e| {
        // The place in the line says nothing to whoever sees the whole file.
        let text = e.to_string();
        OpTextError::Attributes(text.split(" at line ").next().unwrap_or_default().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::OpTextError;

    #[test]
    fn an_operator_is_read_back_from_its_text() {
        let ops = Activation::ALL.map(Op::Activation).into_iter().chain([
            Op::ADD,
            Op::Unary(Unary::Erf),
            Op::Compare(Compare::LessOrEqual),
            Op::Reduce(Reduce { of: Reduction::Mean, axes: vec![2, 3], keep: true }),
            Op::Cast(Cast { to: DType::I64 }),
            Op::Clip(Clip { min: Some(0.0), max: None }),
            Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::SEQUENCE, 3.into()] }),
            Op::Pad(Pad { axis: 1, before: 1, after: 2, fill: Fill::Reflect }),
            Op::AvgPool2d(AvgPool2d { window: Window::tiles(2), count_padding: false, overhang: [0, 0] }),
            Op::MaxPool2d(MaxPool2d { window: Window::tiles(2) }),
            Op::Custom(Custom {
                domain: "com.example".into(),
                name: "Fancy".into(),
                outputs: vec![ValueType::new(DType::F16, vec![Dim::Batch])],
            }),
        ]);
        for op in ops {
            assert_eq!(Op::from_text(op.name(), &op.attributes()), Ok(op.clone()), "{}", op.attributes());
        }
    }

    #[test]
    fn attributes_are_exactly_the_operator_s() {
        let wrong = |name, attributes| match Op::from_text(name, attributes) {
            Err(OpTextError::Attributes(problem)) => problem,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong("Dropout", "{}"), "missing field `rate`");
        assert!(wrong("Relu", "{\"groups\":1}").starts_with("unknown field `groups`"));
        assert_eq!(wrong("Dropout", "{\"rate\":0,\"rate\":1}"), "duplicate field `rate`");
        assert_eq!(Op::from_text("Fancy", "{}"), Err(OpTextError::Unknown));
    }
}
