//! The output of a convolution most of whose weights are zero, as pruning leaves it.
//!
//! ```text
//!   y[p, o] = sum over weights of o that are not zero:  w x[p + t, c]
//! ```
//!
//! Here pixels lie in the lanes of a vector, not channels, so that a weight that is zero costs nothing. The channels of a
//! slab are taken apart into planes, framed as always; a pixel and a tap are a place in a plane and how far to go from
//! there. Places in the frame's columns are computed in vain. A tile of places goes through the weights of all channels.
//!
//! Each number is the sum of the same products in the same order wherever it lies, so no thread and no batch changes it.

// Tiles are arrays that the compiler keeps in registers: it does where they are walked over by place.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::source::{Frame, Slabs};
use super::sweep::{End, write};
use super::{Conv, Epilogue};
use crate::scratch::with_scratch;
use crate::share::{Shared, share};
use crate::simd::{self, Task, Vector};

/// Vectors of places that are summed at once: as many as waste little time on places behind the last pixel.
const VECTORS: [usize; 3] = [4, 2, 1];
/// Bytes of the planes of a slab: they stay in the second cache, and threads share out the slabs of one image.
const SLAB: usize = 128 * 1024;
/// What a multiplication takes here, or reading a weight for those of a tile, in multiplications by all weights: measured with
/// AVX-512, where both ways were equally fast.
const COST: f64 = 3.0;
/// What a number takes that goes in or out, whose layout changes, in the same unit.
const MOVE: f64 = 40.0;

/// A convolution made ready from the weights that are not zero: pixels lie in the lanes of its vectors, not channels.
#[derive(Debug, Clone)]
pub struct Sparse {
    conv: Conv,
    frame: Frame,
    slabs: Slabs,
    /// One of [`VECTORS`].
    vectors: usize,
    /// Numbers of a plane.
    plane: usize,
    /// Where the weights of each channel that comes out begin, and where the last ones end.
    starts: Vec<usize>,
    /// The weights that are not zero.
    weights: Vec<Weight>,
}

#[derive(Debug, Clone, Copy)]
struct Weight {
    value: f32,
    /// How far what it is multiplied with is from the place of the pixel.
    place: u32,
}

