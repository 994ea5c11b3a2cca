//! The way back through all steps of a GRU, block by block, and the gradients at the weights.

use rayon::prelude::*;

use super::super::panels::{Layout, Product, Rows, Start, span};
use super::super::{Weights, copy_rows, part};
use super::cell::{Back, BackReset, BackStates};
use super::{GATES, Gru, GruGradients, GruUpstream, SLOTS};
use crate::matmul::{Matrix, Old, Threads, multiply};
use crate::share::Shared;
use crate::simd;

impl Gru {
    /// Of the products of gradients at the gates with the weights: of the input, of the state to update and reset gate, and
    /// of the state to the hidden gate.
    fn back_layouts(&self) -> [Layout; 3] {
        let (h, features) = (self.shape.hidden, self.shape.features);
        [(GATES * h, features), (2 * h, h), (h, h)].map(|(k, columns)| Layout::new(self.path, k, 1, columns))
    }

    /// Of a block: sums of the gradients at the gates, the gradients at the state and at what is left of it, padded.
    fn block_backward_len(&self) -> usize {
        (SLOTS + 2 * self.shape.block_rows()) * self.fresh_layout().padded()
    }
}

pub(super) fn scratch_len(gru: &Gru) -> usize {
    let weights: usize = gru.back_layouts().iter().map(Layout::len).sum();
    weights + gru.shape.blocks() * gru.block_backward_len()
}

pub(super) fn run(
    gru: &Gru,
    weights: &Weights<'_>,
    x: &[f32],
    kept: &mut [f32],
    upstream: &GruUpstream<'_>,
    gradients: GruGradients<'_>,
    scratch: &mut [f32],
) {
    let shape = &gru.shape;
    let (h, features) = (shape.hidden, shape.features);
    let gates = GATES * h;
    let GruGradients { x: dx, state, weights: at_weights } = gradients;
    assert_eq!(x.len(), shape.input_len(), "size of a GRU's input");
    assert_eq!(kept.len(), gru.kept_len(), "size of what a GRU keeps");
    assert_eq!(scratch.len(), gru.backward_scratch_len(), "size of what a GRU computes in");
    assert!(upstream.y.is_none_or(|dy| dy.len() == shape.output_len()), "size of a GRU's upstream gradient");
    assert!(upstream.state.is_none_or(|dy| dy.len() == shape.state_len()), "size of a GRU's upstream gradient");
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == shape.input_len()), "size of the gradient at a GRU's input");
    assert!(state.as_ref().is_none_or(|state| state.len() == shape.state_len()), "size of a GRU's first state");
    at_weights.check(shape, GATES);
    if h == 0 {
        dx.into_iter().for_each(|dx| dx.fill(0.0));
        return;
    }
    let mut at_bias = at_weights.bias;
    let (dx, state) = (dx.map(Shared::new), state.map(Shared::new));
    let layouts = gru.back_layouts();
    let (of_input, rest) = scratch.split_at_mut(layouts[0].len());
    let (of_gates, rest) = rest.split_at_mut(layouts[1].len());
    let (of_fresh, blocks) = rest.split_at_mut(layouts[2].len());
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        let weights = weights.of(shape, GATES, direction);
        if dx.is_some() {
            layouts[0].pack(Matrix::new(weights.input, gates, features), of_input);
        }
        let (to_gates, to_fresh) = weights.state.split_at(2 * h * h);
        layouts[1].pack(Matrix::new(to_gates, 2 * h, h), of_gates);
        layouts[2].pack(Matrix::new(to_fresh, h, h), of_fresh);
        let kept = &mut kept[direction * gru.kept_direction_len()..][..gru.kept_direction_len()];
        let (slots, states) = kept.split_at_mut(shape.rows() * SLOTS * h);
        let pass = Pass {
            gru,
            direction,
            backwards: *backwards,
            layouts,
            packed: [of_input, of_gates, of_fresh],
            slots: Shared::new(slots),
            states,
            upstream: *upstream,
            dx: dx.as_ref(),
            state: state.as_ref(),
        };
        let parts = blocks.par_chunks_exact_mut(gru.block_backward_len()).with_max_len(1);
        parts.enumerate().for_each(|(block, scratch)| pass.block(block, scratch));

        // Slots from one on, as columns of all rows.
        let columns = |slot: usize, count: usize| {
            let numbers = if slots.is_empty() { &[][..] } else { &slots[slot * h..] };
            Matrix::with_row_stride(numbers, shape.rows(), count * h, SLOTS * h)
        };
        let own = direction * gates * features..(direction + 1) * gates * features;
        let (x, states) = (Matrix::new(x, shape.rows(), features), Matrix::new(states, shape.rows(), h));
        multiply(&mut at_weights.input[own], columns(0, 3).transposed(), x, Old::Dropped, Threads::All);
        let own = direction * gates * h..(direction + 1) * gates * h;
        let (at_gates, at_fresh) = at_weights.state[own].split_at_mut(2 * h * h);
        multiply(at_gates, columns(0, 2).transposed(), states, Old::Dropped, Threads::All);
        // The last slot is the gradient at the product with the state, or the state as that product saw it.
        let (a, b) = if gru.reset_after { (columns(3, 1), states) } else { (columns(2, 1), columns(3, 1)) };
        multiply(at_fresh, a.transposed(), b, Old::Dropped, Threads::All);
        if let Some(bias) = &mut at_bias {
            let padded = gru.fresh_layout().padded();
            let (of_input, of_state) = bias[direction * 2 * gates..][..2 * gates].split_at_mut(gates);
            let seen = if gru.reset_after { [0, 1, 3] } else { [0, 1, 2] };
            for (bias, slots) in [(of_input, [0, 1, 2]), (of_state, seen)] {
                bias.fill(0.0);
                for block in blocks.chunks_exact(gru.block_backward_len()) {
                    for (bias, slot) in bias.chunks_exact_mut(h).zip(slots) {
                        bias.iter_mut().zip(&block[slot * padded..]).for_each(|(bias, sum)| *bias += sum);
                    }
                }
            }
        }
    }
}

