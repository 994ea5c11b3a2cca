//! Recurrent layers over whole sequences, with backpropagation through time (Werbos 1990), laid out as ONNX has them.
//!
//! ```text
//!   x [steps, n, features]          y [steps, d, n, h]         first and last states [d, n, h]
//!   weight_ih [d, g h, features]    weight_hh [d, g h, h]      bias [d, 2 g h]       d directions, g gates
//! ```
//!
//! Samples know nothing of one another, so the batch is divided into blocks of 8, or of 32 where the weights are large, and a
//! thread takes a block through all steps. No thread waits for another one. Of a step, the products with both weights (laid
//! out once, see `panels`) go into a buffer that stays in the nearest cache, and the gates are computed from there.
//!
//! ```text
//!   block of samples ──▶ step 0 ──▶ step 1 ──▶ ...        z = b + x W^T + h R^T    gates, cells and states of z
//!   block of samples ──▶ step 0 ──▶ step 1 ──▶ ...
//! ```
//!
//! Backwards the same blocks go from the last step to the first, and write the gradients at `z` over the gates that were
//! kept. The gradients at the weights are products over all steps and samples at once, afterwards.
//!
//! All is written into memory that the caller has: functions that end in `_len` say how much. It is fastest where that
//! begins at a multiple of 64 bytes.
//!
//! ```text
//!   pack(weights) ──▶ packed ──▶ infer(packed, x, first)   ──▶ y, last states
//!                            └─▶ forward(packed, x, first) ──▶ y, last states, kept
//!                                                                               └─▶ backward ──▶ all gradients
//! ```
//!
//! Covered are all directions, with and without first states and bias, and both kinds of GRU. Not covered are the peephole
//! weights of an LSTM, and sequences of different lengths.
//!
//! Results are the same bits for any number of threads: blocks depend on the shape alone, their sums are added in order.

mod gru;
mod lstm;
mod panels;
#[cfg(test)]
mod testing;

pub use gru::{Gru, GruGradients, GruOutputs, GruUpstream};
pub use lstm::{Lstm, LstmGradients, LstmOutputs, LstmState, LstmUpstream};

/// Samples of a block: rows of a tile of the product.
const BLOCK: usize = 8;

/// Samples of a block where the weights do not stay in a cache of one processor: each step reads them for more rows.
const LARGE_BLOCK: usize = 32;

/// Numbers of a gate's weights from which on they do not: 1 MiB for four gates.
const LARGE_WEIGHTS: usize = 1 << 16;

/// Which way a layer goes through the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, each with weights of its own.
    Both,
}

impl Direction {
    /// For each direction, whether it is backwards.
    fn backwards(self) -> &'static [bool] {
        match self {
            Direction::Forward => &[false],
            Direction::Reverse => &[true],
            Direction::Both => &[false, true],
        }
    }
}

/// The sizes of a layer and its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Steps of the sequence.
    pub steps: usize,
    /// Samples of the batch, `n`.
    pub samples: usize,
    /// Numbers of the input in each step.
    pub features: usize,
    /// Units, `h`.
    pub hidden: usize,
    /// Which way.
    pub direction: Direction,
    /// Whether the input, and the gradient at it, are `[n, steps, features]` instead of `[steps, n, features]`.
    pub batch_first: bool,
}

impl Shape {
    /// How many directions, `d`.
    pub fn directions(&self) -> usize {
        self.direction.backwards().len()
    }

    /// Numbers of the input.
    pub fn input_len(&self) -> usize {
        self.rows() * self.features
    }

    /// Numbers of the states of all steps, `[steps, d, n, h]`.
    pub fn output_len(&self) -> usize {
        self.directions() * self.rows() * self.hidden
    }

    /// Numbers of the states of one step, `[d, n, h]`.
    pub fn state_len(&self) -> usize {
        self.directions() * self.samples * self.hidden
    }

    /// Steps of all samples.
    fn rows(&self) -> usize {
        self.steps * self.samples
    }

    /// Where a sample's step is among the rows of the input, and of all that is kept for each row.
    fn row(&self, step: usize, sample: usize) -> usize {
        if self.batch_first { sample * self.steps + step } else { step * self.samples + sample }
    }

    /// How many rows further the same step of the next sample is.
    fn row_stride(&self) -> usize {
        if self.batch_first { self.steps } else { 1 }
    }

    /// Where a sample's state of a step is among the output's rows.
    fn output_row(&self, step: usize, direction: usize, sample: usize) -> usize {
        (step * self.directions() + direction) * self.samples + sample
    }

    /// The step that is taken at a time, from 0 on.
    fn step_at(&self, time: usize, backwards: bool) -> usize {
        if backwards { self.steps - 1 - time } else { time }
    }

    /// Samples of a block.
    fn block_rows(&self) -> usize {
        if self.hidden * (self.features + self.hidden) > LARGE_WEIGHTS { LARGE_BLOCK } else { BLOCK }
    }

    fn blocks(&self) -> usize {
        self.samples.div_ceil(self.block_rows())
    }

    /// The first sample of a block and how many it has.
    fn block(&self, block: usize) -> (usize, usize) {
        let first = block * self.block_rows();
        (first, self.block_rows().min(self.samples - first))
    }
}

/// Weights of a layer of `g` gates; each has a part for each direction.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// Of the input, `[d, g h, features]`.
    pub input: &'a [f32],
    /// Of the state, `[d, g h, h]`.
    pub state: &'a [f32],
    /// Of both, `[d, 2 g h]`: what is added to the product with the input, then that of the state.
    pub bias: Option<&'a [f32]>,
}

impl<'a> Weights<'a> {
    /// The weights of one direction.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    fn of(&self, shape: &Shape, gates: usize, direction: usize) -> Self {
        let rows = gates * shape.hidden;
        let part = |all: &'a [f32], size: usize| {
            assert_eq!(all.len(), shape.directions() * size, "size of a recurrent layer's weight");
            &all[direction * size..][..size]
        };
        Self {
            input: part(self.input, rows * shape.features),
            state: part(self.state, rows * shape.hidden),
            bias: self.bias.map(|bias| part(bias, 2 * rows)),
        }
    }
}

/// The gradients at the weights, of the same shapes. They are written over.
#[derive(Debug)]
pub struct WeightGradients<'a> {
    /// At the weight of the input.
    pub input: &'a mut [f32],
    /// At the weight of the state.
    pub state: &'a mut [f32],
    /// At the bias.
    pub bias: Option<&'a mut [f32]>,
}

impl WeightGradients<'_> {
    /// # Panics
    ///
    /// If sizes do not fit.
    fn check(&self, shape: &Shape, gates: usize) {
        let rows = shape.directions() * gates * shape.hidden;
        assert_eq!(self.input.len(), rows * shape.features, "size of the gradient at a weight of the input");
        assert_eq!(self.state.len(), rows * shape.hidden, "size of the gradient at a weight of the state");
        assert!(self.bias.as_ref().is_none_or(|bias| bias.len() == 2 * rows), "size of the gradient at a bias");
    }
}

/// Parts of equal sizes, one a direction.
fn part(all: &[f32], size: usize, direction: usize) -> &[f32] {
    &all[direction * size..][..size]
}

/// The first `width` numbers of rows that begin every `from_stride`, to rows that begin every `to_stride`.
fn copy_rows(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize, width: usize) {
    for (from, to) in from.chunks(from_stride).zip(to.chunks_mut(to_stride)) {
        to[..width].copy_from_slice(&from[..width]);
    }
}