impl Sparse {
    /// Prepares the weight `[out, in, kh, kw]` of a convolution, if that is computed faster this way: in steps of one
    /// pixel, in one group, and with few enough weights that are not zero. `share` is what the other way takes of the time for
    /// its sums.
    pub(super) fn new(conv: &Conv, weight: &[f32], share: f64) -> Option<Self> {
        let window = conv.window;
        let found = Self::unweighted(conv)?;
        let nonzero = weight.iter().filter(|w| **w != 0.0).count();
        let pixels = conv.places().map(|count| count as f64);
        // Multiplications for a pixel, as many at once as a vector has lanes.
        let dense = weight.len() / conv.channels_out * conv.channels_out.next_multiple_of(conv.path.lanes());
        let moved = MOVE * (conv.channels_in + conv.channels_out) as f64 * pixels[0] * pixels[1];
        let sparse = nonzero as f64 * found.cost(found.vectors) * found.slabs.count() as f64;
        if sparse + moved > share * dense as f64 * pixels[0] * pixels[1] {
            return None;
        }
        let [kh, kw] = window.kernel;
        let mut made = Self { starts: vec![0], weights: Vec::with_capacity(nonzero), ..found };
        for filter in weight.chunks_exact(conv.channels_in * kh * kw) {
            for (number, value) in filter.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                let (channel, ky, kx) = (number / (kh * kw), number / kw % kh, number % kw);
                let in_plane = ky * window.dilation[0] * made.width() + kx * window.dilation[1];
                made.weights
                    .push(Weight { value: *value, place: u32::try_from(channel * made.plane + in_plane).ok()? });
            }
            made.starts.push(made.weights.len());
        }
        Some(made)
    }

    /// All but the weights.
    fn unweighted(conv: &Conv) -> Option<Self> {
        let window = conv.window;
        if window.stride != [1; 2] || conv.groups != 1 {
            return None;
        }
        let [top, left, bottom, right] = window.padding;
        let frame =
            Frame { image: conv.image, channels: conv.channels_in, before: [top, left], after: [bottom, right] };
        let seen = (window.kernel[0] - 1) * window.dilation[0] + 1;
        let slabs = Slabs::new(conv.places()[0], 1, seen, &frame, 0, SLAB);
        // The last tile's places that are computed in vain lie there, too.
        let plane = slabs.framed(&(0..slabs.at_once)).len() * frame.outer()[1] + VECTORS[0] * conv.path.lanes();
        let all = Self { conv: *conv, frame, slabs, vectors: 1, plane, starts: Vec::new(), weights: Vec::new() };
        let vectors = VECTORS.into_iter().min_by(|a, b| all.cost(*a).total_cmp(&all.cost(*b)))?;
        Some(Self { vectors, ..all })
    }

    /// What a weight takes in a slab, in multiplications, if so many vectors are summed at once.
    fn cost(&self, vectors: usize) -> f64 {
        let places = self.span(self.slabs.at_once).next_multiple_of(vectors * self.conv.path.lanes());
        places as f64 * COST * (1.0 + 1.0 / vectors as f64)
    }

    /// Places of a row, with the frame's.
    fn width(&self) -> usize {
        self.frame.outer()[1]
    }

    /// Places from the first pixel of some rows to the last one.
    fn span(&self, rows: usize) -> usize {
        (rows - 1) * self.width() + self.conv.places()[1]
    }

    /// The output `y`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
        let Conv { batch, channels_out, path, .. } = self.conv;
        let [height, width] = self.conv.places();
        let (image_len, row) = (self.frame.image_len(), width * channels_out);
        assert_eq!(x.len(), batch * image_len, "size of the images");
        assert_eq!(y.len(), batch * height * row, "size of the result");
        epilogue.check(channels_out, y.len());
        let result = Shared::new(y);
        let count = self.slabs.count();
        let (planes_len, sums_len) = (self.conv.channels_in * self.plane, channels_out * self.vectors * path.lanes());
        share(batch * count, |items| {
            with_scratch(planes_len + sums_len, |work| {
                // The frame stays zero.
                work.fill(0.0);
                let (planes, sums) = work.split_at_mut(planes_len);
                for item in items {
                    let (number, rows) = (item / count, self.slabs.rows_of(item % count));
                    let at = (number * height + rows.start) * row;
                    // SAFETY: each item comes to one thread, and has rows of its own.
                    let y = unsafe { result.slice(at, rows.len() * row) };
                    let residual = epilogue.residual.map(|residual| &residual[at..at + y.len()]);
                    let image = &x[number * image_len..][..image_len];
                    let slab =
                        Slab { of: self, image, rows, planes, sums, y, epilogue: Epilogue { residual, ..epilogue } };
                    match self.vectors {
                        4 => simd::run(path, Tiles::<4>(slab)),
                        2 => simd::run(path, Tiles::<2>(slab)),
                        _ => simd::run(path, Tiles::<1>(slab)),
                    }
                }
            });
        });
    }
}

/// Some rows of an image's output.
struct Slab<'a> {
    of: &'a Sparse,
    image: &'a [f32],
    rows: Range<usize>,
    planes: &'a mut [f32],
    /// The sums of a tile: `[channel, place]`.
    sums: &'a mut [f32],
    y: &'a mut [f32],
    epilogue: Epilogue<'a>,
}

/// Tiles of `N` vectors of places of it.
struct Tiles<'a, const N: usize>(Slab<'a>);

impl<const N: usize> Task for Tiles<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut slab = self.0;
        slab.take_apart::<V>();
        let span = slab.of.span(slab.rows.len());
        for first in (0..span).step_by(N * V::LANES) {
            slab.add_up::<V, N>(first);
            for start in (first..span.min(first + N * V::LANES)).step_by(V::LANES) {
                slab.put::<V, N>(start - first, start..span.min(start + V::LANES));
            }
        }
    }
}

