//! The LSTM (Hochreiter and Schmidhuber 1997), with backpropagation through time.
//!
//! ```text
//!   z = W x + R h + b          i = sigmoid(z_i)   f = sigmoid(z_f)   g = tanh(z_c)        gates in the order i o f c
//!   c' = f c + i g             o = sigmoid(z_o)   h' = o tanh(c')
//!
//!   dz_o = dh' tanh(c') o (1 - o)                 dc'  = dc' + dh' o (1 - tanh(c')^2)
//!   dz_i = dc' g i (1 - i)                        dz_f = dc' c f (1 - f)     dz_c = dc' i (1 - g^2)
//!   dc   = dc' f                                  dh   = dz R                dx   = dz W
//! ```

mod backward;
mod cell;
mod forward;
#[cfg(test)]
mod tests;

use super::panels::Layout;
use super::{Shape, WeightGradients, Weights, part};
use crate::matmul::Matrix;
use crate::share::Shared;
use crate::simd::Path;

const GATES: usize = 4;

/// States and cells, each `[d, n, h]`.
#[derive(Debug, Clone, Copy)]
pub struct LstmState<'a> {
    /// The states.
    pub state: &'a [f32],
    /// The cells.
    pub cell: &'a [f32],
}

/// What a layer computes; all of it is written.
#[derive(Debug)]
pub struct LstmOutputs<'a> {
    /// The states of all steps, `[steps, d, n, h]`.
    pub y: &'a mut [f32],
    /// The last states, `[d, n, h]`, where they are asked for.
    pub state: Option<&'a mut [f32]>,
    /// The last cells, `[d, n, h]`, where they are asked for.
    pub cell: Option<&'a mut [f32]>,
}

/// The gradients at what a layer computed, of the same shapes; where there is none it is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct LstmUpstream<'a> {
    /// At the states of all steps.
    pub y: Option<&'a [f32]>,
    /// At the last states.
    pub state: Option<&'a [f32]>,
    /// At the last cells.
    pub cell: Option<&'a [f32]>,
}

/// The gradients at what a layer was given, of the same shapes. All that are asked for are written over.
#[derive(Debug)]
pub struct LstmGradients<'a> {
    /// At the input.
    pub x: Option<&'a mut [f32]>,
    /// At the first states.
    pub state: Option<&'a mut [f32]>,
    /// At the first cells.
    pub cell: Option<&'a mut [f32]>,
    /// At the weights.
    pub weights: WeightGradients<'a>,
}

/// An LSTM of some shape, computed with the instructions of a path.
#[derive(Debug, Clone, Copy)]
pub struct Lstm {
    shape: Shape,
    path: Path,
}

/// One direction's weights as the products take them.
struct Packed<'a> {
    bias: &'a [f32],
    input: &'a [f32],
    state: &'a [f32],
}

/// One direction's part of what is kept: for each row of the input.
struct Kept<'a> {
    gates: Shared<'a>,
    cells: Shared<'a>,
    /// The states that steps begin with.
    states: Shared<'a>,
}

impl<'a> Kept<'a> {
    fn new(shape: &Shape, kept: &'a mut [f32]) -> Self {
        let (gates, rest) = kept.split_at_mut(shape.rows() * GATES * shape.hidden);
        let (cells, states) = rest.split_at_mut(shape.rows() * shape.hidden);
        Self { gates: Shared::new(gates), cells: Shared::new(cells), states: Shared::new(states) }
    }
}

impl Lstm {
    /// The layer of that shape.
    pub fn new(shape: Shape, path: Path) -> Self {
        Self { shape, path }
    }

    fn input_layout(&self) -> Layout {
        Layout::new(self.path, self.shape.features, GATES, self.shape.hidden)
    }

    fn state_layout(&self) -> Layout {
        Layout::new(self.path, self.shape.hidden, GATES, self.shape.hidden)
    }

    fn packed_direction_len(&self) -> usize {
        self.input_layout().columns() + self.input_layout().len() + self.state_layout().len()
    }

