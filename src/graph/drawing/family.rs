//! Families of operators: what a drawing gives one colour.

use crate::graph::Op;

/// A family of operators. The order is that of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Convolutions, transposed ones too.
    Convolution,
    /// Linear layers.
    Linear,
    /// What attention is made of: products of values, softmax.
    Attention,
    /// Recurrent layers.
    Recurrent,
    /// Tables that are looked up.
    Lookup,
    /// Normalisation, and dropout.
    Normalisation,
    /// Functions that separate layers.
    Activation,
    /// Pooling.
    Pooling,
    /// Arithmetic of elements, reductions.
    Arithmetic,
    /// What moves elements and computes nothing.
    Shape,
    /// From and to whole numbers of 8 bits.
    Quantization,
    /// What niwaki does not know.
    Unknown,
}

impl Family {
    /// The family of an operator.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Conv2d(_) | Op::Conv1d(_) | Op::ConvTranspose2d(_) | Op::ConvTranspose1d(_) => Self::Convolution,
            Op::Linear | Op::BilinearPool(_) => Self::Linear,
            Op::MatMul | Op::Softmax(_) | Op::LogSoftmax(_) => Self::Attention,
            Op::Lstm(_) | Op::Gru(_) => Self::Recurrent,
            Op::Embedding | Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => Self::Lookup,
            Op::BatchNorm(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::GroupNorm(_)
            | Op::InstanceNorm(_)
            | Op::Dropout(_) => Self::Normalisation,
            Op::Activation(_) | Op::PRelu => Self::Activation,
            Op::MaxPool2d(_)
            | Op::MaxPool1d(_)
            | Op::AvgPool2d(_)
            | Op::AvgPool1d(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool => Self::Pooling,
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Clip(_)
            | Op::Where
            | Op::Cast(_)
            | Op::Reduce(_)
            | Op::ArgMax(_)
            | Op::CumSum(_) => Self::Arithmetic,
            Op::Reshape(_)
            | Op::Flatten
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Tile(_)
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
            | Op::Pad(_)
            | Op::Slice(_)
            | Op::Reverse(_)
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Trilu(_)
            | Op::Select(_)
            | Op::ResizeNearest(_)
            | Op::Constant(_)
            | Op::Shape
            | Op::Range(_) => Self::Shape,
            Op::Quantize(_) | Op::Dequantize(_) => Self::Quantization,
            Op::Custom(_) => Self::Unknown,
        }
    }

    /// What the legend calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Linear => "linear",
            Self::Attention => "product, softmax",
            Self::Recurrent => "recurrent",
            Self::Lookup => "lookup",
            Self::Normalisation => "normalisation, dropout",
            Self::Activation => "activation",
            Self::Pooling => "pooling",
            Self::Arithmetic => "arithmetic",
            Self::Shape => "shape",
            Self::Quantization => "quantization",
            Self::Unknown => "unknown",
        }
    }

    /// Its colour: those of Okabe and Ito (2008), which people with any colour vision tell apart, and greys.
    pub fn colour(self) -> &'static str {
        match self {
            Self::Convolution => "#0072b2",
            Self::Linear => "#009e73",
            Self::Attention => "#cc79a7",
            Self::Recurrent => "#d55e00",
            Self::Lookup => "#7a5ac2",
            Self::Normalisation => "#56b4e9",
            Self::Activation => "#e69f00",
            Self::Pooling => "#d6c400",
            Self::Arithmetic => "#8a6d5a",
            Self::Shape => "#8a929c",
            Self::Quantization => "#4f8f9d",
            Self::Unknown => "#d1242f",
        }
    }

    /// A short word for it, to be a CSS class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Convolution => "conv",
            Self::Linear => "lin",
            Self::Attention => "att",
            Self::Recurrent => "rec",
            Self::Lookup => "look",
            Self::Normalisation => "norm",
            Self::Activation => "act",
            Self::Pooling => "pool",
            Self::Arithmetic => "arith",
            Self::Shape => "shape",
            Self::Quantization => "quant",
            Self::Unknown => "unk",
        }
    }
}
