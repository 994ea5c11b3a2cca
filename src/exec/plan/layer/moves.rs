//! Operators that compute nothing and only move numbers.
//!
//! Which number comes from where is found once, for one sample where samples do not mix, and kept as pieces.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::moves::{Piece, gather, scatter};

use super::super::Uncovered;
use super::super::compile::{Compiler, Flow, Layout, Root};
use super::{Layer, Room, Run};
use crate::graph::op::{Concat, Moves, Pad, Reverse, Slice, Split};
use crate::graph::{Node, Op};

/// Numbers of one value that are numbers of another.
struct Part {
    /// Where those of the smaller value are in the larger one, in the layout that both have.
    pieces: Vec<Piece>,
    x: (Root, Room),
    y: (Root, Room),
    /// Numbers of a sample of `x` and of `y`, or of all of them where samples mix.
    sizes: [usize; 2],
    /// From where to where the gradient goes.
    backward: Option<(Room, Room, Old)>,
}

/// Each number of `y` comes from `x` or nowhere.
struct Gather {
    part: Part,
    /// What a number is that comes from nowhere.
    fill: f32,
}

/// The numbers of `x` become some of those of `y`, whose others are another layer's.
struct Scatter(Part);

/// An axis as it is where the channels lie together.
fn together(axis: usize, rank: usize) -> usize {
    match axis {
        0 => 0,
        1 => rank - 1,
        other => other - 1,
    }
}

/// The operator with its axis there, and whether it works along one axis alone.
fn along_axis(op: &Op, rank: usize) -> Option<(Op, usize)> {
    let to = |axis: usize| together(axis, rank);
    Some(match op {
        Op::Pad(config) => (Op::Pad(Pad { axis: to(config.axis), ..*config }), config.axis),
        Op::Slice(config) => (Op::Slice(Slice { axis: to(config.axis), ..*config }), config.axis),
        Op::Reverse(config) => (Op::Reverse(Reverse { axis: to(config.axis) }), config.axis),
        Op::Split(config) => (Op::Split(Split { axis: to(config.axis), ..config.clone() }), config.axis),
        Op::Concat(config) => (Op::Concat(Concat { axis: to(config.axis) }), config.axis),
        _ => return None,
    })
}

/// The shape as it lies in memory, of one sample if asked for.
fn lying(flow: &Flow, one: bool) -> Vec<usize> {
    let mut dims = flow.dims.clone();
    if flow.layout == Layout::Images {
        dims[1..].rotate_left(1);
    }
    if one {
        dims[0] = 1;
    }
    dims
}

fn pieces(moves: &Moves) -> Vec<Piece> {
    let mut pieces = Vec::new();
    moves.runs(|run| pieces.push(Piece { to: run.to, from: run.from, count: run.count, step: run.step }));
    pieces
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node) -> Result<(), Uncovered> {
    let native = compiler.any(node.inputs[0])?;
    let along = along_axis(&node.op, native.dims.len());
    let layout = if along.is_some() { native.layout } else { Layout::Rows };
    let x = compiler.get(node.inputs[0], layout)?;
    let axis = along.as_ref().map(|(_, axis)| *axis);
    // Samples do not mix where the batch's axis stays the first, and nothing happens along it.
    let one = axis.is_some_and(|axis| axis > 0);
    let op = match along {
        Some((moved, _)) if layout == Layout::Images => moved,
        _ => node.op.clone(),
    };
    let found = op.moves(&lying(&x, one), None, compiler.sizes);
    let found = found.ok_or_else(|| Uncovered("it moves by what is computed".into()))?;
    let found = found.map_err(|e| Uncovered(e.to_string()))?;
    let needs = compiler.needs_gradient(&x);
    for (value, moves) in node.outputs.iter().zip(&found) {
        let dims = compiler.dims(*value)?;
        let y = compiler.output(*value, dims, layout, needs);
        let part = Part::new(compiler, &x, &y, pieces(moves), one);
        compiler.push(Gather { part, fill: moves.fill as f32 });
    }
    Ok(())
}

pub(super) fn add_concat(compiler: &mut Compiler<'_>, node: &Node, axis: usize) -> Result<(), Uncovered> {
    let dims = compiler.dims(node.output())?;
    let layouts = node.inputs.iter().map(|value| Ok(compiler.any(*value)?.layout));
    let layouts = layouts.collect::<Result<Vec<Layout>, Uncovered>>()?;
    let layout = if layouts.contains(&Layout::Images) { Layout::Images } else { Layout::Rows };
    let inputs = node.inputs.iter().map(|value| compiler.get(*value, layout));
    let inputs = inputs.collect::<Result<Vec<Flow>, Uncovered>>()?;
    let needs = inputs.iter().any(|x| compiler.needs_gradient(x));
    let y = compiler.output(node.output(), dims, layout, needs);
    let one = axis > 0;
    let at = if layout == Layout::Images { together(axis, y.dims.len()) } else { axis };
    let whole = lying(&y, one);
    let mut start = 0;
    for x in inputs {
        let count = x.dims[axis];
        let moves = Moves::part("Concat", &whole, at, start, count).map_err(|e| Uncovered(e.to_string()))?;
        let part = Part::new(compiler, &x, &y, pieces(&moves), one);
        compiler.push(Scatter(part));
        start += count;
    }
    Ok(())
}

impl Part {
    fn new(compiler: &Compiler<'_>, x: &Flow, y: &Flow, pieces: Vec<Piece>, one: bool) -> Self {
        let size = |flow: &Flow| flow.len() / if one { flow.dims[0] } else { 1 };
        let sizes = [size(x), size(y)];
        let [x, y] = [x.root, y.root].map(|root| (root, compiler.room(root)));
        Self { pieces, x, y, sizes, backward: None }
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        self.backward = compiler.outgoing(self.x.0).map(|(dx, old)| (dy, dx, old));
    }
}

impl Layer for Gather {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.part.x.1], [self.part.y.1]);
        gather(&self.part.pieces, x, y, self.part.sizes, self.fill, Old::Dropped);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        self.part.plan_backward(compiler);
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.part.backward else { return };
        let ([dy], [dx]) = run.memory.views([dy], [dx]);
        if old == Old::Dropped {
            dx.fill(0.0);
        }
        let [x, y] = self.part.sizes;
        scatter(&self.part.pieces, dy, dx, [y, x], Old::Added);
    }
}

impl Layer for Scatter {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.0.x.1], [self.0.y.1]);
        scatter(&self.0.pieces, x, y, self.0.sizes, Old::Dropped);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        self.0.plan_backward(compiler);
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.0.backward else { return };
        let ([dy], [dx]) = run.memory.views([dy], [dx]);
        let [x, y] = self.0.sizes;
        gather(&self.0.pieces, dy, dx, [y, x], 0.0, old);
    }
}
