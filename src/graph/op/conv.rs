//! Convolutions: cross-correlation, as every framework means by it, and its transpose.
//!
//! ```text
//! Conv2d             x [n, in, h, w]   W [out, in / groups, kh, kw]   b [out]
//! ConvTranspose2d    x [n, in, h, w]   W [in, out / groups, kh, kw]   b [out]
//! ```
//!
//! Those of one dimension are the ones of two over images of height 1.

use serde::{Deserialize, Serialize};

use super::linear::check_bias;
use super::{OpError, ValueType, Window, config, wants};
use crate::graph::dim::Dim;

/// A convolution's configuration; the kernel's size is that of the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Pixels from one place to the next, `[height, width]`.
    pub stride: [usize; 2],
    /// Zeros added around the image, `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Pixels from one tap to the next, `[height, width]`.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// A convolution of sequences, `x [n, in, l]`, `W [out, in / groups, k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1d {
    /// Steps from one place to the next.
    pub stride: usize,
    /// Zeros added before and after the sequence.
    pub padding: [usize; 2],
    /// Steps from one tap to the next.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// A transposed convolution's configuration: each pixel spreads the kernel over the result, which is what the gradient of
/// a convolution does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Pixels of the result from one place to the next, `[height, width]`.
    pub stride: [usize; 2],
    /// Pixels cut off around the result, `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Pixels from one tap to the next, `[height, width]`.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Pixels added at the bottom and the right of the result.
    pub output_padding: [usize; 2],
}

/// A transposed convolution of sequences, `x [n, in, l]`, `W [in, out / groups, k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose1d {
    /// Steps of the result from one place to the next.
    pub stride: usize,
    /// Steps cut off before and after the result.
    pub padding: [usize; 2],
    /// Steps from one tap to the next.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Steps added at the end of the result.
    pub output_padding: usize,
}

impl Default for Conv2d {
    /// Stride 1, no padding, no dilation, one group.
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 4], dilation: [1; 2], groups: 1 }
    }
}

impl Conv2d {
    /// The window for a weight with kernel size `kernel`.
    pub fn window(&self, kernel: [usize; 2]) -> Window {
        Window { kernel, stride: self.stride, padding: self.padding, dilation: self.dilation }
    }

    pub(super) fn infer(&self, op: &'static str, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let [n, Dim::Fixed(channels), h, w] = x.shape[..] else { return Err(wants(op, "[n, c, h, w]", x)) };
        let per_group = divided(op, channels, self.groups)?;
        let (out, kernel) = match *params[0] {
            [out, inner, kh, kw] if inner == per_group && out > 0 && out.is_multiple_of(self.groups) => (out, [kh, kw]),
            _ => {
                let expected = format!("[out (a multiple of {}), {per_group}, kh, kw]", self.groups);
                return Err(OpError::Param { op, role: "weight", expected, actual: params[0].to_vec() });
            }
        };
        check_bias(op, params.get(1).copied(), out)?;
        let [oh, ow] = self.window(kernel).places(op, [h, w])?;
        Ok(x.with(vec![n, Dim::Fixed(out), oh, ow]))
    }
}

impl Conv1d {
    /// The convolution over images of height 1 that this is.
    pub fn planar(&self) -> Conv2d {
        let [before, after] = self.padding;
        Conv2d {
            stride: [1, self.stride],
            padding: [0, before, 0, after],
            dilation: [1, self.dilation],
            groups: self.groups,
        }
    }

    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let op = "Conv1d";
        let params: Vec<Vec<usize>> = planar_params(op, params)?;
        let params: Vec<&[usize]> = params.iter().map(Vec::as_slice).collect();
        linear_shape(self.planar().infer(op, &planar_value(op, x)?, &params)?)
    }
}

