//! One node's computation: the operators in terms of candle and our kernels.

use candle_core::{Result, Tensor};

use super::Mode;
use crate::graph::op::{Activation, BatchNorm};
use crate::graph::{Node, Op};
use crate::kernels::{self, Moments, Statistics};
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

/// A node's output, and the batch's moments if it measured them.
pub(super) struct Output {
    pub(super) value: Tensor,
    pub(super) moments: Option<Moments>,
}

/// The output of `node` for these inputs and parameters; the latter are in the order of [`Op::roles`].
pub(super) fn compute(node: &Node, inputs: &[&Tensor], params: &[&Tensor], context: &Context) -> Result<Output> {
    let [x, others @ ..] = inputs else { candle_core::bail!("no input") };
    let value = match (&node.op, params) {
        (Op::Linear, [weight, bias @ ..]) => kernels::linear(x, weight, bias.first().copied()),
        (Op::Conv2d(config), [weight, bias @ ..]) => kernels::conv2d(x, weight, bias.first().copied(), config),
        (Op::Linear | Op::Conv2d(_), []) => candle_core::bail!("no weight"),
        (Op::BatchNorm(config), params) => return batch_norm(config, x, params, context),
        (Op::MaxPool2d(config), _) => kernels::max_pool2d(x, &config.window),
        (Op::AvgPool2d(config), _) => kernels::avg_pool2d(x, config),
        (Op::GlobalAvgPool, _) => kernels::global_avg_pool(x),
        (Op::Activation(Activation::Relu), _) => kernels::relu(x),
        (Op::Activation(Activation::Sigmoid), _) => candle_nn::ops::sigmoid(x),
        (Op::Activation(Activation::Tanh), _) => x.tanh(),
        (Op::Add, _) => match others {
            [other] => kernels::add(x, other),
            _ => candle_core::bail!("no second input"),
        },
        (Op::Pad(config), _) => kernels::pad(x, config),
        (Op::Slice(config), _) => kernels::slice(x, config),
        (Op::Dropout(config), _) if context.mode == Mode::Train && config.rate > 0.0 => {
            kernels::dropout(x, config.rate, &mut seed::stream(context.seed, &format!("dropout/{}", node.name)))
        }
        (Op::Dropout(_), _) => Ok((*x).clone()),
        (Op::Flatten, _) => x.flatten_from(1),
    };
    Ok(Output { value: value?, moments: None })
}

fn batch_norm(config: &BatchNorm, x: &Tensor, params: &[&Tensor], context: &Context) -> Result<Output> {
    let [weight, bias, mean, variance] = params else { candle_core::bail!("no four parameters") };
    let measured = if context.measures { Some(kernels::moments(x)?) } else { None };
    // One value a channel has no variance to be normalised by.
    let measured = measured.filter(|moments| moments.count > 1);
    let statistics = match &measured {
        Some(moments) => Statistics::Batch(moments.clone()),
        None => Statistics::Given(Moments { mean: mean.to_vec1()?, variance: variance.to_vec1()?, count: 0 }),
    };
    let value = kernels::batch_norm(x, weight, bias, statistics, config.epsilon)?;
    Ok(Output { value, moments: measured })
}
