//! Pooling of images whose channels lie together: one number for each window of each channel.
//!
//! Of equal values the first in reading order is the largest; padding never is; what is no number is larger than
//! everything, so that it is seen. A window under which there is no pixel at all gives minus infinity, or a mean of 0. The
//! backward pass looks for the largest pixel again instead of keeping its place.

use super::conv::{Old, Window};
use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// Channels that are looked at together.
const LANES: usize = 16;

/// The sizes of a pooling. Two numbers are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Size of an image that goes in.
    pub image: [usize; 2],
    /// Size of an image that comes out.
    pub places: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// The window.
    pub window: Window,
    /// Which instructions compute.
    pub path: Path,
}

impl Pool {
    fn size_in(&self) -> usize {
        self.image[0] * self.image[1] * self.channels
    }

    fn size_out(&self) -> usize {
        self.places[0] * self.places[1] * self.channels
    }

    /// The pixels under the window at `place`, along one axis: the first, how many, and from one to the next.
    #[inline(always)]
    fn under(&self, axis: usize, place: usize) -> (usize, usize, usize) {
        let (stride, dilation) = (self.window.stride[axis], self.window.dilation[axis]);
        let (start, padding) = (place * stride, self.window.padding[axis]);
        let skipped = padding.saturating_sub(start).div_ceil(dilation);
        let first = start + skipped * dilation - padding.min(start + skipped * dilation);
        let left = self.image[axis].saturating_sub(first).div_ceil(dilation);
        (first, left.min(self.window.kernel[axis].saturating_sub(skipped)), dilation)
    }

    /// The largest number of each window.
    pub fn max(&self, x: &[f32], y: &mut [f32]) {
        divide::pieces(y, self.size_out(), |first, y| {
            let x = &x[first * self.size_in()..];
            for (x, y) in x.chunks_exact(self.size_in()).zip(y.chunks_exact_mut(self.size_out())) {
                simd::run(self.path, Max { pool: self, x, y });
            }
        });
    }

    /// The gradient at the input of [`Pool::max`].
    pub fn max_backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
        divide::pieces(dx, self.size_in(), |first, dx| {
            let (x, dy) = (&x[first * self.size_in()..], &dy[first * self.size_out()..]);
            let images = x.chunks_exact(self.size_in()).zip(dy.chunks_exact(self.size_out()));
            for ((x, dy), dx) in images.zip(dx.chunks_exact_mut(self.size_in())) {
                if old == Old::Dropped {
                    dx.fill(0.0);
                }
                simd::run(self.path, MaxBackward { pool: self, x, dy, dx });
            }
        });
    }

    /// The sum of each window, times the share of its place.
    pub fn mean(&self, x: &[f32], shares: &[f32], y: &mut [f32]) {
        divide::pieces(y, self.size_out(), |first, y| {
            let x = &x[first * self.size_in()..];
            for (x, y) in x.chunks_exact(self.size_in()).zip(y.chunks_exact_mut(self.size_out())) {
                simd::run(self.path, Mean { pool: self, x, shares, y });
            }
        });
    }

    /// The gradient at the input of [`Pool::mean`].
    pub fn mean_backward(&self, dy: &[f32], shares: &[f32], dx: &mut [f32], old: Old) {
        divide::pieces(dx, self.size_in(), |first, dx| {
            let dy = &dy[first * self.size_out()..];
            for (dy, dx) in dy.chunks_exact(self.size_out()).zip(dx.chunks_exact_mut(self.size_in())) {
                if old == Old::Dropped {
                    dx.fill(0.0);
                }
                simd::run(self.path, MeanBackward { pool: self, dy, shares, dx });
            }
        });
    }
}

#[inline(always)]
fn wins(value: f32, best: f32) -> bool {
    (value > best) | (value.is_nan() & !best.is_nan())
}

