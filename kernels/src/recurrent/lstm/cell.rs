//! One step of a block of samples, behind the products: the gates, the cells and the states, and the way back.
//!
//! Vectors run along the units, so a vector holds one gate of some units of one sample.

use super::super::panels::span;
use crate::simd::elementary::{sigmoid, tanh};
use crate::simd::{Task, Vector};

/// What a step keeps for the way back. Rows begin every `stride` rows.
pub(super) struct Keep<'a> {
    /// `[rows, 4 h]`
    pub(super) gates: &'a mut [f32],
    /// The cells after the step, `[rows, h]`.
    pub(super) cells: &'a mut [f32],
    /// What the next step begins with, `[rows, h]`, where there is one.
    pub(super) states: Option<&'a mut [f32]>,
    pub(super) stride: usize,
}

/// The gates, cells and states of `count` samples from the sums `z`.
pub(super) struct Forward<'a> {
    pub(super) count: usize,
    pub(super) hidden: usize,
    /// `[count, 4 padded]`, written over.
    pub(super) z: &'a mut [f32],
    /// `[count, padded]`, before and after the step.
    pub(super) cell: &'a mut [f32],
    /// `[count, padded]`, written.
    pub(super) state: &'a mut [f32],
    /// `[count, h]`
    pub(super) y: &'a mut [f32],
    pub(super) kept: Option<Keep<'a>>,
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (h, padded) = (self.hidden, self.hidden.next_multiple_of(V::LANES));
        assert!(self.z.len() >= self.count * 4 * padded && self.y.len() >= self.count * h);
        assert!(self.cell.len() >= self.count * padded && self.state.len() >= self.count * padded);
        if let Some(kept) = &self.kept {
            assert!(kept.gates.len() >= span(self.count, kept.stride * 4 * h, 4 * h));
            assert!(kept.cells.len() >= span(self.count, kept.stride * h, h));
            assert!(kept.states.as_ref().is_none_or(|states| states.len() >= span(self.count, kept.stride * h, h)));
        }
        for row in 0..self.count {
            // In two passes: the states wait for the cells, and the processor looks only so far ahead for other work.
            for unit in (0..h).step_by(V::LANES) {
                // SAFETY: the sizes that were checked above.
                unsafe { self.cells::<V>(row, unit, padded) };
            }
            for unit in (0..h).step_by(V::LANES) {
                // SAFETY: as above.
                unsafe { self.states::<V>(row, unit, padded) };
            }
        }
    }
}

impl Forward<'_> {
    /// The gates and the cells of a vector of units; the output gate is left in `z`.
    ///
    /// # Safety
    ///
    /// All slices hold `row`, and `unit` is one of `hidden`.
    #[inline(always)]
    unsafe fn cells<V: Vector>(&mut self, row: usize, unit: usize, padded: usize) {
        let (h, mask) = (self.hidden, V::first(self.hidden - unit));
        // SAFETY: as the caller vouches: `z` and `cell` have room for a whole vector at each unit, the others for the
        // mask's lanes.
        unsafe {
            let z = self.z.as_mut_ptr().add(row * 4 * padded + unit);
            let cell = self.cell.as_mut_ptr().add(row * padded + unit);
            let i = sigmoid(V::load(z));
            let o = sigmoid(V::load(z.add(padded)));
            let f = sigmoid(V::load(z.add(2 * padded)));
            let g = tanh(V::load(z.add(3 * padded)));
            let c = f.mul_add(V::load(cell), i.mul(g));
            o.store(z.add(padded));
            c.store(cell);
            if let Some(kept) = &mut self.kept {
                let row = row * kept.stride;
                let gates = kept.gates.as_mut_ptr().add(row * 4 * h + unit);
                i.store_first(gates, mask);
                o.store_first(gates.add(h), mask);
                f.store_first(gates.add(2 * h), mask);
                g.store_first(gates.add(3 * h), mask);
                c.store_first(kept.cells.as_mut_ptr().add(row * h + unit), mask);
            }
        }
    }

    /// The states of a vector of units whose cells are computed.
    ///
    /// # Safety
    ///
    /// As for [`cells`](Self::cells).
    #[inline(always)]
    unsafe fn states<V: Vector>(&mut self, row: usize, unit: usize, padded: usize) {
        let (h, mask) = (self.hidden, V::first(self.hidden - unit));
        // SAFETY: as the caller vouches: `z`, `cell` and `state` have room for a whole vector at each unit, the others for
        // the mask's lanes.
        unsafe {
            let o = V::load(self.z.as_ptr().add((row * 4 + 1) * padded + unit));
            let state = o.mul(tanh(V::load(self.cell.as_ptr().add(row * padded + unit))));
            state.store(self.state.as_mut_ptr().add(row * padded + unit));
            state.store_first(self.y.as_mut_ptr().add(row * h + unit), mask);
            if let Some(Keep { states: Some(states), stride, .. }) = &mut self.kept {
                state.store_first(states.as_mut_ptr().add(row * *stride * h + unit), mask);
            }
        }
    }
}

