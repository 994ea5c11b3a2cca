//! Pooling: one number for each window of each channel.

use serde::{Deserialize, Serialize};

use super::conv::{linear_shape, planar_value};
use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;

/// The window that a convolution or pooling slides over the image. Two numbers are `[height, width]`; padding is
/// `[top, left, bottom, right]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Size.
    pub kernel: [usize; 2],
    /// Pixels from one place to the next.
    pub stride: [usize; 2],
    /// Pixels added around the image.
    pub padding: [usize; 4],
    /// Pixels from one tap of the window to the next.
    pub dilation: [usize; 2],
}

/// The window over a sequence; padding is `[before, after]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window1d {
    /// Size.
    pub kernel: usize,
    /// Steps from one place to the next.
    pub stride: usize,
    /// Steps added before and after the sequence.
    pub padding: [usize; 2],
    /// Steps from one tap of the window to the next.
    pub dilation: usize,
}

/// No axis of a window may be larger than this; far beyond any real network, and safe from overflow.
const MAX_EXTENT: usize = 1 << 20;

impl Window {
    /// A square window with no padding that moves by its own size, as pooling layers mostly have it.
    pub fn tiles(size: usize) -> Self {
        Self { kernel: [size; 2], stride: [size; 2], padding: [0; 4], dilation: [1; 2] }
    }

    /// A square window that moves by one pixel, with the same padding on all sides.
    pub fn sliding(size: usize, padding: usize) -> Self {
        Self { kernel: [size; 2], stride: [1; 2], padding: [padding; 4], dilation: [1; 2] }
    }

    /// Whether every place sees the one pixel at its own place.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0; 4]
    }

    /// Pixels that the taps span along `axis`, for a window that was checked.
    pub(super) fn reach(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Refuses numbers that no window has, and those so large that sizes would overflow.
    pub(super) fn check(&self, op: &'static str) -> Result<(), OpError> {
        for (field, values) in [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if values.iter().any(|&v| v == 0 || v > MAX_EXTENT) {
                return Err(config(op, field, format!("must be between 1 and {MAX_EXTENT}, is {values:?}")));
            }
        }
        if self.padding.iter().any(|&p| p > MAX_EXTENT) {
            return Err(config(op, "padding", format!("must be at most {MAX_EXTENT}, is {:?}", self.padding)));
        }
        Ok(())
    }

    /// Height and width of the output for an image of height and width `image`: `floor((image + padding - dilation *
    /// (kernel - 1) - 1) / stride) + 1` an axis.
    pub fn output(&self, op: &'static str, image: [usize; 2]) -> Result<[usize; 2], OpError> {
        self.check(op)?;
        let mut output = [0; 2];
        for axis in 0..2 {
            let reach = self.reach(axis);
            let padded = image[axis].saturating_add(self.padding[axis] + self.padding[axis + 2]);
            if image[axis] == 0 || padded < reach {
                let problem = format!("reaches over {reach} pixels, the padded image has {padded}");
                return Err(config(op, "kernel", problem));
            }
            output[axis] = (padded - reach) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    /// As [`Window::output`]; an axis may be open if the window moves along it by one.
    pub(super) fn places(&self, op: &'static str, image: [Dim; 2]) -> Result<[Dim; 2], OpError> {
        // An open axis is as long as it must be here; what it becomes follows from the difference.
        let fixed = [0, 1].map(|axis| image[axis].fixed().unwrap_or(self.kernel[axis].saturating_mul(MAX_EXTENT)));
        let output = self.output(op, fixed)?;
        let mut places = output.map(Dim::Fixed);
        for axis in (0..2).filter(|axis| image[*axis].fixed().is_none()) {
            let moved = image[axis].plus(Dim::Fixed(output[axis])).and_then(|d| d.minus(Dim::Fixed(fixed[axis])));
            let moved = moved.filter(|_| self.stride[axis] == 1);
            places[axis] = moved
                .ok_or_else(|| config(op, "stride", format!("must be 1 along an axis of {} places", image[axis])))?;
        }
        Ok(places)
    }

    pub(super) fn infer(&self, op: &'static str, x: &ValueType) -> Result<ValueType, OpError> {
        let [n, c, h, w] = x.shape[..] else { return Err(wants(op, "[n, c, h, w]", x)) };
        let places = self.places(op, [h, w])?;
        for (axis, size) in [h, w].into_iter().enumerate() {
            // A window that saw no pixel would have no largest value and no mean. Less padding than the window reaches
            // over makes every window reach the image, and an image no smaller than the gaps catches one of its taps.
            if self.padding[axis].max(self.padding[axis + 2]) >= self.reach(axis) {
                let problem = format!("{:?} must be smaller than the window {:?}", self.padding, self.kernel);
                return Err(config(op, "padding", problem));
            }
            let pixels = size.fixed().unwrap_or(MAX_EXTENT);
            if self.kernel[axis] > 1 && pixels < self.dilation[axis] {
                let problem = format!("{:?} leaps over the image of {pixels} pixels", self.dilation);
                return Err(config(op, "dilation", problem));
            }
        }
        Ok(x.with(vec![n, c, places[0], places[1]]))
    }
}

impl Window1d {
    /// The window over images of height 1 that this is.
    pub fn planar(&self) -> Window {
        let [before, after] = self.padding;
        Window {
            kernel: [1, self.kernel],
            stride: [1, self.stride],
            padding: [0, before, 0, after],
            dilation: [1, self.dilation],
        }
    }

    pub(super) fn infer(&self, op: &'static str, x: &ValueType) -> Result<ValueType, OpError> {
        linear_shape(self.planar().infer(op, &planar_value(op, x)?)?)
    }
}

/// One number a channel: `[n, c, h, w]` becomes `[n, c, 1, 1]`, and likewise for any number of places.
pub(super) fn global(op: &'static str, x: &ValueType) -> Result<ValueType, OpError> {
    match &x.shape[..] {
        [n, c, places @ ..] if !places.is_empty() && !places.contains(&Dim::Fixed(0)) => {
            Ok(x.with([*n, *c].into_iter().chain(places.iter().map(|_| Dim::Fixed(1))).collect()))
        }
        _ => Err(wants(op, "[n, c, h, w] with pixels", x)),
    }
}

/// The largest value of each window; padding never wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxPool2d {
    /// The window.
    pub window: Window,
}

/// The mean of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvgPool2d {
    /// The window.
    #[serde(flatten)]
    pub window: Window,
    /// Whether padding counts as zeros (PyTorch's default) or is left out of the mean.
    pub count_padding: bool,
    /// Pixels of the padding at the bottom and right by which the last window hangs over; they never count. That is what
    /// is left of other frameworks' `ceil_mode`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overhang: [usize; 2],
}