struct Max<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Max<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let c = self.pool.channels;
        for py in 0..self.pool.places[0] {
            let (y0, rows, dy) = self.pool.under(0, py);
            for px in 0..self.pool.places[1] {
                let (x0, columns, dx) = self.pool.under(1, px);
                let y = &mut self.y[(py * self.pool.places[1] + px) * c..][..c];
                y.fill(f32::NEG_INFINITY);
                for row in 0..rows {
                    for column in 0..columns {
                        let pixel = (y0 + row * dy) * self.pool.image[1] + x0 + column * dx;
                        for (y, x) in y.iter_mut().zip(&self.x[pixel * c..][..c]) {
                            *y = if wins(*x, *y) { *x } else { *y };
                        }
                    }
                }
            }
        }
    }
}

struct MaxBackward<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Task for MaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        const NOWHERE: u32 = u32::MAX;
        let c = self.pool.channels;
        for py in 0..self.pool.places[0] {
            let (y0, rows, dy) = self.pool.under(0, py);
            for px in 0..self.pool.places[1] {
                let (x0, columns, dx) = self.pool.under(1, px);
                let d = &self.dy[(py * self.pool.places[1] + px) * c..][..c];
                for first in (0..c).step_by(LANES) {
                    let count = (c - first).min(LANES);
                    let (mut best, mut place) = ([f32::NEG_INFINITY; LANES], [NOWHERE; LANES]);
                    for row in 0..rows {
                        for column in 0..columns {
                            let pixel = (y0 + row * dy) * self.pool.image[1] + x0 + column * dx;
                            let x = &self.x[pixel * c + first..][..count];
                            for ((best, place), x) in best.iter_mut().zip(&mut place).zip(x) {
                                let taken = wins(*x, *best) | (*place == NOWHERE);
                                *best = if taken { *x } else { *best };
                                *place = if taken { pixel as u32 } else { *place };
                            }
                        }
                    }
                    for (lane, (place, d)) in place.iter().zip(&d[first..][..count]).enumerate() {
                        if *place != NOWHERE {
                            self.dx[*place as usize * c + first + lane] += d;
                        }
                    }
                }
            }
        }
    }
}

struct Mean<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    shares: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let c = self.pool.channels;
        for py in 0..self.pool.places[0] {
            let (y0, rows, dy) = self.pool.under(0, py);
            for px in 0..self.pool.places[1] {
                let (x0, columns, dx) = self.pool.under(1, px);
                let place = py * self.pool.places[1] + px;
                let y = &mut self.y[place * c..][..c];
                y.fill(0.0);
                for row in 0..rows {
                    for column in 0..columns {
                        let pixel = (y0 + row * dy) * self.pool.image[1] + x0 + column * dx;
                        y.iter_mut().zip(&self.x[pixel * c..][..c]).for_each(|(y, x)| *y += x);
                    }
                }
                y.iter_mut().for_each(|y| *y *= self.shares[place]);
            }
        }
    }
}

struct MeanBackward<'a> {
    pool: &'a Pool,
    dy: &'a [f32],
    shares: &'a [f32],
    dx: &'a mut [f32],
}

