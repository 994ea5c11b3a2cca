//! The pass over images that a convolution and its input gradient are: frame an image, sum at the pixels of the result.

use std::ops::Range;

use super::blocks::{Block, Blocks, Order};
use super::source::{Frame, Slabs};
use super::sweep::{End, Sweep};
use super::winograd::Winograd;
use super::{Epilogue, Old};
use crate::scratch::with_scratch;
use crate::share::{Shared, parts_of_each, share};
use crate::simd::Path;

/// Slabs that weights are read once for.
const IMAGES_AT_ONCE: usize = 4;
/// Weights of so many numbers are worth being read for several images at once.
const LARGE_WEIGHTS: usize = 1 << 17;

/// Numbers that a sum goes over, from which on it takes much longer than reading them.
const MANY_TAPS: usize = 512;

/// Called with the number of a slab and its rows of the result.
pub(super) type After<'a> = &'a (dyn Fn(usize, &[f32]) + Sync);

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Correlation {
    pub(super) batch: usize,
    pub(super) groups: usize,
    pub(super) frame: Frame,
    /// Numbers of an image of the result.
    pub(super) result_len: usize,
    /// The rows of pixels that are computed at a time.
    pub(super) slabs: Slabs,
    /// Channels of a group that go in.
    pub(super) group_in: usize,
    /// The channels of a group that come out.
    pub(super) blocks: Blocks,
    /// The pixels of the result, those that are summed alike together.
    pub(super) sweeps: Vec<Sweep>,
    /// Whether each channel is for itself: all are one group of blocks then.
    pub(super) channelwise: bool,
    /// What is done instead of the sweeps, where it is faster.
    pub(super) winograd: Option<Winograd>,
}

impl Correlation {
    /// Numbers of the weights of all groups, laid out.
    pub(super) fn packed_len(&self) -> usize {
        match &self.winograd {
            Some(winograd) => winograd.packed_len(&self.blocks),
            None => self.groups * self.blocks.packed_len(),
        }
    }

    /// Lays the weights of all groups out.
    pub(super) fn pack(&self, path: Path, weight: &[f32], packed: &mut [f32], order: Order) {
        match &self.winograd {
            Some(winograd) => winograd.pack(&self.blocks, weight, packed, order),
            None => self.blocks.pack(path, weight, packed, order),
        }
    }

    /// The same results by Winograd's way, where it is faster. The windows are of 3x3 taps in steps of one pixel, and the first
    /// one's begins where the frame does.
    pub(super) fn by_winograd(mut self, path: Path, places: [usize; 2]) -> Self {
        if let Some((winograd, frame, slabs)) = Winograd::new(path, self.frame, places, self.blocks.channels) {
            self = Self { winograd: Some(winograd), frame, slabs, sweeps: Vec::new(), ..self };
        }
        self
    }

    /// Computes all images of the result. `after` is called with the number of each slab, counted over all images, and its
    /// rows of the result, as soon as these are written.
    pub(super) fn run(
        &self,
        source: &[f32],
        packed: &[f32],
        result: &mut [f32],
        epilogue: Epilogue<'_>,
        old: Old,
        after: Option<After<'_>>,
    ) {
        assert_eq!(source.len(), self.batch * self.frame.image_len(), "size of the source");
        let items = self.batch * self.slabs.count();
        // Where there are few of these, each is divided by channels; the source is read for each part then.
        let parts = match after {
            None if self.blocks.taps < MANY_TAPS => rayon::current_num_threads().div_ceil(items.max(1)),
            None => parts_of_each(items),
            Some(_) => 1,
        };
        let parts = parts.min(self.blocks.count());
        let job = self.job(packed, result, epilogue, old);
        // Large weights are read once for several images.
        let most = match &self.winograd {
            Some(winograd) => winograd.slabs_at_once,
            None if self.packed_len() < LARGE_WEIGHTS => 1,
            None => IMAGES_AT_ONCE,
        };
        let is_shared = |at_once: &usize| parts_of_each(items.div_ceil(*at_once)) <= parts;
        let at_once = (1..=most).rev().find(is_shared).unwrap_or(1);
        share(items.div_ceil(at_once) * parts, |shares| {
            with_scratch(self.work_len(at_once), |work| {
                // The frames, behind what Winograd's way takes.
                work[self.work_len(0)..].fill(0.0);
                for share in shares {
                    let (first, part) = (share / parts * at_once, share % parts);
                    let slabs = first..items.min(first + at_once);
                    job.slabs(slabs.clone(), |image| self.image(source, image), [part, parts], work);
                    if let Some(after) = after {
                        slabs.for_each(|slab| after(slab, job.written(slab)));
                    }
                }
            });
        });
    }

    /// A run over a batch of images that come one by one.
    pub(super) fn job<'a>(
        &'a self,
        packed: &'a [f32],
        result: &'a mut [f32],
        epilogue: Epilogue<'a>,
        old: Old,
    ) -> Job<'a> {
        let channels = self.groups * self.blocks.channels;
        assert_eq!(packed.len(), self.packed_len(), "size of the weights");
        assert_eq!(result.len(), self.batch * self.result_len, "size of the result");
        epilogue.check(channels, result.len());
        let result = Shared::new(result);
        let residual = match old {
            Old::Added => result.start().cast_const(),
            Old::Dropped => epilogue.residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
        };
        Job { correlation: self, packed, result, residual: Place(residual), epilogue }
    }

    /// Numbers that a framed slab takes; none where images need no frame.
    fn framed_len(&self) -> usize {
        if self.frame.is_bare() && self.winograd.is_none() { 0 } else { self.slabs.len(&self.frame) }
    }

    /// Numbers that so many slabs at once are computed with. Those of the frames, which are the last, are zero before the first.
    pub(super) fn work_len(&self, at_once: usize) -> usize {
        let beside = self.winograd.as_ref().map_or(0, |winograd| winograd.work_len().iter().sum());
        at_once * self.framed_len() + beside
    }

    fn image<'a>(&self, source: &'a [f32], number: usize) -> &'a [f32] {
        &source[number * self.frame.image_len()..][..self.frame.image_len()]
    }
}

