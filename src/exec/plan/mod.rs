//! The execution plan: how a graph runs on kernels of our own, for one batch size.
//!
//! ```text
//!   graph ──▶ groups of nodes ──▶ layers, forwards and then backwards ──▶ a place in memory for each value
//!             fuse                compile, layer                          memory
//! ```
//!
//! Images are held with their channels together, `[n, h, w, c]`, all else as the graph has it. Everything that is known
//! before is decided once: which nodes are one layer, where each value lies, from when to when it is needed, who writes a
//! gradient first and who adds to it. A step then only computes, in memory that is there.
//!
//! A graph runs by plan if each of its operators has a layer here; any other runs as a whole as the
//! [session](super::session) does it, operator by operator.

mod compile;
mod fuse;
mod layer;
mod memory;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::layout;

use super::tape::{End, check_lengths};
use super::{Activations, ExecError, Mode, Session};
use crate::graph::ValueId;
use layer::{Layer, Run};
use memory::{Memory, Room};

pub(super) use compile::compile;

/// Why a graph does not run by plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uncovered(pub(super) String);

impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For what a plan is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) mode: Mode,
    pub(super) batch: usize,
    pub(super) taps: Vec<ValueId>,
}

/// A value that is given out or comes in.
struct Door {
    room: Room,
    shape: Vec<usize>,
    /// Pixels and channels, if the value is held with its channels together.
    turned: Option<[usize; 2]>,
    /// Where its gradient comes in, and what becomes of what is there.
    gradient: Option<(Room, Old)>,
}

/// A plan; see the [module documentation](self).
pub(super) struct Plan {
    pub(super) key: Key,
    layers: Vec<Box<dyn Layer>>,
    input: Door,
    outputs: Vec<Door>,
    taps: Vec<Door>,
    places: Vec<Range<usize>>,
    /// Numbers that it computes in.
    len: usize,
    /// Trained parameters to which no gradient comes.
    without_gradient: Vec<Range<usize>>,
    /// The version of the parameters that the layers are prepared for.
    prepared: Option<u64>,
    /// Whether a forward pass moves running statistics.
    pub(super) measures: bool,
}

/// What a session lends to a plan that runs.
pub(super) struct Lent<'a> {
    pub(super) memory: &'a mut Vec<f32>,
    pub(super) params: &'a mut [f32],
    /// Counts the changes of the parameters.
    pub(super) version: u64,
    pub(super) gradients: &'a mut [f32],
    pub(super) seed: u64,
    pub(super) momentum: Option<f64>,
}

impl Plan {
    /// Computes outputs and taps.
    pub(super) fn forward(&mut self, x: &[f32], lent: Lent<'_>) -> Result<Activations, ExecError> {
        if self.prepared != Some(lent.version) {
            self.layers.iter_mut().for_each(|layer| layer.prepare(lent.params));
            self.prepared = Some(lent.version);
        }
        let mut run = self.run(lent);
        let ([], [to]) = run.memory.views([], [self.input.room]);
        match self.input.turned {
            Some([pixels, channels]) => layout::transpose(x, to, [channels, pixels], Old::Dropped),
            None => layout::copy(x, to),
        }
        self.layers.iter().for_each(|layer| layer.forward(&mut run));
        if let Some(problem) = run.problem {
            return Err(problem);
        }
        let mut read = |doors: &[Door]| doors.iter().map(|door| door.read(&mut run.memory)).collect();
        Ok(Activations { outputs: read(&self.outputs), taps: read(&self.taps) })
    }

    /// Computes the gradients at the trained parameters, after a forward pass.
    pub(super) fn backward(
        &self,
        d_outputs: &[Vec<f32>],
        d_taps: &[Vec<f32>],
        lent: Lent<'_>,
    ) -> Result<(), ExecError> {
        for (doors, d, what) in [(&self.outputs, d_outputs, "output"), (&self.taps, d_taps, "tap")] {
            let shape = |door: &Door| Some(door.shape.clone());
            let ends: Vec<End> = doors.iter().map(|door| End { value: ValueId(0), shape: shape(door) }).collect();
            check_lengths(&ends, d, what)?;
        }
        let mut run = self.run(lent);
        self.without_gradient.iter().for_each(|range| run.gradients[range.clone()].fill(0.0));
        for (doors, d) in [(&self.outputs, d_outputs), (&self.taps, d_taps)] {
            doors.iter().zip(d).for_each(|(door, d)| door.take(d, &mut run.memory));
        }
        self.layers.iter().rev().for_each(|layer| layer.backward(&mut run));
        run.problem.map_or(Ok(()), Err)
    }

    fn run<'a>(&'a self, lent: Lent<'a>) -> Run<'a> {
        // Rooms begin at lines of the processor's memory.
        const LINE_BYTES: usize = 64;
        let spare = LINE_BYTES / size_of::<f32>();
        if lent.memory.len() < self.len + spare {
            *lent.memory = Vec::new();
            *lent.memory = vec![0.0; self.len + spare];
        }
        let start = lent.memory.as_ptr().align_offset(LINE_BYTES).min(spare);
        let numbers = &mut lent.memory[start..start + self.len];
        Run {
            memory: Memory { numbers, places: &self.places },
            params: lent.params,
            gradients: lent.gradients,
            seed: lent.seed,
            momentum: lent.momentum,
            problem: None,
        }
    }
}

impl Door {
    /// The value, in the graph's order.
    fn read(&self, memory: &mut Memory<'_>) -> Vec<f32> {
        let ([from], []) = memory.views([self.room], []);
        let Some(sizes) = self.turned else { return from.to_vec() };
        let mut to = vec![0.0; from.len()];
        layout::transpose(from, &mut to, sizes, Old::Dropped);
        to
    }

    /// Takes in the gradient.
    fn take(&self, d: &[f32], memory: &mut Memory<'_>) {
        let Some((room, old)) = self.gradient else { return };
        let ([], [to]) = memory.views([], [room]);
        match (self.turned, old) {
            (Some([pixels, channels]), old) => layout::transpose(d, to, [channels, pixels], old),
            (None, Old::Dropped) => to.copy_from_slice(d),
            (None, Old::Added) => to.iter_mut().zip(d).for_each(|(to, d)| *to += d),
        }
    }
}

impl Session {
    /// Why the session's graph does not run by plan, if so.
    pub(super) fn uncovered(&self) -> Option<Uncovered> {
        // Nothing that is decided depends on how many samples there are, if there are several.
        compile(self, Key { mode: Mode::Train, batch: 2, taps: Vec::new() }).err()
    }
}
