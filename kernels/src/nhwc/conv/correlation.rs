//! The pass over images that a convolution and its input gradient are: frame an image, sum at the pixels of the result.

use super::blocks::{Block, Blocks};
use super::source::Frame;
use super::sweep::{End, Sweep};
use super::{Epilogue, Old};
use crate::scratch::with_scratch;
use crate::share::{Shared, share};
use crate::simd::Path;

/// Images at once stay within the second cache, beside a block's weights.
const IMAGES_AT_ONCE: usize = 1 << 18;
/// Weights of so many numbers are worth being read for several images at once.
const LARGE_WEIGHTS: usize = 1 << 17;

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Correlation {
    pub(super) path: Path,
    pub(super) batch: usize,
    pub(super) groups: usize,
    pub(super) frame: Frame,
    /// Numbers of an image of the result.
    pub(super) result_len: usize,
    /// Channels of a group that go in.
    pub(super) group_in: usize,
    /// The channels of a group that come out.
    pub(super) blocks: Blocks,
    /// The pixels of the result, those that are summed alike together.
    pub(super) sweeps: Vec<Sweep>,
}

impl Correlation {
    /// Numbers of the weights of all groups, laid out.
    pub(super) fn packed_len(&self) -> usize {
        self.groups * self.blocks.packed_len()
    }

    /// Computes all images of the result.
    pub(super) fn run(&self, source: &[f32], packed: &[f32], result: &mut [f32], epilogue: Epilogue<'_>, old: Old) {
        let channels = self.groups * self.blocks.channels;
        assert_eq!(source.len(), self.batch * self.frame.image_len(), "size of the source");
        assert_eq!(packed.len(), self.packed_len(), "size of the weights");
        assert_eq!(result.len(), self.batch * self.result_len, "size of the result");
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == channels), "size of the bias");
        assert!(epilogue.residual.is_none_or(|residual| residual.len() == result.len()), "size of the residual");
        let result = Shared::new(result);
        let residual = match old {
            Old::Added => result.start().cast_const(),
            Old::Dropped => epilogue.residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
        };
        let at_once = self.images_at_once();
        let image_groups = self.batch.div_ceil(at_once);
        // Where there are more threads than images, each takes a part of the channels or pixels.
        let parts = rayon::current_num_threads().div_ceil(image_groups.max(1)).min(self.most_parts());
        let job =
            Job { correlation: self, source, packed, result, residual: Place(residual), epilogue, at_once, parts };
        share(image_groups * parts, |items| {
            if self.frame.is_bare() {
                items.for_each(|item| job.item(item, None));
                return;
            }
            with_scratch(at_once * self.frame.len(), |framed| {
                framed.fill(0.0);
                items.for_each(|item| job.item(item, Some(framed)));
            });
        });
    }

    fn images_at_once(&self) -> usize {
        if self.packed_len() < LARGE_WEIGHTS { 1 } else { (IMAGES_AT_ONCE / self.frame.len()).clamp(1, 8) }
            .min(self.batch.div_ceil(rayon::current_num_threads()).max(1))
    }

    fn most_parts(&self) -> usize {
        let pixels = self.sweeps.iter().map(Sweep::len).max().unwrap_or(1);
        pixels.div_ceil(4).max(self.blocks.count())
    }
}

/// A place that several threads read from.
#[derive(Clone, Copy)]
struct Place(*const f32);

// SAFETY: it is only an address; whoever reads there vouches for it.
unsafe impl Sync for Place {}

/// One run over a batch.
struct Job<'a> {
    correlation: &'a Correlation,
    source: &'a [f32],
    packed: &'a [f32],
    result: Shared<'a>,
    residual: Place,
    epilogue: Epilogue<'a>,
    at_once: usize,
    parts: usize,
}

impl Job<'_> {
    fn item(&self, item: usize, framed: Option<&mut [f32]>) {
        let Correlation { frame, blocks, .. } = self.correlation;
        let (first, part) = (item / self.parts * self.at_once, item % self.parts);
        let images = self.at_once.min(self.correlation.batch - first);
        let source = &self.source[first * frame.image_len()..][..images * frame.image_len()];
        let (sources, len) = match framed {
            None => (source, frame.image_len()),
            Some(framed) => {
                let pairs = source.chunks_exact(frame.image_len()).zip(framed.chunks_exact_mut(frame.len()));
                pairs.for_each(|(image, framed)| frame.fill(image, framed));
                (&*framed, frame.len())
            }
        };
        let by_blocks = blocks.count() >= self.parts;
        for group in 0..self.correlation.groups {
            for number in 0..blocks.count() {
                if by_blocks && number % self.parts != part {
                    continue;
                }
                let block = blocks.block(number);
                let share = if by_blocks { [0, 1] } else { [part, self.parts] };
                for image in 0..images {
                    let framed = &sources[image * len..][..len];
                    self.block(first + image, framed, group, block, share);
                }
            }
        }
    }

    fn block(&self, image: usize, framed: &[f32], group: usize, block: Block, share: [usize; 2]) {
        let Correlation { blocks, group_in, result_len, sweeps, .. } = self.correlation;
        let channel = group * blocks.channels + block.first;
        let weights = &self.packed[group * blocks.packed_len() + block.weights..];
        let at = image * result_len + channel;
        let residual = self.residual.0;
        let end = End {
            bias: self.epilogue.bias.map_or(std::ptr::null(), |bias| bias[channel..].as_ptr()),
            residual: if residual.is_null() { residual } else { residual.wrapping_add(at) },
            relu: self.epilogue.relu,
        };
        for sweep in sweeps {
            // SAFETY: sizes were checked when the run began, and a sweep's places lie within a frame, a block and an image
            // of these sizes. What this part of the segments writes no other item does: of this image, this block of
            // channels.
            unsafe {
                let source = framed.as_ptr().add(group * group_in);
                let result = self.result.start().add(at);
                sweep.block(self.correlation.path, share, source, weights.as_ptr(), result, block.channels, end);
            }
        }
    }
}