/// What the blocks of one direction share.
struct Pass<'a> {
    gru: &'a Gru,
    direction: usize,
    backwards: bool,
    layouts: [Layout; 3],
    packed: [&'a [f32]; 3],
    slots: Shared<'a>,
    states: &'a [f32],
    upstream: GruUpstream<'a>,
    dx: Option<&'a Shared<'a>>,
    state: Option<&'a Shared<'a>>,
}

impl Pass<'_> {
    fn block(&self, block: usize, scratch: &mut [f32]) {
        let (shape, path) = (&self.gru.shape, self.gru.path);
        let (sample, count) = shape.block(block);
        let (h, features, stride) = (shape.hidden, shape.features, shape.row_stride());
        let padded = self.gru.fresh_layout().padded();
        let (sums, rest) = scratch.split_at_mut(SLOTS * padded);
        let (d_state, d_reset) = rest.split_at_mut(shape.block_rows() * padded);
        sums.fill(0.0);
        d_state.fill(0.0);
        if let Some(at_end) = self.upstream.state {
            let own = &part(at_end, shape.samples * h, self.direction)[sample * h..][..count * h];
            copy_rows(own, h, d_state, padded, h);
        }
        // The product of slots from one on with a weight, into rows that begin every `out_stride` numbers.
        let product = |which: usize, slots: &[f32], slot, start: Start<'_>, out: &mut [f32], out_stride, columns| {
            let rows = Rows { numbers: &slots[slot * h..], stride: stride * SLOTS * h };
            let (layout, packed) = (self.layouts[which], self.packed[which]);
            simd::run(path, Product { layout, packed, count, rows, start, out, out_stride, columns });
        };
        for time in (0..shape.steps).rev() {
            let step = shape.step_at(time, self.backwards);
            let row = shape.row(step, sample);
            let output = shape.output_row(step, self.direction, sample) * h;
            let states = &self.states[row * h..][..span(count, stride * h, h)];
            // SAFETY: rows of this block's samples, which no other block touches; they are used in this step alone.
            let gates = unsafe { self.slots.slice(row * SLOTS * h, span(count, stride * SLOTS * h, SLOTS * h)) };
            let dy = self.upstream.y.map(|dy| &dy[output..][..count * h]);
            let back = Back { count, hidden: h, gates, states, stride, d_state, sums };
            simd::run(path, BackStates { back, dy });
            if !self.gru.reset_after {
                product(2, gates, 2, Start::Zero, d_reset, padded, padded);
            }
            let reset = (!self.gru.reset_after).then_some(&*d_reset);
            let back = Back { count, hidden: h, gates, states, stride, d_state, sums };
            simd::run(path, BackReset { back, reset });
            product(1, gates, 0, Start::Old, d_state, padded, padded);
            if self.gru.reset_after {
                product(2, gates, 3, Start::Old, d_state, padded, padded);
            }
            if let Some(dx) = self.dx {
                let start = if self.direction == 0 { Start::Zero } else { Start::Old };
                // SAFETY: as for `gates`.
                let dx = unsafe { dx.slice(row * features, span(count, stride * features, features)) };
                product(0, gates, 0, start, dx, stride * features, features);
            }
        }
        if let Some(first) = self.state {
            let place = (self.direction * shape.samples + sample) * h;
            // SAFETY: as for `gates`.
            let first = unsafe { first.slice(place, count * h) };
            copy_rows(&d_state[..count * padded], padded, first, h, h);
        }
    }
}
