//! Batch normalisation: a layer of its own, and behind a convolution.

use std::ops::Range;

use niwaki_kernels::nhwc::batch_norm::{self as kernel, Channels};
use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::simd::Path;

use super::super::compile::{Compiler, Layout, Root, Target};
use super::super::{Mode, Uncovered};
use super::{Group, Layer, Room, Run, add_to};
use crate::exec::session::followed;
use crate::graph::op::BatchNorm;
use crate::graph::{Node, Op};

/// The normalising of rows `[m, c]`.
pub(super) struct Norm {
    config: BatchNorm,
    path: Path,
    /// `weight`, `bias`, `running_mean`, `running_var`.
    params: [Range<usize>; 4],
    /// Values of a channel, if it is normalised by the batch's own statistics.
    measured: Option<usize>,
    mean: Room,
    variance: Room,
    /// `1 / sqrt(var + epsilon)`
    scale: Room,
    sums: [Room; 2],
    gradients: [Option<Range<usize>>; 2],
}

impl Norm {
    /// The normalising that `node` does of values of this shape.
    pub(super) fn new(compiler: &mut Compiler<'_>, node: &Node, dims: &[usize]) -> Result<Self, Uncovered> {
        let (Op::BatchNorm(config), &[_, channels, ..]) = (&node.op, dims) else {
            return Err(Uncovered("no channels to normalise".into()));
        };
        let count = dims.iter().product::<usize>() / channels;
        let is_frozen = node.params[node.op.statistics()].iter().any(|id| compiler.session.frozen.contains(id));
        // One value a channel has no variance to be normalised by.
        let measures = compiler.mode == Mode::Train && !is_frozen && count > 1;
        compiler.measures |= measures;
        let params = [0, 1, 2, 3].map(|i| compiler.param(node.params[i]));
        let [mean, variance, scale] = [(); 3].map(|()| compiler.scratch(channels));
        Ok(Self {
            config: *config,
            path: compiler.path,
            params,
            measured: measures.then_some(count),
            mean,
            variance,
            scale,
            sums: [Room::NONE; 2],
            gradients: [None, None],
        })
    }

    /// The places of `weight`, `bias`, `running_mean` and `running_var`, and what is added to the variance.
    pub(super) fn constants(&self) -> (&[Range<usize>; 4], f64) {
        (&self.params, self.config.epsilon)
    }

    pub(super) fn forward(&self, run: &mut Run<'_>, x: Room, residual: Option<Room>, relu: bool, y: Room) {
        let [weight, bias, running_mean, running_variance] = &self.params;
        let ([x, residual_numbers], [y, mean, variance, scale]) =
            run.memory.views([x, residual.unwrap_or(Room::NONE)], [y, self.mean, self.variance, self.scale]);
        if let Some(count) = self.measured {
            kernel::moments(self.path, x, mean, variance);
            let momentum = run.momentum.unwrap_or(self.config.momentum);
            let correction = count as f64 / (count as f64 - 1.0);
            let statistics = [(running_mean, &*mean, 1.0), (running_variance, &*variance, correction)];
            for (running, batch, correction) in statistics {
                for (running, batch) in run.params[running.clone()].iter_mut().zip(batch) {
                    *running = followed(*running, f64::from(*batch) * correction, momentum);
                }
            }
        } else {
            mean.copy_from_slice(&run.params[running_mean.clone()]);
            variance.copy_from_slice(&run.params[running_variance.clone()]);
        }
        for (scale, variance) in scale.iter_mut().zip(&*variance) {
            *scale = (1.0 / (f64::from(*variance) + self.config.epsilon).sqrt()) as f32;
        }
        let by = Channels { mean, scale, weight: &run.params[weight.clone()], bias: &run.params[bias.clone()] };
        kernel::forward(self.path, x, by, residual.map(|_| residual_numbers), relu, y);
    }

