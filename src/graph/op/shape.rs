//! What gives the same numbers another shape, or repeats them: reshaping, permuting, expanding, tiling.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::graph::dim::{Dim, shape_text};

/// The same numbers, in row-major order, under another shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// The new shape; it has as many elements as the old one.
    pub shape: Vec<Dim>,
}

/// The axes in another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// Which axis of the input each axis of the output is.
    pub axes: Vec<usize>,
}

/// Axes of size 1, and missing ones in front, become as large as `shape` says, by repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// The new shape.
    pub shape: Vec<Dim>,
}

/// Each axis is repeated as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// How often each axis is there.
    pub repeats: Vec<Dim>,
}

/// Blocks of channels become blocks of pixels: `[n, c * block^2, h, w]` becomes `[n, c, h * block, w * block]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthToSpace {
    /// The side of a block.
    pub block: usize,
    /// Whether the channel is the slowest of the three axes that the old channels are split to (`CRD`, PyTorch's
    /// `PixelShuffle`) or the fastest (`DCR`).
    pub channel_first: bool,
}

/// Blocks of pixels become channels: the inverse of [`DepthToSpace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceToDepth {
    /// The side of a block.
    pub block: usize,
    /// As in [`DepthToSpace`].
    pub channel_first: bool,
}

impl Reshape {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let (old, new) = (Dim::product(&x.shape), Dim::product(&self.shape));
        // A product with a square of an open size has no form here; such shapes are compared when they are known.
        if (old.is_some() || new.is_some()) && old != new {
            let expected = format!("as many elements as {}", shape_text(&self.shape));
            return Err(wants("Reshape", expected, x));
        }
        Ok(x.with(self.shape.clone()))
    }
}

impl Transpose {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.shape.len()) {
            return Err(config(
                "Transpose",
                "axes",
                format!("must be 0 to {} in some order, are {:?}", x.shape.len(), self.axes),
            ));
        }
        Ok(x.with(self.axes.iter().map(|axis| x.shape[*axis]).collect()))
    }
}

impl Expand {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let lacking = self.shape.len().checked_sub(x.shape.len());
        let fits = lacking.is_some_and(|lacking| {
            x.shape.iter().zip(&self.shape[lacking..]).all(|(old, new)| old == new || *old == Dim::Fixed(1))
        });
        if !fits {
            let expected = format!("that expands to {}", shape_text(&self.shape));
            return Err(wants("Expand", expected, x));
        }
        Ok(x.with(self.shape.clone()))
    }
}

impl Tile {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        if self.repeats.len() != x.shape.len() {
            let problem = format!("must be {} numbers, are {}", x.shape.len(), self.repeats.len());
            return Err(config("Tile", "repeats", problem));
        }
        let shape: Option<Vec<Dim>> = x.shape.iter().zip(&self.repeats).map(|(d, n)| d.times(*n)).collect();
        let shape = shape.ok_or_else(|| {
            config("Tile", "repeats", format!("{} of {} is too much", shape_text(&self.repeats), shape_text(&x.shape)))
        })?;
        Ok(x.with(shape))
    }
}

impl DepthToSpace {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let [n, c, h, w] = x.shape[..] else { return Err(wants("DepthToSpace", "[n, c, h, w]", x)) };
        let block = block("DepthToSpace", self.block)?;
        let channels = block.times(block).and_then(|places| c.divided_by(places));
        let (Some(c), Some(h), Some(w)) = (channels, h.times(block), w.times(block)) else {
            return Err(wants("DepthToSpace", format!("[n, a multiple of {block}^2, h, w]"), x));
        };
        Ok(x.with(vec![n, c, h, w]))
    }
}

impl SpaceToDepth {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let [n, c, h, w] = x.shape[..] else { return Err(wants("SpaceToDepth", "[n, c, h, w]", x)) };
        let block = block("SpaceToDepth", self.block)?;
        let channels = block.times(block).and_then(|places| c.times(places));
        let (Some(c), Some(h), Some(w)) = (channels, h.divided_by(block), w.divided_by(block)) else {
            return Err(wants("SpaceToDepth", format!("[n, c, two multiples of {block}]"), x));
        };
        Ok(x.with(vec![n, c, h, w]))
    }
}

fn block(op: &'static str, block: usize) -> Result<Dim, OpError> {
    match block {
        1..=1024 => Ok(Dim::Fixed(block)),
        _ => Err(config(op, "block", format!("must be between 1 and 1024, is {block}"))),
    }
}

/// Joins all axes after the first: `[n, c, h, w]` becomes `[n, c * h * w]`.
pub(super) fn flatten(x: &ValueType) -> Result<ValueType, OpError> {
    let [first, rest @ ..] = &x.shape[..] else { return Err(wants("Flatten", "[n, ...]", x)) };
    let rest = Dim::product(rest).ok_or_else(|| wants("Flatten", "[n, ...] with fewer than 2^63 elements", x))?;
    Ok(x.with(vec![*first, rest]))
}
