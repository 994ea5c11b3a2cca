//! All steps of a GRU, block by block.

use rayon::prelude::*;

use super::super::panels::{Layout, Product, Rows, Start, span};
use super::super::{copy_rows, part};
use super::cell::{Gates, Keep, States};
use super::{Gru, GruOutputs, Packed, SLOTS};
use crate::share::Shared;
use crate::simd;

pub(super) fn run(
    gru: &Gru,
    packed: &[f32],
    x: &[f32],
    first: Option<&[f32]>,
    outputs: GruOutputs<'_>,
    mut kept: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let shape = &gru.shape;
    let GruOutputs { y, state } = outputs;
    assert_eq!(x.len(), shape.input_len(), "size of a GRU's input");
    assert!(first.is_none_or(|first| first.len() == shape.state_len()), "size of a GRU's first state");
    assert_eq!(packed.len(), gru.packed_len(), "size of a GRU's weights");
    assert_eq!(y.len(), shape.output_len(), "size of a GRU's output");
    assert!(state.as_ref().is_none_or(|state| state.len() == shape.state_len()), "size of a GRU's last state");
    assert!(kept.as_ref().is_none_or(|kept| kept.len() == gru.kept_len()), "size of what a GRU keeps");
    assert_eq!(scratch.len(), gru.scratch_len(), "size of what a GRU computes in");
    if shape.hidden == 0 {
        return;
    }
    let (y, state) = (Shared::new(y), state.map(Shared::new));
    for (direction, backwards) in shape.direction.backwards().iter().enumerate() {
        let size = gru.kept_direction_len();
        let pass = Pass {
            gru,
            direction,
            backwards: *backwards,
            weights: gru.packed(packed, direction),
            x,
            first: first.map(|first| part(first, shape.samples * shape.hidden, direction)),
            y: &y,
            state: state.as_ref(),
            kept: kept.as_deref_mut().map(|kept| {
                let kept = &mut kept[direction * size..][..size];
                let (gates, states) = kept.split_at_mut(shape.rows() * SLOTS * shape.hidden);
                [gates, states].map(Shared::new)
            }),
        };
        let blocks = scratch.par_chunks_exact_mut(gru.block_scratch_len()).with_max_len(1);
        blocks.enumerate().for_each(|(block, scratch)| pass.block(block, scratch));
    }
}

/// What the blocks of one direction share.
struct Pass<'a> {
    gru: &'a Gru,
    direction: usize,
    backwards: bool,
    weights: Packed<'a>,
    x: &'a [f32],
    first: Option<&'a [f32]>,
    y: &'a Shared<'a>,
    state: Option<&'a Shared<'a>>,
    /// Gates, and the states that steps begin with.
    kept: Option<[Shared<'a>; 2]>,
}

impl Pass<'_> {
    fn block(&self, block: usize, scratch: &mut [f32]) {
        let (shape, path) = (&self.gru.shape, self.gru.path);
        let (sample, count) = shape.block(block);
        let (h, features, steps, stride) = (shape.hidden, shape.features, shape.steps, shape.row_stride());
        let padded = self.gru.fresh_layout().padded();
        let (z, rest) = scratch.split_at_mut(shape.block_rows() * SLOTS * padded);
        let (state, reset) = rest.split_at_mut(shape.block_rows() * padded);
        state.fill(0.0);
        if let Some(first) = self.first {
            copy_rows(&first[sample * h..(sample + count) * h], h, state, padded, h);
        }
        let states_len = span(count, stride * h, h);
        if let Some([_, states]) = self.kept.as_ref().filter(|_| steps > 0) {
            let row = shape.row(shape.step_at(0, self.backwards), sample);
            // SAFETY: rows of this block's samples, which no other block touches.
            let first = unsafe { states.slice(row * h, states_len) };
            copy_rows(&state[..count * padded], padded, first, stride * h, h);
        }
        // A product into the sums from a slot on.
        let add = |z: &mut [f32], slot: usize, layout: Layout, packed: &[f32], rows: Rows<'_>, start: Start<'_>| {
            let (out, out_stride, columns) = (&mut z[slot * padded..], SLOTS * padded, layout.columns());
            simd::run(path, Product { layout, packed, count, rows, start, out, out_stride, columns });
        };
        for time in 0..steps {
            let step = shape.step_at(time, self.backwards);
            let row = shape.row(step, sample);
            let input = &self.x[row * features..][..span(count, stride * features, features)];
            let input = Rows { numbers: input, stride: stride * features };
            let own = Rows { numbers: state, stride: padded };
            add(z, 0, self.gru.input_layout(), self.weights.input, input, Start::Row(self.weights.bias));
            add(z, 0, self.gru.gates_layout(), self.weights.gates, own, Start::Old);
            let fresh = self.gru.fresh_layout();
            if self.gru.reset_after {
                add(z, 3, fresh, self.weights.fresh, own, Start::Row(self.weights.reset_bias));
                simd::run(path, Gates { count, hidden: h, z, state, reset: None });
            } else {
                simd::run(path, Gates { count, hidden: h, z, state, reset: Some(reset) });
                add(z, 2, fresh, self.weights.fresh, Rows { numbers: reset, stride: padded }, Start::Old);
            }
            let output = shape.output_row(step, self.direction, sample) * h;
            let next = (time + 1 < steps).then(|| shape.step_at(time + 1, self.backwards));
            // SAFETY: rows of this block's samples, which no other block touches; they are used in this step alone.
            let (y, kept) = unsafe {
                let kept = self.kept.as_ref().map(|[gates, states]| Keep {
                    gates: gates.slice(row * SLOTS * h, span(count, stride * SLOTS * h, SLOTS * h)),
                    states: next.map(|next| states.slice(shape.row(next, sample) * h, states_len)),
                    stride,
                });
                (self.y.slice(output, count * h), kept)
            };
            let reset = (!self.gru.reset_after).then_some(&*reset);
            simd::run(path, States { count, hidden: h, z, reset, state, y, kept });
        }
        if let Some(last) = self.state {
            let place = (self.direction * shape.samples + sample) * h;
            // SAFETY: as above.
            let last = unsafe { last.slice(place, count * h) };
            copy_rows(&state[..count * padded], padded, last, h, h);
        }
    }
}
