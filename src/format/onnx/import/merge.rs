//! From walks with different sizes to one program with open ones: a size or a whole number that differs between the walks
//! is a polynomial of the batch and the steps, which is found from its values at the corners.

use super::super::error::{OnnxError, shown};
use super::trace::{Constant, Handle, Step, Trace};
use crate::graph::dim::Sizes;
use crate::graph::op::{Count, Expand, Reshape, ResizeNearest, Slice, Split, Tile};
use crate::graph::{Dim, Op, ValueType};

/// The sizes of the walks: one, two (the batch is open) or four (the steps are, too), in the order of
/// [`Dim::through`]'s corners.
#[derive(Debug, Clone)]
pub(super) struct Corners {
    batch: [usize; 2],
    sequence: [usize; 2],
    walks: Vec<Sizes>,
}

impl Corners {
    /// Batches and sequences of these sizes, as far as they are open. Sizes are small and unlike those that networks have.
    pub(super) fn new(batch_is_open: bool, sequence_is_open: bool) -> Self {
        let (batch, sequence) = ([3, 5], [7, 11]);
        let [n0, n1] = batch;
        let [s0, s1] = sequence;
        let walk = |batch, sequence| Sizes { batch, sequence };
        let walks = match (batch_is_open, sequence_is_open) {
            (false, false) => vec![walk(n0, s0)],
            (true, false) => vec![walk(n0, s0), walk(n1, s0)],
            (false, true) => vec![walk(n0, s0), walk(n0, s1)],
            (true, true) => vec![walk(n0, s0), walk(n1, s0), walk(n0, s1), walk(n1, s1)],
        };
        Self { batch, sequence, walks }
    }

    /// The sizes of each walk.
    pub(super) fn walks(&self) -> &[Sizes] {
        &self.walks
    }

    /// The size that is `numbers` in the walks.
    fn dim(&self, numbers: &[i64]) -> Option<Dim> {
        let first = *numbers.first()?;
        if numbers.iter().all(|n| *n == first) {
            return Dim::of_terms([first, 0, 0, 0]);
        }
        let corners = match *numbers {
            [a, b] if self.walks[1].batch != self.walks[0].batch => [a, b, a, b],
            [a, b] => [a, a, b, b],
            [a, b, c, d] => [a, b, c, d],
            _ => return None,
        };
        Dim::through(corners, self.batch.map(|n| n as i64), self.sequence.map(|n| n as i64))
    }

    fn dims(&self, shapes: &[&[Dim]]) -> Option<Vec<Dim>> {
        let axes = shapes.first()?.len();
        if shapes.iter().any(|shape| shape.len() != axes) {
            return None;
        }
        let at = |axis: usize| self.merged(&shapes.iter().map(|shape| shape[axis]).collect::<Vec<_>>());
        (0..axes).map(at).collect()
    }

    fn merged(&self, dims: &[Dim]) -> Option<Dim> {
        let numbers: Option<Vec<i64>> = dims.iter().map(|d| d.fixed().and_then(|n| i64::try_from(n).ok())).collect();
        self.dim(&numbers?)
    }
}

/// A value of a program.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) ty: ValueType,
    /// Where it is known before the network runs, whatever is fed.
    pub(super) constant: Option<Constant>,
    pub(super) name: Option<String>,
}

/// Operators over values, in order.
pub(super) struct Program {
    pub(super) values: Vec<Value>,
    pub(super) steps: Vec<Step>,
}

impl Program {
    pub(super) fn fresh(&mut self, ty: ValueType, constant: Option<Constant>) -> Handle {
        self.values.push(Value { ty, constant, name: None });
        Handle(self.values.len() - 1)
    }

    pub(super) fn value(&self, handle: Handle) -> &Value {
        &self.values[handle.0]
    }
}

