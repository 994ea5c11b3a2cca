//! The gradient at a convolution's weight.
//!
//! ```text
//!   dW[o, t, c] = sum over images, places p:  dy[p, o] x[p * stride + t * dilation - padding, c]
//! ```
//!
//! The taps of a kernel's row and their channels lie together in a framed image, so one of the factors is read in vectors
//! there (or, where that run is short, in `dy`) and the other number by number; a tile of products is summed in registers
//! over the pixels of some rows, or of several small images: sums that leave the registers cost as much as some pixels.
//!
//! ```text
//!   by images    each of at most CHUNKS parts of the batch has sums of its own, which are added in their order
//!   by weights   each thread has some of the sums and goes over all images: where the weight is large
//! ```

// Tiles are arrays that the compiler keeps in registers: it does where they are walked over by place.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use rayon::prelude::*;

use super::source::{Frame, Slabs};
use super::{Conv, Upstream, Window};
use crate::nhwc::CHUNKS;
use crate::scratch::with_scratch;
use crate::share::{Shared, parts_of_each, share};
use crate::simd::{self, Path, Task, Vector};

/// Channels of an image that are framed at once: with more, pixels would lie so far apart that they share places of the
/// cache.
const PANEL: usize = 64;
/// Output channels of a pixel from which on some of them are copied to lie together.
const FAR_APART: usize = 64;
/// Output channels that lie together then.
const STRIP: usize = 8;
/// Bytes of the rows that tiles go over: they stay in the second cache, from where vectors come quickly enough.
const ROWS: usize = 128 * 1024;
/// Bytes of small images that are gone over at once.
const IMAGES: usize = 2 * ROWS;

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct WeightGradient {
    path: Path,
    batch: usize,
    groups: usize,
    /// Numbers of a weight's kernel.
    kernel: [usize; 2],
    /// Channels of a group that go in, and of an image.
    channels_in: [usize; 2],
    /// Channels of a group that come out, and of an image.
    channels_out: [usize; 2],
    /// The frame of a panel: of all channels, or of [`PANEL`] of them.
    frame: Frame,
    panels: usize,
    slabs: Slabs,
    /// Images that are gone over at once: several where they are small.
    at_once: usize,
    places: [usize; 2],
    /// Numbers of a framed panel from one place to the next, `[height, width]`.
    steps: [usize; 2],
    /// Runs of numbers under the kernel, for one group: where each begins in a framed panel.
    runs: Vec<usize>,
    /// Numbers of a run.
    run: usize,
    /// Whether the vectors are read in `dy`.
    is_swapped: bool,
    by_images: bool,
}

impl WeightGradient {
    pub(super) fn new(conv: &Conv) -> Self {
        let Window { kernel: [kh, kw], stride, padding: [top, left, bottom, right], dilation } = conv.window;
        let joins = dilation[1] == 1 && conv.groups == 1;
        let panels = if joins { conv.channels_in.div_ceil(PANEL) } else { 1 };
        // Panels are equally wide; the last one may have less to do.
        let channels = conv.channels_in.div_ceil(panels);
        let frame = Frame { image: conv.image, channels, before: [top, left], after: [bottom, right] };
        let (inner, outer) = (conv.group_in(), conv.group_out());
        let columns = if joins { 1 } else { kw };
        let run = if joins { kw * channels } else { inner };
        let runs = (0..kh)
            .flat_map(|ky| (0..columns).map(move |kx| (ky, kx)))
            .map(|(ky, kx)| ky * dilation[0] * frame.row() + kx * dilation[1] * channels)
            .collect();
        let lanes = conv.path.lanes();
        let filled = |numbers: usize| numbers as f64 / numbers.next_multiple_of(lanes) as f64;
        let (places, packs) = (conv.places(), conv.channels_out >= FAR_APART);
        let beside = places[1] * if packs { STRIP } else { conv.channels_out };
        let mut made = Self {
            slabs: Slabs::new(places[0], stride[0], (kh - 1) * dilation[0] + 1, &frame, beside, ROWS),
            at_once: 1,
            path: conv.path,
            batch: conv.batch,
            groups: conv.groups,
            kernel: [kh, kw],
            channels_in: [inner, conv.channels_in],
            channels_out: [outer, conv.channels_out],
            frame,
            panels,
            places,
            steps: [stride[0] * frame.row(), stride[1] * channels],
            runs,
            run,
            is_swapped: filled(run) < 0.75 && filled(outer) > filled(run),
            by_images: true,
        };
        let streamed =
            conv.batch * (made.panels * frame.image_len() + made.places[0] * made.places[1] * conv.channels_out);
        made.by_images = panels == 1 && made.chunks() * made.sums() < streamed;
        if made.slabs.count() == 1 && made.packs() && conv.groups == 1 {
            let bytes = (made.framed_len() + made.strip_len()) * size_of::<f32>();
            made.at_once = (IMAGES / bytes).clamp(1, conv.batch.max(1));
        }
        made
    }