/// Some rows of numbers.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) numbers: &'a [f32],
    /// How many numbers further the next row begins.
    pub(super) stride: usize,
}

/// The gradients at the sums `z` of `count` samples, from those at the states and the cells.
pub(super) struct Backward<'a> {
    pub(super) count: usize,
    pub(super) hidden: usize,
    /// `[count, 4 h]`, the gates, written over with the gradients; rows begin every `gates_stride` numbers.
    pub(super) gates: &'a mut [f32],
    pub(super) gates_stride: usize,
    /// The cells after the step.
    pub(super) cells: Rows<'a>,
    /// The cells before it, where they are not 0.
    pub(super) before: Option<Rows<'a>>,
    /// The gradient at the output `[count, h]`, where there is one.
    pub(super) dy: Option<&'a [f32]>,
    /// The gradient at the state after the step, without that at the output, `[count, padded]`.
    pub(super) d_state: &'a [f32],
    /// The gradient at the cells, `[count, padded]`, after the step and then before it.
    pub(super) d_cell: &'a mut [f32],
    /// The sums of the gradients over all samples and steps so far, `[4, padded]`.
    pub(super) sums: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (count, h, padded) = (self.count, self.hidden, self.hidden.next_multiple_of(V::LANES));
        assert!(self.gates.len() >= span(count, self.gates_stride, 4 * h) && self.sums.len() >= 4 * padded);
        assert!(self.cells.numbers.len() >= span(count, self.cells.stride, h));
        assert!(self.before.is_none_or(|before| before.numbers.len() >= span(count, before.stride, h)));
        assert!(self.dy.is_none_or(|dy| dy.len() >= count * h));
        assert!(self.d_state.len() >= count * padded && self.d_cell.len() >= count * padded);
        for unit in (0..h).step_by(V::LANES) {
            let mut sums = [V::zero(); 4];
            for row in 0..count {
                // SAFETY: the sizes that were checked above.
                let dz = unsafe { self.units::<V>(row, unit, padded) };
                for gate in 0..4 {
                    sums[gate] = sums[gate].add(dz[gate]);
                }
            }
            for (gate, sum) in sums.into_iter().enumerate() {
                // SAFETY: `sums` has room for a whole vector at each unit.
                unsafe {
                    let all = self.sums.as_mut_ptr().add(gate * padded + unit);
                    V::load(all).add(sum).store(all);
                }
            }
        }
    }
}

impl Backward<'_> {
    /// A vector of units; gives the gradients at the gates.
    ///
    /// # Safety
    ///
    /// All slices hold `row`, and `unit` is one of `hidden`.
    #[inline(always)]
    unsafe fn units<V: Vector>(&mut self, row: usize, unit: usize, padded: usize) -> [V; 4] {
        let (h, one, mask) = (self.hidden, V::splat(1.0), V::first(self.hidden - unit));
        // SAFETY: as the caller vouches: `d_state` and `d_cell` have room for a whole vector at each unit, the others for
        // the mask's lanes.
        unsafe {
            let gates = self.gates.as_mut_ptr().add(row * self.gates_stride + unit);
            let [i, o, f, g] = [0, 1, 2, 3].map(
                #[inline(always)]
                |gate| V::load_first(gates.add(gate * h), mask),
            );
            let t = tanh(V::load_first(self.cells.numbers.as_ptr().add(row * self.cells.stride + unit), mask));
            let before = match self.before {
                Some(before) => V::load_first(before.numbers.as_ptr().add(row * before.stride + unit), mask),
                None => V::zero(),
            };
            let mut dh = V::load(self.d_state.as_ptr().add(row * padded + unit));
            if let Some(dy) = self.dy {
                dh = dh.add(V::load_first(dy.as_ptr().add(row * h + unit), mask));
            }
            let d_cell = self.d_cell.as_mut_ptr().add(row * padded + unit);
            let of_state = dh.mul(o);
            let dc = of_state.mul_add(one.sub(t.mul(t)), V::load(d_cell));
            let dz = [
                dc.mul(g).mul(i).mul(one.sub(i)),
                of_state.mul(t).mul(one.sub(o)),
                dc.mul(before).mul(f).mul(one.sub(f)),
                dc.mul(i).mul(one.sub(g.mul(g))),
            ];
            dc.mul(f).store(d_cell);
            for (gate, dz) in dz.into_iter().enumerate() {
                dz.store_first(gates.add(gate * h), mask);
            }
            dz
        }
    }
}
