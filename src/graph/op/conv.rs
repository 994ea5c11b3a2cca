//! `Conv2d`: cross-correlation, as every framework means by convolution. `W [out, in / groups, kh, kw]`, `b [out]`.

use super::linear::check_bias;
use super::{Dim, OpError, Window, shape_text};

/// A convolution's configuration; the kernel's size is that of the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    pub(super) fn infer(&self, input: &[Dim], params: &[&[usize]]) -> Result<Vec<Dim>, OpError> {
        let op = "Conv2d";
        let &[Dim::Batch, Dim::Fixed(channels), Dim::Fixed(h), Dim::Fixed(w)] = input else {
            return Err(OpError::Input { op, expected: "[N, c, h, w]".into(), actual: shape_text(input) });
        };
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            let problem = format!("must divide the {channels} input channels, is {}", self.groups);
            return Err(OpError::Config { op, field: "groups", problem });
        }
        let per_group = channels / self.groups;
        let (out, kernel) = match *params[0] {
            [out, inner, kh, kw] if inner == per_group && out > 0 && out.is_multiple_of(self.groups) => (out, [kh, kw]),
            _ => {
                let expected = format!("[out (a multiple of {}), {per_group}, kh, kw]", self.groups);
                return Err(OpError::Param { op, role: "weight", expected, actual: params[0].to_vec() });
            }
        };
        check_bias(op, params.get(1).copied(), out)?;
        let [oh, ow] = self.window(kernel).output(op, [h, w])?;
        Ok(vec![Dim::Batch, Dim::Fixed(out), Dim::Fixed(oh), Dim::Fixed(ow)])
    }
}