    fn chunks(&self) -> usize {
        CHUNKS.min(self.batch)
    }

    /// Numbers of a row of sums, and how many rows a run has.
    fn sums_of_run(&self) -> [usize; 2] {
        let (run, outer, lanes) = (self.run, self.channels_out[0], self.path.lanes());
        if self.is_swapped { [outer.next_multiple_of(lanes), run] } else { [run.next_multiple_of(lanes), outer] }
    }

    /// Numbers of all sums of a group and panel: `[out, run, number]`, or `[run, row, out]` if swapped.
    fn sums_of_part(&self) -> usize {
        let [numbers, rows] = self.sums_of_run();
        self.runs.len() * numbers * rows
    }

    /// Where the sums of channel `out` begin among those of a part; not if swapped.
    fn sums_of_out(&self, out: usize) -> usize {
        out * self.runs.len() * self.sums_of_run()[0]
    }

    fn sums(&self) -> usize {
        self.groups * self.panels * self.sums_of_part()
    }

    pub(super) fn scratch_len(&self) -> usize {
        if self.by_images { self.chunks() * self.sums() } else { self.sums() }
    }

    pub(super) fn goes_by_images(&self) -> bool {
        self.by_images
    }

    pub(super) fn run(&self, x: &[f32], dy: Upstream<'_>, dw: &mut [f32], scratch: &mut [f32]) {
        let image = self.frame.image[0] * self.frame.image[1] * self.channels_in[1];
        assert_eq!(x.len(), self.batch * image, "size of the images");
        let scratch = &mut scratch[..self.scratch_len()];
        let shared = Shared::new(scratch);
        match dy {
            Upstream::There(dy) if !self.by_images => {
                let parts = self.groups * self.panels;
                let strips = self.channels_out[0].div_ceil(STRIP);
                let most = if self.is_swapped { 1 } else { strips };
                // All images are framed for each range: so there are only a few.
                let ranges = parts_of_each(parts).div_ceil(4).min(most);
                share(parts * ranges, |items| self.by_weights(x, dy, shared, items, ranges));
            }
            _ => share(self.chunks(), |chunks| self.by_images(x, dy, shared, chunks)),
        }
        self.collect(scratch, dw);
    }

    /// Adds the sums of the chunks and puts them in their places of the weight.
    fn collect(&self, scratch: &mut [f32], dw: &mut [f32]) {
        // Numbers that one thread takes at least.
        const PIECE: usize = 1 << 13;
        let (sums, others) = scratch.split_at_mut(self.sums());
        let len = sums.len();
        sums.par_chunks_mut(PIECE).enumerate().for_each(|(piece, sums)| {
            for other in others.chunks_exact(len) {
                sums.iter_mut().zip(&other[piece * PIECE..]).for_each(|(sum, other)| *sum += other);
            }
        });
        let ([inner, _], [outer, _], [kh, kw]) = (self.channels_in, self.channels_out, self.kernel);
        let [numbers, rows] = self.sums_of_run();
        let (taps, width) = (kh * kw, self.frame.channels);
        let joins = self.runs.len() == kh;
        // From the sum of one channel to that of the next.
        let to_next = if self.is_swapped { numbers } else { 1 };
        let filters = dw.par_chunks_exact_mut(inner * taps).with_min_len((PIECE / (inner * taps)).max(1));
        filters.enumerate().for_each(|(out, dw)| {
            let (group, out) = (out / outer, out % outer);
            for (panel, dw) in dw.chunks_mut(width.min(inner) * taps).enumerate() {
                let part = &sums[(group * self.panels + panel) * self.sums_of_part()..];
                for tap in 0..taps {
                    let (run, place) = if joins { (tap / kw, tap % kw * width) } else { (tap, 0) };
                    let first = match self.is_swapped {
                        true => (run * rows + place) * numbers + out,
                        false => self.sums_of_out(out) + run * numbers + place,
                    };
                    let sums = part[first..].iter().step_by(to_next);
                    dw[tap..].iter_mut().step_by(taps).zip(sums).for_each(|(dw, sum)| *dw = *sum);
                }
            }
        });
    }

