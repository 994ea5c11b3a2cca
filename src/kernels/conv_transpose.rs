//! The transposed convolution: each pixel spreads the kernel over the result. It is the gradient of a convolution from the
//! result's image to the argument's, and that convolution is its gradient.
//!
//! ```text
//!   x [n, i, h, w]    W [i, o / g, kh, kw]    b [o]    y [n, o, oh, ow]
//!
//!   y  = what conv(W) has as gradient at its input, for x at its output, + b
//!   dx = conv(W)(dy)      dW = what conv has as gradient at W, for the input dy and x at its output      db = sum dy
//! ```

use candle_core::{Error, Result};
use rayon::prelude::*;

use super::Kernel;
use super::conv2d::{PARTS, Problem, add_in_order, sum};
use super::grid::{Grid, planar, unplanar};
use super::weighted::{Weighted, with_bias, without_bias};
use crate::graph::op::{ConvTranspose2d, Window};

const OP: &str = "conv_transpose2d";

/// The transposed convolution of `x [n, c, h, w]` with `weight [c, o / groups, kh, kw]`; sequences `[n, c, l]` are images of
/// height 1.
pub fn conv_transpose2d(config: &ConvTranspose2d) -> Kernel {
    without_bias::<Transposed>(*config)
}

/// The same with a bias `[o]`.
pub fn conv_transpose2d_with_bias(config: &ConvTranspose2d) -> Kernel {
    with_bias::<Transposed>(*config)
}

/// The convolution that this is the transpose of.
struct Transposed(Problem);

impl Weighted for Transposed {
    const OP: &'static str = OP;
    type Config = ConvTranspose2d;

    fn new(config: &ConvTranspose2d, x: &[usize], weight: &[usize]) -> Result<Self> {
        let misfit =
            || Error::Msg(format!("{OP} of {x:?} with {weight:?} in {} groups: sizes do not fit", config.groups));
        let (Some([batch, channels, h, w]), Some([rows, out, kh, kw])) = (planar(x), planar(weight)) else {
            return Err(misfit());
        };
        let fits = rows == channels && config.groups > 0 && channels.is_multiple_of(config.groups);
        if !fits || [batch, channels, out].contains(&0) {
            return Err(misfit());
        }
        let image = config.output(OP, [kh, kw], [h, w]).map_err(|e| Error::Msg(e.to_string()))?;
        let window =
            Window { kernel: [kh, kw], stride: config.stride, padding: config.padding, dilation: config.dilation };
        // With much output padding the window would have more places than those of the argument.
        let grid = Grid { window, image, places: [h, w] };
        let groups = config.groups;
        Ok(Self(Problem { batch, groups, inner: out, outer: channels / groups, grid, is_flat: x.len() == 3 }))
    }

    fn output(&self) -> Vec<usize> {
        let [oh, ow] = self.0.grid.image;
        unplanar([self.0.batch, self.channels(), oh, ow], self.0.is_flat)
    }

    fn channels(&self) -> usize {
        self.0.groups * self.0.inner
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = self.0.input_gradient(weight, x);
        if let Some(bias) = bias {
            let (plane, channels) = (self.0.grid.pixels(), self.channels());
            y.par_chunks_exact_mut(plane).enumerate().for_each(|(number, y)| {
                let bias = bias[number % channels];
                y.iter_mut().for_each(|y| *y += bias);
            });
        }
        y
    }

    fn input_gradient(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        self.0.forward(dy, weight, None)
    }

    fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        self.0.weight_gradient(dy, x)
    }

    fn bias_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let (plane, channels) = (self.0.grid.pixels(), self.channels());
        let sample = plane * channels;
        let parts = dy.par_chunks(self.0.batch.div_ceil(PARTS) * sample).map(|dy| {
            let mut db = vec![0.0; channels];
            for dy in dy.chunks_exact(sample) {
                db.iter_mut().zip(dy.chunks_exact(plane)).for_each(|(b, plane)| *b += sum(plane));
            }
            db
        });
        add_in_order(parts.collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    #[test]
    fn a_pixel_spreads_the_kernel_over_the_result() {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let config = ConvTranspose2d {
            stride: [1, 2],
            padding: [0, 1, 0, 0],
            dilation: [1; 2],
            groups: 1,
            output_padding: [0, 1],
        };
        let args = [tensor(&[1.0, 10.0], &[1, 1, 2]), tensor(&[1.0, 2.0, 3.0], &[1, 1, 3]), tensor(&[0.5], &[1])];
        let kernel = conv_transpose2d_with_bias(&config);
        // 1 2 3+10 20 30 0, without the first.
        assert_eq!(result(&kernel, &args).unwrap(), [2.5, 13.5, 20.5, 30.5, 0.5]);
        let found = gradients(&kernel, &args, &[1.0, 0.0, 0.0, 0.0, 5.0]);
        assert_eq!(found, [vec![2.0, 0.0], vec![0.0, 1.0, 0.0], vec![6.0]]);
    }
}
