//! Operators without a layer of their own: computed by the [`Operator`]s that candle's graphs use, too.
//!
//! These make their results in fresh memory, which are then copied to where the plan has them.

use std::ops::Range;

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::{elementwise, layout};
use niwaki_kernels::simd::Path;

use super::super::compile::{Compiler, Layout, Root, uncovered};
use super::super::{ExecError, Uncovered};
use super::{Layer, Room, Run};
use crate::exec::ops::settled;
use crate::graph::Node;
use crate::kernels::{Array, Back, Operator};

/// The most values that one of these operators reads.
const VALUES: usize = 2;

struct OperatorLayer {
    operator: Box<dyn Operator>,
    node: String,
    op: &'static str,
    path: Path,
    /// The values that are read; [`Room::NONE`] behind the last.
    rooms: [Room; VALUES],
    roots: Vec<Root>,
    params: Vec<Range<usize>>,
    /// Of the values and then the parameters.
    shapes: Vec<Vec<usize>>,
    y: (Root, Room),
    y_shape: Vec<usize>,
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    /// Where the gradient at each value goes.
    values: Vec<Option<(Room, Old)>>,
    params: Vec<Option<Range<usize>>>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node) -> Result<(), Uncovered> {
    let refused = || uncovered(&node.op);
    let rank = compiler.dims(*node.inputs.first().ok_or_else(refused)?)?.len();
    let operator = settled(&node.op, rank).and_then(|kernel| kernel.into_operator()).ok_or_else(refused)?;
    let flows = node.inputs.iter().map(|value| compiler.get(*value, Layout::Rows));
    let flows = flows.collect::<Result<Vec<_>, Uncovered>>()?;
    let ([_], true) = (&node.outputs[..], flows.len() <= VALUES) else { return Err(refused()) };
    let needs = compiler.trains(node) || flows.iter().any(|flow| compiler.needs_gradient(flow));
    let y_shape = compiler.dims(node.output())?;
    let y = compiler.output(node.output(), y_shape.clone(), Layout::Rows, needs);
    let mut rooms = [Room::NONE; VALUES];
    rooms.iter_mut().zip(&flows).for_each(|(room, flow)| *room = compiler.room(flow.root));
    let layer = OperatorLayer {
        operator,
        node: node.name.clone(),
        op: node.op.name(),
        path: compiler.path,
        rooms,
        roots: flows.iter().map(|flow| flow.root).collect(),
        params: node.params.iter().map(|id| compiler.param(*id)).collect(),
        shapes: flows
            .into_iter()
            .map(|flow| flow.dims)
            .chain(node.params.iter().map(|id| compiler.param_shape(*id).to_vec()))
            .collect(),
        y: (y.root, compiler.room(y.root)),
        y_shape,
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

impl OperatorLayer {
    /// The arguments, with their shapes.
    fn args<'a>(&'a self, values: [&'a [f32]; VALUES], params: &'a [f32]) -> Vec<Array<'a>> {
        let values = values.into_iter().take(self.roots.len());
        let numbers = values.chain(self.params.iter().map(|range| &params[range.clone()]));
        self.shapes.iter().zip(numbers).map(|(shape, values)| Array { shape, values }).collect()
    }

    fn failed(&self, why: &candle_core::Error) -> ExecError {
        ExecError::Node { node: self.node.clone(), op: self.op, reason: why.to_string() }
    }
}

impl Layer for OperatorLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let (values, [y]) = run.memory.views(self.rooms, [self.y.1]);
        match self.operator.forward(&self.args(values, run.params)) {
            Ok(made) => made.iter().take(1).for_each(|made| layout::copy(&made.values, y)),
            Err(why) => run.fail(self.failed(&why)),
        }
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        self.rooms.into_iter().chain([self.y.1]).for_each(|room| compiler.keep(room));
        let values = self.roots.iter().map(|root| compiler.outgoing(*root)).collect();
        let params = self.params.iter().map(|range| compiler.param_gradient(range)).collect();
        self.backward = Some(Backward { dy, values, params });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, values: targets, params }) = &self.backward else { return };
        let wanted: Vec<bool> = targets.iter().map(Option::is_some).chain(params.iter().map(Option::is_some)).collect();
        let [first, second] = self.rooms;
        let ([first, second, y, dy], []) = run.memory.views([first, second, self.y.1, *dy], []);
        let of_y = |values| Array { shape: &self.y_shape, values };
        let args = self.args([first, second], run.params);
        let back = Back { args: &args, ys: &[of_y(y)], dys: &[Some(of_y(dy))], wanted: &wanted };
        let found = match self.operator.backward(&back) {
            Ok(found) => found,
            Err(why) => return run.fail(self.failed(&why)),
        };
        let mut found = found.into_iter();
        for (target, found) in targets.iter().zip(found.by_ref()) {
            let Some((room, old)) = target else { continue };
            let ([], [to]) = run.memory.views([], [*room]);
            match (found, old) {
                (Some(found), Old::Dropped) => layout::copy(&found, to),
                (Some(found), Old::Added) => elementwise::scaled(self.path, &found, 1.0, to, Old::Added),
                (None, Old::Dropped) => to.fill(0.0),
                (None, Old::Added) => {}
            }
        }
        for (range, found) in params.iter().zip(found) {
            let Some(range) = range else { continue };
            let to = &mut run.gradients[range.clone()];
            match found {
                Some(found) => to.copy_from_slice(&found),
                None => to.fill(0.0),
            }
        }
    }
}
