//! All steps of an LSTM, block by block.

use rayon::prelude::*;

use super::super::panels::{Product, Rows, Start, span};
use super::super::{Shape, copy_rows, part};
use super::cell::{Forward, Keep};
use super::{GATES, Kept, Lstm, LstmOutputs, LstmState, Packed};
use crate::share::Shared;
use crate::simd;

pub(super) fn run(
    lstm: &Lstm,
    packed: &[f32],
    x: &[f32],
    first: Option<LstmState<'_>>,
    outputs: LstmOutputs<'_>,
    mut kept: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let shape = &lstm.shape;
    let LstmOutputs { y, state, cell } = outputs;
    lstm.check_given(x, first);
    assert_eq!(packed.len(), lstm.packed_len(), "size of an LSTM's weights");
    assert_eq!(y.len(), shape.output_len(), "size of an LSTM's output");
    assert!(state.as_ref().is_none_or(|state| state.len() == shape.state_len()), "size of an LSTM's last state");
    assert!(cell.as_ref().is_none_or(|cell| cell.len() == shape.state_len()), "size of an LSTM's last cell");
    assert!(kept.as_ref().is_none_or(|kept| kept.len() == lstm.kept_len()), "size of what an LSTM keeps");
    assert_eq!(scratch.len(), lstm.scratch_len(), "size of what an LSTM computes in");
    if shape.hidden == 0 {
        return;
    }
    let (y, state, cell) = (Shared::new(y), state.map(Shared::new), cell.map(Shared::new));
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        let size = lstm.kept_direction_len();
        let pass = Pass {
            lstm,
            direction,
            backwards: *backwards,
            weights: lstm.packed(packed, direction),
            x,
            first: first.map(|first| first.of(shape, direction)),
            y: &y,
            state: state.as_ref(),
            cell: cell.as_ref(),
            kept: kept.as_deref_mut().map(|kept| Kept::new(shape, &mut kept[direction * size..][..size])),
        };
        let blocks = scratch.par_chunks_exact_mut(lstm.block_scratch_len()).with_max_len(1);
        blocks.enumerate().for_each(|(block, scratch)| pass.block(block, scratch));
    }
}

impl<'a> LstmState<'a> {
    /// The part of one direction.
    pub(super) fn of(self, shape: &Shape, direction: usize) -> Self {
        let size = shape.samples * shape.hidden;
        Self { state: part(self.state, size, direction), cell: part(self.cell, size, direction) }
    }
}

/// What the blocks of one direction share.
struct Pass<'a> {
    lstm: &'a Lstm,
    direction: usize,
    backwards: bool,
    weights: Packed<'a>,
    x: &'a [f32],
    first: Option<LstmState<'a>>,
    y: &'a Shared<'a>,
    state: Option<&'a Shared<'a>>,
    cell: Option<&'a Shared<'a>>,
    kept: Option<Kept<'a>>,
}

impl Pass<'_> {
    fn block(&self, block: usize, scratch: &mut [f32]) {
        let shape = &self.lstm.shape;
        let (sample, count) = shape.block(block);
        let (h, features, steps, stride) = (shape.hidden, shape.features, shape.steps, shape.row_stride());
        let layout = self.lstm.state_layout();
        let padded = layout.padded();
        let (z, rest) = scratch.split_at_mut(shape.block_rows() * GATES * padded);
        let (state, cell) = rest.split_at_mut(shape.block_rows() * padded);
        state.fill(0.0);
        cell.fill(0.0);
        let own = sample * h..(sample + count) * h;
        if let Some(first) = self.first {
            copy_rows(&first.state[own.clone()], h, state, padded, h);
            copy_rows(&first.cell[own.clone()], h, cell, padded, h);
        }
        let kept_at = |step: usize| shape.row(step, sample);
        let kept_len = span(count, stride * h, h);
        if let Some(kept) = self.kept.as_ref().filter(|_| steps > 0) {
            // SAFETY: rows of this block's samples, which no other block touches.
            let first = unsafe { kept.states.slice(kept_at(shape.step_at(0, self.backwards)) * h, kept_len) };
            copy_rows(&state[..count * padded], padded, first, stride * h, h);
        }
        for time in 0..steps {
            let step = shape.step_at(time, self.backwards);
            let row = shape.row(step, sample);
            let mut add = |layout, packed, rows, start| {
                let (out, out_stride, columns) = (&mut z[..], GATES * padded, GATES * padded);
                simd::run(self.lstm.path, Product { layout, packed, count, rows, start, out, out_stride, columns });
            };
            let input = &self.x[row * features..][..span(count, stride * features, features)];
            let input = Rows { numbers: input, stride: stride * features };
            add(self.lstm.input_layout(), self.weights.input, input, Start::Row(self.weights.bias));
            add(layout, self.weights.state, Rows { numbers: state, stride: padded }, Start::Old);
            let output = shape.output_row(step, self.direction, sample) * h;
            let next = (time + 1 < steps).then(|| shape.step_at(time + 1, self.backwards));
            // SAFETY: rows of this block's samples, which no other block touches; they are used in this step alone.
            let (y, kept) = unsafe {
                let kept = self.kept.as_ref().map(|kept| Keep {
                    gates: kept.gates.slice(row * GATES * h, span(count, stride * GATES * h, GATES * h)),
                    cells: kept.cells.slice(row * h, kept_len),
                    states: next.map(|next| kept.states.slice(kept_at(next) * h, kept_len)),
                    stride,
                });
                (self.y.slice(output, count * h), kept)
            };
            simd::run(self.lstm.path, Forward { count, hidden: h, z, cell, state, y, kept });
        }
        for (last, values) in [(self.state, &*state), (self.cell, &*cell)] {
            if let Some(last) = last {
                let place = (self.direction * shape.samples + sample) * h;
                // SAFETY: as above.
                let last = unsafe { last.slice(place, count * h) };
                copy_rows(&values[..count * padded], padded, last, h, h);
            }
        }
    }
}
