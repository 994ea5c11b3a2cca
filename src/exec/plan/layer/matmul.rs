//! Products of two values as matrices.

use niwaki_kernels::nhwc::conv::Old;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root};
use super::{Layer, Room, Run};
use crate::graph::Node;
use crate::kernels::Products;

struct MatMulLayer {
    products: Products,
    a: (Root, Room),
    b: (Root, Room),
    y: (Root, Room),
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    a: Option<(Room, Old)>,
    b: Option<(Room, Old)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node) -> Result<(), Uncovered> {
    let [a, b] = node.inputs[..] else { return Err(Uncovered("not two inputs".into())) };
    let (a, b) = (compiler.get(a, Layout::Rows)?, compiler.get(b, Layout::Rows)?);
    let products = Products::new(&a.dims, &b.dims).map_err(|e| Uncovered(e.to_string()))?;
    let needs = compiler.needs_gradient(&a) || compiler.needs_gradient(&b);
    let dims = compiler.dims(node.output())?;
    let y = compiler.output(node.output(), dims, Layout::Rows, needs);
    let [a, b, y] = [a.root, b.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(MatMulLayer { products, a, b, y, backward: None });
    Ok(())
}

impl Layer for MatMulLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([a, b], [y]) = run.memory.views([self.a.1, self.b.1], [self.y.1]);
        self.products.forward(a, b, y);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        [self.a.1, self.b.1].into_iter().for_each(|room| compiler.keep(room));
        let (a, b) = (compiler.outgoing(self.a.0), compiler.outgoing(self.b.0));
        self.backward = Some(Backward { dy, a, b });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, a, b }) = self.backward else { return };
        if let Some((room, old)) = a {
            let ([b, dy], [da]) = run.memory.views([self.b.1, dy], [room]);
            self.products.gradient_of_first(b, dy, da, old);
        }
        if let Some((room, old)) = b {
            let ([a, dy], [db]) = run.memory.views([self.a.1, dy], [room]);
            self.products.gradient_of_second(a, dy, db, old);
        }
    }
}
