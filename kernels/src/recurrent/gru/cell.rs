//! One step of a block of samples, between the products: the gates and the states, and the way back.
//!
//! Vectors run along the units, so a vector holds one gate of some units of one sample. Each pass goes over all samples and
//! units; between the two of a step lies a product where the state is reset before it.

use super::super::panels::span;
use crate::simd::elementary::{sigmoid, tanh};
use crate::simd::{Task, Vector};

/// The gates of `count` samples from their sums.
pub(super) struct Gates<'a> {
    pub(super) count: usize,
    pub(super) hidden: usize,
    /// `[count, 4 padded]`: the sums of update and reset gate become the gates.
    pub(super) z: &'a mut [f32],
    /// `[count, padded]`
    pub(super) state: &'a [f32],
    /// `[count, padded]`: what is left of the state, where the product wants it.
    pub(super) reset: Option<&'a mut [f32]>,
}

impl Task for Gates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let padded = self.hidden.next_multiple_of(V::LANES);
        assert!(self.z.len() >= self.count * 4 * padded && self.state.len() >= self.count * padded);
        assert!(self.reset.as_ref().is_none_or(|reset| reset.len() >= self.count * padded));
        for row in 0..self.count {
            for unit in (0..padded).step_by(V::LANES) {
                // SAFETY: the sizes that were checked above: all have room for a whole vector at each unit.
                unsafe {
                    let z = self.z.as_mut_ptr().add(row * 4 * padded + unit);
                    let r = sigmoid(V::load(z.add(padded)));
                    sigmoid(V::load(z)).store(z);
                    r.store(z.add(padded));
                    if let Some(reset) = &mut self.reset {
                        let place = row * padded + unit;
                        r.mul(V::load(self.state.as_ptr().add(place))).store(reset.as_mut_ptr().add(place));
                    }
                }
            }
        }
    }
}

/// What a step keeps for the way back. Rows begin every `stride` rows.
pub(super) struct Keep<'a> {
    /// Update, reset and hidden gate, and the product or what is left of the state, `[rows, 4 h]`.
    pub(super) gates: &'a mut [f32],
    /// What the next step begins with, `[rows, h]`, where there is one.
    pub(super) states: Option<&'a mut [f32]>,
    pub(super) stride: usize,
}

/// The states of `count` samples from the gates and the sums of the hidden gate.
pub(super) struct States<'a> {
    pub(super) count: usize,
    pub(super) hidden: usize,
    /// `[count, 4 padded]`: update and reset gate, the hidden gate's sum, and the product with the state to be reset.
    pub(super) z: &'a [f32],
    /// `[count, padded]`: what is left of the state where it was reset before the product.
    pub(super) reset: Option<&'a [f32]>,
    /// `[count, padded]`, before and after the step.
    pub(super) state: &'a mut [f32],
    /// `[count, h]`
    pub(super) y: &'a mut [f32],
    pub(super) kept: Option<Keep<'a>>,
}

impl Task for States<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let (count, h, padded) = (self.count, self.hidden, self.hidden.next_multiple_of(V::LANES));
        assert!(self.z.len() >= count * 4 * padded && self.y.len() >= count * h);
        assert!(self.state.len() >= count * padded);
        assert!(self.reset.is_none_or(|reset| reset.len() >= count * padded));
        if let Some(kept) = &self.kept {
            assert!(kept.gates.len() >= span(count, kept.stride * 4 * h, 4 * h));
            assert!(kept.states.as_ref().is_none_or(|states| states.len() >= span(count, kept.stride * h, h)));
        }
        for row in 0..count {
            for unit in (0..h).step_by(V::LANES) {
                // SAFETY: the sizes that were checked above.
                unsafe { self.units::<V>(row, unit, padded) };
            }
        }
    }
}

impl States<'_> {
    /// A vector of units.
    ///
    /// # Safety
    ///
    /// All slices hold `row`, and `unit` is one of `hidden`.
    #[inline(always)]
    unsafe fn units<V: Vector>(&mut self, row: usize, unit: usize, padded: usize) {
        let (h, mask) = (self.hidden, V::first(self.hidden - unit));
        // SAFETY: as the caller vouches: `z`, `reset` and `state` have room for a whole vector at each unit, the others for
        // the mask's lanes.
        unsafe {
            let sums = self.z.as_ptr().add(row * 4 * padded + unit);
            let state = self.state.as_mut_ptr().add(row * padded + unit);
            let (z, r, sum) = (V::load(sums), V::load(sums.add(padded)), V::load(sums.add(2 * padded)));
            let (fourth, fresh) = match self.reset {
                Some(reset) => (V::load(reset.as_ptr().add(row * padded + unit)), tanh(sum)),
                None => {
                    let q = V::load(sums.add(3 * padded));
                    (q, tanh(r.mul_add(q, sum)))
                }
            };
            let new = z.mul_add(V::load(state).sub(fresh), fresh);
            new.store(state);
            new.store_first(self.y.as_mut_ptr().add(row * h + unit), mask);
            if let Some(kept) = &mut self.kept {
                let row = row * kept.stride;
                let gates = kept.gates.as_mut_ptr().add(row * 4 * h + unit);
                z.store_first(gates, mask);
                r.store_first(gates.add(h), mask);
                fresh.store_first(gates.add(2 * h), mask);
                fourth.store_first(gates.add(3 * h), mask);
                if let Some(states) = &mut kept.states {
                    new.store_first(states.as_mut_ptr().add(row * h + unit), mask);
                }
            }
        }
    }
}

