//! Normalisations that go by each sample alone: over the last axes, over groups of channels, over each channel.
//!
//! ```text
//! y = (x - mean) / sqrt(var + epsilon) * weight + bias           var divides by the count
//! RmsNorm: y = x / sqrt(mean(x^2) + epsilon) * weight
//! ```

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;

/// Over all axes from `axis` on (Ba et al. 2016); weight and bias have the shape of these axes, or one that is broadcast
/// to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// The first of the axes.
    pub axis: usize,
    /// Added to the variance; above 0.
    pub epsilon: f64,
}

/// As [`LayerNorm`], without a mean and a bias (Zhang and Sennrich 2019).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm {
    /// The first of the axes.
    pub axis: usize,
    /// Added to the mean square; above 0.
    pub epsilon: f64,
}

/// Over the channels of each group and their places (Wu and He 2018); `x [n, c, ...]`, weight and bias `[c]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Groups of channels.
    pub groups: usize,
    /// Added to the variance; above 0.
    pub epsilon: f64,
}

/// Over the places of each channel (Ulyanov et al. 2016); `x [n, c, ...]`, weight and bias `[c]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNorm {
    /// Added to the variance; above 0.
    pub epsilon: f64,
}

impl LayerNorm {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        over_last("LayerNorm", self.axis, self.epsilon, x, params)
    }
}

impl RmsNorm {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        over_last("RmsNorm", self.axis, self.epsilon, x, params)
    }
}

impl GroupNorm {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let channels = over_channels("GroupNorm", self.epsilon, x, params)?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            let problem = format!("must divide the {channels} channels, is {}", self.groups);
            return Err(config("GroupNorm", "groups", problem));
        }
        Ok(x.clone())
    }
}

impl InstanceNorm {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        over_channels("InstanceNorm", self.epsilon, x, params)?;
        Ok(x.clone())
    }
}

/// What is added before a root is taken must keep it from 0, as a 32-bit number too.
pub(super) fn check_epsilon(op: &'static str, epsilon: f64) -> Result<(), OpError> {
    // Written so that NaN is refused as well.
    if (epsilon as f32) > 0.0 && (epsilon as f32).is_finite() {
        return Ok(());
    }
    Err(config(op, "epsilon", format!("must be above 0 and finite as a 32-bit number, is {epsilon:e}")))
}

fn over_last(
    op: &'static str,
    axis: usize,
    epsilon: f64,
    x: &ValueType,
    params: &[&[usize]],
) -> Result<ValueType, OpError> {
    check_epsilon(op, epsilon)?;
    let sizes: Option<Vec<usize>> = x.shape.get(axis..).map(|last| last.iter().filter_map(|d| d.fixed()).collect());
    let sizes = sizes.filter(|sizes| !sizes.is_empty() && sizes.len() + axis == x.shape.len());
    let sizes = sizes.ok_or_else(|| wants(op, format!("fixed sizes from axis {axis} on"), x))?;
    for (role, shape) in ["weight", "bias"].into_iter().zip(params) {
        let fits = shape.len() <= sizes.len()
            && shape.iter().rev().zip(sizes.iter().rev()).all(|(own, size)| own == size || *own == 1);
        if !fits {
            return Err(OpError::Param { op, role, expected: format!("{sizes:?}"), actual: shape.to_vec() });
        }
    }
    Ok(x.clone())
}

fn over_channels(op: &'static str, epsilon: f64, x: &ValueType, params: &[&[usize]]) -> Result<usize, OpError> {
    check_epsilon(op, epsilon)?;
    let [_, Dim::Fixed(channels), ..] = x.shape[..] else { return Err(wants(op, "[n, c, ...]", x)) };
    for (role, shape) in ["weight", "bias"].into_iter().zip(params) {
        if *shape != [channels] {
            return Err(OpError::Param { op, role, expected: format!("[{channels}]"), actual: shape.to_vec() });
        }
    }
    Ok(channels)
}
