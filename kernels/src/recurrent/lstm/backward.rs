//! The way back through all steps of an LSTM, block by block, and the gradients at the weights.

use rayon::prelude::*;

use super::super::panels::{Layout, Product, Rows, Start, span};
use super::super::{Weights, copy_rows, part};
use super::cell::{Backward, Rows as CellRows};
use super::{GATES, Kept, Lstm, LstmGradients, LstmState, LstmUpstream};
use crate::matmul::{Matrix, Old, Threads, multiply};
use crate::share::Shared;
use crate::simd;

impl Lstm {
    /// Of the product of gradients at the gates with the weight of the input.
    fn back_input_layout(&self) -> Layout {
        Layout::new(self.path, GATES * self.shape.hidden, 1, self.shape.features)
    }

    /// Of the product of gradients at the gates with the weight of the state.
    fn back_state_layout(&self) -> Layout {
        Layout::new(self.path, GATES * self.shape.hidden, 1, self.shape.hidden)
    }

    /// Of a block: gradients at state and cell, and sums of those at the gates, padded.
    fn block_backward_len(&self) -> usize {
        (2 * self.shape.block_rows() + GATES) * self.state_layout().padded()
    }
}

pub(super) fn scratch_len(lstm: &Lstm) -> usize {
    let weights = lstm.back_input_layout().len() + lstm.back_state_layout().len();
    weights + lstm.shape.blocks() * lstm.block_backward_len()
}

#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    lstm: &Lstm,
    weights: &Weights<'_>,
    x: &[f32],
    first: Option<LstmState<'_>>,
    kept: &mut [f32],
    upstream: &LstmUpstream<'_>,
    gradients: LstmGradients<'_>,
    scratch: &mut [f32],
) {
    let shape = &lstm.shape;
    let (h, features) = (shape.hidden, shape.features);
    let gates = GATES * h;
    let LstmGradients { x: dx, state, cell, weights: at_weights } = gradients;
    lstm.check_given(x, first);
    assert_eq!(kept.len(), lstm.kept_len(), "size of what an LSTM keeps");
    assert_eq!(scratch.len(), lstm.backward_scratch_len(), "size of what an LSTM computes in");
    assert!(upstream.y.is_none_or(|dy| dy.len() == shape.output_len()), "size of an LSTM's upstream gradient");
    for dy in [upstream.state, upstream.cell] {
        assert!(dy.is_none_or(|dy| dy.len() == shape.state_len()), "size of an LSTM's upstream gradient");
    }
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == shape.input_len()), "size of the gradient at an LSTM's input");
    for first in [&state, &cell] {
        assert!(first.as_ref().is_none_or(|first| first.len() == shape.state_len()), "size of an LSTM's first state");
    }
    at_weights.check(shape, GATES);
    if h == 0 {
        dx.into_iter().for_each(|dx| dx.fill(0.0));
        return;
    }
    let mut at_bias = at_weights.bias;
    let (dx, state, cell) = (dx.map(Shared::new), state.map(Shared::new), cell.map(Shared::new));
    let (input_layout, state_layout) = (lstm.back_input_layout(), lstm.back_state_layout());
    let (of_input, rest) = scratch.split_at_mut(input_layout.len());
    let (of_state, blocks) = rest.split_at_mut(state_layout.len());
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        let weights = weights.of(shape, GATES, direction);
        if dx.is_some() {
            input_layout.pack(Matrix::new(weights.input, gates, features), of_input);
        }
        state_layout.pack(Matrix::new(weights.state, gates, h), of_state);
        let kept = &mut kept[direction * lstm.kept_direction_len()..][..lstm.kept_direction_len()];
        let pass = Pass {
            lstm,
            direction,
            backwards: *backwards,
            of_input,
            of_state,
            first: first.map(|first| first.of(shape, direction)),
            kept: Kept::new(shape, kept),
            upstream: *upstream,
            dx: dx.as_ref(),
            state: state.as_ref(),
            cell: cell.as_ref(),
        };
        let parts = blocks.par_chunks_exact_mut(lstm.block_backward_len()).with_max_len(1);
        parts.enumerate().for_each(|(block, scratch)| pass.block(block, scratch));

        let dz = Matrix::new(&kept[..shape.rows() * gates], shape.rows(), gates).transposed();
        let states = Matrix::new(&kept[shape.rows() * (gates + h)..], shape.rows(), h);
        let own = direction * gates * features..(direction + 1) * gates * features;
        let x = Matrix::new(x, shape.rows(), features);
        multiply(&mut at_weights.input[own], dz, x, Old::Dropped, Threads::All);
        let own = direction * gates * h..(direction + 1) * gates * h;
        multiply(&mut at_weights.state[own], dz, states, Old::Dropped, Threads::All);
        if let Some(bias) = &mut at_bias {
            let padded = lstm.state_layout().padded();
            let (bias, same) = bias[direction * 2 * gates..][..2 * gates].split_at_mut(gates);
            bias.fill(0.0);
            for block in blocks.chunks_exact(lstm.block_backward_len()) {
                for (bias, sums) in bias.chunks_exact_mut(h).zip(block.chunks_exact(padded)) {
                    bias.iter_mut().zip(sums).for_each(|(bias, sum)| *bias += sum);
                }
            }
            same.copy_from_slice(bias);
        }
    }
}

