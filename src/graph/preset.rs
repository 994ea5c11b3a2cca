//! The built-in networks. A preset is a builder and a name; nothing else in niwaki knows a preset.
//!
//! - `lenet-300-100`: the fully connected network of LeCun et al. 1998, 266,610 parameters.
//! - `lenet5`: the convolutional network of LeCun et al. 1998 in its usual modern form (6-16-120-84, ReLU, max-pooling),
//!   61,706 parameters.
//! - `lenet5-caffe`: Caffe's variant (20-50-500), 431,080 parameters, which the compression papers use.

use super::builder::GraphBuilder;
use super::op::{Activation, Conv2d, Window};
use super::{Graph, GraphError};

type Build = fn() -> Result<Graph, GraphError>;

const PRESETS: &[(&str, Build)] =
    &[("lenet-300-100", lenet_300_100), ("lenet5", lenet5), ("lenet5-caffe", lenet5_caffe)];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The network of that name with all parameters zero, or `None` if there is none.
///
/// ```
/// let graph = niwaki::graph::preset::build("lenet5-caffe").unwrap();
/// assert_eq!(niwaki::graph::cost::of_graph(&graph).params, 431_080);
/// ```
pub fn build(name: &str) -> Option<Graph> {
    let (_, build) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
    Some(build().expect("every preset is a valid graph, see the test below"))
}

fn lenet_300_100() -> Result<Graph, GraphError> {
    GraphBuilder::new("lenet-300-100", &[1, 28, 28])
        .flatten("flatten")
        .linear("fc1", 300)
        .activation("relu1", Activation::Relu)
        .linear("fc2", 100)
        .activation("relu2", Activation::Relu)
        .linear("fc3", 10)
        .build()
}

fn lenet5() -> Result<Graph, GraphError> {
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
        .build()
}

fn lenet5_caffe() -> Result<Graph, GraphError> {
    GraphBuilder::new("lenet5-caffe", &[1, 28, 28])
        .conv("conv1", 20, 5, Conv2d::default())
        .max_pool("pool1", Window::tiles(2))
        .conv("conv2", 50, 5, Conv2d::default())
        .max_pool("pool2", Window::tiles(2))
        .flatten("flatten")
        .linear("fc1", 500)
        .activation("relu1", Activation::Relu)
        .linear("fc2", 10)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::cost;

    #[test]
    fn every_preset_is_a_valid_graph_with_the_published_number_of_parameters() {
        let params: Vec<(&str, u64)> =
            names().map(|name| (name, cost::of_graph(&build(name).unwrap()).params)).collect();
        assert_eq!(params, [("lenet-300-100", 266_610), ("lenet5", 61_706), ("lenet5-caffe", 431_080)]);
    }
}