    /// Numbers of a strip: of some channels of `dy`, copied to lie together.
    fn strip_len(&self) -> usize {
        self.slabs.at_once * self.places[1] * STRIP
    }

    fn packs(&self) -> bool {
        self.channels_out[1] >= FAR_APART && !self.is_swapped
    }

    fn framed_len(&self) -> usize {
        self.slabs.len(&self.frame)
    }

    /// Numbers of an image's strips, for `outer` channels that come out.
    fn strips_len(&self, outer: usize) -> usize {
        if self.packs() { outer.div_ceil(STRIP) * self.strip_len() } else { 0 }
    }

    /// Numbers that the work on images takes, for `outer` channels that come out.
    fn work_len(&self, outer: usize) -> usize {
        self.at_once * (self.framed_len() + self.strips_len(outer))
    }

    /// Adds the products of an image with its gradient; `sums` are those of the part's channels.
    fn add_image(&self, part: &Part, image: (&[f32], &[f32]), work: &mut [f32], sums: &mut [f32]) {
        let (framed, strips) = work.split_at_mut(self.framed_len());
        for rows in (0..self.slabs.count()).map(|slab| self.slabs.rows_of(slab)) {
            let singles = self.gather(part, image, &rows, framed, strips);
            self.add(part, [1, rows.len()], singles, framed, sums);
        }
    }

    /// Adds the products of `count` images. `gather` is called with each one's number and its place for [`Self::gather`].
    fn add_images(
        &self,
        part: &Part,
        count: usize,
        work: &mut [f32],
        sums: &mut [f32],
        mut gather: impl FnMut(usize, &mut [f32], &mut [f32]),
    ) {
        let (framed, strips) = work.split_at_mut(self.at_once * self.framed_len());
        let of_each = strips.chunks_exact_mut(self.strips_len(part.outs.len()));
        for (number, (framed, strips)) in
            framed.chunks_exact_mut(self.framed_len()).zip(of_each).take(count).enumerate()
        {
            gather(number, framed, strips);
        }
        self.add(part, [count, self.places[0]], strips, framed, sums);
    }