impl Slab<'_> {
    /// Writes the channels of the rows that are seen into their planes.
    #[inline(always)]
    fn take_apart<V: Vector>(&mut self) {
        let Sparse { frame, slabs, plane, .. } = self.of;
        let (channels, [height, width]) = (frame.channels, frame.image);
        assert!(self.image.len() == height * width * channels && self.planes.len() == channels * plane);
        for (number, row) in slabs.framed(&self.rows).enumerate() {
            let to = number * self.of.width() + frame.before[1];
            let y = row.checked_sub(frame.before[0]).filter(|y| *y < height);
            for channel in (0..channels).step_by(V::LANES) {
                let lanes = V::LANES.min(channels - channel);
                for x in (0..width).step_by(V::LANES) {
                    let pixels = V::LANES.min(width - x);
                    let Some(y) = y else {
                        for channel in channel..channel + lanes {
                            self.planes[channel * plane + to + x..][..pixels].fill(0.0);
                        }
                        continue;
                    };
                    let from = &self.image[(y * width + x) * channels + channel..];
                    let square = simd::columns::<V>(from, channels, pixels, lanes);
                    for (channel, numbers) in (channel..).zip(square.iter().take(lanes)) {
                        let to = &mut self.planes[channel * plane + to + x..][..pixels];
                        // SAFETY: the slice has as many numbers as the mask has lanes.
                        unsafe { numbers.store_first(to.as_mut_ptr(), V::first(pixels)) };
                    }
                }
            }
        }
    }

    /// The sums of a tile, from the place `first` on.
    #[inline(always)]
    fn add_up<V: Vector, const N: usize>(&mut self, first: usize) {
        let tile = N * V::LANES;
        assert!(
            self.sums.len() == self.of.conv.channels_out * tile && self.of.starts.len() > self.of.conv.channels_out
        );
        let planes = self.planes.as_ptr().wrapping_add(first);
        for (ends, sums) in self.of.starts.windows(2).zip(self.sums.chunks_exact_mut(tile)) {
            let (pairs, rest) = self.of.weights[ends[0]..ends[1]].as_chunks::<2>();
            let mut sum = [[V::zero(); N]; 2];
            // SAFETY: a weight's place and a tile's places behind it lie in a plane.
            unsafe {
                for pair in pairs {
                    for (weight, sum) in pair.iter().zip(&mut sum) {
                        add::<V, N>(planes, weight, sum);
                    }
                }
                for weight in rest {
                    add::<V, N>(planes, weight, &mut sum[0]);
                }
                for v in 0..N {
                    sum[0][v].add(sum[1][v]).store(sums.as_mut_ptr().add(v * V::LANES));
                }
            }
        }
    }

    /// Writes the sums of a vector of places, from that number in the tile on, to the pixels they belong to.
    #[inline(always)]
    fn put<V: Vector, const N: usize>(&mut self, first: usize, places: Range<usize>) {
        let channels = self.of.conv.channels_out;
        let (width, across) = (self.of.width(), self.of.conv.places()[1]);
        let rows = self.rows.len();
        assert!(self.y.len() == rows * across * channels && places.end <= self.of.span(rows));
        for channel in (0..channels).step_by(V::LANES) {
            let lanes = V::LANES.min(channels - channel);
            let mask = V::first(lanes);
            let tile = N * V::LANES;
            let square = simd::columns::<V>(&self.sums[channel * tile + first..], tile, lanes, places.len());
            let end = End {
                bias: self.epilogue.bias.map_or(std::ptr::null(), |bias| bias[channel..].as_ptr()),
                residual: self.epilogue.residual.map_or(std::ptr::null(), |residual| residual[channel..].as_ptr()),
                relu: self.epilogue.relu,
            };
            let y = self.y[channel..].as_mut_ptr();
            for (place, sum) in places.clone().zip(&square).filter(|(place, _)| place % width < across) {
                let pixel = (place / width * across + place % width) * channels;
                // SAFETY: the lanes of the mask are channels that there are, of this pixel; the epilogue has their numbers, as
                // was checked when the run began.
                unsafe { write([*sum], y, pixel, [mask], end) };
            }
        }
    }
}