/// What the blocks of one direction share.
struct Pass<'a> {
    lstm: &'a Lstm,
    direction: usize,
    backwards: bool,
    of_input: &'a [f32],
    of_state: &'a [f32],
    first: Option<LstmState<'a>>,
    kept: Kept<'a>,
    upstream: LstmUpstream<'a>,
    dx: Option<&'a Shared<'a>>,
    state: Option<&'a Shared<'a>>,
    cell: Option<&'a Shared<'a>>,
}

impl Pass<'_> {
    fn block(&self, block: usize, scratch: &mut [f32]) {
        let (shape, path) = (&self.lstm.shape, self.lstm.path);
        let (sample, count) = shape.block(block);
        let (h, features, stride) = (shape.hidden, shape.features, shape.row_stride());
        let gates = GATES * h;
        let padded = self.lstm.state_layout().padded();
        let (sums, rest) = scratch.split_at_mut(GATES * padded);
        let (d_state, d_cell) = rest.split_at_mut(shape.block_rows() * padded);
        sums.fill(0.0);
        for (at_end, into) in [(self.upstream.state, &mut *d_state), (self.upstream.cell, &mut *d_cell)] {
            into.fill(0.0);
            if let Some(at_end) = at_end {
                let own = &part(at_end, shape.samples * h, self.direction)[sample * h..][..count * h];
                copy_rows(own, h, into, padded, h);
            }
        }
        for time in (0..shape.steps).rev() {
            let step = shape.step_at(time, self.backwards);
            let row = shape.row(step, sample);
            let cells_at = |step: usize| {
                // SAFETY: cells are not written in this pass.
                let numbers = unsafe { self.kept.cells.read(shape.row(step, sample) * h, span(count, stride * h, h)) };
                CellRows { numbers, stride: stride * h }
            };
            let before = match time {
                0 => self.first.map(|first| CellRows { numbers: &first.cell[sample * h..][..count * h], stride: h }),
                _ => Some(cells_at(shape.step_at(time - 1, self.backwards))),
            };
            let output = shape.output_row(step, self.direction, sample) * h;
            // SAFETY: rows of this block's samples, which no other block touches; they are used in this step alone.
            let dz = unsafe { self.kept.gates.slice(row * gates, span(count, stride * gates, gates)) };
            simd::run(
                path,
                Backward {
                    count,
                    hidden: h,
                    gates: dz,
                    gates_stride: stride * gates,
                    cells: cells_at(step),
                    before,
                    dy: self.upstream.y.map(|dy| &dy[output..][..count * h]),
                    d_state,
                    d_cell,
                    sums,
                },
            );
            let rows = Rows { numbers: dz, stride: stride * gates };
            simd::run(
                path,
                Product {
                    layout: self.lstm.back_state_layout(),
                    packed: self.of_state,
                    count,
                    rows,
                    start: Start::Zero,
                    out: d_state,
                    out_stride: padded,
                    columns: padded,
                },
            );
            if let Some(dx) = self.dx {
                simd::run(
                    path,
                    Product {
                        layout: self.lstm.back_input_layout(),
                        packed: self.of_input,
                        count,
                        rows,
                        start: if self.direction == 0 { Start::Zero } else { Start::Old },
                        // SAFETY: as for `dz`.
                        out: unsafe { dx.slice(row * features, span(count, stride * features, features)) },
                        out_stride: stride * features,
                        columns: features,
                    },
                );
            }
        }
        for (first, values) in [(self.state, &*d_state), (self.cell, &*d_cell)] {
            if let Some(first) = first {
                let place = (self.direction * shape.samples + sample) * h;
                // SAFETY: as for `dz`.
                let first = unsafe { first.slice(place, count * h) };
                copy_rows(&values[..count * padded], padded, first, h, h);
            }
        }
    }
}
