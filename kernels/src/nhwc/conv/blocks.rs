//! Channels in blocks of one or two vectors, and weights laid out for them.

use rayon::prelude::*;

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
    pub(super) fn pack(&self, weight: &[f32], packed: &mut [f32], order: &Order) {
        assert_eq!(order.taps * order.inner, self.taps, "weights of a channel");
        let groups = weight.par_chunks_exact(self.channels * self.taps);
        groups.zip(packed.par_chunks_exact_mut(self.packed_len())).for_each(|(weight, packed)| {
            packed.par_chunks_mut(2 * self.lanes * self.taps).enumerate().for_each(|(number, packed)| {
                let block = self.block(number);
                if block.channels < block.width {
                    packed.fill(0.0);
                }
                order.pack(&weight[block.first * order.to_next_channel..], packed, block);
            });
        });
    }
}

/// Where weights are in a network's order: all numbers are places from one to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// How many taps there are.
    pub(super) taps: usize,
    /// Whether the first tap is the network's last one.
    pub(super) is_turned: bool,
    /// Numbers of the source under a tap.
    pub(super) inner: usize,
    /// From the weight under one of these to that under the next. Taps are next to each other.
    pub(super) to_next: usize,
    /// From a channel of the result to the next.
    pub(super) to_next_channel: usize,
}

impl Order {
    fn pack(&self, weight: &[f32], packed: &mut [f32], block: Block) {
        let Self { taps, is_turned, inner, to_next, to_next_channel } = *self;
        // What is read lies together, and what is written stays in the cache.
        let at_once = if to_next > to_next_channel { 1 } else { 16 };
        for first in (0..inner).step_by(at_once) {
            let count = at_once.min(inner - first);
            for lane in 0..block.channels {
                for tap in 0..taps {
                    let at = lane * to_next_channel + first * to_next + if is_turned { taps - 1 - tap } else { tap };
                    let to = packed[(tap * inner + first) * block.width + lane..].iter_mut().step_by(block.width);
                    let from = weight[at..].iter().step_by(to_next);
                    to.zip(from).take(count).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}
