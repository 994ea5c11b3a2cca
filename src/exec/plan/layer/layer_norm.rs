//! Layer normalisation over the last axes, with a weight of their shape.

use std::ops::Range;

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::layer_norm as kernel;
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root};
use super::{Layer, Room, Run, operator};
use crate::graph::Node;
use crate::graph::op::LayerNorm;

struct LayerNormLayer {
    path: Path,
    epsilon: f64,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    moments: Room,
    x: (Root, Room),
    y: (Root, Room),
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    dx: Option<(Room, Old)>,
    gradients: [Option<Range<usize>>; 2],
    sums: [Room; 2],
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, config: &LayerNorm) -> Result<(), Uncovered> {
    let width: usize = compiler.dims(node.inputs[0])?[config.axis..].iter().product();
    if node.params.iter().any(|id| compiler.param(*id).len() != width) {
        return operator::add(compiler, node);
    }
    let x = compiler.get(node.inputs[0], Layout::Rows)?;
    let needs = compiler.trains(node) || compiler.needs_gradient(&x);
    let y = compiler.output(node.output(), x.dims.clone(), Layout::Rows, needs);
    let layer = LayerNormLayer {
        path: compiler.path,
        epsilon: config.epsilon,
        weight: compiler.param(node.params[0]),
        bias: node.params.get(1).map(|id| compiler.param(*id)),
        moments: compiler.scratch(2 * x.len() / width),
        x: (x.root, compiler.room(x.root)),
        y: (y.root, compiler.room(y.root)),
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

impl LayerNormLayer {
    fn kernel<'a>(&self, params: &'a [f32]) -> kernel::LayerNorm<'a> {
        let own = |range: &Range<usize>| &params[range.clone()];
        let (weight, bias) = (own(&self.weight), self.bias.as_ref().map(own));
        kernel::LayerNorm { path: self.path, weight, bias, epsilon: self.epsilon }
    }
}

impl Layer for LayerNormLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y, moments]) = run.memory.views([self.x.1], [self.y.1, self.moments]);
        self.kernel(run.params).forward(x, y, moments);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        compiler.keep(self.x.1);
        compiler.keep(self.moments);
        let gradients = [Some(&self.weight), self.bias.as_ref()];
        let gradients = gradients.map(|range| range.and_then(|range| compiler.param_gradient(range)));
        let sums = [(); 2].map(|()| compiler.scratch(self.weight.len()));
        let dx = compiler.outgoing(self.x.0);
        self.backward = Some(Backward { dy, dx, gradients, sums });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, dx, gradients, sums }) = &self.backward else { return };
        let dx_room = dx.map_or(Room::NONE, |(room, _)| room);
        let ([x, moments, dy], [dx_numbers, dweight, dbias]) =
            run.memory.views([self.x.1, self.moments, *dy], [dx_room, sums[0], sums[1]]);
        if gradients.iter().any(Option::is_some) {
            self.kernel(run.params).parameter_gradients(x, moments, dy, dweight, dbias);
        }
        for (range, found) in gradients.iter().zip([&*dweight, &*dbias]) {
            if let Some(range) = range {
                run.gradients[range.clone()].copy_from_slice(found);
            }
        }
        if let Some((_, old)) = dx {
            self.kernel(run.params).backward(x, moments, dy, dx_numbers, *old);
        }
    }
}
