//! Pooling: one number for each window of each channel.

use super::{Dim, OpError, shape_text};

/// The window that a convolution or pooling slides over the image. Two numbers are `[height, width]`; padding is
/// `[top, left, bottom, right]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Height and width of the output for an image of height and width `image`: `floor((image + padding - dilation *
    /// (kernel - 1) - 1) / stride) + 1` an axis.
    pub fn output(&self, op: &'static str, image: [usize; 2]) -> Result<[usize; 2], OpError> {
        let bad = |field, problem: String| Err(OpError::Config { op, field, problem });
        for (field, values) in [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if values.iter().any(|&v| v == 0 || v > MAX_EXTENT) {
                return bad(field, format!("must be between 1 and {MAX_EXTENT}, is {values:?}"));
            }
        }
        if self.padding.iter().any(|&p| p > MAX_EXTENT) {
            return bad("padding", format!("must be at most {MAX_EXTENT}, is {:?}", self.padding));
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let reach = self.dilation[axis].saturating_mul(self.kernel[axis] - 1).saturating_add(1);
            let padded = image[axis].saturating_add(self.padding[axis] + self.padding[axis + 2]);
            if image[axis] == 0 || padded < reach {
                let problem = format!("reaches over {reach} pixels, the padded image has {padded}");
                return bad("kernel", problem);
            }
            output[axis] = (padded - reach) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    pub(super) fn infer(&self, op: &'static str, input: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let &[Dim::Batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] = input else {
            return Err(OpError::Input { op, expected: "[N, c, h, w]".into(), actual: shape_text(input) });
        };
        for (axis, pixels) in [h, w].into_iter().enumerate() {
            // A window that saw no pixel would have no largest value and no mean. Less padding than the kernel is wide
            // makes every window reach the image, and an image no smaller than the gaps catches one of its taps.
            if self.padding[axis].max(self.padding[axis + 2]) >= self.kernel[axis].max(1) {
                let problem = format!("{:?} must be smaller than the kernel {:?}", self.padding, self.kernel);
                return Err(OpError::Config { op, field: "padding", problem });
            }
            if self.kernel[axis] > 1 && pixels < self.dilation[axis] {
                let problem = format!("{:?} leaps over the image of {pixels} pixels", self.dilation);
                return Err(OpError::Config { op, field: "dilation", problem });
            }
        }
        let [oh, ow] = self.output(op, [h, w])?;
        Ok(vec![Dim::Batch, Dim::Fixed(c), Dim::Fixed(oh), Dim::Fixed(ow)])
    }
}

/// One number a channel: `[N, c, h, w]` becomes `[N, c, 1, 1]`.
pub(super) fn global(input: &[Dim]) -> Result<Vec<Dim>, OpError> {
    match input {
        &[Dim::Batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] if h > 0 && w > 0 => {
            Ok(vec![Dim::Batch, Dim::Fixed(c), Dim::Fixed(1), Dim::Fixed(1)])
        }
        _ => {
            let expected = "[N, c, h, w] with pixels".into();
            Err(OpError::Input { op: "GlobalAvgPool", expected, actual: shape_text(input) })
        }
    }
}

/// The largest value of each window; padding never wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// The window.
    pub window: Window,
}

/// The mean of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// The window.
    pub window: Window,
    /// Whether padding counts as zeros (PyTorch's default) or is left out of the mean.
    pub count_padding: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let input = [Dim::Batch, Dim::Fixed(1), Dim::Fixed(image), Dim::Fixed(1)];
            let Ok(output) = window.infer("MaxPool2d", &input) else { return Ok(()) };
            let Dim::Fixed(places) = output[2] else { unreachable!() };
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
