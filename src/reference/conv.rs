//! Convolutions and their transpose; of sequences as of images of height 1.
//!
//! ```text
//! Conv2d           y[n, o, i, j] = b[o] + sum_{c, k, l} W[o, c, k, l] x[n, g c_g + c, s i + d k - p, s j + d l - p]
//! ConvTranspose2d  y[n, g o_g + o, s i + d k - p, s j + d l - p] += W[c, o, k, l] x[n, c, i, j], from b on
//! ```
//!
//! `g` is the group of the output's, or the input's, channel; there is nothing outside of an image.

use super::array::reals;
use super::{Output, ReferenceError};
use crate::graph::op::{Conv2d, ConvTranspose2d};
use crate::tensor::TensorData;

/// Channels, height and width of `[n, c, h, w]` or `[n, c, l]`.
fn image(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [_, c, h, w] => [c, h, w],
        [_, c, l] => [c, 1, l],
        // All others were refused.
        _ => [0; 3],
    }
}

/// The place `place * stride + tap * dilation - padding` of an axis of `size` places.
fn reached(place: usize, stride: usize, tap: usize, dilation: usize, padding: usize, size: usize) -> Option<usize> {
    (place * stride + tap * dilation).checked_sub(padding).filter(|at| *at < size)
}

/// A convolution.
pub fn conv(
    config: &Conv2d,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let ([channels, h, w], [out, oh, ow]) = (image(x.shape()), image(&output.shape));
    let [per_group, kh, kw] = image(params[0].shape());
    let (numbers, weight) = (reals(x), reals(params[0]));
    let bias = params.get(1).map_or_else(|| vec![0.0; out], |bias| reals(bias));
    let ([sh, sw], [dh, dw], [top, left, ..]) = (config.stride, config.dilation, config.padding);
    let mut y = vec![0.0; output.count()];
    for (place, y) in y.iter_mut().enumerate() {
        let (j, i, o, n) = (place % ow, place / ow % oh, place / (ow * oh) % out, place / (ow * oh * out));
        let first = o / (out / config.groups) * per_group;
        let mut sum = bias[o];
        for (c, k) in (0..per_group).flat_map(|c| (0..kh).map(move |k| (c, k))) {
            let Some(row) = reached(i, sh, k, dh, top, h) else { continue };
            let row = ((n * channels + first + c) * h + row) * w;
            let taps = &weight[((o * per_group + c) * kh + k) * kw..][..kw];
            for (l, weight) in taps.iter().enumerate() {
                if let Some(column) = reached(j, sw, l, dw, left, w) {
                    sum += weight * numbers[row + column];
                }
            }
        }
        *y = sum;
    }
    output.real(y)
}