    /// Frames some rows of an image, and gives the gradient at them: as it is, or in strips.
    fn gather<'a>(
        &self,
        part: &Part,
        (image, dy): (&[f32], &'a [f32]),
        rows: &Range<usize>,
        framed: &mut [f32],
        strips: &'a mut [f32],
    ) -> &'a [f32] {
        let [[_, all_in], [outer, all_out]] = [self.channels_in, self.channels_out];
        self.frame.fill(image, part.panel * self.frame.channels, all_in, self.slabs.framed(rows), framed);
        let dy = &dy[rows.start * self.places[1] * all_out..rows.end * self.places[1] * all_out];
        let first = part.group * outer + part.outs.start;
        if !self.packs() {
            return &dy[first..];
        }
        self.pack(dy, first, strips);
        strips
    }

    /// Adds the products of so many images and rows.
    fn add(&self, part: &Part, count: [usize; 2], singles: &[f32], framed: &[f32], sums: &mut [f32]) {
        let outs = part.outs.len();
        let [numbers, rows_of_run] = self.sums_of_run();
        let (pixel, strip) = if self.packs() { (STRIP, self.strip_len()) } else { (self.channels_out[1], STRIP) };
        let tiles = Tiles {
            path: self.path,
            single_steps: [self.strips_len(outs), self.places[1] * pixel, pixel],
            vector_steps: [self.framed_len(), self.steps[0], self.steps[1]],
            count: [count[0], count[1], self.places[1]],
            to_next_row: if self.is_swapped { numbers } else { self.runs.len() * numbers },
            runs: [1, 0, 0],
        };
        let x = &framed[part.group * self.channels_in[0]..];
        if self.is_swapped {
            // The distance of runs is that of rows of the kernel, or of its taps if they do not lie together.
            let at_once = if let 3 | 5 = self.runs.len() { self.runs.len() } else { 1 };
            let distance = if at_once > 1 { self.runs[1] - self.runs[0] } else { 0 };
            let tiles = Tiles { runs: [at_once, distance, numbers * rows_of_run], ..tiles.swapped() };
            for (number, run) in self.runs.iter().enumerate().step_by(at_once) {
                let sums = &mut sums[number * numbers * rows_of_run..];
                // SAFETY: the places of these rows lie in the framed slab and in the gradient's image.
                unsafe { tiles.add(&x[*run..], singles, self.run, outs, sums) };
            }
            return;
        }
        for (number, run) in self.runs.iter().enumerate() {
            for out in (0..outs).step_by(STRIP) {
                let dy = &singles[out / STRIP * strip..];
                let sums = &mut sums[self.sums_of_out(out) + number * numbers..];
                // SAFETY: as above, for each of the images.
                unsafe { tiles.add(dy, &x[*run..], STRIP.min(outs - out), self.run, sums) };
            }
        }
    }

    /// Copies some channels of `dy`, from `first` on, into strips.
    fn pack(&self, dy: &[f32], first: usize, strips: &mut [f32]) {
        let all = self.channels_out[1];
        for (number, strip) in strips.chunks_exact_mut(self.strip_len()).enumerate() {
            let at = first + number * STRIP;
            let width = STRIP.min(all - at);
            for (to, from) in strip.as_chunks_mut::<STRIP>().0.iter_mut().zip(dy.chunks_exact(all)) {
                match from[at..].first_chunk() {
                    Some(whole) => *to = *whole,
                    None => to[..width].copy_from_slice(&from[at..]),
                }
            }
        }
    }
}

/// What images add to.
struct Part {
    group: usize,
    panel: usize,
    /// Channels of the group that come out.
    outs: Range<usize>,
}

impl WeightGradient {
    /// The sums of some chunks of the batch.
    fn by_images(&self, x: &[f32], dy: Upstream<'_>, sums: Shared<'_>, chunks: impl Iterator<Item = usize>) {
        let (x_len, dy_len) = (x.len() / self.batch, self.places[0] * self.places[1] * self.channels_out[1]);
        let (outer, image) = (self.channels_out[0], |n: usize| &x[n * x_len..][..x_len]);
        let part = |group: usize| Part { group, panel: 0, outs: 0..outer };
        with_scratch(dy.beside() + self.work_len(outer), |work| {
            work.fill(0.0);
            let (beside, work) = work.split_at_mut(dy.beside());
            for chunk in chunks {
                // SAFETY: each chunk comes to one thread, and has sums of its own.
                let sums = unsafe { sums.slice(chunk * self.sums(), self.sums()) };
                sums.fill(0.0);
                let [first, end] = [chunk, chunk + 1].map(|chunk| chunk * self.batch / self.chunks());
                for n in (first..end).step_by(self.at_once) {
                    if self.at_once > 1 {
                        let part = part(0);
                        self.add_images(&part, self.at_once.min(end - n), work, sums, |i, framed, strips| {
                            let dy = dy.image(n + i, dy_len, beside);
                            self.gather(&part, (image(n + i), dy), &(0..self.places[0]), framed, strips);
                        });
                        continue;
                    }
                    let dy = dy.image(n, dy_len, beside);
                    for (group, sums) in sums.chunks_exact_mut(self.sums_of_part()).enumerate() {
                        self.add_image(&part(group), (image(n), dy), work, sums);
                    }
                }
            }
        });
    }

