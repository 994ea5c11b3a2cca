//! The sums that a convolution and its input gradient are made of: at each pixel of the result, over runs of numbers of
//! the source, a block of channels at a time.
//!
//! ```text
//!   result[pixel, channel] = sum over taps, sum over i < run:  source[pixel + tap + i] * weight[tap, i, channel]
//! ```
//!
//! Channels lie in the lanes of one or two vectors; a tile of pixels is summed in registers. Where the taps of a row of the
//! kernel are next to each other and pixels too, a number of the source that is loaded once serves all taps it is under
//! ([`RowTiles`]); in general it is loaded once a tap ([`Tiles`]).

// Tiles are arrays that the compiler keeps in registers: it does where they are walked over by place.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use crate::simd::{self, Path, Task, Vector};

/// One run of numbers that lie together in source and weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// Where the run begins in the source, from where the pixel's sum begins.
    pub(super) from: usize,
    /// The place of its first weight: multiplied by a block's width it is where that lies in the block.
    pub(super) weight: usize,
    /// Numbers of the run.
    pub(super) len: usize,
}

/// Some pixels of one row of the result.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: usize,
    to: usize,
}

/// Pixels of the result that are summed alike. See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Sweep {
    path: Path,
    /// Numbers of the source from one pixel to the next.
    step: usize,
    /// Numbers of the result from one pixel to the next.
    result_step: usize,
    taps: Vec<Tap>,
    /// Taps of a kernel's row, where each of `taps` is such a row and its taps are `step` numbers apart.
    row: Option<usize>,
    /// Whether each channel of the result is the sum over that channel of the source alone. A tap is of one number then.
    channelwise: bool,
    /// Segments of so many pixels each, row by row.
    segments: Vec<(usize, Vec<Segment>)>,
    /// Rows of pixels.
    rows: usize,
}

/// A grid of pixels. Two numbers are `[height, width]`.
pub(super) struct Pixels {
    /// How many there are.
    pub(super) count: [usize; 2],
    /// The first one's place in the source, and numbers from one to the next.
    pub(super) from: usize,
    /// See `from`.
    pub(super) steps: [usize; 2],
    /// The first one's place in the result, and numbers from one to the next.
    pub(super) to: usize,
    /// See `to`.
    pub(super) result_steps: [usize; 2],
}

/// What becomes of the sums before they are written.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// One number a channel, or null.
    pub(super) bias: *const f32,
    /// Numbers to add, laid out as the result; or null.
    pub(super) residual: *const f32,
    /// Whether negative numbers become zero.
    pub(super) relu: bool,
}

/// Pixels that a row's tile has at most.
const ROW_TILE: usize = 8;

impl Sweep {
    /// The sums at `pixels`. `row` says that each tap is a row of so many, next to each other as the pixels are.
    pub(super) fn new(pixels: &Pixels, taps: Vec<Tap>, row: Option<usize>, lanes_in_block: usize, path: Path) -> Self {
        let Pixels { count: [height, width], from, steps, to, result_steps } = *pixels;
        let lanes = path.lanes();
        // Where there are few registers, two vectors a pixel leave room for half as many pixels.
        let most = if lanes_in_block > lanes && lanes < 16 { ROW_TILE / 2 } else { ROW_TILE };
        let row = row.filter(|taps| matches!(taps, 3 | 5) && width >= 4 && (most == ROW_TILE || width % 4 == 0));
        let row = row.filter(|taps| lanes >= 16 || *taps == 3);
        let widths: Vec<usize> = match row {
            Some(_) => {
                let parts = width.div_ceil(most);
                (0..parts).map(|part| (part + 1) * width / parts - part * width / parts).collect()
            }
            None => {
                let rest = width % 4;
                let mut widths = vec![4; width / 4];
                widths.extend([2, 1].into_iter().filter(|bit| rest & bit > 0));
                widths
            }
        };
        let mut segments: Vec<(usize, Vec<Segment>)> = Vec::new();
        for y in 0..height {
            let mut x = 0;
            for &pixels in &widths {
                let segment = Segment {
                    from: from + y * steps[0] + x * steps[1],
                    to: to + y * result_steps[0] + x * result_steps[1],
                };
                match segments.iter_mut().find(|(width, _)| *width == pixels) {
                    Some((_, found)) => found.push(segment),
                    None => segments.push((pixels, vec![segment])),
                }
                x += pixels;
            }
        }
        Self {
            path,
            step: steps[1],
            result_step: result_steps[1],
            taps,
            row,
            channelwise: false,
            segments,
            rows: height,
        }
    }

    /// The sums at `pixels`, of each channel for itself: `source[pixel + tap, channel] * weight[tap, channel]`.
    pub(super) fn channelwise(pixels: &Pixels, taps: Vec<Tap>, path: Path) -> Self {
        Self { channelwise: true, ..Self::new(pixels, taps, None, 0, path) }
    }

