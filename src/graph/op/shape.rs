//! What moves elements around: padding, slicing and joining axes; and `Add`, which wants two equal shapes.
//!
//! The shortcut of a CIFAR ResNet without weights (He et al. 2015, option A) is two slices with step 2, over height and
//! width, and a padding of the channels.

use super::{Dim, OpError, shape_text};

/// Zeros before and after one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pad {
    /// The axis; the batch is axis 0 and cannot be padded.
    pub axis: usize,
    /// Zeros before the first element.
    pub before: usize,
    /// Zeros after the last.
    pub after: usize,
}

/// The places `start, start + step, ...` below `end` of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The axis; the batch is axis 0 and cannot be sliced.
    pub axis: usize,
    /// The first place.
    pub start: usize,
    /// The place after the last; at most the axis's size.
    pub end: usize,
    /// From one place to the next; above 0.
    pub step: usize,
}

impl Pad {
    pub(super) fn infer(&self, input: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let size = axis("Pad", input, self.axis)?;
        let padded = size.checked_add(self.before).and_then(|n| n.checked_add(self.after));
        let padded = padded.ok_or_else(|| OpError::Config {
            op: "Pad",
            field: "after",
            problem: format!("{} with {} before is too much", self.after, self.before),
        })?;
        Ok(with_axis(input, self.axis, padded))
    }
}

impl Slice {
    pub(super) fn infer(&self, input: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let size = axis("Slice", input, self.axis)?;
        let bad = |field, problem: String| Err(OpError::Config { op: "Slice", field, problem });
        if self.step == 0 {
            return bad("step", "must be above 0".into());
        }
        if self.end > size {
            return bad("end", format!("is {}, axis {} has {size} places", self.end, self.axis));
        }
        if self.start >= self.end {
            return bad("start", format!("is {}, which is not below the end, {}", self.start, self.end));
        }
        Ok(with_axis(input, self.axis, (self.end - self.start).div_ceil(self.step)))
    }
}

/// The size of an axis other than the batch.
fn axis(op: &'static str, input: &[Dim], axis: usize) -> Result<usize, OpError> {
    match input.get(axis) {
        Some(Dim::Fixed(size)) => Ok(*size),
        _ => {
            let problem = format!("must be an axis after the batch of {}, is {axis}", shape_text(input));
            Err(OpError::Config { op, field: "axis", problem })
        }
    }
}

fn with_axis(input: &[Dim], axis: usize, size: usize) -> Vec<Dim> {
    let mut output = input.to_vec();
    output[axis] = Dim::Fixed(size);
    output
}

pub(super) fn add(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
    if a != b {
        let expected = format!("{} beside it", shape_text(a));
        return Err(OpError::Input { op: "Add", expected, actual: shape_text(b) });
    }
    Ok(a.to_vec())
}

pub(super) fn flatten(input: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let wrong = || OpError::Input {
        op: "Flatten",
        expected: "[batch, ...] with fewer than 2^63 elements".into(),
        actual: shape_text(input),
    };
    let [Dim::Batch, rest @ ..] = input else { return Err(wrong()) };
    let mut product = 1usize;
    for dim in rest {
        let Dim::Fixed(n) = dim else { return Err(wrong()) };
        product = product.checked_mul(*n).ok_or_else(wrong)?;
    }
    Ok(vec![Dim::Batch, Dim::Fixed(product)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The formula against walking over the places.
        #[test]
        fn a_slice_has_as_many_places_as_are_walked_over(size in 1usize..20, start in 0usize..20, end in 0usize..22, step in 0usize..5) {
            let slice = Slice { axis: 1, start, end, step };
            let input = [Dim::Batch, Dim::Fixed(size)];
            match slice.infer(&input) {
                Ok(output) => {
                    prop_assert_eq!(&output[1], &Dim::Fixed((start..end).step_by(step).count()));
                    prop_assert!(end <= size && start < end);
                }
                Err(_) => prop_assert!(step == 0 || end > size || start >= end),
            }
        }
    }

    #[test]
    fn the_batch_is_neither_padded_nor_sliced() {
        let input = [Dim::Batch, Dim::Fixed(4)];
        assert!(Pad { axis: 0, before: 1, after: 0 }.infer(&input).is_err());
        assert!(Pad { axis: 2, before: 1, after: 0 }.infer(&input).is_err());
        assert!(Slice { axis: 0, start: 0, end: 1, step: 1 }.infer(&input).is_err());
        assert!(Pad { axis: 1, before: usize::MAX, after: 0 }.infer(&input).is_err());
    }
}