impl ConvTranspose2d {
    /// Height and width of the result for a kernel and an image of these sizes.
    pub fn output(&self, op: &'static str, kernel: [usize; 2], image: [usize; 2]) -> Result<[usize; 2], OpError> {
        // The numbers are bounded there.
        let window = Window { kernel, stride: self.stride, padding: self.padding, dilation: self.dilation };
        window.check(op)?;
        let mut output = [0; 2];
        for axis in 0..2 {
            let more = self.output_padding[axis];
            if more >= self.stride[axis].max(self.dilation[axis]) {
                let problem = format!("must be below stride or dilation, is {:?}", self.output_padding);
                return Err(config(op, "output_padding", problem));
            }
            let spread = image[axis].checked_sub(1).and_then(|steps| steps.checked_mul(self.stride[axis]));
            let whole = spread.and_then(|spread| spread.checked_add(window.reach(axis) + more));
            let cut = self.padding[axis] + self.padding[axis + 2];
            output[axis] = whole.and_then(|whole| whole.checked_sub(cut)).filter(|n| *n > 0).ok_or_else(|| {
                config(op, "padding", format!("{:?} leaves nothing of an image of {image:?}", self.padding))
            })?;
        }
        Ok(output)
    }

    pub(super) fn infer(&self, op: &'static str, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let [n, Dim::Fixed(channels), Dim::Fixed(h), Dim::Fixed(w)] = x.shape[..] else {
            return Err(wants(op, "[n, c, h, w]", x));
        };
        divided(op, channels, self.groups)?;
        let (out, kernel) = match *params[0] {
            [inner, out, kh, kw] if inner == channels && out > 0 => (out.saturating_mul(self.groups), [kh, kw]),
            _ => {
                let expected = format!("[{channels}, out / groups, kh, kw]");
                return Err(OpError::Param { op, role: "weight", expected, actual: params[0].to_vec() });
            }
        };
        check_bias(op, params.get(1).copied(), out)?;
        let [oh, ow] = self.output(op, kernel, [h, w])?;
        Ok(x.with(vec![n, out.into(), oh.into(), ow.into()]))
    }
}

impl ConvTranspose1d {
    /// The transposed convolution over images of height 1 that this is.
    pub fn planar(&self) -> ConvTranspose2d {
        let [before, after] = self.padding;
        ConvTranspose2d {
            stride: [1, self.stride],
            padding: [0, before, 0, after],
            dilation: [1, self.dilation],
            groups: self.groups,
            output_padding: [0, self.output_padding],
        }
    }

    pub(super) fn infer(&self, x: &ValueType, params: &[&[usize]]) -> Result<ValueType, OpError> {
        let op = "ConvTranspose1d";
        let params: Vec<Vec<usize>> = planar_params(op, params)?;
        let params: Vec<&[usize]> = params.iter().map(Vec::as_slice).collect();
        linear_shape(self.planar().infer(op, &planar_value(op, x)?, &params)?)
    }
}

fn divided(op: &'static str, channels: usize, groups: usize) -> Result<usize, OpError> {
    if groups == 0 || channels == 0 || !channels.is_multiple_of(groups) {
        return Err(config(op, "groups", format!("must divide the {channels} input channels, is {groups}")));
    }
    Ok(channels / groups)
}

/// Sequences `[n, c, l]` as images of height 1.
pub(super) fn planar_value(op: &'static str, x: &ValueType) -> Result<ValueType, OpError> {
    let [n, c, l] = x.shape[..] else { return Err(wants(op, "[n, c, l]", x)) };
    Ok(x.with(vec![n, c, Dim::Fixed(1), l]))
}

/// Images of height 1 as sequences.
pub(super) fn linear_shape(mut y: ValueType) -> Result<ValueType, OpError> {
    y.shape.remove(2);
    Ok(y)
}

fn planar_params(op: &'static str, params: &[&[usize]]) -> Result<Vec<Vec<usize>>, OpError> {
    let [a, b, k] = *params[0] else {
        let expected = "three axes".into();
        return Err(OpError::Param { op, role: "weight", expected, actual: params[0].to_vec() });
    };
    Ok(std::iter::once(vec![a, b, 1, k]).chain(params[1..].iter().map(|p| p.to_vec())).collect())
}
