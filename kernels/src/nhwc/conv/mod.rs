//! Convolution of images whose channels lie together, and its two gradients.
//!
//! ```text
//!   x [n, h, w, in]    W [out, in / groups, kh, kw]    b [out]    y [n, oh, ow, out]
//! ```
//!
//! There is no im2col: an image is copied into a frame of zeros that stays in the cache, and sums run over what lies
//! together there (`sweep`). A thread takes an image at a time. Kernels of 3x3 with many channels take less than half of the
//! products (`winograd`); layers with few weights left can be computed from these alone (`sparse`).

mod blocks;
mod channelwise;
mod correlation;
mod source;
mod sparse;
mod sweep;
mod weight_gradient;
mod winograd;

use blocks::{Blocks, Order};
use channelwise::ChannelwiseGradient;
use correlation::Correlation;
use source::{Frame, Slabs};
pub use sparse::Sparse;
use sweep::{Pixels, Sweep, Tap};
use weight_gradient::WeightGradient;
use winograd::Winograd;

pub use crate::matmul::Old;
use crate::scratch::LINE;
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

/// Bytes of a framed slab: it stays in the second cache.
const SLAB: usize = 200 * 1024;

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

impl Epilogue<'_> {
    /// Checks the sizes for so many channels and numbers that come out.
    fn check(&self, channels: usize, result: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() == channels), "size of the bias");
        assert!(self.residual.is_none_or(|residual| residual.len() == result), "size of the residual");
    }
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

    /// Numbers of the weight.
    pub fn weight_len(&self) -> usize {
        self.channels_out * self.channels_in / self.groups * self.taps()
    }

    /// Taps of the kernel.
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Whether each channel goes into one channel of its own.
    fn is_channelwise(&self) -> bool {
        self.groups == self.channels_in && self.groups == self.channels_out && self.groups > 1
    }

    /// Whether the kernel is 3x3, in steps of one pixel, and every window lies over some of the image.
    fn has_small_taps(&self) -> bool {
        let Window { kernel, stride, padding, dilation } = self.window;
        let is_plain = self.groups == 1 && stride == [1; 2] && dilation == [1; 2];
        kernel == [3; 2] && is_plain && padding.iter().all(|side| *side < 3)
    }

    fn group_in(&self) -> usize {
        self.channels_in / self.groups
    }

    fn group_out(&self) -> usize {
        self.channels_out / self.groups
    }

    /// The same sums over images of one row, where each pixel is for itself and rows would not be whole tiles.
    fn flattened(self) -> Self {
        let Window { kernel, stride, padding, .. } = self.window;
        let is_pointwise = kernel == [1; 2] && stride == [1; 2] && padding == [0; 4];
        let joins = is_pointwise && !self.image[1].is_multiple_of(4);
        if joins { Self { image: [1, self.image[0] * self.image[1]], ..self } } else { self }
    }
}

/// A convolution made ready. See the [module documentation](self).
#[derive(Debug, Clone)]
pub struct Convolution {
    conv: Conv,
    forward: Correlation,
    input_gradient: Correlation,
    weight_gradient: WeightWay,
}

#[derive(Debug, Clone)]
enum WeightWay {
    Dense(WeightGradient),
    Channelwise(ChannelwiseGradient),
}

impl Convolution {
    /// Prepares a convolution of these sizes.
    ///
    /// # Panics
    ///
    /// If the window does not fit into the image, or the groups do not divide the channels.
    pub fn new(conv: &Conv) -> Self {
        assert!(conv.channels_in.is_multiple_of(conv.groups) && conv.channels_out.is_multiple_of(conv.groups));
        let conv = conv.flattened();
        Self {
            forward: forward(&conv),
            input_gradient: input_gradient(&conv),
            weight_gradient: match conv.is_channelwise() {
                true => WeightWay::Channelwise(ChannelwiseGradient::new(&conv)),
                false => WeightWay::Dense(WeightGradient::new(&conv)),
            },
            conv,
        }
    }

    /// Numbers that [`Convolution::pack`] makes.
    pub fn packed_len(&self) -> usize {
        self.forward.packed_len()
    }

    /// Numbers that [`Convolution::pack_transposed`] makes.
    pub fn packed_transposed_len(&self) -> usize {
        self.input_gradient.packed_len()
    }

