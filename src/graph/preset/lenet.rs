//! The networks of LeCun et al. 1998 for handwritten digits, images of 28 x 28.

use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d, Window};

pub(super) fn lenet_300_100() -> GraphBuilder {
    GraphBuilder::new("lenet-300-100", &[1, 28, 28])
        .flatten("flatten")
        .linear("fc1", 300)
        .activation("relu1", Activation::Relu)
        .linear("fc2", 100)
        .activation("relu2", Activation::Relu)
        .linear("fc3", 10)
}

pub(super) fn lenet5() -> GraphBuilder {
    let padded = Conv2d { padding: [2; 4], ..Conv2d::default() };
    GraphBuilder::new("lenet5", &[1, 28, 28])
        .conv("conv1", 6, 5, padded)
        .activation("relu1", Activation::Relu)
        .max_pool("pool1", Window::tiles(2))
        .conv("conv2", 16, 5, Conv2d::default())
        .activation("relu2", Activation::Relu)
        .max_pool("pool2", Window::tiles(2))
        .flatten("flatten")
        .linear("fc1", 120)
        .activation("relu3", Activation::Relu)
        .linear("fc2", 84)
        .activation("relu4", Activation::Relu)
        .linear("fc3", 10)
}

pub(super) fn lenet5_caffe() -> GraphBuilder {
    GraphBuilder::new("lenet5-caffe", &[1, 28, 28])
        .conv("conv1", 20, 5, Conv2d::default())
        .max_pool("pool1", Window::tiles(2))
        .conv("conv2", 50, 5, Conv2d::default())
        .max_pool("pool2", Window::tiles(2))
        .flatten("flatten")
        .linear("fc1", 500)
        .activation("relu1", Activation::Relu)
        .linear("fc2", 10)
}
