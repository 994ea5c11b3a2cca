//! `BatchNorm` (Ioffe and Szegedy 2015): each channel brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//! y = (x - mean) / sqrt(var + epsilon) * weight + bias          weight, bias, running_mean, running_var [c]
//! ```
//!
//! While training, mean and variance are those of the batch (over all axes but the channel's; the variance is divided by
//! the count), and the running ones follow: `running = (1 - momentum) * running + momentum * batch`, where the batch's
//! variance is the unbiased one. Otherwise they are the running ones. This is PyTorch's definition, momentum included.

use super::{Dim, OpError, shape_text};

/// A batch normalisation's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    pub(super) fn infer(&self, input: &[Dim], params: &[&[usize]]) -> Result<Vec<Dim>, OpError> {
        let op = "BatchNorm";
        // Written so that NaN is refused as well.
        let epsilon = self.epsilon as f32;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            let problem = format!("must be above 0 and finite as a 32-bit number, is {:e}", self.epsilon);
            return Err(OpError::Config { op, field: "epsilon", problem });
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            let problem = format!("must be between 0 and 1, is {}", self.momentum);
            return Err(OpError::Config { op, field: "momentum", problem });
        }
        let (&[Dim::Batch, Dim::Fixed(channels)] | &[Dim::Batch, Dim::Fixed(channels), _, _]) = input else {
            return Err(OpError::Input { op, expected: "[N, c] or [N, c, h, w]".into(), actual: shape_text(input) });
        };
        for (role, shape) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(params) {
            if *shape != [channels] {
                let expected = format!("[{channels}]");
                return Err(OpError::Param { op, role, expected, actual: shape.to_vec() });
            }
        }
        Ok(input.to_vec())
    }
}