    /// Some of the sums of the whole batch: those of a group and panel for one of `ranges` of the channels that come out.
    fn by_weights(&self, x: &[f32], dy: &[f32], sums: Shared<'_>, items: impl Iterator<Item = usize>, ranges: usize) {
        let (x_len, dy_len) = (x.len() / self.batch, self.places[0] * self.places[1] * self.channels_out[1]);
        assert_eq!(dy.len(), self.batch * dy_len, "size of the gradient");
        let image = |n: usize| (&x[n * x_len..][..x_len], &dy[n * dy_len..][..dy_len]);
        let outer = self.channels_out[0];
        let strips = outer.div_ceil(STRIP);
        with_scratch(self.work_len(strips.div_ceil(ranges) * STRIP), |work| {
            work.fill(0.0);
            for item in items {
                let (part, range) = (item / ranges, item % ranges);
                let [first, end] = [range, range + 1].map(|range| (range * strips / ranges * STRIP).min(outer));
                let (at, len) = match self.is_swapped {
                    true => (0, self.sums_of_part()),
                    false => (self.sums_of_out(first), self.sums_of_out(end - first)),
                };
                // SAFETY: each item comes to one thread, and these channels' sums to no other item.
                let sums = unsafe { sums.slice(part * self.sums_of_part() + at, len) };
                sums.fill(0.0);
                let part = Part { group: part / self.panels, panel: part % self.panels, outs: first..end };
                let work = &mut work[..self.work_len(end - first)];
                for n in (0..self.batch).step_by(self.at_once) {
                    match self.at_once {
                        1 => self.add_image(&part, image(n), work, sums),
                        most => self.add_images(&part, most.min(self.batch - n), work, sums, |i, framed, strips| {
                            self.gather(&part, image(n + i), &(0..self.places[0]), framed, strips);
                        }),
                    }
                }
            }
        });
    }
}

/// Products of two factors, summed over the pixels of some images. Three numbers are `[images, height, width]`.
#[derive(Clone, Copy)]
struct Tiles {
    path: Path,
    /// Numbers from one pixel to the next of the factor that is read number by number.
    single_steps: [usize; 3],
    /// Numbers from one pixel to the next of the factor that is read in vectors.
    vector_steps: [usize; 3],
    /// Pixels.
    count: [usize; 3],
    /// Numbers from one row of sums to the next.
    to_next_row: usize,
    /// How many runs are taken at once, and numbers from one to the next in the first factor and in the sums.
    runs: [usize; 3],
}

impl Tiles {
    /// With the factors exchanged.
    fn swapped(self) -> Self {
        Self { single_steps: self.vector_steps, vector_steps: self.single_steps, ..self }
    }

    /// `sums[r, i] += sum over pixels: singles[pixel + r] vectors[pixel + i]` for `r` below `rows` and `i` below `run`.
    ///
    /// # Safety
    ///
    /// For all pixels these numbers are in the slices, and `sums` has as many rows.
    unsafe fn add(&self, singles: &[f32], vectors: &[f32], rows: usize, run: usize, sums: &mut [f32]) {
        let (path, lanes) = (self.path, self.path.lanes());
        let last_row = (self.runs[0] - 1) * self.runs[2] + (rows - 1) * self.to_next_row;
        assert!(sums.len() >= last_row + run.next_multiple_of(lanes), "room for the sums");
        let mut at = 0;
        while at < run {
            let left = (run - at).div_ceil(lanes);
            // Four vectors are better taken as two and two than as three and one, and five runs of three fill the registers
            // of few paths.
            let takes_two = left == 4 || (self.runs[0] == 5 && path != Path::Avx512);
            let vectors_at_once = left.min(if takes_two { 2 } else { 3 });
            let last = run - at - (vectors_at_once - 1) * lanes;
            let (singles, vectors, sums) = (singles.as_ptr(), vectors[at..].as_ptr(), sums[at..].as_mut_ptr());
            let tile = Work { tiles: self, singles, vectors, last, rows, sums };
            match vectors_at_once {
                1 => tile.all_rows::<1>(path),
                2 => tile.all_rows::<2>(path),
                _ => tile.all_rows::<3>(path),
            }
            at += vectors_at_once * lanes;
        }
    }
}

