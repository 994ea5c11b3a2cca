//! Dropout, while training.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::{elementwise, layout};
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Root};
use super::{Layer, Room, Run};
use crate::graph::Node;
use crate::kernels;
use crate::seed;

struct DropoutLayer {
    name: String,
    rate: f64,
    path: Path,
    /// Pixels and channels, if the value is held with its channels together.
    image: Option<[usize; 2]>,
    /// What each element is multiplied with, and the same in the graph's order.
    factors: Room,
    drawn: Room,
    x: (Root, Room),
    y: (Root, Room),
    /// From where to where the gradient goes.
    backward: Option<(Room, Room, Old)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, rate: f64) -> Result<(), Uncovered> {
    let x = compiler.any(node.inputs[0])?;
    let image = x.image();
    let factors = compiler.scratch(x.len());
    let drawn = if image.is_some() { compiler.scratch(x.len()) } else { Room::NONE };
    let needs = compiler.needs_gradient(&x);
    let y = compiler.output(node.output(), x.dims.clone(), x.layout, needs);
    let [x, y] = [x.root, y.root].map(|root| (root, compiler.room(root)));
    let (name, path) = (node.name.clone(), compiler.path);
    compiler.push(DropoutLayer { name, rate, path, image, factors, drawn, x, y, backward: None });
    Ok(())
}

impl Layer for DropoutLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let mut rng = seed::stream(run.seed, &format!("dropout/{}", self.name));
        let ([x], [y, factors, drawn]) = run.memory.views([self.x.1], [self.y.1, self.factors, self.drawn]);
        match self.image {
            Some([pixels, channels]) => {
                kernels::dropout_factors(self.rate, &mut rng, drawn);
                layout::transpose(drawn, factors, [channels, pixels], Old::Dropped);
            }
            None => kernels::dropout_factors(self.rate, &mut rng, factors),
        }
        elementwise::product(self.path, x, factors, y, Old::Dropped);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let Some((dx, old)) = compiler.outgoing(self.x.0) else { return };
        compiler.keep(self.factors);
        self.backward = Some((dy, dx, old));
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.backward else { return };
        let ([dy, factors], [dx]) = run.memory.views([dy, self.factors], [dx]);
        elementwise::product(self.path, dy, factors, dx, old);
    }
}
