//! Pooling: the largest and the mean of each window, and of each whole channel.

use super::array::{Array, Numbers, count, reals};
use super::reduce::{larger, larger_whole};
use super::{Output, ReferenceError};
use crate::graph::op::{AvgPool2d, Window};
use crate::tensor::TensorData;

/// The places of an image that each window sees, and how many of its taps are on the image or the padding that counts.
struct Windows<'a> {
    window: &'a Window,
    image: [usize; 2],
    places: [usize; 2],
}

impl<'a> Windows<'a> {
    /// For images `[n, c, h, w]`, or sequences `[n, c, l]` as images of height 1.
    fn of(window: &'a Window, x: &[usize], y: &[usize]) -> Self {
        let last = |shape: &[usize]| match *shape {
            [_, _, h, w] => [h, w],
            [_, _, l] => [1, l],
            // All others were refused.
            _ => [0; 2],
        };
        Self { window, image: last(x), places: last(y) }
    }

    /// The taps of the window of one place along an axis that lie from `-before` up to `after` behind the image, counted
    /// from the padding's beginning.
    fn taps(&self, axis: usize, place: usize, after: usize) -> impl Iterator<Item = usize> + Clone {
        let Window { kernel, stride, padding, dilation } = *self.window;
        let end = padding[axis] + self.image[axis] + after;
        let taps = (0..kernel[axis]).map(move |tap| place * stride[axis] + tap * dilation[axis]);
        taps.filter(move |at| *at < end)
    }

    /// The places on the image along an axis.
    fn seen(&self, axis: usize, place: usize) -> impl Iterator<Item = usize> + Clone {
        let before = self.window.padding[axis];
        self.taps(axis, place, 0).filter_map(move |at| at.checked_sub(before))
    }

    /// Calls `of` with the numbers that each window sees, and how many taps count with this much padding at the end.
    fn each<T: Copy>(&self, x: &[T], padding: [usize; 2], mut of: impl FnMut(&[T], usize) -> T) -> Vec<T> {
        let ([h, w], [oh, ow]) = (self.image, self.places);
        let mut seen = Vec::new();
        let mut y = Vec::new();
        for x in x.chunks_exact((h * w).max(1)) {
            for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                seen.clear();
                let columns = self.seen(1, j);
                seen.extend(self.seen(0, i).flat_map(|row| columns.clone().map(move |column| x[row * w + column])));
                y.push(of(&seen, self.taps(0, i, padding[0]).count() * self.taps(1, j, padding[1]).count()));
            }
        }
        y
    }
}

/// The largest number of each window.
pub fn max(window: &Window, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let windows = Windows::of(window, x.shape(), &output.shape);
    output.of(match Array::of(x).numbers {
        Numbers::Real(x) => Numbers::Real(windows.each(&x, [0; 2], |seen, _| largest(seen))),
        Numbers::Whole(x) => {
            Numbers::Whole(windows.each(&x, [0; 2], |seen, _| seen.iter().copied().fold(i128::MIN, larger_whole)))
        }
    })
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::NEG_INFINITY, larger)
}

/// The mean of each window.
pub fn mean(config: &AvgPool2d, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let windows = Windows::of(&config.window, x.shape(), &output.shape);
    let [.., bottom, right] = config.window.padding;
    let padding = [bottom - config.overhang[0], right - config.overhang[1]];
    output.real(windows.each(&reals(x), padding, |seen, taps| {
        let counted = if config.count_padding { taps } else { seen.len() };
        seen.iter().sum::<f64>() / counted as f64
    }))
}

/// The mean of each channel.
pub fn global_mean(x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let places = count(&x.shape()[2..]);
    let mean = |channel: &[f64]| channel.iter().sum::<f64>() / places as f64;
    output.real(reals(x).chunks_exact(places.max(1)).map(mean).collect())
}

/// The largest number of each channel.
pub fn global_max(x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let places = count(&x.shape()[2..]).max(1);
    output.of(match Array::of(x).numbers {
        Numbers::Real(x) => Numbers::Real(x.chunks_exact(places).map(largest).collect()),
        Numbers::Whole(x) => {
            let largest = |channel: &[i128]| channel.iter().copied().fold(i128::MIN, larger_whole);
            Numbers::Whole(x.chunks_exact(places).map(largest).collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, one, random, real, tensor};
    use super::*;
    use crate::graph::Op;
    use crate::graph::op::{AvgPool1d, Conv2d, MaxPool1d, MaxPool2d, Window1d};
    use crate::tensor::DType;

    const ROW: Window1d = Window1d { kernel: 2, stride: 2, padding: [1, 1], dilation: 1 };

    #[test]
    fn padding_never_wins() {
        let pool = Op::MaxPool1d(MaxPool1d { window: ROW });
        let x = [-3.0, -1.0, -2.0, f64::NAN];
        let y = one(&pool, &[&real(&[1, 1, 4], &x)], &[]);
        assert_eq!(reals(&y)[..2], [-3.0, -1.0]);
        assert!(reals(&y)[2].is_nan());
        let y = one(&pool, &[&tensor(DType::I8, &[1, 1, 4], &[-3.0, -1.0, -2.0, -128.0])], &[]);
        assert_eq!(y, tensor(DType::I8, &[1, 1, 3], &[-3.0, -1.0, -128.0]));
    }

    #[test]
    fn a_mean_counts_what_it_is_told_to() {
        let x = real(&[1, 1, 4], &[2.0, 4.0, 6.0, 8.0]);
        let mean = |count_padding, overhang| {
            let config = AvgPool1d { window: ROW, count_padding, overhang };
            reals(&one(&Op::AvgPool1d(config), &[&x], &[]))
        };
        assert_eq!(mean(true, 0), [1.0, 5.0, 4.0]);
        assert_eq!(mean(false, 0), [2.0, 5.0, 8.0]);
        // The last window hangs over by one step, which is no padding.
        assert_eq!(mean(true, 1), [1.0, 5.0, 8.0]);
    }

    #[test]
    fn a_dilated_window_has_gaps() {
        let window = Window { kernel: [2, 2], stride: [1, 1], padding: [0; 4], dilation: [2, 2] };
        let x = real(&[1, 1, 3, 3], &[1.0, 9.0, 2.0, 9.0, 9.0, 9.0, 3.0, 9.0, 4.0]);
        assert_eq!(one(&Op::MaxPool2d(MaxPool2d { window }), &[&x], &[]), real(&[1, 1, 1, 1], &[4.0]));
    }

    #[test]
    fn a_mean_is_a_convolution_with_one_weight() {
        let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2] };
        let x = random(&[2, 3, 5, 6], 1);
        let pool = AvgPool2d { window, count_padding: true, overhang: [0; 2] };
        let config = Conv2d { stride: window.stride, padding: window.padding, dilation: window.dilation, groups: 3 };
        let weight = tensor(DType::F64, &[3, 1, 3, 2], &[1.0 / 6.0; 18]);
        assert!(close(&one(&Op::AvgPool2d(pool), &[&x], &[]), &one(&Op::Conv2d(config), &[&x], &[&weight])));
    }

    #[test]
    fn whole_channels() {
        let x = real(&[1, 2, 1, 2], &[1.0, 2.0, -3.0, -5.0]);
        assert_eq!(one(&Op::GlobalAvgPool, &[&x], &[]), real(&[1, 2, 1, 1], &[1.5, -4.0]));
        assert_eq!(one(&Op::GlobalMaxPool, &[&x], &[]), real(&[1, 2, 1, 1], &[2.0, -3.0]));
    }
}