/// The sums of some vectors. Whoever makes one vouches for what [`Tiles::add`] asks for.
#[derive(Clone, Copy)]
struct Work<'a> {
    tiles: &'a Tiles,
    singles: *const f32,
    vectors: *const f32,
    /// Numbers of the last vector.
    last: usize,
    rows: usize,
    sums: *mut f32,
}

impl<'a> Work<'a> {
    fn all_rows<const N: usize>(mut self, path: Path) {
        // Where there are 32 registers, 3 are left for the factors.
        let most = if path == Path::Avx512 { 29 - N } else { 12 };
        macro_rules! tiles {
            ($runs:literal: $($rows:literal)*) => {{ $(
                if $runs * $rows * N <= most && self.rows >= $rows {
                    simd::run(path, Rows::<$runs, $rows, N>(self.take($rows)));
                }
            )* }};
        }
        match self.tiles.runs[0] {
            5 => tiles!(5: 5 2 1),
            3 => tiles!(3: 9 4 2 1),
            _ => tiles!(1: 16 8 4 2 1),
        }
        assert_eq!(self.rows, 0, "rows that no tile took");
    }

    /// Takes as many of the first rows off as make up tiles of `size`.
    fn take(&mut self, size: usize) -> Self {
        let taken = Self { rows: self.rows / size * size, ..*self };
        self.rows -= taken.rows;
        self.singles = self.singles.wrapping_add(taken.rows);
        self.sums = self.sums.wrapping_add(taken.rows * self.tiles.to_next_row);
        taken
    }
}

/// Tiles of `G` runs of `R` rows of `N` vectors.
struct Rows<'a, const G: usize, const R: usize, const N: usize>(Work<'a>);

impl<const G: usize, const R: usize, const N: usize> Task for Rows<'_, G, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Work { tiles, singles, vectors, last, rows, sums: to } = self.0;
        let Tiles { single_steps, vector_steps, count, to_next_row, runs: [_, single_run, to_next_run], .. } = *tiles;
        let [images, height, width] = count;
        let last = V::first(last);
        for row in (0..rows).step_by(R) {
            // SAFETY: whoever made the work vouches for all places.
            unsafe {
                let (singles, to) = (singles.add(row), to.add(row * to_next_row));
                let mut sums = [[[V::zero(); N]; R]; G];
                for g in 0..G {
                    for r in 0..R {
                        for v in 0..N {
                            sums[g][r][v] = V::load(to.add(g * to_next_run + r * to_next_row + v * V::LANES));
                        }
                    }
                }
                for (image, y) in (0..images).flat_map(|image| (0..height).map(move |y| (image, y))) {
                    let mut single = singles.add(image * single_steps[0] + y * single_steps[1]);
                    let mut vector = vectors.add(image * vector_steps[0] + y * vector_steps[1]);
                    for _ in 0..width {
                        let mut factor = [V::zero(); N];
                        for v in 0..N - 1 {
                            factor[v] = V::load(vector.add(v * V::LANES));
                        }
                        factor[N - 1] = V::load_first(vector.add((N - 1) * V::LANES), last);
                        for g in 0..G {
                            for r in 0..R {
                                let number = V::splat(*single.add(g * single_run + r));
                                for v in 0..N {
                                    sums[g][r][v] = number.mul_add(factor[v], sums[g][r][v]);
                                }
                            }
                        }
                        single = single.wrapping_add(single_steps[2]);
                        vector = vector.wrapping_add(vector_steps[2]);
                    }
                }
                for g in 0..G {
                    for r in 0..R {
                        for v in 0..N {
                            sums[g][r][v].store(to.add(g * to_next_run + r * to_next_row + v * V::LANES));
                        }
                    }
                }
            }
        }
    }
}
