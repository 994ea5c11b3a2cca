//! Builds graphs layer by layer, for the built-in networks and for tests.

use super::init;
use super::op::{
    self, Activation, AvgPool2d, BatchNorm, Conv2d, Dropout, LayerNorm, Lstm, MaxPool2d, Pad, Slice, Window,
};
use super::{Graph, GraphEdit, GraphError, Op, ValueId};
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

/// A place in a chain to come back to: see [`GraphBuilder::top`].
#[derive(Debug, Clone, Copy)]
pub struct Place(Option<ValueId>);

impl GraphBuilder {
    /// A network for samples of shape `sample_shape`. Weights and biases start as zeros; see [`super::init`].
    pub fn new(name: &str, sample_shape: &[usize]) -> Self {
        let mut graph = Graph::new(name);
        let mut edit = GraphEdit::taking(&mut graph);
        let input = edit.add_input("input", sample_shape);
        edit.keep_unverified();
        Self { graph, top: Some(input), error: None }
    }

    /// A fully connected layer with `out` units and a bias.
    pub fn linear(self, name: &str, out: usize) -> Self {
        let inner = self.top_shape().iter().product();
        self.layer(name, Op::Linear, &[vec![out, inner], vec![out]])
    }

    /// A fully connected layer over the last axis, for what has several.
    pub fn linear_each(self, name: &str, out: usize) -> Self {
        let inner = self.top_shape().last().copied().unwrap_or(0);
        self.layer(name, Op::Linear, &[vec![out, inner], vec![out]])
    }

    /// A convolution with `out` square filters of side `kernel` and a bias.
    pub fn conv(self, name: &str, out: usize, kernel: usize, config: Conv2d) -> Self {
        let weight = self.filters(out, kernel, &config);
        self.layer(name, Op::Conv2d(config), &[weight, vec![out]])
    }

    /// A convolution with `out` square filters of side `kernel` and no bias, as it stands before a batch normalisation.
    pub fn conv_without_bias(self, name: &str, out: usize, kernel: usize, config: Conv2d) -> Self {
        let weight = self.filters(out, kernel, &config);
        self.layer(name, Op::Conv2d(config), &[weight])
    }

    /// A batch normalisation with PyTorch's configuration, which starts as one that changes nothing.
    pub fn batch_norm(self, name: &str) -> Self {
        let channels = self.top_shape().first().copied().unwrap_or(0);
        self.layer(name, Op::BatchNorm(BatchNorm::default()), &vec![vec![channels]; 4])
    }

    /// A layer normalisation over the last axis with PyTorch's configuration, which starts as one that only normalises.
    pub fn layer_norm(self, name: &str) -> Self {
        let shape = self.top_shape();
        let (axis, width) = (shape.len(), shape.last().copied().unwrap_or(0));
        self.layer(name, Op::LayerNorm(LayerNorm { axis, epsilon: 1e-5 }), &[vec![width], vec![width]])
    }

    /// Maximum pooling.
    pub fn max_pool(self, name: &str, window: Window) -> Self {
        self.layer(name, Op::MaxPool2d(MaxPool2d { window }), &[])
    }

    /// Average pooling; padding counts as zeros.
    pub fn avg_pool(self, name: &str, window: Window) -> Self {
        self.layer(name, Op::AvgPool2d(AvgPool2d { window, count_padding: true, overhang: [0; 2] }), &[])
    }

    /// The mean of each channel.
    pub fn global_avg_pool(self, name: &str) -> Self {
        self.layer(name, Op::GlobalAvgPool, &[])
    }

    /// A function of each element.
    pub fn activation(self, name: &str, activation: Activation) -> Self {
        self.layer(name, Op::Activation(activation), &[])
    }

    /// Elements left out while training, each with probability `rate`.
    pub fn dropout(self, name: &str, rate: f64) -> Self {
        self.layer(name, Op::Dropout(Dropout { rate }), &[])
    }

    /// Zeros around one axis.
    pub fn pad(self, name: &str, config: Pad) -> Self {
        self.layer(name, Op::Pad(config), &[])
    }

    /// Some places of one axis.
    pub fn slice(self, name: &str, config: Slice) -> Self {
        self.layer(name, Op::Slice(config), &[])
    }

    /// Joins all axes of a sample.
    pub fn flatten(self, name: &str) -> Self {
        self.layer(name, Op::Flatten, &[])
    }

    /// An operator without parameters, of what is on top and then of `others`.
    pub fn op(self, name: &str, op: Op, others: &[Place]) -> Self {
        let inputs = [self.top].into_iter().chain(others.iter().map(|place| place.0)).flatten().collect();
        self.node(name, op, inputs, &[])
    }

