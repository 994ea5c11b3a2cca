//! The GRU (Cho et al. 2014), with backpropagation through time.
//!
//! ```text
//!   z, r = sigmoid(W x + R h + b)      q = R_h h + b_Rh          n = tanh(W_h x + b_Wh + r q)               reset after
//!   h' = (1 - z) n + z h                                         n = tanh(W_h x + b_Wh + R_h (r h) + b_Rh)  before
//!
//!   a_z = dh' (h - n) z (1 - z)        a_n = dh' (1 - z) (1 - n^2)            gates in the order z r n
//!   after:  a_q = a_n r                a_r = a_q q (1 - r)       dh = dh' z + [a_z a_r] R_zr + a_q R_h
//!   before: e = a_n R_h                a_r = e r h (1 - r)       dh = dh' z + [a_z a_r] R_zr + e r
//!                                                                dx = [a_z a_r a_n] W
//! ```

mod backward;
mod cell;
mod forward;
#[cfg(test)]
mod tests;

use super::panels::Layout;
use super::{Shape, WeightGradients, Weights, part};
use crate::matmul::Matrix;
use crate::simd::Path;

/// Gates that have weights.
const GATES: usize = 3;

/// Numbers of each unit in a step: the gates, and what comes of the state for the last of them.
const SLOTS: usize = 4;

/// What a layer computes; all of it is written.
#[derive(Debug)]
pub struct GruOutputs<'a> {
    /// The states of all steps, `[steps, d, n, h]`.
    pub y: &'a mut [f32],
    /// The last states, `[d, n, h]`, where they are asked for.
    pub state: Option<&'a mut [f32]>,
}

/// The gradients at what a layer computed, of the same shapes; where there is none it is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct GruUpstream<'a> {
    /// At the states of all steps.
    pub y: Option<&'a [f32]>,
    /// At the last states.
    pub state: Option<&'a [f32]>,
}

/// The gradients at what a layer was given, of the same shapes. All that are asked for are written over.
#[derive(Debug)]
pub struct GruGradients<'a> {
    /// At the input.
    pub x: Option<&'a mut [f32]>,
    /// At the first states.
    pub state: Option<&'a mut [f32]>,
    /// At the weights.
    pub weights: WeightGradients<'a>,
}

/// A GRU of some shape, computed with the instructions of a path.
#[derive(Debug, Clone, Copy)]
pub struct Gru {
    shape: Shape,
    reset_after: bool,
    path: Path,
}

/// One direction's weights as the products take them.
struct Packed<'a> {
    /// What is added to the product with the input.
    bias: &'a [f32],
    /// What is added to the product that is reset.
    reset_bias: &'a [f32],
    input: &'a [f32],
    /// Of the state to update and reset gate.
    gates: &'a [f32],
    /// Of the state to the hidden gate.
    fresh: &'a [f32],
}

impl Gru {
    /// The layer of that shape. `reset_after` says whether the reset gate comes after the product with the state (PyTorch's
    /// way, ONNX's `linear_before_reset`).
    pub fn new(shape: Shape, reset_after: bool, path: Path) -> Self {
        Self { shape, reset_after, path }
    }

    fn input_layout(&self) -> Layout {
        Layout::new(self.path, self.shape.features, GATES, self.shape.hidden)
    }

    fn gates_layout(&self) -> Layout {
        Layout::new(self.path, self.shape.hidden, 2, self.shape.hidden)
    }

    fn fresh_layout(&self) -> Layout {
        Layout::new(self.path, self.shape.hidden, 1, self.shape.hidden)
    }

    fn packed_direction_len(&self) -> usize {
        let (input, gates, fresh) = (self.input_layout(), self.gates_layout(), self.fresh_layout());
        input.columns() + fresh.columns() + input.len() + gates.len() + fresh.len()
    }

    /// Numbers of the weights as [`pack`](Self::pack) lays them out.
    pub fn packed_len(&self) -> usize {
        self.shape.directions() * self.packed_direction_len()
    }

    /// Numbers that [`forward`](Self::forward) keeps for [`backward`](Self::backward).
    pub fn kept_len(&self) -> usize {
        self.shape.directions() * self.kept_direction_len()
    }

    /// For each row of the input: gates, and the state that the step begins with.
    fn kept_direction_len(&self) -> usize {
        self.shape.rows() * (SLOTS + 1) * self.shape.hidden
    }

    /// Of a block: the sums, the state and what is left of it, padded.
    fn block_scratch_len(&self) -> usize {
        self.shape.block_rows() * (SLOTS + 2) * self.fresh_layout().padded()
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
        assert_eq!(packed.len(), self.packed_len(), "size of a GRU's weights");
        let (h, features) = (self.shape.hidden, self.shape.features);
        let (input, gates, fresh) = (self.input_layout(), self.gates_layout(), self.fresh_layout());
        for (direction, packed) in packed.chunks_exact_mut(self.packed_direction_len().max(1)).enumerate() {
            let weights = weights.of(&self.shape, GATES, direction);
            let bias = |at: usize| weights.bias.map_or(0.0, |bias| bias[at]);
            let (of_sums, packed) = packed.split_at_mut(input.columns());
            let (of_reset, packed) = packed.split_at_mut(fresh.columns());
            let (of_input, packed) = packed.split_at_mut(input.len());
            let (of_gates, of_fresh) = packed.split_at_mut(gates.len());
            // The last gate's bias of the state is reset with it.
            let added = |column: usize| !self.reset_after || column < 2 * h;
            input.pad(|column| bias(column) + if added(column) { bias(GATES * h + column) } else { 0.0 }, of_sums);
            fresh.pad(|column| bias(5 * h + column), of_reset);
            input.pack(Matrix::new(weights.input, GATES * h, features).transposed(), of_input);
            let (to_gates, to_fresh) = weights.state.split_at(2 * h * h);
            gates.pack(Matrix::new(to_gates, 2 * h, h).transposed(), of_gates);
            fresh.pack(Matrix::new(to_fresh, h, h).transposed(), of_fresh);
        }
    }

    fn packed<'a>(&self, packed: &'a [f32], direction: usize) -> Packed<'a> {
        let input = self.input_layout();
        let (bias, rest) = part(packed, self.packed_direction_len(), direction).split_at(input.columns());
        let (reset_bias, rest) = rest.split_at(self.fresh_layout().columns());
        let (input, rest) = rest.split_at(input.len());
        let (gates, fresh) = rest.split_at(self.gates_layout().len());
        Packed { bias, reset_bias, input, gates, fresh }
    }

    /// Computes the states of all steps and keeps nothing. `first` are the first states, 0 where there are none.
    ///
    /// # Panics
    ///
    /// If sizes do not fit.
    pub fn infer(
        &self,
        packed: &[f32],
        x: &[f32],
        first: Option<&[f32]>,
        outputs: GruOutputs<'_>,
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
        first: Option<&[f32]>,
        outputs: GruOutputs<'_>,
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
    pub fn backward(
        &self,
        weights: &Weights<'_>,
        x: &[f32],
        kept: &mut [f32],
        upstream: &GruUpstream<'_>,
        gradients: GruGradients<'_>,
        scratch: &mut [f32],
    ) {
        backward::run(self, weights, x, kept, upstream, gradients, scratch);
    }
}
