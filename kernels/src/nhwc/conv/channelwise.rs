//! The gradient at the weight of a convolution in which each channel is for itself (depthwise).
//!
//! ```text
//!   dW[c, t] = sum over images, places p:  dy[p, c] x[p * stride + t * dilation - padding, c]
//! ```
//!
//! Channels lie in the lanes of a vector. A number of `dy` is loaded once for the sums of several taps, which stay in
//! registers over an image. Each of at most [`CHUNKS`] parts of the batch has sums of its own, which are added in their
//! order.

// Tiles are arrays that the compiler keeps in registers: it does where they are walked over by place.
#![allow(clippy::needless_range_loop)]

use super::source::{Frame, Slabs};
use super::{Conv, SLAB, Upstream, Window};
use crate::nhwc::CHUNKS;
use crate::scratch::with_scratch;
use crate::share::{Shared, share};
use crate::simd::{self, Path, Task, Vector};

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct ChannelwiseGradient {
    path: Path,
    batch: usize,
    channels: usize,
    frame: Frame,
    slabs: Slabs,
    places: [usize; 2],
    /// Numbers of a framed image from one place to the next, `[height, width]`.
    steps: [usize; 2],
    /// Where each tap is in a framed image, from the place it belongs to.
    taps: Vec<usize>,
}

impl ChannelwiseGradient {
    pub(super) fn new(conv: &Conv) -> Self {
        let Window { kernel: [kh, kw], stride, padding: [top, left, bottom, right], dilation } = conv.window;
        let channels = conv.channels_in;
        let frame = Frame { image: conv.image, channels, before: [top, left], after: [bottom, right] };
        let tap = |(ky, kx)| ky * dilation[0] * frame.row() + kx * dilation[1] * channels;
        let places = conv.places();
        let seen = (kh - 1) * dilation[0] + 1;
        Self {
            slabs: Slabs::new(places[0], stride[0], seen, &frame, places[1] * channels, SLAB),
            path: conv.path,
            batch: conv.batch,
            channels,
            frame,
            places,
            steps: [stride[0] * frame.row(), stride[1] * channels],
            taps: (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))).map(tap).collect(),
        }
    }

    fn chunks(&self) -> usize {
        CHUNKS.min(self.batch)
    }

    fn sums(&self) -> usize {
        self.taps.len() * self.channels
    }

    /// The sums of the chunks: `[chunk, tap, channel]`.
    pub(super) fn scratch_len(&self) -> usize {
        self.chunks() * self.sums()
    }

    pub(super) fn run(&self, x: &[f32], dy: Upstream<'_>, dw: &mut [f32], scratch: &mut [f32]) {
        let (x_len, dy_len) = (self.frame.image_len(), self.places[0] * self.places[1] * self.channels);
        assert_eq!(x.len(), self.batch * x_len, "size of the images");
        let scratch = &mut scratch[..self.scratch_len()];
        let shared = Shared::new(scratch);
        share(self.chunks(), |chunks| {
            with_scratch(dy.beside() + self.slabs.len(&self.frame), |work| {
                work.fill(0.0);
                let (beside, framed) = work.split_at_mut(dy.beside());
                for chunk in chunks {
                    // SAFETY: each chunk comes to one thread, and has sums of its own.
                    let sums = unsafe { shared.slice(chunk * self.sums(), self.sums()) };
                    sums.fill(0.0);
                    let [first, end] = [chunk, chunk + 1].map(|chunk| chunk * self.batch / self.chunks());
                    for n in first..end {
                        let (image, dy) = (&x[n * x_len..][..x_len], dy.image(n, dy_len, beside));
                        for rows in (0..self.slabs.count()).map(|slab| self.slabs.rows_of(slab)) {
                            self.frame.fill(image, 0, self.channels, self.slabs.framed(&rows), framed);
                            self.add_rows(framed, &dy[rows.start * self.places[1] * self.channels..], rows.len(), sums);
                        }
                    }
                }
            });
        });
        let (sums, others) = scratch.split_at_mut(self.sums());
        for other in others.chunks_exact(sums.len()) {
            sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
        for (channel, dw) in dw.chunks_exact_mut(self.taps.len()).enumerate() {
            dw.iter_mut().enumerate().for_each(|(tap, dw)| *dw = sums[tap * self.channels + channel]);
        }
    }

    fn add_rows(&self, framed: &[f32], dy: &[f32], height: usize, sums: &mut [f32]) {
        for first in (0..self.channels).step_by(self.path.lanes()) {
            let mut done = 0;
            while done < self.taps.len() {
                let rows = Rows { of: self, framed, dy, height, sums: &mut *sums, first, tap: done };
                done += match self.taps.len() - done {
                    9.. => simd::run(self.path, Taps::<9>(rows)),
                    4.. => simd::run(self.path, Taps::<4>(rows)),
                    _ => simd::run(self.path, Taps::<1>(rows)),
                };
            }
        }
    }
}

/// What some rows add to the sums of a vector of channels from `first` on, and of some taps from `tap` on.
struct Rows<'a> {
    of: &'a ChannelwiseGradient,
    framed: &'a [f32],
    dy: &'a [f32],
    height: usize,
    sums: &'a mut [f32],
    first: usize,
    tap: usize,
}

/// `T` taps of it. Returns `T`.
struct Taps<'a, const T: usize>(Rows<'a>);

impl<const T: usize> Task for Taps<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vector>(self) -> usize {
        let Rows { of, framed, dy, height, sums, first, tap } = self.0;
        let mask = V::first(of.channels - first);
        let taps: [usize; T] = std::array::from_fn(|t| of.taps[tap + t]);
        let to: [usize; T] = std::array::from_fn(|t| (tap + t) * of.channels + first);
        assert!(
            framed.len() == of.slabs.len(&of.frame)
                && height <= of.slabs.at_once
                && sums.len() == of.sums()
                && first < of.channels
        );
        assert!(dy.len() >= height * of.places[1] * of.channels);
        // SAFETY: the lanes of the mask are channels that there are. All places of all taps lie in the slab, and those of the sums in theirs.
        unsafe {
            let mut sum: [V; T] = std::array::from_fn(|t| V::load_first(sums.as_ptr().add(to[t]), mask));
            let mut dy = dy.as_ptr().add(first);
            for y in 0..height {
                let mut x = framed.as_ptr().add(y * of.steps[0] + first);
                for _ in 0..of.places[1] {
                    let factor = V::load_first(dy, mask);
                    for t in 0..T {
                        sum[t] = V::load_first(x.add(taps[t]), mask).mul_add(factor, sum[t]);
                    }
                    dy = dy.wrapping_add(of.channels);
                    x = x.wrapping_add(of.steps[1]);
                }
            }
            for t in 0..T {
                sum[t].store_first(sums.as_mut_ptr().add(to[t]), mask);
            }
        }
        T
    }
}