    /// Lays the weight `[out, in / groups, kh, kw]` out for [`Convolution::forward`].
    pub fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        let (inner, taps) = (self.conv.group_in(), self.conv.taps());
        let order = Order { taps, is_turned: false, inner, to_next: taps, to_next_channel: inner * taps };
        self.forward.pack(self.conv.path, weight, packed, order);
    }

    /// Lays the weight out for [`Convolution::input_gradient`].
    pub fn pack_transposed(&self, weight: &[f32], packed: &mut [f32]) {
        let (inner, outer, taps) = (self.conv.group_in(), self.conv.group_out(), self.conv.taps());
        let order = Order { taps, is_turned: true, inner: outer, to_next: inner * taps, to_next_channel: taps };
        self.input_gradient.pack(self.conv.path, weight, packed, order);
    }

    /// The same output from the weights that are not zero, if there are so few that it is faster.
    pub fn sparse(&self, weight: &[f32]) -> Option<Sparse> {
        Sparse::new(&self.conv, weight, self.forward.winograd.as_ref().map_or(1.0, Winograd::share))
    }

    /// The output `y`.
    pub fn forward(&self, x: &[f32], packed: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
        self.forward.run(x, packed, y, epilogue, Old::Dropped, None);
    }

    /// As [`Convolution::forward`]. `after` is called with each of [`Convolution::slabs`] slabs of `y`, by its number, which
    /// is counted over all images, as soon as it is written: while it is in the cache.
    pub fn forward_then(
        &self,
        x: &[f32],
        packed: &[f32],
        y: &mut [f32],
        epilogue: Epilogue<'_>,
        after: &(dyn Fn(usize, &[f32]) + Sync),
    ) {
        self.forward.run(x, packed, y, epilogue, Old::Dropped, Some(after));
    }

    /// Into how many slabs of rows the output of all images is divided. It depends on the sizes alone.
    pub fn slabs(&self) -> usize {
        self.conv.batch * self.forward.slabs.count()
    }

    /// The gradient at the input.
    pub fn input_gradient(&self, dy: &[f32], packed: &[f32], dx: &mut [f32], old: Old) {
        self.input_gradient.run(dy, packed, dx, Epilogue::default(), old, None);
    }

    /// Whether [`Convolution::gradients`] can be called: images are small enough to stay in the cache while both
    /// gradients are computed, and the weight is not too large.
    pub fn goes_by_images(&self) -> bool {
        const CACHE: usize = 1 << 20;
        let by_images = match &self.weight_gradient {
            WeightWay::Dense(way) => way.goes_by_images(),
            WeightWay::Channelwise(_) => true,
        };
        by_images && self.dy_len() * size_of::<f32>() <= CACHE
    }

    /// Both gradients of an image at a time. `gradient` writes that at an image's output, whose number it is given.
    ///
    /// # Panics
    ///
    /// If it [does not go by images](Convolution::goes_by_images).
    pub fn gradients(
        &self,
        x: &[f32],
        gradient: &(dyn Fn(usize, &mut [f32]) + Sync),
        dx: Option<(&[f32], &mut [f32], Old)>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(self.goes_by_images(), "a weight or image of this size");
        let job = dx.map(|(packed, dx, old)| self.input_gradient.job(packed, dx, Epilogue::default(), old));
        let framed_len = if job.is_some() { self.input_gradient.work_len(1).next_multiple_of(LINE) } else { 0 };
        // What the image's gradient at the output takes, and the frame of it.
        let dy_len = self.dy_len().next_multiple_of(LINE);
        let each = |number: usize, beside: &mut [f32]| {
            let (dy, framed) = beside.split_at_mut(dy_len);
            gradient(number, &mut dy[..self.dy_len()]);
            if let Some(job) = &job {
                job.image(number, &dy[..self.dy_len()], framed);
            }
        };
        self.weight_way(x, Upstream::Made { each: &each, beside: dy_len + framed_len }, dw, scratch);
    }

    /// Both gradients, with each image's gradient at the output read once where that can be.
    pub fn both_gradients(
        &self,
        x: &[f32],
        dy: &[f32],
        (packed, dx, old): (&[f32], &mut [f32], Old),
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        if !self.goes_by_images() {
            self.input_gradient(dy, packed, dx, old);
            return self.weight_gradient(x, dy, dw, scratch);
        }
        let job = self.input_gradient.job(packed, dx, Epilogue::default(), old);
        let each = |number: usize, dy: &[f32], framed: &mut [f32]| job.image(number, dy, framed);
        let beside = self.input_gradient.work_len(1).next_multiple_of(LINE);
        self.weight_way(x, Upstream::Passing { all: dy, each: &each, beside }, dw, scratch);
    }

    fn weight_way(&self, x: &[f32], dy: Upstream<'_>, dw: &mut [f32], scratch: &mut [f32]) {
        match &self.weight_gradient {
            WeightWay::Dense(way) => way.run(x, dy, dw, scratch),
            WeightWay::Channelwise(way) => way.run(x, dy, dw, scratch),
        }
    }

    /// Numbers of an image's output.
    fn dy_len(&self) -> usize {
        let [height, width] = self.conv.places();
        height * width * self.conv.channels_out
    }

    /// Numbers that [`Convolution::weight_gradient`] computes with beside its arguments.
    pub fn scratch_len(&self) -> usize {
        match &self.weight_gradient {
            WeightWay::Dense(way) => way.scratch_len(),
            WeightWay::Channelwise(way) => way.scratch_len(),
        }
    }

    /// The gradient at the weight, `[out, in / groups, kh, kw]`.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        self.weight_way(x, Upstream::There(dy), dw, scratch);
    }
}

