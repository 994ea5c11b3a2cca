//! A product of images with one number for each channel of each image.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::gate::Gate;

use super::super::compile::{Compiler, Flow, Root};
use super::{Layer, Room, Run};
use crate::graph::Node;

struct GateLayer {
    gate: Gate,
    x: (Root, Room),
    gates: (Root, Room),
    y: (Root, Room),
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    gates: Option<(Room, Old)>,
    dx: Option<(Room, Old)>,
}

/// Whether values of these shapes are images and their gates.
pub(super) fn fits(x: &[usize], gates: &[usize]) -> bool {
    match (x, gates) {
        ([n, c, _, _], [gate_n, gate_c, 1, 1]) => n == gate_n && c == gate_c,
        _ => false,
    }
}

/// Adds the product of `x`, which is held as images, with its gates.
pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, x: &Flow, gates: &Flow) {
    let needs = compiler.needs_gradient(x) || compiler.needs_gradient(gates);
    let gate = Gate { pixels: x.dims[2..].iter().product(), channels: x.dims[1], path: compiler.path };
    let y = compiler.output(node.output(), x.dims.clone(), x.layout, needs);
    let [x, gates, y] = [x.root, gates.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(GateLayer { gate, x, gates, y, backward: None });
}

impl Layer for GateLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x, gates], [y]) = run.memory.views([self.x.1, self.gates.1], [self.y.1]);
        self.gate.apply(x, gates, y, Old::Dropped);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let (gates, dx) = (compiler.outgoing(self.gates.0), compiler.outgoing(self.x.0));
        if gates.is_some() {
            compiler.keep(self.x.1);
        }
        if dx.is_some() {
            compiler.keep(self.gates.1);
        }
        self.backward = Some(Backward { dy, gates, dx });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, gates, dx }) = self.backward else { return };
        if let Some((room, old)) = gates {
            let ([x, dy], [dg]) = run.memory.views([self.x.1, dy], [room]);
            self.gate.gradient(x, dy, dg, old);
        }
        if let Some((room, old)) = dx {
            let ([gates, dy], [dx]) = run.memory.views([self.gates.1, dy], [room]);
            self.gate.apply(dy, gates, dx, old);
        }
    }
}
