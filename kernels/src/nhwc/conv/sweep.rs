//! The sums that a convolution and its input gradient are made of: at each pixel of the result, over runs of numbers of
//! the source, a block of channels at a time.
//!
//! ```text
//!   result[pixel, channel] = sum over taps, sum over i < run:  source[pixel + tap + i] * weight[tap, i, channel]
//! ```
//!
//! Channels lie in the lanes of one or two vectors; a tile of pixels is summed in registers. Where the taps of a row of the
//! kernel are next to each other and pixels too, a number of the source that is loaded once serves all taps it is under
//! ([`row_tile`]); in general it is loaded once a tap ([`tile`]).

use crate::simd::Vector;

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
    /// Numbers of the source from one pixel to the next.
    step: usize,
    /// Numbers of the result from one pixel to the next.
    result_step: usize,
    taps: Vec<Tap>,
    /// Taps of a kernel's row, where each of `taps` is such a row and its taps are `step` numbers apart.
    row: Option<usize>,
    /// Segments of so many pixels each.
    segments: Vec<(usize, Vec<Segment>)>,
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
    pub(super) fn new(
        pixels: &Pixels,
        taps: Vec<Tap>,
        row: Option<usize>,
        lanes_in_block: usize,
        lanes: usize,
    ) -> Self {
        let Pixels { count: [height, width], from, steps, to, result_steps } = *pixels;
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
        Self { step: steps[1], result_step: result_steps[1], taps, row, segments }
    }

    /// How many segments there are: what may be divided between threads.
    pub(super) fn len(&self) -> usize {
        self.segments.iter().map(|(_, segments)| segments.len()).sum()
    }

    /// Computes the `part`th of `parts` equal parts of the segments, for one block of `channels`: at most two vectors of
    /// them, in one vector if they fit.
    ///
    /// # Safety
    ///
    /// With what the sweep was made of, all places of `source`, of the block `weights` and, for `channels` channels, of
    /// `result` and the residual are in memory that nobody else writes to, and nobody else reads the result.
    #[inline(always)]
    pub(super) unsafe fn block<V: Vector>(
        &self,
        [part, parts]: [usize; 2],
        source: *const f32,
        weights: *const f32,
        result: *mut f32,
        channels: usize,
        end: End,
    ) {
        for (width, segments) in &self.segments {
            let segments = &segments[part * segments.len() / parts..(part + 1) * segments.len() / parts];
            let work = Work { sweep: self, segments, source, weights, result, end };
            // SAFETY: as the caller vouches.
            unsafe {
                if channels <= V::LANES {
                    work.segments::<V, 1>(*width, [V::first(channels)]);
                } else {
                    work.segments::<V, 2>(*width, [V::first(V::LANES), V::first(channels - V::LANES)]);
                }
            }
        }
    }
}

/// One block of channels of some segments.
struct Work<'a> {
    sweep: &'a Sweep,
    segments: &'a [Segment],
    source: *const f32,
    weights: *const f32,
    result: *mut f32,
    end: End,
}

/// Accumulators that a tile may have where a processor has so many registers.
const fn accumulators(registers: usize) -> usize {
    if registers == 32 { 24 } else { 12 }
}

