//! What runs over whole axes: sums and their kin, the place of the largest, running sums, softmax.

use serde::{Deserialize, Serialize};

use super::elementwise::names;
use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;
use crate::tensor::DType;

names! {
    /// What becomes of the elements along axes.
    Reduction {
        /// The sum of absolute values.
        L1,
        /// The root of the sum of squares.
        L2,
        /// The logarithm of the sum.
        LogSum,
        /// The logarithm of the sum of exponentials.
        LogSumExp,
        /// The largest.
        Max,
        /// The mean.
        Mean,
        /// The smallest.
        Min,
        /// The product.
        Prod,
        /// The sum.
        Sum,
        /// The sum of squares.
        SumSquare,
    }
}

/// One number for all elements along some axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// Which number.
    pub of: Reduction,
    /// The axes, in ascending order.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with size 1.
    pub keep: bool,
}

/// The place of the largest or smallest element along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgMax {
    /// The axis.
    pub axis: usize,
    /// Whether the axis stays, with size 1.
    pub keep: bool,
    /// Whether the smallest is meant.
    pub smallest: bool,
    /// Whether the last of equal ones is meant, not the first.
    pub last: bool,
}

/// Running sums along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CumSum {
    /// The axis.
    pub axis: usize,
    /// Whether an element's own value is left out of its sum.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
}

/// `exp(x) / sum(exp(x))` along an axis, or its logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
}

impl Reduction {
    /// The operator's name, which is ONNX's.
    pub fn op_name(self) -> &'static str {
        match self {
            Reduction::L1 => "ReduceL1",
            Reduction::L2 => "ReduceL2",
            Reduction::LogSum => "ReduceLogSum",
            Reduction::LogSumExp => "ReduceLogSumExp",
            Reduction::Max => "ReduceMax",
            Reduction::Mean => "ReduceMean",
            Reduction::Min => "ReduceMin",
            Reduction::Prod => "ReduceProd",
            Reduction::Sum => "ReduceSum",
            Reduction::SumSquare => "ReduceSumSquare",
        }
    }
}

impl Reduce {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let op = self.of.op_name();
        if !self.axes.is_sorted_by(|a, b| a < b) || self.axes.last().is_some_and(|axis| *axis >= x.shape.len()) {
            return Err(config(op, "axes", format!("must be different axes of {x} in order, are {:?}", self.axes)));
        }
        if x.dtype == DType::Bool && !matches!(self.of, Reduction::Max | Reduction::Min) {
            return Err(wants(op, "numbers", x));
        }
        let kept = x.shape.iter().enumerate().filter_map(|(axis, size)| match self.axes.contains(&axis) {
            false => Some(*size),
            true => self.keep.then_some(Dim::Fixed(1)),
        });
        Ok(x.with(kept.collect()))
    }
}

impl ArgMax {
    /// The operator's name, which is ONNX's.
    pub(super) fn op_name(&self) -> &'static str {
        if self.smallest { "ArgMin" } else { "ArgMax" }
    }

    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        if x.axis(self.op_name(), self.axis)? == Dim::Fixed(0) {
            return Err(wants(self.op_name(), format!("something along axis {}", self.axis), x));
        }
        let mut shape = x.shape.clone();
        match self.keep {
            true => shape[self.axis] = Dim::Fixed(1),
            false => drop(shape.remove(self.axis)),
        }
        Ok(ValueType::new(DType::I64, shape))
    }
}

impl CumSum {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        x.axis("CumSum", self.axis)?;
        if x.dtype == DType::Bool { Err(wants("CumSum", "numbers", x)) } else { Ok(x.clone()) }
    }
}

impl Softmax {
    pub(super) fn infer(&self, op: &'static str, x: &ValueType) -> Result<ValueType, OpError> {
        x.axis(op, self.axis)?;
        if x.dtype.is_float() { Ok(x.clone()) } else { Err(wants(op, "floating point numbers", x)) }
    }
}