/// The largest value of each window of a sequence `[n, c, l]`; padding never wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxPool1d {
    /// The window.
    pub window: Window1d,
}

/// The mean of each window of a sequence `[n, c, l]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvgPool1d {
    /// The window.
    #[serde(flatten)]
    pub window: Window1d,
    /// Whether padding counts as zeros (PyTorch's default) or is left out of the mean.
    pub count_padding: bool,
    /// As in [`AvgPool2d`], at the end.
    #[serde(default, skip_serializing_if = "is_none")]
    pub overhang: usize,
}

fn is_zero(overhang: &[usize; 2]) -> bool {
    *overhang == [0; 2]
}

fn is_none(overhang: &usize) -> bool {
    *overhang == 0
}

impl AvgPool2d {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        let fits = (0..2).all(|axis| self.overhang[axis] <= self.window.padding[axis + 2]);
        if !fits {
            let problem = format!("{:?} must be part of the padding {:?}", self.overhang, self.window.padding);
            return Err(config("AvgPool2d", "overhang", problem));
        }
        self.window.infer("AvgPool2d", x)
    }
}

impl AvgPool1d {
    /// The pooling of images of height 1 that this is.
    pub fn planar(&self) -> AvgPool2d {
        let (window, overhang) = (self.window.planar(), [0, self.overhang]);
        AvgPool2d { window, count_padding: self.count_padding, overhang }
    }

    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        linear_shape(self.planar().infer(&planar_value("AvgPool1d", x)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use proptest::prelude::*;

    proptest! {
        /// The formula against sliding the window by hand.
        #[test]
        fn the_output_is_as_large_as_there_are_places_for_the_window(
            kernel in 1usize..6, stride in 1usize..4, before in 0usize..3, after in 0usize..3, dilation in 1usize..4,
            image in 1usize..20,
        ) {
            let window = Window {
                kernel: [kernel, 1],
                stride: [stride, 1],
                padding: [before, 0, after, 0],
                dilation: [dilation, 1],
            };
            let reach = dilation * (kernel - 1) + 1;
            let places = (0..image + before + after).step_by(stride).filter(|s| s + reach <= image + before + after);
            match places.count() {
                0 => prop_assert!(window.output("MaxPool2d", [image, 1]).is_err()),
                n => prop_assert_eq!(window.output("MaxPool2d", [image, 1]).unwrap(), [n, 1]),
            }
        }
    }

    proptest! {
        #[test]
        fn every_window_of_a_pooling_that_is_accepted_sees_a_pixel(
            kernel in 1usize..5, stride in 1usize..4, before in 0usize..5, after in 0usize..5, dilation in 1usize..5,
            image in 1usize..8,
        ) {
            let window = Window {
                kernel: [kernel, 1],
                stride: [stride, 1],
                padding: [before, 0, after, 0],
                dilation: [dilation, 1],
            };
            let input = ValueType::new(DType::F32, vec![Dim::Batch, 1.into(), image.into(), 1.into()]);
            let Ok(output) = window.infer("MaxPool2d", &input) else { return Ok(()) };
            let Dim::Fixed(places) = output.shape[2] else { unreachable!() };
            for place in 0..places {
                let mut taps = (0..kernel).map(|k| place * stride + k * dilation);
                prop_assert!(taps.any(|tap| (before..before + image).contains(&tap)));
            }
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_without_overflow() {
        let sound = Window::tiles(2);
        for window in [
            Window { stride: [0, 1], ..sound },
            Window { kernel: [0, 0], ..sound },
            Window { dilation: [usize::MAX, 1], ..sound },
            Window { padding: [usize::MAX; 4], ..sound },
        ] {
            assert!(matches!(window.output("MaxPool2d", [8, 8]), Err(OpError::Config { .. })));
        }
    }
}