    pub(super) fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let channels = self.params[0].len();
        [self.mean, self.scale].into_iter().for_each(|room| compiler.keep(room));
        self.sums = [(); 2].map(|()| compiler.scratch(channels));
        self.gradients = [0, 1].map(|i| compiler.param_gradient(&self.params[i]));
    }

    /// From `d`, the gradient at `y`, in which what a ReLU holds back becomes zero, the gradients at the parameters; with
    /// `goes_on`, the one at `x` is written over it.
    pub(super) fn backward(&self, run: &mut Run<'_>, x: Room, y: Option<Room>, d: Room, goes_on: bool) {
        let [weight, bias, ..] = &self.params;
        let ([y_numbers, mean, scale], [x, d, dbias, dweight]) =
            run.memory.views([y.unwrap_or(Room::NONE), self.mean, self.scale], [x, d, self.sums[0], self.sums[1]]);
        let by = Channels { mean, scale, weight: &run.params[weight.clone()], bias: &run.params[bias.clone()] };
        kernel::sums(self.path, x, y.map(|_| y_numbers), d, by, [dbias, dweight]);
        for (range, found) in self.gradients.iter().zip([&*dweight, &*dbias]) {
            if let Some(range) = range {
                run.gradients[range.clone()].copy_from_slice(found);
            }
        }
        if goes_on {
            kernel::backward(self.path, x, d, by, self.measured.map(|_| [&*dbias, &*dweight]));
        }
    }
}

/// A batch normalisation that follows no convolution.
struct BatchNormLayer {
    norm: Norm,
    x: (Root, Room),
    y: (Root, Room),
    residual: Option<(Root, Room)>,
    relu: bool,
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    residual: Target,
    /// Where the gradient at the input is computed, and where it goes from there.
    dx: Option<(Room, Target)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, group: &Group) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    let residual = group.residual.map(|value| compiler.get(value, Layout::Images)).transpose()?;
    let norm = Norm::new(compiler, node, &x.dims)?;
    let needs = compiler.trains(node)
        || compiler.needs_gradient(&x)
        || residual.as_ref().is_some_and(|flow| compiler.needs_gradient(flow));
    let output = compiler.session.nodes[group.last].output();
    let y = compiler.output(output, x.dims.clone(), Layout::Images, needs);
    let place = |flow: &super::super::compile::Flow| (flow.root, compiler.room(flow.root));
    let (x, y, residual) = (place(&x), place(&y), residual.as_ref().map(place));
    compiler.push(BatchNormLayer { norm, x, y, residual, relu: group.relu, backward: None });
    Ok(())
}

impl Layer for BatchNormLayer {
    fn forward(&self, run: &mut Run<'_>) {
        self.norm.forward(run, self.x.1, self.residual.map(|r| r.1), self.relu, self.y.1);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        self.norm.plan_backward(compiler);
        compiler.keep(self.x.1);
        if self.relu {
            compiler.keep(self.y.1);
        }
        let residual = self.residual.map_or(Target::Nowhere, |(root, _)| compiler.hand_on(root, dy));
        let len = compiler.room_len(self.x.1);
        let dx = compiler.outgoing(self.x.0).map(|(room, old)| match old {
            Old::Dropped => (room, Target::Same),
            Old::Added => (compiler.scratch(len), Target::Room(room, old)),
        });
        self.backward = Some(Backward { dy, residual, dx });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(backward) = &self.backward else { return };
        let mut x = self.x.1;
        if let Some((copy, _)) = backward.dx {
            // Others may need the input as it is.
            add_to(run, self.norm.path, x, Target::Room(copy, Old::Dropped));
            x = copy;
        }
        self.norm.backward(run, x, self.relu.then_some(self.y.1), backward.dy, backward.dx.is_some());
        add_to(run, self.norm.path, backward.dy, backward.residual);
        if let Some((room, target)) = backward.dx {
            add_to(run, self.norm.path, room, target);
        }
    }
}