    /// How many rows of pixels there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Computes some rows of pixels, for one block of `channels`: at most two vectors of them, in one vector if they fit.
    ///
    /// # Safety
    ///
    /// With what the sweep was made of, all places of `source`, of the block `weights` and, for `channels` channels, of
    /// `result` and the residual are in memory that nobody else writes to, and nobody else reads the result.
    pub(super) unsafe fn block(
        &self,
        rows: Range<usize>,
        source: *const f32,
        weights: *const f32,
        result: *mut f32,
        channels: usize,
        end: End,
    ) {
        for (width, segments) in &self.segments {
            let in_row = segments.len() / self.rows;
            let segments = &segments[rows.start * in_row..rows.end.min(self.rows) * in_row];
            let work = Work { sweep: self, segments, source, weights, result, channels, end };
            if channels <= self.path.lanes() { work.segments::<1>(*width) } else { work.segments::<2>(*width) }
        }
    }
}

/// One block of channels of some segments. Whoever makes one vouches for what [`Sweep::block`] asks for.
#[derive(Clone, Copy)]
struct Work<'a> {
    sweep: &'a Sweep,
    segments: &'a [Segment],
    source: *const f32,
    weights: *const f32,
    result: *mut f32,
    channels: usize,
    end: End,
}

impl<'a> Work<'a> {
    /// All segments, which are of `width` pixels, with `N` vectors a pixel.
    fn segments<const N: usize>(self, width: usize) {
        let path = self.sweep.path;
        match (self.sweep.row, width) {
            (Some(3), 8) => self.row_tiles::<8, N, 3>(path),
            (Some(3), 7) => self.row_tiles::<7, N, 3>(path),
            (Some(3), 6) => self.row_tiles::<6, N, 3>(path),
            (Some(3), 5) => self.row_tiles::<5, N, 3>(path),
            (Some(3), _) => self.row_tiles::<4, N, 3>(path),
            (Some(_), 8) => self.row_tiles::<8, N, 5>(path),
            (Some(_), 7) => self.row_tiles::<7, N, 5>(path),
            (Some(_), 6) => self.row_tiles::<6, N, 5>(path),
            (Some(_), 5) => self.row_tiles::<5, N, 5>(path),
            (Some(_), _) => self.row_tiles::<4, N, 5>(path),
            (None, 4) => self.tiles::<4, N>(path),
            (None, 2) => self.tiles::<2, N>(path),
            (None, _) => self.tiles::<1, N>(path),
        }
    }

    fn tiles<const Q: usize, const N: usize>(mut self, path: Path) {
        let most = if path == Path::Avx512 { 24 } else { 12 };
        if self.sweep.channelwise {
            if Q * N <= 4 && self.segments.len() >= 2 {
                simd::run(path, ChannelTiles::<2, Q, N>(self.take(2)));
            }
            return simd::run(path, ChannelTiles::<1, Q, N>(self));
        }
        macro_rules! tiles {
            ($($segments:literal)*) => { $(
                if $segments * Q * N <= most && self.segments.len() >= $segments {
                    let work = self.take($segments);
                    simd::run(path, Tiles::<$segments, Q, N>(work));
                }
            )* };
        }
        tiles!(12 6 3 2 1);
    }

    fn row_tiles<const P: usize, const N: usize, const K: usize>(mut self, path: Path) {
        if N == 1 && path == Path::Avx512 {
            simd::run(path, RowTiles::<2, P, N, K>(self.take(2)));
        }
        simd::run(path, RowTiles::<1, P, N, K>(self));
    }

    /// Takes as many of the first segments off as make up tiles of `size` segments.
    fn take(&mut self, size: usize) -> Self {
        let (taken, left) = self.segments.split_at(self.segments.len() / size * size);
        self.segments = left;
        Self { segments: taken, ..*self }
    }

    #[inline(always)]
    fn masks<V: Vector, const N: usize>(&self) -> [V::Mask; N] {
        std::array::from_fn(|v| V::first(self.channels.saturating_sub(v * V::LANES)))
    }
}

/// Tiles of `G` segments of `Q` pixels.
struct Tiles<'a, const G: usize, const Q: usize, const N: usize>(Work<'a>);

impl<const G: usize, const Q: usize, const N: usize> Task for Tiles<'_, G, Q, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Work { sweep: &Sweep { step, result_step, ref taps, .. }, segments, source, weights, result, end, .. } =
            self.0;
        let masks = self.0.masks::<V, N>();
        for segments in segments.as_chunks::<G>().0 {
            let mut sums = [[[V::zero(); N]; Q]; G];
            // SAFETY: whoever made the work vouches for all places.
            unsafe {
                for tap in taps {
                    let mut from = [source; G];
                    for g in 0..G {
                        from[g] = source.add(segments[g].from + tap.from);
                    }
                    let mut weights = weights.add(tap.weight * N * V::LANES);
                    for _ in 0..tap.len {
                        let mut weight = [V::zero(); N];
                        for v in 0..N {
                            weight[v] = V::load(weights.add(v * V::LANES));
                        }
                        for g in 0..G {
                            for q in 0..Q {
                                let number = V::splat(*from[g].add(q * step));
                                for v in 0..N {
                                    sums[g][q][v] = number.mul_add(weight[v], sums[g][q][v]);
                                }
                            }
                            from[g] = from[g].add(1);
                        }
                        weights = weights.add(N * V::LANES);
                    }
                }
                for g in 0..G {
                    for q in 0..Q {
                        write(sums[g][q], result, segments[g].to + q * result_step, masks, end);
                    }
                }
            }
        }
    }
}