/// Called with the number of an image, the image, and what is beside.
type EachImage<'a> = &'a (dyn Fn(usize, &[f32], &mut [f32]) + Sync);

/// The gradients at the output.
#[derive(Clone, Copy)]
enum Upstream<'a> {
    /// Those of all images.
    There(&'a [f32]),
    /// Those of all images, and each is used for something else, too, while it is at hand.
    Passing {
        /// Those of all images.
        all: &'a [f32],
        /// Uses that of the image of this number, and what is beside.
        each: EachImage<'a>,
        /// As below.
        beside: usize,
    },
    /// Each image's is made as its turn comes.
    Made {
        /// Writes that of the image of this number to the first numbers of what is beside.
        each: &'a (dyn Fn(usize, &mut [f32]) + Sync),
        /// How many numbers that takes: a multiple of a line's.
        beside: usize,
    },
}

impl Upstream<'_> {
    fn beside(&self) -> usize {
        match self {
            Upstream::There(_) => 0,
            Upstream::Passing { beside, .. } | Upstream::Made { beside, .. } => *beside,
        }
    }

    /// The gradient at the output of the image `number`, of `len` numbers.
    fn image<'b>(&'b self, number: usize, len: usize, beside: &'b mut [f32]) -> &'b [f32] {
        match self {
            Upstream::There(all) => &all[number * len..][..len],
            Upstream::Passing { all, each, .. } => {
                let image = &all[number * len..][..len];
                each(number, image, beside);
                image
            }
            Upstream::Made { each, .. } => {
                each(number, beside);
                &beside[..len]
            }
        }
    }
}

/// `y[p] = sum over taps t, channels c: x[p * stride + t * dilation - padding, c] W[t, c]`
fn forward(conv: &Conv) -> Correlation {
    let Window { kernel: [kh, kw], stride, padding: [top, left, bottom, right], dilation } = conv.window;
    let frame = Frame { image: conv.image, channels: conv.channels_in, before: [top, left], after: [bottom, right] };
    let ([_, pixel], row, inner) = ([frame.row(), conv.channels_in], frame.row(), conv.group_in());
    let joins = dilation[1] == 1 && conv.groups == 1;
    let taps = (0..kh).flat_map(|ky| {
        let step = if joins { kw } else { 1 };
        (0..kw).step_by(step).map(move |kx| Tap {
            from: ky * dilation[0] * row + kx * dilation[1] * pixel,
            weight: (ky * kw + kx) * inner,
            len: step * inner,
        })
    });
    let places = conv.places();
    let channelwise = conv.is_channelwise();
    let (groups, channels) = if channelwise { (1, conv.channels_out) } else { (conv.groups, conv.group_out()) };
    let blocks = Blocks { channels, lanes: conv.path.lanes(), taps: conv.taps() * inner };
    let pixels = Pixels {
        count: places,
        from: 0,
        steps: [stride[0] * row, stride[1] * pixel],
        to: 0,
        result_steps: [places[1] * conv.channels_out, conv.channels_out],
    };
    let row_taps = (joins && stride[1] == 1).then_some(kw);
    let (taps, width) = (taps.collect(), blocks.block(0).width);
    let sweep = match channelwise {
        true => Sweep::channelwise(&pixels, taps, conv.path),
        false => Sweep::new(&pixels, taps, row_taps, width, conv.path),
    };
    let sums = Correlation {
        batch: conv.batch,
        groups,
        frame,
        result_len: places[0] * places[1] * conv.channels_out,
        group_in: inner,
        slabs: Slabs::new(places[0], stride[0], (kh - 1) * dilation[0] + 1, &frame, 0, SLAB),
        sweeps: vec![sweep],
        blocks,
        channelwise,
        winograd: None,
    };
    if conv.has_small_taps() { sums.by_winograd(conv.path, places) } else { sums }
}

