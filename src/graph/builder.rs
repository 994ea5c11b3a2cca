//! Builds graphs layer by layer, for the built-in networks and for tests.

use super::op::{Activation, AvgPool2d, Conv2d, MaxPool2d, Window};
use super::{Graph, GraphError, Op, ValueId};
use crate::tensor::{TensorData, TensorError};

/// A chain of layers in the making. Each method adds a layer on top of the one before; the first mistake is kept and
/// returned by [`GraphBuilder::build`].
///
/// ```
/// use niwaki::graph::builder::GraphBuilder;
/// use niwaki::graph::op::Activation;
/// let graph = GraphBuilder::new("mlp", &[4])
///     .linear("fc1", 8)
///     .activation("relu1", Activation::Relu)
///     .linear("fc2", 3)
///     .build()?;
/// assert_eq!(graph.output_shape(), [3]);
/// # Ok::<(), niwaki::graph::GraphError>(())
/// ```
pub struct GraphBuilder {
    graph: Graph,
    top: Option<ValueId>,
    error: Option<GraphError>,
}

impl GraphBuilder {
    /// A network for samples of shape `sample_shape`. Parameters start as zeros; see [`super::init`].
    pub fn new(name: &str, sample_shape: &[usize]) -> Self {
        let mut graph = Graph::new(name);
        let mut edit = graph.edit();
        let input = edit.add_input("input", sample_shape);
        edit.keep_unverified();
        Self { graph, top: Some(input), error: None }
    }

    /// A fully connected layer with `out` units and a bias.
    pub fn linear(self, name: &str, out: usize) -> Self {
        let inner = self.top_shape().iter().product();
        self.layer(name, Op::Linear, &[out, inner])
    }

    /// A convolution with `out` square filters of side `kernel` and a bias.
    pub fn conv(self, name: &str, out: usize, kernel: usize, config: Conv2d) -> Self {
        let channels = self.top_shape().first().copied().unwrap_or(0) / config.groups.max(1);
        self.layer(name, Op::Conv2d(config), &[out, channels, kernel, kernel])
    }

    /// Maximum pooling.
    pub fn max_pool(self, name: &str, window: Window) -> Self {
        self.node(name, Op::MaxPool2d(MaxPool2d { window }))
    }

    /// Average pooling; padding counts as zeros.
    pub fn avg_pool(self, name: &str, window: Window) -> Self {
        self.node(name, Op::AvgPool2d(AvgPool2d { window, count_padding: true }))
    }

    /// A function of each element.
    pub fn activation(self, name: &str, activation: Activation) -> Self {
        self.node(name, Op::Activation(activation))
    }

    /// Joins all axes of a sample.
    pub fn flatten(self, name: &str) -> Self {
        self.node(name, Op::Flatten)
    }

    /// The finished graph; its output is the last layer's.
    pub fn build(mut self) -> Result<Graph, GraphError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut edit = self.graph.edit();
        edit.set_outputs(&self.top.into_iter().collect::<Vec<_>>());
        edit.commit()?;
        Ok(self.graph)
    }

    fn top_shape(&self) -> Vec<usize> {
        self.top.map(|v| self.graph.value(v).sample_shape()).unwrap_or_default()
    }

    fn node(self, name: &str, op: Op) -> Self {
        self.layer(name, op, &[])
    }

    /// Adds a node; with a weight of shape `weight` and a bias, unless `weight` is empty.
    fn layer(mut self, name: &str, op: Op, weight: &[usize]) -> Self {
        let Some(top) = self.top.take() else { return self };
        match Self::extend(&mut self.graph, top, name, op, weight) {
            Ok(value) => self.top = Some(value),
            Err(error) => self.error = Some(error),
        }
        self
    }

    fn extend(graph: &mut Graph, top: ValueId, name: &str, op: Op, weight: &[usize]) -> Result<ValueId, GraphError> {
        let mut edit = graph.edit();
        let mut params = Vec::new();
        if let Some(&out) = weight.first() {
            for (role, shape) in [("weight", weight.to_vec()), ("bias", vec![out])] {
                let name = format!("{name}.{role}");
                let data = TensorData::zeros(shape).map_err(|source| param_error(&name, source))?;
                params.push(edit.add_param(&name, data));
            }
        }
        let value = edit.add_node(name, op, &[top], &params)?;
        edit.keep_unverified();
        Ok(value)
    }
}

fn param_error(name: &str, source: TensorError) -> GraphError {
    GraphError::Param { name: name.to_string(), source }
}
