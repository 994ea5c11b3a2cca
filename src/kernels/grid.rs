//! Where a sliding window lies: the geometry that convolution and pooling share.

use candle_core::{Error, Result};

use crate::graph::op::Window;

/// The shape of images `[n, c, h, w]`, or of sequences `[n, c, l]` as images of height 1.
pub(super) fn planar(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, h, w] => Some([n, c, h, w]),
        [n, c, l] => Some([n, c, 1, l]),
        _ => None,
    }
}

/// The shape of images, or that of the sequences that they are.
pub(super) fn unplanar(shape: [usize; 4], is_flat: bool) -> Vec<usize> {
    let [n, c, h, w] = shape;
    if is_flat { vec![n, c, w] } else { vec![n, c, h, w] }
}

/// A window's places over an image. Two numbers are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// The window.
    pub(super) window: Window,
    /// Size of the image.
    pub(super) image: [usize; 2],
    /// How many places the window has.
    pub(super) places: [usize; 2],
}

impl Grid {
    /// The places of `window` over images of size `image`.
    pub(super) fn new(op: &'static str, window: Window, image: [usize; 2]) -> Result<Self> {
        let places = window.output(op, image).map_err(|e| Error::Msg(e.to_string()))?;
        Ok(Self { window, image, places })
    }

    /// Pixels of the image.
    pub(super) fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Places of the window.
    pub(super) fn outputs(&self) -> usize {
        self.places[0] * self.places[1]
    }

    /// The pixel under `tap` of the window at `place`, along one axis; `None` in the padding.
    pub(super) fn pixel(&self, axis: usize, place: usize, tap: usize) -> Option<usize> {
        let from_padded_edge = place * self.window.stride[axis] + tap * self.window.dilation[axis];
        let pixel = from_padded_edge.checked_sub(self.window.padding[axis])?;
        (pixel < self.image[axis]).then_some(pixel)
    }

    /// The pixels under the window at `place`, along one axis, padding left out.
    fn under(&self, axis: usize, place: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.window.kernel[axis]).filter_map(move |tap| self.pixel(axis, place, tap))
    }

    /// The index in the image (row-major) of every pixel under the window at `place`, padding left out.
    pub(super) fn window_pixels(&self, place: [usize; 2]) -> impl Iterator<Item = usize> + '_ {
        self.under(0, place[0]).flat_map(move |y| self.under(1, place[1]).map(move |x| y * self.image[1] + x))
    }

    /// All places, row by row.
    pub(super) fn all_places(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [rows, columns] = self.places;
        (0..rows).flat_map(move |y| (0..columns).map(move |x| [y, x]))
    }
}

#[cfg(test)]
pub(super) mod strategy {
    //! Random windows for the kernels' property tests.

    use proptest::prelude::*;

    use super::*;

    /// A window and an image that it fits over, both small and odd: sizes, strides, dilations and paddings differ on all
    /// sides.
    pub fn grids() -> impl Strategy<Value = Grid> {
        let pair = |range: std::ops::Range<usize>| [range.clone(), range];
        (pair(1..4), pair(1..4), pair(1..3), [0usize..3, 0usize..3, 0usize..3, 0usize..3], pair(1..9)).prop_filter_map(
            "the window does not fit",
            |(kernel, stride, dilation, mut padding, image)| {
                for side in 0..4 {
                    // The graph allows only padding smaller than the kernel.
                    padding[side] = padding[side].min(kernel[side % 2] - 1);
                }
                Grid::new("test", Window { kernel, stride, padding, dilation }, image).ok()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_padding_is_no_pixel() {
        let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 1, 1, 0], dilation: [1, 2] };
        let grid = Grid::new("test", window, [3, 3]).unwrap();
        assert_eq!(grid.places, [2, 2]);
        // Rows -1, 0, 1 and columns -1, 1 of a 3 x 3 image.
        assert_eq!(grid.window_pixels([0, 0]).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(grid.window_pixels([1, 1]).collect::<Vec<_>>(), [3, 5, 6, 8]);
    }
}
