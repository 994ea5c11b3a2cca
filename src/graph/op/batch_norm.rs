//! `BatchNorm` (Ioffe and Szegedy 2015): each channel brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//! y = (x - mean) / sqrt(var + epsilon) * weight + bias          weight, bias, running_mean, running_var [c]
//! ```
//!
//! While training, mean and variance are those of the batch (over all axes but the channel's; the variance is divided by
//! the count), and the running ones follow: `running = (1 - momentum) * running + momentum * batch`, where the batch's
//! variance is the unbiased one. Otherwise they are the running ones. This is PyTorch's definition, momentum included.

use serde::{Deserialize, Serialize};

use super::layer_norm::check_epsilon;
use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;

/// A batch normalisation's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance; above 0.
    pub epsilon: f64,
    /// How fast the running statistics follow, in `[0, 1]`.
    pub momentum: f64,
}

impl Default for BatchNorm {
    /// PyTorch's: epsilon 1e-5, momentum 0.1.
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

impl BatchNorm {
    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let op = "BatchNorm";
        check_epsilon(op, self.epsilon)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(config(op, "momentum", format!("must be between 0 and 1, is {}", self.momentum)));
        }
        let [_, Dim::Fixed(channels), ..] = x.shape[..] else { return Err(wants(op, "[n, c, ...]", x)) };
        for (role, shape) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(params) {
            if *shape != [channels] {
                let expected = format!("[{channels}]");
                return Err(OpError::Param { op, role, expected, actual: shape.to_vec() });
            }
        }
        Ok(x.clone())
    }
}
