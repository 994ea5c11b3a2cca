//! LSTM and GRU over a whole sequence, `[steps, n, in]` as the graph has it. Layers with peephole weights or lengths are not
//! covered.

use std::ops::Range;

use niwaki_kernels::matmul::Old;
use niwaki_kernels::recurrent::{
    self as kernel, GruGradients, GruOutputs, GruUpstream, LstmGradients, LstmOutputs, LstmState, LstmUpstream, Shape,
    WeightGradients, Weights,
};
use niwaki_kernels::simd::Path;

use super::super::compile::{Compiler, Layout, Root, Target};
use super::super::{Mode, Uncovered};
use super::{Layer, Room, Run, add_to};
use crate::graph::op::{Direction, Gru, Lstm};
use crate::graph::{Node, ParamId};

/// The layer's kernel.
enum Kernel {
    Lstm(kernel::Lstm),
    Gru(kernel::Gru),
}

struct RecurrentLayer {
    kernel: Kernel,
    path: Path,
    /// Of the input, of the state and, if there is one, the bias.
    weights: Vec<Range<usize>>,
    x: (Root, Room),
    /// The first state and, of an LSTM, the first cell.
    first: Vec<(Root, Room)>,
    /// The states of all steps, the last state and, of an LSTM, the last cell.
    outputs: Vec<(Root, Room)>,
    packed: Vec<f32>,
    /// What the way back needs, while training.
    kept: Option<Room>,
    scratch: Room,
    backward: Option<Backward>,
}

struct Backward {
    /// The gradients at the outputs.
    upstream: Vec<Option<Room>>,
    /// Where each gradient at an input is computed, and where it goes from there.
    inputs: Vec<Option<(Room, Target)>>,
    weights: Vec<WeightTarget>,
    scratch: Room,
}

/// Where the gradient at a weight goes.
enum WeightTarget {
    Trained(Range<usize>),
    /// Nobody asks for it.
    Dropped(Room),
}

pub(super) fn add_lstm(compiler: &mut Compiler<'_>, node: &Node, config: &Lstm) -> Result<(), Uncovered> {
    if node.params.len() > 3 {
        return Err(Uncovered("peephole weights".into()));
    }
    let path = compiler.path;
    let plain = Plain { hidden: config.hidden, direction: config.direction, lengths: config.lengths };
    add(compiler, node, plain, |shape| Kernel::Lstm(kernel::Lstm::new(shape, path)))
}

pub(super) fn add_gru(compiler: &mut Compiler<'_>, node: &Node, config: &Gru) -> Result<(), Uncovered> {
    let path = compiler.path;
    let plain = Plain { hidden: config.hidden, direction: config.direction, lengths: config.lengths };
    add(compiler, node, plain, |shape| Kernel::Gru(kernel::Gru::new(shape, config.reset_after, path)))
}

/// What both kinds of layer have.
struct Plain {
    hidden: usize,
    direction: Direction,
    lengths: bool,
}

