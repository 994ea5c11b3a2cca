//! One node's computation: the operators in terms of candle and our kernels.

use candle_core::{Result, Tensor};

use crate::graph::Op;
use crate::graph::op::Activation;
use crate::kernels;

/// The output of `op` for the value `x` and the parameters, which are in the order of [`Op::roles`].
pub(super) fn compute(op: &Op, x: &Tensor, params: &[&Tensor]) -> Result<Tensor> {
    match (op, params) {
        (Op::Linear, [weight, bias @ ..]) => kernels::linear(x, weight, bias.first().copied()),
        (Op::Conv2d(config), [weight, bias @ ..]) => kernels::conv2d(x, weight, bias.first().copied(), config),
        (Op::Linear | Op::Conv2d(_), []) => candle_core::bail!("no weight"),
        (Op::MaxPool2d(config), _) => kernels::max_pool2d(x, &config.window),
        (Op::AvgPool2d(config), _) => kernels::avg_pool2d(x, config),
        (Op::Activation(Activation::Relu), _) => kernels::relu(x),
        (Op::Activation(Activation::Sigmoid), _) => candle_nn::ops::sigmoid(x),
        (Op::Activation(Activation::Tanh), _) => x.tanh(),
        (Op::Flatten, _) => x.flatten_from(1),
        (Op::GlobalAvgPool | Op::BatchNorm(_) | Op::Add | Op::Pad(_) | Op::Slice(_) | Op::Dropout(_), _) => {
            candle_core::bail!("not there yet")
        }
    }
}
