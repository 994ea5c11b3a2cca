//! Convolution of images whose channels lie together, and its two gradients.
//!
//! ```text
//!   x [n, h, w, in]    W [out, in / groups, kh, kw]    b [out]    y [n, oh, ow, out]
//! ```

use crate::simd::Path;

/// Where a window lies over an image. Two numbers are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its size in taps.
    pub kernel: [usize; 2],
    /// Pixels from one place to the next.
    pub stride: [usize; 2],
    /// Zeros around the image, `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
}

/// The sizes of a convolution. Two numbers are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Size of an image that goes in.
    pub image: [usize; 2],
    /// Channels that go in.
    pub channels_in: usize,
    /// Channels that come out.
    pub channels_out: usize,
    /// Kernel, stride, padding and dilation.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Which instructions compute.
    pub path: Path,
}

/// What becomes of a sum before it is written: `activation(sum + bias + residual)`.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One number a channel that comes out.
    pub bias: Option<&'a [f32]>,
    /// An image of the output's size for each image.
    pub residual: Option<&'a [f32]>,
    /// Whether negative numbers become zero.
    pub relu: bool,
}

/// What becomes of the numbers that a gradient is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// They are added to.
    Added,
    /// They are dropped.
    Dropped,
}

impl Conv {
    /// Size of an image that comes out.
    pub fn places(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let Window { kernel, stride, padding, dilation } = self.window;
            let padded = self.image[axis] + padding[axis] + padding[axis + 2];
            (padded - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1
        })
    }

    /// Numbers that [`Conv::pack`] makes.
    pub fn packed_len(&self) -> usize {
        todo!()
    }

    /// Numbers that [`Conv::pack_transposed`] makes.
    pub fn packed_transposed_len(&self) -> usize {
        todo!()
    }

    /// Lays the weight `[out, in / groups, kh, kw]` out for [`Conv::forward`].
    pub fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        todo!()
    }

    /// Lays the weight out for [`Conv::input_gradient`].
    pub fn pack_transposed(&self, weight: &[f32], packed: &mut [f32]) {
        todo!()
    }

    /// The output `y`.
    pub fn forward(&self, x: &[f32], packed: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
        todo!()
    }

    /// The gradient at the input.
    pub fn input_gradient(&self, dy: &[f32], packed: &[f32], dx: &mut [f32], old: Old) {
        todo!()
    }

    /// Numbers that [`Conv::weight_gradient`] computes with beside its arguments.
    pub fn scratch_len(&self) -> usize {
        todo!()
    }

    /// The gradient at the weight, `[out, in / groups, kh, kw]`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        todo!()
    }
}