fn add(
    compiler: &mut Compiler<'_>,
    node: &Node,
    config: Plain,
    kernel: impl FnOnce(Shape) -> Kernel,
) -> Result<(), Uncovered> {
    if config.lengths {
        return Err(Uncovered("sequences of different lengths".into()));
    }
    let x = compiler.get(node.inputs[0], Layout::Rows)?;
    let &[steps, samples, features] = &x.dims[..] else { return Err(Uncovered("no sequence".into())) };
    let direction = match config.direction {
        Direction::Forward => kernel::Direction::Forward,
        Direction::Reverse => kernel::Direction::Reverse,
        Direction::Both => kernel::Direction::Both,
    };
    let shape = Shape { steps, samples, features, hidden: config.hidden, direction, batch_first: false };
    let kernel = kernel(shape);
    let first =
        node.inputs[1..].iter().map(|value| compiler.get(*value, Layout::Rows)).collect::<Result<Vec<_>, _>>()?;
    let needs =
        compiler.trains(node) || compiler.needs_gradient(&x) || first.iter().any(|flow| compiler.needs_gradient(flow));
    let mut outputs = Vec::new();
    for value in &node.outputs {
        let dims = compiler.dims(*value)?;
        let flow = compiler.output(*value, dims, Layout::Rows, needs);
        outputs.push((flow.root, compiler.room(flow.root)));
    }
    let trains = compiler.mode == Mode::Train;
    let kept = trains.then(|| compiler.scratch(kernel.kept_len().max(1)));
    let scratch = compiler.scratch(kernel.scratch_len().max(1));
    let layer = RecurrentLayer {
        weights: node.params.iter().map(|id: &ParamId| compiler.param(*id)).collect(),
        x: (x.root, compiler.room(x.root)),
        first: first.iter().map(|flow| (flow.root, compiler.room(flow.root))).collect(),
        outputs,
        packed: Vec::new(),
        kept,
        scratch,
        kernel,
        path: compiler.path,
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

impl Kernel {
    fn packed_len(&self) -> usize {
        match self {
            Kernel::Lstm(lstm) => lstm.packed_len(),
            Kernel::Gru(gru) => gru.packed_len(),
        }
    }

    fn kept_len(&self) -> usize {
        match self {
            Kernel::Lstm(lstm) => lstm.kept_len(),
            Kernel::Gru(gru) => gru.kept_len(),
        }
    }

    fn scratch_len(&self) -> usize {
        match self {
            Kernel::Lstm(lstm) => lstm.scratch_len(),
            Kernel::Gru(gru) => gru.scratch_len(),
        }
    }

    fn backward_scratch_len(&self) -> usize {
        match self {
            Kernel::Lstm(lstm) => lstm.backward_scratch_len(),
            Kernel::Gru(gru) => gru.backward_scratch_len(),
        }
    }
}

/// The room at a place, if there is one.
fn room(rooms: &[(Root, Room)], place: usize) -> Room {
    rooms.get(place).map_or(Room::NONE, |(_, room)| *room)
}

/// Numbers that are there, as far as there are any.
fn some(numbers: &[f32]) -> Option<&[f32]> {
    (!numbers.is_empty()).then_some(numbers)
}

fn some_mut(numbers: &mut [f32]) -> Option<&mut [f32]> {
    (!numbers.is_empty()).then_some(numbers)
}

/// The first numbers if there are any, else the others.
fn either<'a>(first: &'a mut [f32], others: &'a mut [f32]) -> &'a mut [f32] {
    if first.is_empty() { others } else { first }
}

impl RecurrentLayer {
    fn weights<'a>(&self, params: &'a [f32]) -> Weights<'a> {
        let [input, state, ..] = &self.weights[..] else { return Weights { input: &[], state: &[], bias: None } };
        let bias = self.weights.get(2).map(|range| &params[range.clone()]);
        Weights { input: &params[input.clone()], state: &params[state.clone()], bias }
    }
}

impl Layer for RecurrentLayer {
    fn prepare(&mut self, params: &[f32]) {
        self.packed.resize(self.kernel.packed_len(), 0.0);
        let weights = self.weights(params);
        match &self.kernel {
            Kernel::Lstm(lstm) => lstm.pack(&weights, &mut self.packed),
            Kernel::Gru(gru) => gru.pack(&weights, &mut self.packed),
        }
    }

