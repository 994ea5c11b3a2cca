//! A parameter that is a value by itself.

use std::ops::Range;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root};
use super::{Layer, Room, Run};
use crate::graph::Node;

struct ConstantLayer {
    param: Range<usize>,
    y: (Root, Room),
    /// The gradient at the value, and where that of the parameter goes.
    backward: Option<(Room, Range<usize>)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node) -> Result<(), Uncovered> {
    let param = compiler.param(node.params[0]);
    let (dims, needs) = (compiler.dims(node.output())?, compiler.trains(node));
    let y = compiler.output(node.output(), dims, Layout::Rows, needs);
    let y = (y.root, compiler.room(y.root));
    compiler.push(ConstantLayer { param, y, backward: None });
    Ok(())
}

impl Layer for ConstantLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([], [y]) = run.memory.views([], [self.y.1]);
        y.copy_from_slice(&run.params[self.param.clone()]);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        self.backward = compiler.param_gradient(&self.param).map(|range| (dy, range));
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, range)) = &self.backward else { return };
        let ([dy], []) = run.memory.views([*dy], []);
        run.gradients[range.clone()].copy_from_slice(dy);
    }
}
