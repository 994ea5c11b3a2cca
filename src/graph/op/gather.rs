//! What looks things up: embeddings, and elements by their places.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;
use crate::tensor::DType;

/// The slices of an axis at some places: `x [a.., size, b..]` and places `[i..]` give `[a.., i.., b..]`. A place below 0
/// counts from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
}

/// The one slice of an axis at a place; the axis goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The axis.
    pub axis: usize,
    /// The place; below 0 it counts from the end.
    pub index: i64,
}

/// For each place of the second input, the element of the first that has that number along the axis and the place's other
/// coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

/// The slices at coordinates, which are the last axis of the second input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherNd {
    /// Leading axes that both have in common.
    pub batch_axes: usize,
}

/// Rows of the table: `W [rows, width]`, places `[i..]` give `[i.., width]`.
pub(super) fn embedding(places: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
    check_places("Embedding", places)?;
    let [rows, width] = *params[0] else {
        let expected = "[rows, width]".into();
        return Err(OpError::Param { op: "Embedding", role: "weight", expected, actual: params[0].to_vec() });
    };
    if rows == 0 {
        let expected = "[rows (one or more), width]".into();
        return Err(OpError::Param { op: "Embedding", role: "weight", expected, actual: params[0].to_vec() });
    }
    Ok(ValueType::new(DType::F32, places.shape.iter().copied().chain([Dim::Fixed(width)]).collect()))
}

impl Gather {
    pub(super) fn infer(&self, x: &ValueType, places: &ValueType) -> Result<ValueType, OpError> {
        check_places("Gather", places)?;
        x.axis("Gather", self.axis)?;
        let (before, after) = (&x.shape[..self.axis], &x.shape[self.axis + 1..]);
        Ok(x.with([before, &places.shape, after].concat()))
    }
}

impl Select {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        if let Dim::Fixed(size) = x.axis("Select", self.axis)? {
            let size = size as i64;
            if self.index < -size || self.index >= size {
                return Err(config(
                    "Select",
                    "index",
                    format!("is {}, axis {} has {size} places", self.index, self.axis),
                ));
            }
        }
        let mut shape = x.shape.clone();
        shape.remove(self.axis);
        Ok(x.with(shape))
    }
}

impl GatherElements {
    pub(super) fn infer(&self, x: &ValueType, places: &ValueType) -> Result<ValueType, OpError> {
        check_places("GatherElements", places)?;
        x.axis("GatherElements", self.axis)?;
        if places.shape.len() != x.shape.len() {
            return Err(wants("GatherElements", format!("as many axes of places as {x} has"), places));
        }
        Ok(x.with(places.shape.clone()))
    }
}

impl GatherNd {
    pub(super) fn infer(&self, x: &ValueType, places: &ValueType) -> Result<ValueType, OpError> {
        check_places("GatherNd", places)?;
        let misfit = || wants("GatherNd", format!("coordinates in {x}"), places);
        let Some((Dim::Fixed(coordinates), before)) = places.shape.split_last() else { return Err(misfit()) };
        let batch = self.batch_axes;
        let rest = coordinates.checked_add(batch).and_then(|taken| x.shape.get(taken..)).ok_or_else(misfit)?;
        if before.len() < batch || before[..batch] != x.shape[..batch] || *coordinates == 0 {
            return Err(misfit());
        }
        Ok(x.with([before, rest].concat()))
    }
}

fn check_places(op: &'static str, places: &ValueType) -> Result<(), OpError> {
    match places.dtype {
        DType::I64 | DType::I32 => Ok(()),
        _ => Err(wants(op, "places as whole numbers (I64 or I32)", places)),
    }
}