    fn forward(&self, run: &mut Run<'_>) {
        let kept = self.kept.unwrap_or(Room::NONE);
        let ([x, state, cell], [y, last, last_cell, kept, scratch]) = run.memory.views(
            [self.x.1, room(&self.first, 0), room(&self.first, 1)],
            [self.outputs[0].1, room(&self.outputs, 1), room(&self.outputs, 2), kept, self.scratch],
        );
        let scratch = &mut scratch[..self.kernel.scratch_len()];
        match &self.kernel {
            Kernel::Lstm(lstm) => {
                let first = some(state).map(|state| LstmState { state, cell });
                let outputs = LstmOutputs { y, state: some_mut(last), cell: some_mut(last_cell) };
                match self.kept {
                    Some(_) => {
                        lstm.forward(&self.packed, x, first, outputs, &mut kept[..lstm.kept_len()], scratch);
                    }
                    None => lstm.infer(&self.packed, x, first, outputs, scratch),
                }
            }
            Kernel::Gru(gru) => {
                let outputs = GruOutputs { y, state: some_mut(last) };
                match self.kept {
                    Some(_) => gru.forward(&self.packed, x, some(state), outputs, &mut kept[..gru.kept_len()], scratch),
                    None => gru.infer(&self.packed, x, some(state), outputs, scratch),
                }
            }
        }
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let upstream: Vec<Option<Room>> = self.outputs.iter().map(|(root, _)| compiler.incoming(*root)).collect();
        let Some(kept) = self.kept.filter(|_| upstream.iter().any(Option::is_some)) else { return };
        compiler.keep(kept);
        compiler.keep(self.x.1);
        self.first.iter().for_each(|(_, room)| compiler.keep(*room));
        let weights = self.weights.iter().map(|range| match compiler.param_gradient(range) {
            Some(range) => WeightTarget::Trained(range),
            None => WeightTarget::Dropped(compiler.scratch(range.len())),
        });
        let weights = weights.collect();
        let inputs = std::iter::once(&self.x).chain(&self.first).map(|(root, own)| {
            compiler.outgoing(*root).map(|(to, old)| match old {
                Old::Dropped => (to, Target::Same),
                Old::Added => {
                    let len = compiler.room_len(*own);
                    (compiler.scratch(len), Target::Room(to, old))
                }
            })
        });
        let inputs = inputs.collect();
        let scratch = compiler.scratch(self.kernel.backward_scratch_len().max(1));
        self.backward = Some(Backward { upstream, inputs, weights, scratch });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { upstream, inputs, weights, scratch }) = &self.backward else { return };
        let up = |place: usize| upstream.get(place).copied().flatten().unwrap_or(Room::NONE);
        let to = |place: usize| inputs.get(place).and_then(Option::as_ref).map_or(Room::NONE, |(room, _)| *room);
        let dropped = |place: usize| match weights.get(place) {
            Some(WeightTarget::Dropped(room)) => *room,
            _ => Room::NONE,
        };
        let reads = [self.x.1, room(&self.first, 0), room(&self.first, 1), up(0), up(1), up(2)];
        let kept = self.kept.unwrap_or(Room::NONE);
        let writes = [to(0), to(1), to(2), kept, *scratch, dropped(0), dropped(1), dropped(2)];
        let ([x, state, cell, dy, dlast, dlast_cell], [dx, dstate, dcell, kept, scratch, input, of_state, bias]) =
            run.memory.views(reads, writes);
        let (kept, scratch) = (&mut kept[..self.kernel.kept_len()], &mut scratch[..self.kernel.backward_scratch_len()]);
        // An empty range is where a weight is not trained, whose gradient goes to memory of its own.
        let trained = |place: usize| match weights.get(place) {
            Some(WeightTarget::Trained(range)) => range.clone(),
            _ => 0..0,
        };
        let Ok(found) = run.gradients.get_disjoint_mut([trained(0), trained(1), trained(2)]) else { return };
        let [found_input, found_state, found_bias] = found;
        let (input, of_state, bias) =
            (either(found_input, input), either(found_state, of_state), either(found_bias, bias));
        let gradients = WeightGradients { input, state: of_state, bias: some_mut(bias) };
        let own = self.weights(run.params);
        match &self.kernel {
            Kernel::Lstm(lstm) => {
                let first = some(state).map(|state| LstmState { state, cell });
                let upstream = LstmUpstream { y: some(dy), state: some(dlast), cell: some(dlast_cell) };
                let gradients = LstmGradients {
                    x: some_mut(dx),
                    state: some_mut(dstate),
                    cell: some_mut(dcell),
                    weights: gradients,
                };
                lstm.backward(&own, x, first, kept, &upstream, gradients, scratch);
            }
            Kernel::Gru(gru) => {
                let upstream = GruUpstream { y: some(dy), state: some(dlast) };
                let gradients = GruGradients { x: some_mut(dx), state: some_mut(dstate), weights: gradients };
                gru.backward(&own, x, kept, &upstream, gradients, scratch);
            }
        }
        for (room, target) in inputs.iter().flatten() {
            add_to(run, self.path, *room, *target);
        }
    }
}