/// The program that is each of these walks for its sizes.
pub(super) fn merge(traces: &[&Trace<'_>], corners: &Corners) -> Result<Program, OnnxError> {
    let first = traces[0];
    let diverges = |node: usize| OnnxError::Node {
        node: first.source.label(node).to_string(),
        op: shown(&first.source.nodes[node].op_type),
        problem: "what it computes depends on the number of samples or steps in a way that has no form".into(),
    };
    let same: Vec<bool> = (0..first.values.len()).map(|place| is_same(traces, Handle(place))).collect();
    let mut steps = Vec::with_capacity(first.steps.len());
    for (place, step) in first.steps.iter().enumerate() {
        let all: Option<Vec<&Step>> = traces.iter().map(|trace| trace.steps.get(place)).collect();
        let all =
            all.filter(|all| all.iter().all(|other| other.node == step.node)).ok_or_else(|| diverges(step.node))?;
        let alike = all
            .iter()
            .all(|other| (&other.inputs, &other.params, &other.outputs) == (&step.inputs, &step.params, &step.outputs));
        let op = merged_op(&all.iter().map(|step| &step.op).collect::<Vec<_>>(), corners).filter(|_| alike);
        let varies = step.params.iter().any(|param| !same[param.0]);
        match op {
            Some(op) if !varies => steps.push(Step { op, ..step.clone() }),
            // What is known for each size and read by no one at run time may take any form.
            _ if step.outputs.iter().all(|output| first.values[output.0].constant.is_some()) => {}
            _ => return Err(diverges(step.node)),
        }
    }
    let node_of =
        |handle: usize| first.steps.iter().find(|s| s.outputs.contains(&Handle(handle))).map_or(0, |s| s.node);
    let mut values = Vec::with_capacity(first.values.len());
    for (place, known) in first.values.iter().enumerate() {
        let all: Option<Vec<_>> = traces.iter().map(|trace| trace.values.get(place)).collect();
        let all = all.ok_or_else(|| diverges(node_of(place)))?;
        let shapes: Vec<&[Dim]> = all.iter().map(|known| known.ty.shape.as_slice()).collect();
        let shape = corners.dims(&shapes);
        let constant = known.constant.clone().filter(|_| same[place]);
        let shape = match (shape, &constant) {
            (Some(shape), _) => shape,
            (None, Some(_)) => known.ty.shape.clone(),
            (None, None) => Vec::new(),
        };
        values.push(Value { ty: ValueType::new(known.ty.dtype, shape), constant, name: known.name.clone() });
    }
    // What is known needs no step.
    let known = |step: &Step| step.outputs.iter().all(|output| values[output.0].constant.is_some());
    steps.retain(|step| !known(step));
    Ok(Program { values, steps })
}

/// Whether a value is known and the same in all walks.
fn is_same(traces: &[&Trace<'_>], handle: Handle) -> bool {
    let constant = |trace: &Trace<'_>| trace.values.get(handle.0).and_then(|known| known.constant.clone());
    let Some(first) = constant(traces[0]) else { return false };
    traces[1..].iter().all(|trace| constant(trace).is_some_and(|other| other.same(&first)))
}

/// The operator that is each of these for its sizes: configurations may differ in sizes of axes only.
fn merged_op(ops: &[&Op], corners: &Corners) -> Option<Op> {
    let first = ops[0];
    if ops.iter().all(|op| *op == first) {
        return Some(first.clone());
    }
    /// What one field of all operators is merged to.
    macro_rules! each {
        ($variant:ident, $config:ident => $field:expr) => {
            ops.iter()
                .map(|op| if let Op::$variant($config) = op { Some($field) } else { None })
                .collect::<Option<Vec<_>>>()?
        };
    }
    let merged = match first {
        Op::Reshape(_) => Op::Reshape(Reshape { shape: corners.dims(&each!(Reshape, c => c.shape.as_slice()))? }),
        Op::Expand(_) => Op::Expand(Expand { shape: corners.dims(&each!(Expand, c => c.shape.as_slice()))? }),
        Op::Tile(_) => Op::Tile(Tile { repeats: corners.dims(&each!(Tile, c => c.repeats.as_slice()))? }),
        Op::Range(_) => Op::Range(Count { count: corners.merged(&each!(Range, c => c.count))? }),
        Op::Split(config) => {
            Op::Split(Split { axis: config.axis, sizes: corners.dims(&each!(Split, c => c.sizes.as_slice()))? })
        }
        Op::Slice(config) => Op::Slice(Slice {
            start: corners.merged(&each!(Slice, c => c.start))?,
            end: corners.merged(&each!(Slice, c => c.end))?,
            ..*config
        }),
        Op::ResizeNearest(config) => Op::ResizeNearest(ResizeNearest {
            shape: corners.dims(&each!(ResizeNearest, c => c.shape.as_slice()))?,
            ..config.clone()
        }),
        _ => return None,
    };
    // All that is no size must agree.
    let at = |op: &Op, sizes: Sizes| fixed(op, sizes);
    ops.iter().zip(corners.walks()).all(|(op, sizes)| at(&merged, *sizes).as_ref() == Some(*op)).then_some(merged)
}

/// An operator with all its sizes fixed.
fn fixed(op: &Op, sizes: Sizes) -> Option<Op> {
    let at = |dim: &Dim| dim.at(sizes).map(Dim::Fixed);
    let all = |dims: &[Dim]| dims.iter().map(at).collect::<Option<Vec<_>>>();
    Some(match op {
        Op::Reshape(c) => Op::Reshape(Reshape { shape: all(&c.shape)? }),
        Op::Expand(c) => Op::Expand(Expand { shape: all(&c.shape)? }),
        Op::Tile(c) => Op::Tile(Tile { repeats: all(&c.repeats)? }),
        Op::Range(c) => Op::Range(Count { count: at(&c.count)? }),
        Op::Split(c) => Op::Split(Split { axis: c.axis, sizes: all(&c.sizes)? }),
        Op::Slice(c) => Op::Slice(Slice { start: at(&c.start)?, end: at(&c.end)?, ..*c }),
        Op::ResizeNearest(c) => Op::ResizeNearest(ResizeNearest { shape: all(&c.shape)?, ..c.clone() }),
        other => other.clone(),
    })
}
