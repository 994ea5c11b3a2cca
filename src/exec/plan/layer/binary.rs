//! Sums, differences and products of two different values of one shape.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::elementwise::{self, Binary as Function};
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root, Target};
use super::{Layer, Room, Run, gate, operator};
use crate::graph::Node;
use crate::graph::op::Binary;

struct BinaryLayer {
    function: Function,
    path: Path,
    a: (Root, Room),
    b: (Root, Room),
    y: (Root, Room),
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    a: Target,
    b: Option<(Room, Old)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, which: Binary) -> Result<(), Uncovered> {
    let [a, b] = node.inputs[..] else { return Err(Uncovered("not two inputs".into())) };
    if which == Binary::Mul {
        for (x, gates) in [(a, b), (b, a)] {
            if gate::fits(&compiler.dims(x)?, &compiler.dims(gates)?) && x != gates {
                let (x, gates) = (compiler.get(x, Layout::Images)?, compiler.get(gates, Layout::Images)?);
                gate::add(compiler, node, &x, &gates);
                return Ok(());
            }
        }
    }
    let layout = compiler.any(a)?.layout;
    if compiler.dims(a)? != compiler.dims(b)? || compiler.any(b)?.root == compiler.any(a)?.root {
        return operator::add(compiler, node);
    }
    let (a, b) = (compiler.get(a, layout)?, compiler.get(b, layout)?);
    let function = match which {
        Binary::Add => Function::Add,
        Binary::Sub => Function::Sub,
        _ => Function::Mul,
    };
    let needs = compiler.needs_gradient(&a) || compiler.needs_gradient(&b);
    let y = compiler.output(node.output(), a.dims.clone(), layout, needs);
    let [a, b, y] = [a.root, b.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(BinaryLayer { function, path: compiler.path, a, b, y, backward: None });
    Ok(())
}

impl Layer for BinaryLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([a, b], [y]) = run.memory.views([self.a.1, self.b.1], [self.y.1]);
        elementwise::binary(self.path, self.function, a, b, y);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        // The second one is computed first: the first may then stay where the gradient is.
        let b = compiler.outgoing(self.b.0);
        let a = match self.function {
            Function::Add | Function::Sub => compiler.hand_on(self.a.0, dy),
            Function::Mul => compiler.outgoing(self.a.0).map_or(Target::Nowhere, |(room, old)| Target::Room(room, old)),
        };
        if self.function == Function::Mul {
            [self.a.1, self.b.1].into_iter().for_each(|room| compiler.keep(room));
        }
        self.backward = Some(Backward { dy, a, b });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, a, b }) = self.backward else { return };
        // Of a product, the gradient at each is that of the result times the other.
        let factor = |other: Room| if self.function == Function::Mul { other } else { Room::NONE };
        let sign = if self.function == Function::Sub { -1.0 } else { 1.0 };
        if let Some((room, old)) = b {
            let ([dy, factor], [to]) = run.memory.views([dy, factor(self.a.1)], [room]);
            match self.function {
                Function::Mul => elementwise::product(self.path, dy, factor, to, old),
                _ => elementwise::scaled(self.path, dy, sign, to, old),
            }
        }
        if let Target::Room(room, old) = a {
            let ([dy, factor], [to]) = run.memory.views([dy, factor(self.b.1)], [room]);
            match self.function {
                Function::Mul => elementwise::product(self.path, dy, factor, to, old),
                _ => elementwise::scaled(self.path, dy, 1.0, to, old),
            }
        }
    }
}