    /// Numbers of the weights as [`pack`](Self::pack) lays them out.
    pub fn packed_len(&self) -> usize {
        self.shape.directions() * self.packed_direction_len()
    }

    /// Numbers that [`forward`](Self::forward) keeps for [`backward`](Self::backward).
    pub fn kept_len(&self) -> usize {
        self.shape.directions() * self.kept_direction_len()
    }

    fn kept_direction_len(&self) -> usize {
        self.shape.rows() * (GATES + 2) * self.shape.hidden
    }

    /// Of a block: `z`, state and cell, padded.
    fn block_scratch_len(&self) -> usize {
        self.shape.block_rows() * (GATES + 2) * self.state_layout().padded()
    }

    /// Numbers that [`infer`](Self::infer) and [`forward`](Self::forward) compute in.
    pub fn scratch_len(&self) -> usize {
        self.shape.blocks() * self.block_scratch_len()
    }

    /// Numbers that [`backward`](Self::backward) computes in.
    pub fn backward_scratch_len(&self) -> usize {
        backward::scratch_len(self)
    }

    /// Lays out the weights for [`infer`](Self::infer) and [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    pub fn pack(&self, weights: &Weights<'_>, packed: &mut [f32]) {
        assert_eq!(packed.len(), self.packed_len(), "size of an LSTM's weights");
        let (input, state, rows) = (self.input_layout(), self.state_layout(), GATES * self.shape.hidden);
        for (direction, packed) in packed.chunks_exact_mut(self.packed_direction_len().max(1)).enumerate() {
            let weights = weights.of(&self.shape, GATES, direction);
            let (bias, packed) = packed.split_at_mut(input.columns());
            let (of_input, of_state) = packed.split_at_mut(input.len());
            input.pad(|column| weights.bias.map_or(0.0, |bias| bias[column] + bias[rows + column]), bias);
            input.pack(Matrix::new(weights.input, rows, self.shape.features).transposed(), of_input);
            state.pack(Matrix::new(weights.state, rows, self.shape.hidden).transposed(), of_state);
        }
    }

    fn packed<'a>(&self, packed: &'a [f32], direction: usize) -> Packed<'a> {
        let input = self.input_layout();
        let (bias, rest) = part(packed, self.packed_direction_len(), direction).split_at(input.columns());
        let (input, state) = rest.split_at(input.len());
        Packed { bias, input, state }
    }

    /// Computes the states of all steps and keeps nothing. `first` are the first states and cells, 0 where there are none.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    pub fn infer(
        &self,
        packed: &[f32],
        x: &[f32],
        first: Option<LstmState<'_>>,
        outputs: LstmOutputs<'_>,
        scratch: &mut [f32],
    ) {
        forward::run(self, packed, x, first, outputs, None, scratch);
    }

    /// Computes the states of all steps and keeps what [`backward`](Self::backward) needs.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    pub fn forward(
        &self,
        packed: &[f32],
        x: &[f32],
        first: Option<LstmState<'_>>,
        outputs: LstmOutputs<'_>,
        kept: &mut [f32],
        scratch: &mut [f32],
    ) {
        forward::run(self, packed, x, first, outputs, Some(kept), scratch);
    }

    /// Computes the gradients, given those at what was computed. What was kept is written over.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        weights: &Weights<'_>,
        x: &[f32],
        first: Option<LstmState<'_>>,
        kept: &mut [f32],
        upstream: &LstmUpstream<'_>,
        gradients: LstmGradients<'_>,
        scratch: &mut [f32],
    ) {
        backward::run(self, weights, x, first, kept, upstream, gradients, scratch);
    }

    fn check_given(&self, x: &[f32], first: Option<LstmState<'_>>) {
        assert_eq!(x.len(), self.shape.input_len(), "size of an LSTM's input");
        if let Some(first) = first {
            assert_eq!(first.state.len(), self.shape.state_len(), "size of an LSTM's first state");
            assert_eq!(first.cell.len(), self.shape.state_len(), "size of an LSTM's first cell");
        }
    }
}
