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

    /// Lays out the weights of all groups: for each block and tap, those of the block's channels. `place` says where the
    /// weight of a channel and tap is among its group's; lanes without a channel get zeros.
    pub(super) fn pack(&self, weight: &[f32], packed: &mut [f32], place: impl Fn(usize, usize) -> usize + Sync) {
        let groups = weight.par_chunks_exact(self.channels * self.taps);
        groups.zip(packed.par_chunks_exact_mut(self.packed_len())).for_each(|(weight, packed)| {
            packed.par_chunks_mut(2 * self.lanes * self.taps).enumerate().for_each(|(number, packed)| {
                let Block { first, channels, width, .. } = self.block(number);
                for (tap, lanes) in packed.chunks_exact_mut(width).enumerate() {
                    for (lane, packed) in lanes.iter_mut().enumerate() {
                        *packed = if lane < channels { weight[place(first + lane, tap)] } else { 0.0 };
                    }
                }
            });
        });
    }
}