/// A place that several threads read from.
#[derive(Clone, Copy)]
struct Place(*const f32);

// SAFETY: it is only an address; whoever reads there vouches for it.
unsafe impl Sync for Place {}

/// One run over a batch.
pub(super) struct Job<'a> {
    correlation: &'a Correlation,
    packed: &'a [f32],
    result: Shared<'a>,
    residual: Place,
    epilogue: Epilogue<'a>,
}

impl Job<'_> {
    /// Computes the image `number` of the result from that of the source.
    pub(super) fn image(&self, number: usize, image: &[f32], work: &mut [f32]) {
        let count = self.correlation.slabs.count();
        (number * count..(number + 1) * count).for_each(|slab| self.slabs(slab..slab + 1, |_| image, [0, 1], work));
    }

    /// Computes some slabs, counted over all images: the `part`th of `parts` parts of the channels.
    fn slabs<'a>(
        &self,
        slabs: Range<usize>,
        image: impl Fn(usize) -> &'a [f32],
        [part, parts]: [usize; 2],
        work: &mut [f32],
    ) {
        let Correlation { frame, blocks, slabs: all, .. } = self.correlation;
        let place = |slab: usize| (slab / all.count(), all.rows_of(slab % all.count()));
        let len = self.correlation.framed_len();
        let [v_len, m_len] = self.correlation.winograd.as_ref().map_or([0; 2], Winograd::work_len);
        let (v, rest) = work.split_at_mut(v_len);
        let (m, framed) = rest.split_at_mut(m_len);
        if len > 0 {
            for (slab, framed) in slabs.clone().zip(framed.chunks_exact_mut(len)) {
                let (number, rows) = place(slab);
                frame.fill(image(number), 0, frame.channels, all.framed(&rows), framed);
            }
        }
        if let Some(winograd) = &self.correlation.winograd {
            let rows_of = |slab: usize| place(slab).1.len();
            let mut count = 0;
            for (slab, framed) in slabs.clone().zip(framed.chunks_exact(len)) {
                winograd.take(framed, rows_of(slab), count, v);
                count += winograd.tiles(rows_of(slab));
            }
            for block in (part..blocks.count()).step_by(parts).map(|number| blocks.block(number)) {
                winograd.multiply(v, winograd.weights(self.packed, block), block, count, m);
                let mut first = 0;
                for slab in slabs.clone() {
                    let (number, rows) = place(slab);
                    let row = self.correlation.result_len / all.rows;
                    let (to, end) = self.place(number * self.correlation.result_len + rows.start * row, block.first);
                    // SAFETY: sizes were checked when the run began; what this call writes no other item does: these rows of
                    // this image, this block of channels.
                    unsafe { winograd.put(m, rows.len(), first, to, block.channels, end) };
                    first += winograd.tiles(rows.len());
                }
            }
            return;
        }
        for group in 0..self.correlation.groups {
            for block in (part..blocks.count()).step_by(parts).map(|number| blocks.block(number)) {
                for (at, slab) in slabs.clone().enumerate() {
                    let (number, rows) = place(slab);
                    let source = match len {
                        0 => image(number).as_ptr(),
                        // Where the image would begin if all of it was there.
                        _ => framed[at * len..].as_ptr().wrapping_sub(all.framed(&rows).start * frame.row()),
                    };
                    self.block(number, source, rows, group, block);
                }
            }
        }
    }

    /// The rows of the result that a slab wrote, in a correlation of one sweep.
    fn written(&self, slab: usize) -> &[f32] {
        let Correlation { slabs: all, result_len, .. } = self.correlation;
        let (number, rows) = (slab / all.count(), all.rows_of(slab % all.count()));
        let row = result_len / all.rows;
        // SAFETY: this item alone has written them, and nobody writes there any more.
        unsafe { self.result.slice(number * result_len + rows.start * row, rows.len() * row) }
    }

    /// Where the result's numbers of a channel begin, from that number on, and what becomes of the sums there.
    fn place(&self, at: usize, channel: usize) -> (*mut f32, End) {
        let residual = self.residual.0;
        let end = End {
            bias: self.epilogue.bias.map_or(std::ptr::null(), |bias| bias[channel..].as_ptr()),
            residual: if residual.is_null() { residual } else { residual.wrapping_add(at + channel) },
            relu: self.epilogue.relu,
        };
        (self.result.start().wrapping_add(at + channel), end)
    }

    fn block(&self, image: usize, framed: *const f32, rows: Range<usize>, group: usize, block: Block) {
        let Correlation { blocks, group_in, result_len, sweeps, channelwise, .. } = self.correlation;
        let channel = group * blocks.channels + block.first;
        let weights = &self.packed[group * blocks.packed_len() + block.weights..];
        let (result, end) = self.place(image * result_len, channel);
        for sweep in sweeps {
            // SAFETY: sizes were checked when the run began, and a sweep's places of these rows lie within a slab, a block and
            // an image of these sizes. What this call writes no other item does: these rows of this image, this block of
            // channels.
            unsafe {
                let source = framed.wrapping_add(if *channelwise { block.first } else { group * group_in });
                sweep.block(rows.clone(), source, weights.as_ptr(), result, block.channels, end);
            }
        }
    }
}
