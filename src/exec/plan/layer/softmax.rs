//! Softmax along the last axis, or along the channels of images.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::softmax;
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root};
use super::{Layer, Room, Run, operator};
use crate::graph::Node;

struct SoftmaxLayer {
    path: Path,
    width: usize,
    logarithm: bool,
    x: (Root, Room),
    y: (Root, Room),
    /// From where to where the gradient goes.
    backward: Option<(Room, Room, Old)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, axis: usize, logarithm: bool) -> Result<(), Uncovered> {
    let dims = compiler.dims(node.inputs[0])?;
    let layout = match axis {
        last if last + 1 == dims.len() => Layout::Rows,
        1 => Layout::Images,
        _ => return operator::add(compiler, node),
    };
    let x = compiler.get(node.inputs[0], layout)?;
    let (width, needs) = (dims[axis], compiler.needs_gradient(&x));
    let y = compiler.output(node.output(), dims, layout, needs);
    let [x, y] = [x.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(SoftmaxLayer { path: compiler.path, width, logarithm, x, y, backward: None });
    Ok(())
}

impl Layer for SoftmaxLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.x.1], [self.y.1]);
        softmax::forward(self.path, self.width, self.logarithm, x, y);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let Some((dx, old)) = compiler.outgoing(self.x.0) else { return };
        compiler.keep(self.y.1);
        self.backward = Some((dy, dx, old));
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.backward else { return };
        let ([y, dy], [dx]) = run.memory.views([self.y.1, dy], [dx]);
        softmax::backward(self.path, self.width, self.logarithm, y, dy, dx, old);
    }
}