impl Task for MeanBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let c = self.pool.channels;
        for py in 0..self.pool.places[0] {
            let (y0, rows, dy) = self.pool.under(0, py);
            for px in 0..self.pool.places[1] {
                let (x0, columns, dx) = self.pool.under(1, px);
                let place = py * self.pool.places[1] + px;
                let (d, share) = (&self.dy[place * c..][..c], self.shares[place]);
                for row in 0..rows {
                    for column in 0..columns {
                        let pixel = (y0 + row * dy) * self.pool.image[1] + x0 + column * dx;
                        self.dx[pixel * c..][..c].iter_mut().zip(d).for_each(|(dx, d)| *dx += d * share);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    fn pools() -> impl Strategy<Value = (usize, Pool)> {
        let two = |r: std::ops::Range<usize>| [r.clone(), r];
        let sizes = (two(1..4), two(1..3), two(1..3), [0usize..3, 0..3, 0..3, 0..3], two(1..9), 1usize..20, 1usize..4);
        sizes.prop_filter_map(
            "the window does not fit",
            |(kernel, stride, dilation, mut padding, image, channels, n)| {
                (0..4).for_each(|side| padding[side] = padding[side].min(kernel[side % 2] - 1));
                let window = Window { kernel, stride, padding, dilation };
                let mut places = [0; 2];
                for axis in 0..2 {
                    let padded = image[axis] + padding[axis] + padding[axis + 2];
                    places[axis] = padded.checked_sub(dilation[axis] * (kernel[axis] - 1) + 1)? / stride[axis] + 1;
                }
                Some((n, Pool { image, places, channels, window, path: Path::Portable }))
            },
        )
    }

    /// The pixels under each place's window.
    fn windows(pool: &Pool) -> Vec<Vec<usize>> {
        let pixel = |axis: usize, place: usize, tap: usize| {
            let at = place * pool.window.stride[axis] + tap * pool.window.dilation[axis];
            at.checked_sub(pool.window.padding[axis]).filter(|p| *p < pool.image[axis])
        };
        let [kh, kw] = pool.window.kernel;
        let of = |place: usize| {
            let (py, px) = (place / pool.places[1], place % pool.places[1]);
            let taps =
                (0..kh * kw).filter_map(|tap| Some(pixel(0, py, tap / kw)? * pool.image[1] + pixel(1, px, tap % kw)?));
            taps.collect()
        };
        (0..pool.places[0] * pool.places[1]).map(of).collect()
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition((n, pool) in pools(), seed in 0u64..1 << 40) {
            let (windows, c) = (windows(&pool), pool.channels);
            let (x, dy) = (numbers(n * pool.size_in(), seed), numbers(n * pool.size_out(), seed + 1));
            // Few different values, so that there are equal ones.
            let x: Vec<f32> = x.iter().map(|v| (v * 4.0).round()).collect();
            let shares: Vec<f32> = windows.iter().map(|w| 1.0 / w.len().max(1) as f32).collect();
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let pool = Pool { path, ..pool };
                let (mut max, mut mean) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
                let (mut dmax, mut dmean) = (vec![1.0; x.len()], vec![1.0; x.len()]);
                pool.max(&x, &mut max);
                pool.mean(&x, &shares, &mut mean);
                pool.max_backward(&x, &dy, &mut dmax, Old::Added);
                pool.mean_backward(&dy, &shares, &mut dmean, Old::Added);
                let (mut expected_dmax, mut expected_dmean) = (vec![1.0; x.len()], vec![1.0; x.len()]);
                for (at, d) in dy.iter().enumerate() {
                    let (sample, place, channel) = (at / pool.size_out(), at / c % windows.len(), at % c);
                    let of = |pixel: &usize| sample * pool.size_in() + pixel * c + channel;
                    let under: Vec<usize> = windows[place].iter().map(of).collect();
                    let largest = under.iter().map(|i| x[*i]).fold(f32::NEG_INFINITY, f32::max);
                    prop_assert_eq!(max[at], largest);
                    if let Some(first) = under.iter().find(|i| x[**i] == largest) {
                        expected_dmax[*first] += d;
                    }
                    let sum: f32 = under.iter().map(|i| x[*i]).sum();
                    prop_assert!((mean[at] - sum * shares[place]).abs() < 1e-5);
                    under.iter().for_each(|i| expected_dmean[*i] += d * shares[place]);
                }
                prop_assert!(dmax.iter().zip(&expected_dmax).all(|(a, b)| (a - b).abs() < 1e-5));
                prop_assert!(dmean.iter().zip(&expected_dmean).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn not_a_number_is_the_largest() {
        let window = Window { kernel: [2; 2], stride: [2; 2], padding: [0; 4], dilation: [1; 2] };
        let pool = Pool { image: [2; 2], places: [1; 2], channels: 1, window, path: Path::chosen() };
        let (x, mut y, mut dx) = ([1.0, f32::NAN, 3.0, 2.0], [0.0], [0.0; 4]);
        pool.max(&x, &mut y);
        assert!(y[0].is_nan());
        pool.max_backward(&x, &[5.0], &mut dx, Old::Dropped);
        assert_eq!(dx, [0.0, 5.0, 0.0, 0.0]);
    }
}
