//! Batch normalisation: a layer of its own, and behind a convolution.

use std::ops::Range;

use niwaki_kernels::nhwc::batch_norm::{self as kernel, Channels, Gate};
use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::conv_norm::Upstream;
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

    /// Whether it takes the batch's own statistics.
    pub(super) fn measures(&self) -> bool {
        self.measured.is_some()
    }

    /// Where a batch's mean and variance go.
    pub(super) fn moments(&self) -> [Room; 2] {
        [self.mean, self.variance]
    }

    /// Measures `x`, if it does that, and normalises it.
    pub(super) fn forward(&self, run: &mut Run<'_>, x: Room, residual: Option<Room>, relu: bool, y: Room) {
        if self.measures() {
            let ([x], [mean, variance]) = run.memory.views([x], self.moments());
            kernel::moments(self.path, x, mean, variance);
        }
        self.normalise(run, x, residual, relu, y);
    }

    /// Normalises `x`, whose moments are there if they are the batch's.
    pub(super) fn normalise(&self, run: &mut Run<'_>, x: Room, residual: Option<Room>, relu: bool, y: Room) {
        let [weight, bias, running_mean, running_variance] = &self.params;
        let ([x, residual_numbers], [y, mean, variance, scale]) =
            run.memory.views([x, residual.unwrap_or(Room::NONE)], [y, self.mean, self.variance, self.scale]);
        if let Some(count) = self.measured {
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

    /// From `d`, the gradient at `y`, those at weight and bias. Where the ReLU goes by outputs, what it holds back becomes
    /// zero in `d`.
    pub(super) fn sums(&self, run: &mut Run<'_>, x: Room, relu: Relu, d: Room) {
        let [weight, bias, ..] = &self.params;
        let y = if let Relu::Outputs(y) = relu { y } else { Room::NONE };
        let ([x, y, mean, scale], [d, dbias, dweight]) =
            run.memory.views([x, y, self.mean, self.scale], [d, self.sums[0], self.sums[1]]);
        let by = Channels { mean, scale, weight: &run.params[weight.clone()], bias: &run.params[bias.clone()] };
        let gate = match relu {
            Relu::None => Gate::Open,
            Relu::Outputs(_) => Gate::Outputs(y),
            Relu::Normalised => Gate::Normalised,
        };
        kernel::sums(self.path, x, gate, d, by, [dbias, dweight]);
        for (range, found) in self.gradients.iter().zip([&*dweight, &*dbias]) {
            if let Some(range) = range {
                run.gradients[range.clone()].copy_from_slice(found);
            }
        }
    }

    /// Writes the gradient at `x` over it.
    pub(super) fn backward(&self, run: &mut Run<'_>, x: Room, relu: Relu, d: Room) {
        let ([d, mean, scale, dbias, dweight], [x]) =
            run.memory.views([d, self.mean, self.scale, self.sums[0], self.sums[1]], [x]);
        let upstream = self.upstream(run.params, [mean, scale, dbias, dweight], relu);
        kernel::backward(self.path, x, d, upstream.by, upstream.sums, upstream.gated);
    }

    /// Where the numbers are that [`Norm::upstream`] takes.
    pub(super) fn kept(&self) -> [Room; 4] {
        [self.mean, self.scale, self.sums[0], self.sums[1]]
    }

    /// What the gradient comes from, but for the values: `kept` are the numbers in [`Norm::kept`].
    pub(super) fn upstream<'a>(&self, params: &'a [f32], kept: [&'a [f32]; 4], relu: Relu) -> Upstream<'a> {
        let [weight, bias, ..] = &self.params;
        let [mean, scale, dbias, dweight] = kept;
        Upstream {
            z: &[],
            dy: &[],
            by: Channels { mean, scale, weight: &params[weight.clone()], bias: &params[bias.clone()] },
            sums: self.measured.map(|_| [dbias, dweight]),
            gated: matches!(relu, Relu::Normalised),
        }
    }
}

/// What is behind a normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relu {
    None,
    /// A ReLU with these outputs.
    Outputs(Room),
    /// A ReLU of the normalised numbers, to which nothing was added: what it held back is seen from them.
    Normalised,
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
        let relu = if self.relu { Relu::Outputs(self.y.1) } else { Relu::None };
        self.norm.sums(run, x, relu, backward.dy);
        if backward.dx.is_some() {
            self.norm.backward(run, x, relu, backward.dy);
        }
        add_to(run, self.norm.path, backward.dy, backward.residual);
        if let Some((room, target)) = backward.dx {
            add_to(run, self.norm.path, room, target);
        }
    }
}
