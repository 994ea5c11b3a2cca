//! What works along one axis: padding, slicing, reversing, joining and splitting.
//!
//! The shortcut of a CIFAR ResNet without weights (He et al. 2015, option A) is two slices with step 2, over height and
//! width, and a padding of the channels.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::graph::dim::{Dim, shape_text};

/// Values before and after one axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// The axis.
    pub axis: usize,
    /// Values before the first.
    pub before: usize,
    /// Values after the last.
    pub after: usize,
    /// Which values.
    #[serde(default, skip_serializing_if = "Fill::is_zero")]
    pub fill: Fill,
}

/// What a padding is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// One number.
    Value(f64),
    /// The values mirrored at the border, which is not repeated.
    Reflect,
    /// The value at the border.
    Edge,
    /// The values from the other end.
    Wrap,
}

impl Default for Fill {
    fn default() -> Self {
        Fill::Value(0.0)
    }
}

impl Fill {
    fn is_zero(&self) -> bool {
        *self == Fill::default()
    }
}

/// The places `start, start + step, ...` below `end` of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// The first place.
    pub start: Dim,
    /// The place after the last; at most the axis's size.
    pub end: Dim,
    /// From one place to the next; above 0.
    pub step: usize,
}

/// The places of one axis, the last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// The axis.
    pub axis: usize,
}

/// Values side by side along one axis; all other axes are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

/// One value for each part of an axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The axis.
    pub axis: usize,
    /// The parts' sizes, which add up to the axis's.
    pub sizes: Vec<Dim>,
}

impl Pad {
    /// Zeros around an axis.
    pub fn zeros(axis: usize, before: usize, after: usize) -> Self {
        Self { axis, before, after, fill: Fill::default() }
    }

    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let size = x.axis("Pad", self.axis)?;
        let too_much = || config("Pad", "after", format!("{} with {} before is too much", self.after, self.before));
        let zeros = self.before.checked_add(self.after).filter(|n| *n < 1 << 40).ok_or_else(too_much)?;
        let reach = self.before.max(self.after);
        match (self.fill, size) {
            (Fill::Reflect, Dim::Fixed(n)) if reach > 0 && reach >= n => {
                return Err(config(
                    "Pad",
                    "before",
                    format!("a mirror of {n} places has no {reach} beyond the border"),
                ));
            }
            (Fill::Edge | Fill::Wrap, Dim::Fixed(0)) if reach > 0 => {
                return Err(config("Pad", "before", "an axis of no places has no value to repeat".into()));
            }
            _ => {}
        }
        Ok(x.with_axis(self.axis, size.plus(Dim::Fixed(zeros)).ok_or_else(too_much)?))
    }
}

impl Slice {
    /// The places `start, start + step, ...` below `end`.
    pub fn places(axis: usize, start: usize, end: usize, step: usize) -> Self {
        Self { axis, start: Dim::Fixed(start), end: Dim::Fixed(end), step }
    }

    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let size = x.axis("Slice", self.axis)?;
        let bad = |field, problem: String| Err(config("Slice", field, problem));
        if self.step == 0 {
            return bad("step", "must be above 0".into());
        }
        // What is open is compared when it is known.
        if size.minus(self.end).is_none() {
            return bad("end", format!("is {}, axis {} has {size} places", self.end, self.axis));
        }
        let Some(places) = self.end.minus(self.start) else {
            return bad("start", format!("is {}, which is above the end, {}", self.start, self.end));
        };
        let count = match places {
            Dim::Fixed(n) => Dim::Fixed(n.div_ceil(self.step)),
            open if self.step == 1 => open,
            open => open.divided_by(Dim::Fixed(self.step)).ok_or_else(|| {
                config("Slice", "step", format!("is {}, of {open} places: their number has no form", self.step))
            })?,
        };
        Ok(x.with_axis(self.axis, count))
    }
}

impl Reverse {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        x.axis("Reverse", self.axis)?;
        Ok(x.clone())
    }
}

impl Concat {
    pub(super) fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, OpError> {
        let Some((first, others)) = inputs.split_first() else {
            return Err(OpError::Arity { op: "Concat", what: "inputs", expected: "1 or more", actual: 0 });
        };
        let mut size = first.axis("Concat", self.axis)?;
        for x in others {
            let fits = x.dtype == first.dtype
                && x.shape.len() == first.shape.len()
                && x.shape.iter().zip(&first.shape).enumerate().all(|(i, (a, b))| i == self.axis || a == b);
            let sum = x.shape.get(self.axis).and_then(|n| size.plus(*n));
            let (true, Some(sum)) = (fits, sum) else {
                let expected = format!("{} but for axis {}", first, self.axis);
                return Err(wants("Concat", expected, x));
            };
            size = sum;
        }
        Ok(first.with_axis(self.axis, size))
    }
}

impl Split {
    pub(super) fn infer(&self, x: &ValueType) -> Result<Vec<ValueType>, OpError> {
        let size = x.axis("Split", self.axis)?;
        let sum = self.sizes.iter().try_fold(Dim::Fixed(0), |sum, size| sum.plus(*size));
        if self.sizes.is_empty() || sum != Some(size) {
            let problem =
                format!("must add up to the {size} places of axis {}, are {}", self.axis, shape_text(&self.sizes));
            return Err(config("Split", "sizes", problem));
        }
        Ok(self.sizes.iter().map(|size| x.with_axis(self.axis, *size)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use proptest::prelude::*;

    proptest! {
        /// The formula against walking over the places.
        #[test]
        fn a_slice_has_as_many_places_as_are_walked_over(size in 1usize..20, start in 0usize..20, end in 0usize..22, step in 0usize..5) {
            let slice = Slice { axis: 1, start: start.into(), end: end.into(), step };
            let input = ValueType::new(DType::F32, vec![Dim::Batch, size.into()]);
            match slice.infer(&input) {
                Ok(output) => {
                    prop_assert_eq!(output.shape[1], Dim::Fixed((start..end).step_by(step).count()));
                    prop_assert!(end <= size && start <= end);
                }
                Err(_) => prop_assert!(step == 0 || end > size || start > end),
            }
        }
    }

    #[test]
    fn an_axis_that_is_not_there_is_neither_padded_nor_sliced() {
        let input = ValueType::new(DType::F32, vec![Dim::Batch, 4.into()]);
        assert!(Pad { axis: 2, before: 1, after: 0, fill: Fill::default() }.infer(&input).is_err());
        assert!(Slice { axis: 2, start: 0.into(), end: 1.into(), step: 1 }.infer(&input).is_err());
        assert!(Pad { axis: 1, before: usize::MAX, after: 0, fill: Fill::default() }.infer(&input).is_err());
        assert!(Pad { axis: 1, before: 4, after: 0, fill: Fill::Reflect }.infer(&input).is_err());
    }

    #[test]
    fn a_part_of_an_open_sequence_is_open() {
        let x = ValueType::new(DType::F32, vec![Dim::Batch, Dim::SEQUENCE]);
        let but_the_last = Slice { axis: 1, start: 0.into(), end: "S-1".parse().unwrap(), step: 1 };
        assert_eq!(but_the_last.infer(&x).unwrap().to_string(), "F32[N, S-1]");
        let both = Split { axis: 1, sizes: vec![1.into(), "S-1".parse().unwrap()] };
        assert_eq!(both.infer(&x).unwrap().len(), 2);
    }
}