    /// A constant, which is on top then.
    pub fn constant(mut self, name: &str, data: TensorData) -> Self {
        if self.error.is_some() {
            return self;
        }
        let mut edit = GraphEdit::taking(&mut self.graph);
        let op = Op::Constant(op::Constant { dtype: data.dtype() });
        let param = edit.add_fixed_param(&format!("{name}.value"), data);
        let added = edit.add_node(name, op, &[], &[param]);
        edit.keep_unverified();
        match added {
            Ok(value) => self.top = Some(value),
            Err(error) => (self.top, self.error) = (None, Some(error)),
        }
        self
    }

    /// A recurrent layer over what is on top, `[steps, n, channels]`, with lengths where it has them. All its states are on
    /// top then; see [`GraphBuilder::output`].
    pub fn lstm(self, name: &str, config: Lstm, lengths: &[Place]) -> Self {
        let inner = self.top.and_then(|v| self.graph.value(v).shape().last()?.fixed()).unwrap_or(0);
        let (d, h) = (config.direction.count(), config.hidden);
        let params = [vec![d, 4 * h, inner], vec![d, 4 * h, h], vec![d, 8 * h]];
        let inputs = [self.top].into_iter().chain(lengths.iter().map(|place| place.0)).flatten().collect();
        self.node(name, Op::Lstm(config), inputs, &params)
    }

    /// Another output of the layer on top.
    pub fn output(mut self, index: usize) -> Self {
        let node = self.top.and_then(|top| self.graph.producer(top));
        if let Some(node) = node {
            self.top = node.outputs.get(index).copied();
        }
        self
    }

    /// Where the chain is, to come back to by [`GraphBuilder::on`] or [`GraphBuilder::add`].
    pub fn top(&self) -> Place {
        Place(self.top)
    }

    /// Goes on with the next layer on top of `place`: a second branch.
    pub fn on(mut self, place: Place) -> Self {
        if self.error.is_none() {
            self.top = place.0;
        }
        self
    }

    /// Joins the branch that ends at `other` to this one, element by element.
    pub fn add(self, name: &str, other: Place) -> Self {
        let inputs = [self.top, other.0].into_iter().flatten().collect();
        self.node(name, Op::ADD, inputs, &[])
    }

    /// The finished graph; its output is the last layer's.
    pub fn build(mut self) -> Result<Graph, GraphError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut edit = GraphEdit::taking(&mut self.graph);
        edit.set_outputs(&self.top.into_iter().collect::<Vec<_>>());
        edit.commit()?;
        Ok(self.graph)
    }

    /// The shape of one sample of what is on top.
    pub fn top_shape(&self) -> Vec<usize> {
        self.top.map(|v| self.graph.value(v).sample_shape()).unwrap_or_default()
    }

    fn filters(&self, out: usize, kernel: usize, config: &Conv2d) -> Vec<usize> {
        let channels = self.top_shape().first().copied().unwrap_or(0) / config.groups.max(1);
        vec![out, channels, kernel, kernel]
    }

    /// Adds a node on top, with parameters of these shapes in the order of their roles.
    fn layer(self, name: &str, op: Op, params: &[Vec<usize>]) -> Self {
        let inputs = self.top.into_iter().collect();
        self.node(name, op, inputs, params)
    }

    fn node(mut self, name: &str, op: Op, inputs: Vec<ValueId>, params: &[Vec<usize>]) -> Self {
        if self.error.is_some() {
            return self;
        }
        match Self::extend(&mut self.graph, inputs, name, op, params) {
            Ok(value) => self.top = Some(value),
            Err(error) => (self.top, self.error) = (None, Some(error)),
        }
        self
    }

    fn extend(
        graph: &mut Graph,
        inputs: Vec<ValueId>,
        name: &str,
        op: Op,
        shapes: &[Vec<usize>],
    ) -> Result<ValueId, GraphError> {
        let mut edit = GraphEdit::taking(graph);
        let mut params = Vec::new();
        for (place, (shape, role)) in shapes.iter().zip(op.roles().0).enumerate() {
            let name = format!("{name}.{role}");
            let data = match init::start(&op, place) {
                Some(start) => TensorData::from_f32(shape.clone(), &vec![start; shape.iter().product()]),
                None => TensorData::zeros(shape.clone()),
            };
            params.push(edit.add_param(&name, data.map_err(|source| param_error(&name, source))?));
        }
        let value = edit.add_node(name, op, &inputs, &params)?;
        edit.keep_unverified();
        Ok(value)
    }
}

fn param_error(name: &str, source: TensorError) -> GraphError {
    GraphError::Param { name: name.to_string(), source }
}
