//! Channels in blocks of one or two vectors, and weights laid out for them.

use rayon::prelude::*;

use crate::simd::{self, Path, Task, Vector};

/// The channels of a group, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Channels of a group.
    pub(super) channels: usize,
    /// Numbers of a vector.
    pub(super) lanes: usize,
    /// Weights of a channel.
    pub(super) taps: usize,
}

/// Some channels of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Its first channel.
    pub(super) first: usize,
    /// How many there are: those of at most two vectors.
    pub(super) channels: usize,
    /// Where its weights begin, among the group's.
    pub(super) weights: usize,
    /// Weights of a tap: numbers of its vectors.
    pub(super) width: usize,
}

impl Blocks {
    pub(super) fn count(&self) -> usize {
        self.channels.div_ceil(2 * self.lanes)
    }

    pub(super) fn block(&self, number: usize) -> Block {
        let first = number * 2 * self.lanes;
        let channels = (self.channels - first).min(2 * self.lanes);
        let width = if channels > self.lanes { 2 * self.lanes } else { self.lanes };
        Block { first, channels, weights: first * self.taps, width }
    }

    /// Numbers of a group's weights, laid out.
    pub(super) fn packed_len(&self) -> usize {
        self.channels.div_ceil(self.lanes) * self.lanes * self.taps
    }

    /// Lays out the weights of all groups: for each block, the weights of its channels by tap and number of the source.
    /// Lanes without a channel get zeros.
    pub(super) fn pack(&self, path: Path, weight: &[f32], packed: &mut [f32], order: Order) {
        assert_eq!(order.taps * order.inner, self.taps, "weights of a channel");
        let groups = weight.par_chunks_exact(self.channels * self.taps);
        groups.zip(packed.par_chunks_exact_mut(self.packed_len())).for_each(|(weight, packed)| {
            let of_blocks = packed.par_chunks_mut(2 * self.lanes * self.taps).enumerate();
            of_blocks.for_each(|(number, packed)| self.pack_block(path, number, weight, packed, order));
        });
    }

    /// Lays out the weights of one block of a group.
    pub(super) fn pack_block(&self, path: Path, number: usize, weight: &[f32], packed: &mut [f32], order: Order) {
        let block = self.block(number);
        if block.channels < block.width {
            packed.fill(0.0);
        }
        let weight = &weight[block.first * order.to_next_channel..];
        simd::run(path, Pack { order, weight, packed, block });
    }
}

/// Where weights are in a network's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// How many taps there are. Their weights are next to each other.
    pub(super) taps: usize,
    /// Whether the first tap is the network's last one.
    pub(super) is_turned: bool,
    /// Numbers of the source under a tap.
    pub(super) inner: usize,
    /// From the weight under one of these to that under the next.
    pub(super) to_next: usize,
    /// From a channel of the result to the next.
    pub(super) to_next_channel: usize,
}

/// The layout of a block.
struct Pack<'a> {
    order: Order,
    weight: &'a [f32],
    packed: &'a mut [f32],
    block: Block,
}

impl Task for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { order: Order { taps, is_turned, inner, to_next, to_next_channel }, weight, packed, block } = self;
        if to_next_channel == 1 {
            for (number, packed) in packed.chunks_exact_mut(block.width).enumerate() {
                packed[..block.channels].copy_from_slice(&weight[number * to_next..][..block.channels]);
            }
            return;
        }
        // A channel's weights, in runs of numbers that lie together.
        let (runs, len) = if to_next > to_next_channel { (inner, taps) } else { (1, inner * taps) };
        for (run, start) in (0..runs).flat_map(|run| (0..len).step_by(V::LANES).map(move |start| (run, start))) {
            let columns = V::LANES.min(len - start);
            for lane in (0..block.channels).step_by(V::LANES) {
                let rows = V::LANES.min(block.channels - lane);
                let from = &weight[lane * to_next_channel + run * to_next + start..];
                let square = simd::columns::<V>(from, to_next_channel, rows, columns);
                for (number, vector) in (run * taps + start..).zip(square.iter().take(columns)) {
                    let tap = if is_turned { taps - 1 - number % taps } else { number % taps };
                    let to = &mut packed[(tap * inner + number / taps) * block.width + lane..][..rows];
                    // SAFETY: the slice has as many numbers as the mask has lanes.
                    unsafe { vector.store_first(to.as_mut_ptr(), V::first(rows)) };
                }
            }
        }
    }
}