/// The taps of one axis that a pixel of the input is under, and from how many places back: pixel `stride * j + phase` is
/// under tap `k` of place `j + offset`.
fn taps_over(conv: &Conv, axis: usize, phase: usize) -> Vec<(usize, isize)> {
    let Window { kernel, stride, padding, dilation } = conv.window;
    let taps = (0..kernel[axis]).rev().filter_map(|tap| {
        let from_first = (phase + padding[axis]) as isize - (tap * dilation[axis]) as isize;
        let stride = stride[axis] as isize;
        (from_first.rem_euclid(stride) == 0).then(|| (tap, from_first.div_euclid(stride)))
    });
    taps.collect()
}

/// `dx[p, c] = sum over taps t, channels o: dy[(p + padding - t * dilation) / stride, o] W[t, o, c]`, where that divides.
///
/// The pixels are taken apart by their remainder modulo the stride: those of one remainder are under the same taps.
fn input_gradient(conv: &Conv) -> Correlation {
    let Window { kernel: [kh, kw], stride, dilation, .. } = conv.window;
    let (places, outer) = (conv.places(), conv.group_out());
    let mut before = [0; 2];
    let mut after = [0; 2];
    let mut furthest = [0; 2];
    for axis in [0, 1] {
        for phase in 0..stride[axis].min(conv.image[axis]) {
            let last = (conv.image[axis] - 1 - phase) / stride[axis];
            for (_, offset) in taps_over(conv, axis, phase) {
                before[axis] = before[axis].max(-offset);
                furthest[axis] = furthest[axis].max(offset);
                after[axis] = after[axis].max(last as isize + offset - (places[axis] as isize - 1));
            }
        }
    }
    let [before, after] = [before, after].map(|sides| sides.map(|side| side.max(0) as usize));
    let frame = Frame { image: places, channels: conv.channels_out, before, after };
    let (row, pixel) = (frame.row(), conv.channels_out);
    let joins = stride[1] == 1 && dilation[1] == 1 && conv.groups == 1;
    let channelwise = conv.is_channelwise();
    let (groups, channels) = if channelwise { (1, conv.channels_in) } else { (conv.groups, conv.group_in()) };
    let blocks = Blocks { channels, lanes: conv.path.lanes(), taps: conv.taps() * outer };
    let sweeps =
        (0..stride[0].min(conv.image[0])).flat_map(|py| (0..stride[1].min(conv.image[1])).map(move |px| [py, px]));
    let sweep = |[py, px]: [usize; 2]| {
        let columns = taps_over(conv, 1, px);
        let step = if joins { kw } else { 1 };
        let taps = taps_over(conv, 0, py).into_iter().flat_map(|(ky, y)| {
            let from =
                move |x: isize| (y + before[0] as isize) as usize * row + (x + before[1] as isize) as usize * pixel;
            let tap = move |(kx, x): &(usize, isize)| Tap {
                from: from(*x),
                weight: ((kh - 1 - ky) * kw + kw - 1 - kx) * outer,
                len: step * outer,
            };
            columns.iter().step_by(step).map(tap).collect::<Vec<_>>()
        });
        let pixels = Pixels {
            count: [(conv.image[0] - py).div_ceil(stride[0]), (conv.image[1] - px).div_ceil(stride[1])],
            from: 0,
            steps: [row, pixel],
            to: (py * conv.image[1] + px) * conv.channels_in,
            result_steps: [stride[0] * conv.image[1] * conv.channels_in, stride[1] * conv.channels_in],
        };
        let (taps, width) = (taps.collect(), blocks.block(0).width);
        match channelwise {
            true => Sweep::channelwise(&pixels, taps, conv.path),
            false => Sweep::new(&pixels, taps, joins.then_some(kw), width, conv.path),
        }
    };
    let sweeps: Vec<Sweep> = sweeps.map(sweep).collect();
    let rows = sweeps.iter().map(Sweep::rows).max().unwrap_or(0);
    let seen = before[0] + furthest[0] as usize + 1;
    let sums = Correlation {
        slabs: Slabs::new(rows, 1, seen, &frame, 0, SLAB),
        batch: conv.batch,
        groups,
        frame,
        result_len: conv.image[0] * conv.image[1] * conv.channels_in,
        group_in: outer,
        sweeps,
        blocks,
        channelwise,
        winograd: None,
    };
    if conv.has_small_taps() { sums.by_winograd(conv.path, conv.image) } else { sums }
}

#[cfg(test)]
mod tests;