/// A transposed convolution.
pub fn transposed(
    config: &ConvTranspose2d,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let ([channels, h, w], [out, oh, ow]) = (image(x.shape()), image(&output.shape));
    let [per_group, kh, kw] = image(params[0].shape());
    let (numbers, weight) = (reals(x), reals(params[0]));
    let bias = params.get(1).map_or_else(|| vec![0.0; out], |bias| reals(bias));
    let ([sh, sw], [dh, dw], [top, left, ..]) = (config.stride, config.dilation, config.padding);
    let mut y: Vec<f64> = (0..output.count()).map(|place| bias[place / (oh * ow) % out]).collect();
    for (place, x) in numbers.iter().enumerate() {
        let (j, i, c, n) = (place % w, place / w % h, place / (w * h) % channels, place / (w * h * channels));
        let first = c / (channels / config.groups) * per_group;
        for (o, k) in (0..per_group).flat_map(|o| (0..kh).map(move |k| (o, k))) {
            let Some(row) = reached(i, sh, k, dh, top, oh) else { continue };
            let row = ((n * out + first + o) * oh + row) * ow;
            let taps = &weight[((c * per_group + o) * kh + k) * kw..][..kw];
            for (l, weight) in taps.iter().enumerate() {
                if let Some(column) = reached(j, sw, l, dw, left, ow) {
                    y[row + column] += weight * x;
                }
            }
        }
    }
    output.real(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, dot, one, random, real};
    use super::*;
    use crate::graph::Op;
    use crate::graph::dim::Dim;
    use crate::graph::op::{Conv1d, ConvTranspose1d, Reshape, Transpose};
    use proptest::prelude::*;

    fn turned(x: &TensorData, axes: [usize; 4]) -> TensorData {
        one(&Op::Transpose(Transpose { axes: axes.to_vec() }), &[x], &[])
    }

    fn shaped(x: &TensorData, shape: &[usize]) -> TensorData {
        one(&Op::Reshape(Reshape { shape: shape.iter().map(|n| Dim::Fixed(*n)).collect() }), &[x], &[])
    }

    #[test]
    fn a_convolution_by_hand() {
        let x = real(&[1, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let weight = real(&[1, 1, 1, 2], &[1.0, 10.0]);
        let padded = Conv2d { padding: [0, 1, 0, 0], ..Conv2d::default() };
        let y = one(&Op::Conv2d(padded), &[&x], &[&weight, &real(&[1], &[100.0])]);
        assert_eq!(y, real(&[1, 1, 2, 3], &[110.0, 121.0, 132.0, 140.0, 154.0, 165.0]));
        let strided = Conv1d { stride: 2, padding: [0, 1], dilation: 2, groups: 1 };
        let y =
            one(&Op::Conv1d(strided), &[&real(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0])], &[&real(&[1, 1, 2], &[1.0, 10.0])]);
        assert_eq!(y, real(&[1, 1, 2], &[31.0, 3.0]));
    }

    #[test]
    fn a_transposed_convolution_by_hand() {
        let config = ConvTranspose1d { stride: 2, padding: [1, 0], dilation: 1, groups: 1, output_padding: 1 };
        let x = real(&[1, 1, 2], &[1.0, 2.0]);
        let y = one(&Op::ConvTranspose1d(config), &[&x], &[&real(&[1, 1, 3], &[1.0, 10.0, 100.0])]);
        // 1 10 100+2 20 200, without the first, and one more.
        assert_eq!(y, real(&[1, 1, 5], &[10.0, 102.0, 20.0, 200.0, 0.0]));
    }

    #[test]
    fn a_kernel_of_one_pixel_is_a_matrix() {
        let (x, weight, bias) = (random(&[2, 3, 4, 5], 1), random(&[6, 3, 1, 1], 2), random(&[6], 3));
        let y = one(&Op::Conv2d(Conv2d::default()), &[&x], &[&weight, &bias]);
        let last = turned(&x, [0, 2, 3, 1]);
        let matrix = one(&Op::Linear, &[&last], &[&shaped(&weight, &[6, 3]), &bias]);
        assert!(close(&y, &turned(&matrix, [0, 3, 1, 2])));
    }

    proptest! {
        /// `<conv x, y> = <x, transposed y>`: the one is the gradient of the other.
        #[test]
        fn the_transpose_is_the_adjoint(
            kernel in prop::array::uniform2(1usize..4), stride in prop::array::uniform2(1usize..4),
            padding in prop::array::uniform4(0usize..2), dilation in prop::array::uniform2(1usize..3),
            groups in 1usize..3, image in prop::array::uniform2(5usize..9),
        ) {
            let config = Conv2d { stride, padding, dilation, groups };
            let x = random(&[2, 2 * groups, image[0], image[1]], 1);
            let weight = random(&[3 * groups, 2, kernel[0], kernel[1]], 2);
            let conv = one(&Op::Conv2d(config), &[&x], &[&weight]);
            let y = random(conv.shape(), 3);
            // What the strides leave over at the end is what the transposed convolution must add.
            let rest = |axis: usize| {
                let reach = dilation[axis] * (kernel[axis] - 1) + 1;
                (image[axis] + padding[axis] + padding[axis + 2] - reach) % stride[axis]
            };
            let config = ConvTranspose2d { stride, padding, dilation, groups, output_padding: [rest(0), rest(1)] };
            let back = one(&Op::ConvTranspose2d(config), &[&y], &[&weight]);
            prop_assert_eq!(back.shape(), x.shape());
            prop_assert!((dot(&conv, &y) - dot(&x, &back)).abs() < 1e-9);
        }
    }
}