/// Adds a weight's products to the sums of a tile.
///
/// # Safety
///
/// The weight's place and a tile's places behind it are in memory.
#[inline(always)]
unsafe fn add<V: Vector, const N: usize>(planes: *const f32, weight: &Weight, sum: &mut [V; N]) {
    let value = V::splat(weight.value);
    for v in 0..N {
        // SAFETY: as the caller vouches.
        let numbers = unsafe { V::load(planes.add(weight.place as usize + v * V::LANES)) };
        sum[v] = value.mul_add(numbers, sum[v]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Convolution, Window};
    use super::*;
    use crate::simd::Path;
    use crate::testing::numbers;

    fn outputs(conv: &Conv, weight: &[f32], epilogue: Epilogue<'_>) -> Option<[Vec<f32>; 2]> {
        let [h, w] = conv.places();
        let x = numbers(conv.batch * conv.image[0] * conv.image[1] * conv.channels_in, 2);
        let mut found = vec![f32::NAN; conv.batch * h * w * conv.channels_out];
        let mut expected = found.clone();
        Sparse::new(conv, weight, 1.0)?.forward(&x, &mut found, epilogue);
        let all = Convolution::new(conv);
        let mut packed = vec![0.0; all.packed_len()];
        all.pack(weight, &mut packed);
        all.forward(&x, &packed, &mut expected, epilogue);
        Some([found, expected])
    }

    fn pruned(conv: &Conv, keep: f32) -> Vec<f32> {
        let chosen = numbers(conv.weight_len(), 7);
        let weight = numbers(conv.weight_len(), 1).into_iter().zip(chosen);
        weight.map(|(w, chosen)| if chosen.abs() < keep { w } else { 0.0 }).collect()
    }

    fn paths() -> impl Strategy<Value = Path> {
        prop::sample::select(Path::ALL.into_iter().filter(|path| path.is_available()).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn outputs_are_those_of_all_weights(
            batch in 1usize..3, image in [1usize..30, 1usize..40], channels in [1usize..40, 17usize..60],
            kernel in [1usize..4, 1usize..4], padding in [0usize..3, 0usize..3, 0usize..3, 0usize..3], dilation in [1usize..3, 1usize..3],
            keep in 0f32..0.1, path in paths(),
        ) {
            let window = Window { kernel, stride: [1; 2], padding, dilation };
            let image = [image[0] + 5, image[1] + 5];
            let conv = Conv { batch, image, channels_in: channels[0], channels_out: channels[1], window, groups: 1, path };
            let weight = pruned(&conv, keep);
            let [h, w] = conv.places();
            let (bias, residual) = (numbers(channels[1], 3), numbers(batch * h * w * channels[1], 4));
            for epilogue in [Epilogue::default(), Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true }] {
                if let Some([found, expected]) = outputs(&conv, &weight, epilogue) {
                    prop_assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-4));
                }
            }
        }
    }

    #[test]
    fn it_is_chosen_where_few_weights_are_left() {
        let window = Window { kernel: [3; 2], stride: [1; 2], padding: [1; 4], dilation: [1; 2] };
        let conv = Conv {
            batch: 1,
            image: [32; 2],
            channels_in: 32,
            channels_out: 32,
            window,
            groups: 1,
            path: Path::chosen(),
        };
        assert_eq!(Sparse::new(&conv, &pruned(&conv, 0.05), 1.0).map(|s| s.slabs.count()), Some(2));
        assert!(Sparse::new(&conv, &pruned(&conv, 0.9), 1.0).is_none(), "most weights are left");
        let strided = Conv { window: Window { stride: [2, 1], ..window }, ..conv };
        assert!(Sparse::new(&strided, &pruned(&conv, 0.05), 1.0).is_none(), "pixels of a row do not lie together");
    }

    #[test]
    fn the_bits_depend_on_neither_threads_nor_the_batch() {
        let window = Window { kernel: [3; 2], stride: [1; 2], padding: [1; 4], dilation: [1; 2] };
        let conv = |batch| {
            let path = Path::chosen();
            Conv { batch, image: [33, 29], channels_in: 24, channels_out: 40, window, groups: 1, path }
        };
        let weight = pruned(&conv(1), 0.1);
        let run = |batch: usize, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| outputs(&conv(batch), &weight, Epilogue::default()))
                .map(|[found, _]| found[..33 * 29 * 40].to_vec())
        };
        let one = run(1, 1);
        assert!(one.is_some() && one == run(1, 3) && one == run(4, 2));
    }
}