impl Work<'_> {
    /// # Safety
    ///
    /// As for [`Sweep::block`]; the segments are of `width` pixels.
    #[inline(always)]
    unsafe fn segments<V: Vector, const N: usize>(&self, width: usize, masks: [V::Mask; N]) {
        // SAFETY: as the caller vouches.
        unsafe {
            match (self.sweep.row, width) {
                (Some(3), 8) => self.row_tiles::<V, 8, N, 3>(masks),
                (Some(3), 7) => self.row_tiles::<V, 7, N, 3>(masks),
                (Some(3), 6) => self.row_tiles::<V, 6, N, 3>(masks),
                (Some(3), 5) => self.row_tiles::<V, 5, N, 3>(masks),
                (Some(3), _) => self.row_tiles::<V, 4, N, 3>(masks),
                (Some(_), 8) => self.row_tiles::<V, 8, N, 5>(masks),
                (Some(_), 7) => self.row_tiles::<V, 7, N, 5>(masks),
                (Some(_), 6) => self.row_tiles::<V, 6, N, 5>(masks),
                (Some(_), 5) => self.row_tiles::<V, 5, N, 5>(masks),
                (Some(_), _) => self.row_tiles::<V, 4, N, 5>(masks),
                (None, 4) => self.tiles::<V, 4, N>(masks),
                (None, 2) => self.tiles::<V, 2, N>(masks),
                (None, _) => self.tiles::<V, 1, N>(masks),
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Work::segments`].
    #[inline(always)]
    unsafe fn tiles<V: Vector, const Q: usize, const N: usize>(&self, masks: [V::Mask; N]) {
        let most = const { accumulators(V::REGISTERS) };
        let mut at = 0;
        // SAFETY: as the caller vouches; there are as many segments left as a tile takes.
        unsafe {
            macro_rules! tiles {
                ($($segments:literal)*) => { $(
                    if $segments * Q * N <= most {
                        while self.segments.len() - at >= $segments {
                            self.tile::<V, $segments, Q, N>(at, masks);
                            at += $segments;
                        }
                    }
                )* };
            }
            tiles!(12 6 3 2 1);
        }
    }

    /// # Safety
    ///
    /// As for [`Work::segments`]; there are `G` segments from `at` on.
    #[inline(always)]
    unsafe fn tile<V: Vector, const G: usize, const Q: usize, const N: usize>(&self, at: usize, masks: [V::Mask; N]) {
        let Work { sweep: &Sweep { step, result_step, .. }, source, result, end, .. } = *self;
        // SAFETY: the caller vouches for all places.
        unsafe {
            let mut sums = [[[V::zero(); N]; Q]; G];
            let mut begins = [source; G];
            for g in 0..G {
                begins[g] = source.add(self.segments.get_unchecked(at + g).from);
            }
            for tap in &self.sweep.taps {
                let mut from = begins;
                for g in 0..G {
                    from[g] = from[g].add(tap.from);
                }
                let mut weights = self.weights.add(tap.weight * N * V::LANES);
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
                let to = self.segments.get_unchecked(at + g).to;
                for q in 0..Q {
                    write(sums[g][q], result, to + q * result_step, masks, end);
                }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Work::segments`].
    #[inline(always)]
    unsafe fn row_tiles<V: Vector, const P: usize, const N: usize, const K: usize>(&self, masks: [V::Mask; N]) {
        let mut at = 0;
        // SAFETY: as the caller vouches; there are as many segments left as a tile takes.
        unsafe {
            if N == 1 && V::REGISTERS == 32 {
                while self.segments.len() - at >= 2 {
                    self.row_tile::<V, 2, P, N, K>(at, masks);
                    at += 2;
                }
            }
            while at < self.segments.len() {
                self.row_tile::<V, 1, P, N, K>(at, masks);
                at += 1;
            }
        }
    }

    /// `G` segments of `P` pixels: each number of the source is under up to `K` taps of a row.
    ///
    /// # Safety
    ///
    /// As for [`Work::tile`]; the sweep has rows of `K` taps.
    #[inline(always)]
    unsafe fn row_tile<V: Vector, const G: usize, const P: usize, const N: usize, const K: usize>(
        &self,
        at: usize,
        masks: [V::Mask; N],
    ) {
        let Work { sweep: &Sweep { step, result_step, .. }, source, result, end, .. } = *self;
        // SAFETY: the caller vouches for all places.
        unsafe {
            let mut sums = [[[V::zero(); N]; P]; G];
            let mut begins = [source; G];
            for g in 0..G {
                begins[g] = source.add(self.segments.get_unchecked(at + g).from);
            }
            for tap in &self.sweep.taps {
                let mut from = begins;
                for g in 0..G {
                    from[g] = from[g].add(tap.from);
                }
                let mut weights = self.weights.add(tap.weight * N * V::LANES);
                let to_next_tap = step * N * V::LANES;
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
                let to = self.segments.get_unchecked(at + g).to;
                for p in 0..P {
                    write(sums[g][p], result, to + p * result_step, masks, end);
                }
            }
        }
    }
}

/// # Safety
///
/// The lanes of `masks` can be written at `result + to`, and read there of a residual and of a bias from its start.
#[inline(always)]
unsafe fn write<V: Vector, const N: usize>(sums: [V; N], result: *mut f32, to: usize, masks: [V::Mask; N], end: End) {
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
