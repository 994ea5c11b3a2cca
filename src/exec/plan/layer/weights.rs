//! The weight of a convolution, laid out for its passes.

use niwaki_kernels::nhwc::conv::{Convolution, Epilogue, Sparse};

use super::super::Mode;

/// A weight laid out. What is asked for must have been laid out before.
pub(super) struct Weights {
    /// Whether it stays as it is for many passes.
    stays: bool,
    packed: Vec<f32>,
    /// Where most weights are zero: then there are no others.
    sparse: Option<Sparse>,
    /// For the gradient at the input.
    transposed: Vec<f32>,
}

impl Weights {
    pub(super) fn new(mode: Mode) -> Self {
        Self { stays: mode == Mode::Eval, packed: Vec::new(), sparse: None, transposed: Vec::new() }
    }

    /// For outputs. A weight that stays is looked through for zeros.
    pub(super) fn lay_out(&mut self, conv: &Convolution, weight: &[f32]) {
        self.sparse = if self.stays { conv.sparse(weight) } else { None };
        if self.sparse.is_none() {
            self.packed.resize(conv.packed_len(), 0.0);
            conv.pack(weight, &mut self.packed);
        }
    }

    /// For the gradient at the input.
    pub(super) fn lay_out_transposed(&mut self, conv: &Convolution, weight: &[f32]) {
        self.transposed.resize(conv.packed_transposed_len(), 0.0);
        conv.pack_transposed(weight, &mut self.transposed);
    }

    pub(super) fn forward(&self, conv: &Convolution, x: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
        match &self.sparse {
            Some(sparse) => sparse.forward(x, y, epilogue),
            None => conv.forward(x, &self.packed, y, epilogue),
        }
    }

    /// All weights, of one that does not stay.
    pub(super) fn packed(&self) -> &[f32] {
        &self.packed
    }

    pub(super) fn transposed(&self) -> &[f32] {
        &self.transposed
    }
}
