//! In which format a node of a graph in half precision computes.

use crate::graph::op::{Activation, Binary, Op, Unary};
use crate::graph::{Graph, Node};
use crate::tensor::DType;

/// The format that a node computes values of `F32` in; all others stay.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Precision {
    /// As they are.
    #[default]
    Own,
    /// In this format.
    All(DType),
}

impl Precision {
    /// The format of a value that has `dtype` in the graph.
    pub(super) fn of(self, dtype: DType) -> DType {
        match self {
            Precision::All(other) if dtype == DType::F32 => other,
            _ => dtype,
        }
    }
}

/// The format that `node` computes in. Sums and powers lose too much in 16 bits, and what has parameters of 32 bits was
/// meant to be computed so.
pub(super) fn precision(graph: &Graph, node: &Node) -> Precision {
    let half = graph.activations();
    if half == DType::F32 {
        return Precision::Own;
    }
    let wide_params = node.params.iter().any(|id| {
        let dtype = graph.param(*id).data.dtype();
        dtype.is_float() && dtype != half
    });
    let sums = match &node.op {
        Op::Softmax(_)
        | Op::LogSoftmax(_)
        | Op::Reduce(_)
        | Op::CumSum(_)
        | Op::GlobalAvgPool
        | Op::AvgPool2d(_)
        | Op::AvgPool1d(_)
        | Op::BilinearPool(_)
        | Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::RmsNorm(_)
        | Op::GroupNorm(_)
        | Op::InstanceNorm(_)
        | Op::Lstm(_)
        | Op::Gru(_)
        | Op::Binary(Binary::Pow)
        | Op::Unary(Unary::Exp | Unary::Log | Unary::Erf) => true,
        Op::Activation(activation) => *activation != Activation::Relu,
        // What niwaki computes in 32 bits and rounds once is the same in both.
        _ => false,
    };
    // Runtimes on CPUs have next to nothing in the other 16-bit format but casts.
    if wide_params || sums || half == DType::BF16 { Precision::All(DType::F32) } else { Precision::All(half) }
}