/// Tiles of `G` segments of `Q` pixels, each channel for itself.
struct ChannelTiles<'a, const G: usize, const Q: usize, const N: usize>(Work<'a>);

impl<const G: usize, const Q: usize, const N: usize> Task for ChannelTiles<'_, G, Q, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Work { sweep: &Sweep { step, result_step, ref taps, .. }, segments, source, weights, result, end, .. } =
            self.0;
        let masks = self.0.masks::<V, N>();
        for segments in segments.as_chunks::<G>().0 {
            let mut sums = [[[V::zero(); N]; Q]; G];
            // SAFETY: whoever made the work vouches for all places.
            unsafe {
                for tap in taps {
                    let weights = weights.add(tap.weight * N * V::LANES);
                    let mut weight = [V::zero(); N];
                    for v in 0..N {
                        weight[v] = V::load(weights.add(v * V::LANES));
                    }
                    for g in 0..G {
                        let from = source.add(segments[g].from + tap.from);
                        for q in 0..Q {
                            for v in 0..N {
                                let numbers = V::load_first(from.add(q * step + v * V::LANES), masks[v]);
                                sums[g][q][v] = numbers.mul_add(weight[v], sums[g][q][v]);
                            }
                        }
                    }
                }
                for g in 0..G {
                    for q in 0..Q {
                        write(sums[g][q], result, segments[g].to + q * result_step, masks, end);
                    }
                }
            }
        }
    }
}

/// Tiles of `G` segments of `P` pixels: each number of the source is under up to `K` taps of a row.
struct RowTiles<'a, const G: usize, const P: usize, const N: usize, const K: usize>(Work<'a>);

impl<const G: usize, const P: usize, const N: usize, const K: usize> Task for RowTiles<'_, G, P, N, K> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Work { sweep: &Sweep { step, result_step, ref taps, .. }, segments, source, weights, result, end, .. } =
            self.0;
        let masks = self.0.masks::<V, N>();
        let to_next_tap = step * N * V::LANES;
        for segments in segments.as_chunks::<G>().0 {
            let mut sums = [[[V::zero(); N]; P]; G];
            // SAFETY: whoever made the work vouches for all places.
            unsafe {
                for tap in taps {
                    let mut from = [source; G];
                    for g in 0..G {
                        from[g] = source.add(segments[g].from + tap.from);
                    }
                    let mut weights = weights.add(tap.weight * N * V::LANES);
                    for _ in 0..step {
                        let mut weight = [[V::zero(); N]; K];
                        for k in 0..K {
                            for v in 0..N {
                                weight[k][v] = V::load(weights.add(k * to_next_tap + v * V::LANES));
                            }
                        }
                        for g in 0..G {
                            // The number that is `j` pixels from the segment's first is under tap `k` of pixel `j - k`.
                            for j in 0..P + K - 1 {
                                let number = V::splat(*from[g].add(j * step));
                                for k in 0..K {
                                    if j >= k && j - k < P {
                                        for v in 0..N {
                                            sums[g][j - k][v] = number.mul_add(weight[k][v], sums[g][j - k][v]);
                                        }
                                    }
                                }
                            }
                            from[g] = from[g].add(1);
                        }
                        weights = weights.add(N * V::LANES);
                    }
                }
                for g in 0..G {
                    for p in 0..P {
                        write(sums[g][p], result, segments[g].to + p * result_step, masks, end);
                    }
                }
            }
        }
    }
}

/// # Safety
///
/// The lanes of `masks` can be written at `result + to`, and read there of a residual and of a bias from its start.
#[inline(always)]
pub(super) unsafe fn write<V: Vector, const N: usize>(
    sums: [V; N],
    result: *mut f32,
    to: usize,
    masks: [V::Mask; N],
    end: End,
) {
    for v in 0..N {
        let mut sum = sums[v];
        // SAFETY: as the caller vouches.
        unsafe {
            if !end.bias.is_null() {
                sum = sum.add(V::load_first(end.bias.add(v * V::LANES), masks[v]));
            }
            if !end.residual.is_null() {
                sum = sum.add(V::load_first(end.residual.add(to + v * V::LANES), masks[v]));
            }
            if end.relu {
                sum = sum.relu();
            }
            sum.store_first(result.add(to + v * V::LANES), masks[v]);
        }
    }
}
