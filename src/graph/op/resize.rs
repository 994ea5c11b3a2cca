//! `ResizeNearest`: an image of another size, each pixel from the nearest of the old one.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config};
use crate::graph::dim::{Dim, shape_text};

/// Each element of the result is the one of the input that is nearest to its place. ONNX's `Resize` of mode `nearest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeNearest {
    /// The new shape.
    pub shape: Vec<Dim>,
    /// Old places by new ones, one number an axis: `place = (new + 1/2) / scale - 1/2`, and the like.
    pub scales: Vec<f64>,
    /// Which place of the old image a place of the new one lies at.
    pub place: Place,
    /// What is nearest.
    pub rounding: Rounding,
}

/// Where `new` of `to` places lies among `from` places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// `(new + 1/2) / scale - 1/2`.
    HalfPixel,
    /// The same, around the centre of the image where the scale is not exact.
    HalfPixelSymmetric,
    /// As half pixels, but one new place lies at 0.
    PytorchHalfPixel,
    /// `new (from - 1) / (to - 1)`.
    AlignCorners,
    /// `new / scale`.
    Asymmetric,
}

/// How a place between two pixels is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest, half down.
    HalfDown,
    /// To the nearest, half up.
    HalfUp,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

impl ResizeNearest {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let (axes, op) = (x.shape.len(), "ResizeNearest");
        if self.shape.len() != axes || self.scales.len() != axes {
            let problem = format!("must have {axes} axes, is {}", shape_text(&self.shape));
            return Err(config(op, "shape", problem));
        }
        for (axis, (old, new)) in x.shape.iter().zip(&self.shape).enumerate() {
            if old != new && (old.fixed().is_none_or(|n| n == 0) || new.fixed().is_none()) {
                return Err(config(op, "shape", format!("axis {axis} of {x} cannot become {new} places")));
            }
            if !(self.scales[axis] > 0.0 && self.scales[axis].is_finite()) {
                return Err(config(op, "scales", format!("must be above 0, are {:?}", self.scales)));
            }
        }
        Ok(x.with(self.shape.clone()))
    }

    /// The old place of the new place `new` along `axis`, for these numbers of places.
    pub fn source(&self, axis: usize, new: usize, from: usize, to: usize) -> usize {
        let (scale, at) = (self.scales[axis], new as f64);
        let place = match self.place {
            Place::HalfPixel => (at + 0.5) / scale - 0.5,
            Place::HalfPixelSymmetric => {
                let adjusted = to as f64 / (scale * from as f64);
                let offset = from as f64 / 2.0 * (1.0 - adjusted);
                offset + (at + 0.5) / scale - 0.5
            }
            Place::PytorchHalfPixel if to == 1 => 0.0,
            Place::PytorchHalfPixel => (at + 0.5) / scale - 0.5,
            Place::AlignCorners if to == 1 => 0.0,
            Place::AlignCorners => at * (from as f64 - 1.0) / (to as f64 - 1.0),
            Place::Asymmetric => at / scale,
        };
        let place = match self.rounding {
            Rounding::HalfDown => (place - 0.5).ceil(),
            Rounding::HalfUp => (place + 0.5).floor(),
            Rounding::Floor => place.floor(),
            Rounding::Ceil => place.ceil(),
        };
        place.clamp(0.0, from.saturating_sub(1) as f64) as usize
    }
}