/// Where a pass of the way back works.
pub(super) struct Back<'a> {
    pub(super) count: usize,
    pub(super) hidden: usize,
    /// What was kept, `[rows, 4 h]`, written over with the gradients at the sums.
    pub(super) gates: &'a mut [f32],
    /// The states that the step began with, `[rows, h]`.
    pub(super) states: &'a [f32],
    /// Rows begin every so many rows.
    pub(super) stride: usize,
    /// `[count, padded]`: the gradient at the state.
    pub(super) d_state: &'a mut [f32],
    /// The sums of the gradients at the sums over all samples and steps so far, `[4, padded]`.
    pub(super) sums: &'a mut [f32],
}

impl Back<'_> {
    #[inline(always)]
    fn check(&self, padded: usize) {
        let (count, h) = (self.count, self.hidden);
        assert!(self.gates.len() >= span(count, self.stride * 4 * h, 4 * h) && self.sums.len() >= 4 * padded);
        assert!(self.states.len() >= span(count, self.stride * h, h) && self.d_state.len() >= count * padded);
    }

    /// Adds to the sums of a vector of units.
    ///
    /// # Safety
    ///
    /// `unit` is one of `hidden`, and [`check`](Self::check) found the sizes right.
    #[inline(always)]
    unsafe fn add_sum<V: Vector>(&mut self, gate: usize, unit: usize, padded: usize, sum: V) {
        // SAFETY: `sums` has room for a whole vector at each unit.
        unsafe {
            let all = self.sums.as_mut_ptr().add(gate * padded + unit);
            V::load(all).add(sum).store(all);
        }
    }
}

/// First pass: the gradients at update and hidden gate, and at the state what goes past the gates.
pub(super) struct BackStates<'a> {
    pub(super) back: Back<'a>,
    /// The gradient at the output `[count, h]`, where there is one.
    pub(super) dy: Option<&'a [f32]>,
}

impl Task for BackStates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { mut back, dy } = self;
        let (h, padded, one) = (back.hidden, back.hidden.next_multiple_of(V::LANES), V::splat(1.0));
        back.check(padded);
        assert!(dy.is_none_or(|dy| dy.len() >= back.count * h));
        for unit in (0..h).step_by(V::LANES) {
            let mask = V::first(h - unit);
            let mut sums = [V::zero(); 2];
            for row in 0..back.count {
                // SAFETY: the sizes that were checked above: `d_state` has room for a whole vector at each unit, the others
                // for the mask's lanes.
                unsafe {
                    let gates = back.gates.as_mut_ptr().add(row * back.stride * 4 * h + unit);
                    let (z, fresh) = (V::load_first(gates, mask), V::load_first(gates.add(2 * h), mask));
                    let state = V::load_first(back.states.as_ptr().add(row * back.stride * h + unit), mask);
                    let d_state = back.d_state.as_mut_ptr().add(row * padded + unit);
                    let mut dh = V::load(d_state);
                    if let Some(dy) = dy {
                        dh = dh.add(V::load_first(dy.as_ptr().add(row * h + unit), mask));
                    }
                    let kept = dh.mul(z);
                    let of_fresh = dh.sub(kept);
                    let dz = kept.mul(state.sub(fresh)).mul(one.sub(z));
                    let d_fresh = of_fresh.mul(one.sub(fresh.mul(fresh)));
                    dz.store_first(gates, mask);
                    d_fresh.store_first(gates.add(2 * h), mask);
                    kept.store(d_state);
                    sums = [sums[0].add(dz), sums[1].add(d_fresh)];
                }
            }
            // SAFETY: `unit` is one of `hidden`.
            unsafe {
                back.add_sum(0, unit, padded, sums[0]);
                back.add_sum(2, unit, padded, sums[1]);
            }
        }
    }
}

/// Second pass: the gradients at the reset gate, and at the product that is reset or at the state through what is left of it.
pub(super) struct BackReset<'a> {
    pub(super) back: Back<'a>,
    /// `[count, padded]`: the gradient at what is left of the state, where it was reset before the product.
    pub(super) reset: Option<&'a [f32]>,
}

impl Task for BackReset<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { mut back, reset } = self;
        let (h, padded, one) = (back.hidden, back.hidden.next_multiple_of(V::LANES), V::splat(1.0));
        back.check(padded);
        assert!(reset.is_none_or(|reset| reset.len() >= back.count * padded));
        for unit in (0..h).step_by(V::LANES) {
            let mask = V::first(h - unit);
            let mut sums = [V::zero(); 2];
            for row in 0..back.count {
                // SAFETY: as in the first pass; `reset` has room for a whole vector at each unit.
                unsafe {
                    let gates = back.gates.as_mut_ptr().add(row * back.stride * 4 * h + unit);
                    let r = V::load_first(gates.add(h), mask);
                    // The gradient at the reset gate, and the one that passes it.
                    let (at_gate, passed) = match reset {
                        Some(reset) => {
                            let at_left = V::load(reset.as_ptr().add(row * padded + unit));
                            let state = V::load_first(back.states.as_ptr().add(row * back.stride * h + unit), mask);
                            let d_state = back.d_state.as_mut_ptr().add(row * padded + unit);
                            let passed = at_left.mul(r);
                            V::load(d_state).add(passed).store(d_state);
                            (passed.mul(state), V::zero())
                        }
                        None => {
                            let d_fresh = V::load_first(gates.add(2 * h), mask);
                            let q = V::load_first(gates.add(3 * h), mask);
                            let passed = d_fresh.mul(r);
                            passed.store_first(gates.add(3 * h), mask);
                            (passed.mul(q), passed)
                        }
                    };
                    let dr = at_gate.mul(one.sub(r));
                    dr.store_first(gates.add(h), mask);
                    sums = [sums[0].add(dr), sums[1].add(passed)];
                }
            }
            // SAFETY: `unit` is one of `hidden`.
            unsafe {
                back.add_sum(1, unit, padded, sums[0]);
                back.add_sum(3, unit, padded, sums[1]);
            }
        }
    }
}
