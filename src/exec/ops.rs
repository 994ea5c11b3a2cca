//! One node's computation: the operators in terms of our kernels.

use candle_core::{Result, Tensor};

use super::Mode;
use crate::graph::op::{BatchNorm, Binary};
use crate::graph::{Node, Op};
use crate::kernels::{self, Kernel, Moments, Statistics};
use crate::seed;

/// What a node computes with beside its inputs and parameters.
pub(super) struct Context {
    /// What the forward pass is for.
    pub(super) mode: Mode,
    /// From what dropout's choices follow.
    pub(super) seed: u64,
    /// Whether batch normalisation measures the batch; otherwise it takes the running statistics.
    pub(super) measures: bool,
}

/// How a node's output comes about.
pub(super) enum Way {
    /// By a kernel, whose arguments are the inputs and then the parameters, as many as it takes.
    Kernel(Kernel),
    /// By a kernel that normalises by these moments of the batch.
    Measured(Kernel, Moments),
    /// The first input goes through, as this.
    Through(Tensor),
}

/// How `node` is computed for these inputs and parameters; the latter are in the order of [`Op::roles`].
pub(super) fn way(node: &Node, inputs: &[&Tensor], params: &[&Tensor], context: &Context) -> Result<Way> {
    let Some(x) = inputs.first() else { candle_core::bail!("no input") };
    let kernel = match &node.op {
        Op::Linear if params.len() > 1 => kernels::linear_with_bias(),
        Op::Linear => kernels::linear(),
        Op::Conv2d(config) if params.len() > 1 => kernels::conv2d_with_bias(config),
        Op::Conv2d(config) => kernels::conv2d(config),
        Op::BatchNorm(config) => return batch_norm(config, x, params, context),
        Op::MaxPool2d(config) => kernels::max_pool2d(&config.window),
        Op::AvgPool2d(config) => kernels::avg_pool2d(config),
        Op::GlobalAvgPool => {
            let (_, _, h, w) = x.dims4()?;
            kernels::global_avg_pool([h, w])
        }
        Op::Activation(activation) => kernels::activation(*activation),
        Op::Binary(Binary::Add) => kernels::add(),
        Op::Pad(config) => kernels::pad(x.dims(), config)?,
        Op::Slice(config) => kernels::slice(x.dims(), config)?,
        Op::Dropout(config) if context.mode == Mode::Train && config.rate > 0.0 => {
            let mut rng = seed::stream(context.seed, &format!("dropout/{}", node.name));
            kernels::dropout(x.elem_count(), config.rate, &mut rng)
        }
        Op::Dropout(_) => return Ok(Way::Through((*x).clone())),
        Op::Flatten if x.rank() == 2 => return Ok(Way::Through((*x).clone())),
        Op::Flatten => return Ok(Way::Through(x.flatten_from(1)?)),
        op => candle_core::bail!("{} does not run yet", op.name()),
    };
    Ok(Way::Kernel(kernel))
}

fn batch_norm(config: &BatchNorm, x: &Tensor, params: &[&Tensor], context: &Context) -> Result<Way> {
    let [_, _, mean, variance] = params else { candle_core::bail!("no four parameters") };
    let measured = if context.measures { Some(kernels::moments(x)?) } else { None };
    // One value a channel has no variance to be normalised by.
    if let Some(moments) = measured.filter(|moments| moments.count > 1) {
        let kernel = kernels::batch_norm(Statistics::Batch(moments.clone()), config.epsilon);
        return Ok(Way::Measured(kernel, moments));
    }
    let running = Moments { mean: mean.to_vec1()?, variance: variance.to_vec1()?, count: 0 };
    Ok(Way::Kernel(kernels::batch_norm(Statistics::Given(running), config.epsilon)))
}
