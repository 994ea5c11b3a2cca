//! A function of each element.

use niwaki_kernels::nhwc::activation::{AnyFunction, Function};
use niwaki_kernels::nhwc::elementwise;
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Root, Target};
use super::{Layer, Room, Run, add_to};
use crate::graph::Node;
use crate::graph::op::{Activation, Alpha, Clip};

/// Which function.
enum Which {
    Known(Function<'static>),
    Other(Box<AnyFunction>),
}

struct ActivationLayer {
    which: Which,
    path: Path,
    x: (Root, Room),
    y: (Root, Room),
    /// Where the gradient comes from and where it goes.
    backward: Option<(Room, Target)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, activation: Activation) -> Result<(), Uncovered> {
    let which = match activation {
        Activation::Relu => Which::Known(Function::Relu),
        Activation::Sigmoid => Which::Known(Function::Sigmoid),
        Activation::Tanh => Which::Known(Function::Tanh),
        Activation::Gelu => Which::Known(Function::Gelu),
        Activation::GeluTanh => Which::Known(Function::GeluTanh),
        Activation::HardSwish => Which::Known(Function::HardSwish),
        Activation::LeakyRelu(Alpha { alpha }) => Which::Known(Function::LeakyRelu(alpha as f32)),
        Activation::Swish(Alpha { alpha }) => Which::Known(Function::Swish(alpha as f32)),
        other => Which::Other(Box::new(move |x| other.at(x))),
    };
    add_function(compiler, node, which)
}

pub(super) fn add_clip(compiler: &mut Compiler<'_>, node: &Node, config: &Clip) -> Result<(), Uncovered> {
    let bound = |bound: Option<f64>, none: f32| bound.map_or(none, |bound| bound as f32);
    let (min, max) = (bound(config.min, f32::NEG_INFINITY), bound(config.max, f32::INFINITY));
    let (min, max) = (f64::from(min), f64::from(max));
    // Written so that NaN passes; with bounds in the wrong order the upper one counts.
    let clip = move |x: f64| {
        let slope = if x < min || x > max { 0.0 } else { 1.0 };
        let raised = if x < min { min } else { x };
        (if raised > max { max } else { raised }, slope)
    };
    add_function(compiler, node, Which::Other(Box::new(clip)))
}

fn add_function(compiler: &mut Compiler<'_>, node: &Node, which: Which) -> Result<(), Uncovered> {
    let x = compiler.any(node.inputs[0])?;
    let needs = compiler.needs_gradient(&x);
    let y = compiler.output(node.output(), x.dims.clone(), x.layout, needs);
    let places = [x.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(ActivationLayer { which, path: compiler.path, x: places[0], y: places[1], backward: None });
    Ok(())
}

impl ActivationLayer {
    fn function(&self) -> Function<'_> {
        match &self.which {
            Which::Known(function) => *function,
            Which::Other(function) => Function::Other(&**function),
        }
    }

    /// The value by which the derivative goes.
    fn from(&self) -> Room {
        if self.function().goes_by_result() { self.y.1 } else { self.x.1 }
    }
}

impl Layer for ActivationLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.x.1], [self.y.1]);
        self.function().forward(self.path, x, y);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let target = match self.function() {
            Function::Relu => compiler.hand_on(self.x.0, dy),
            _ => compiler.outgoing(self.x.0).map_or(Target::Nowhere, |(room, old)| Target::Room(room, old)),
        };
        if !matches!(target, Target::Nowhere) {
            compiler.keep(self.from());
            self.backward = Some((dy, target));
        }
    }

    fn backward(&self, run: &mut Run<'_>) {
        match (self.backward, self.function()) {
            (Some((dy, target)), Function::Relu) => {
                let ([y], [numbers]) = run.memory.views([self.y.1], [dy]);
                elementwise::relu_backward(self.path, y, numbers);
                add_to(run, self.path, dy, target);
            }
            (Some((dy, Target::Room(dx, old))), function) => {
                let ([from, dy], [dx]) = run.memory.views([self.from(), dy], [dx]);
                function.backward(self.path, from, dy, dx, old);
            }
            _ => {}
        }
    }
}
