//! The session: a graph's parameters in flat buffers, and its forward and backward pass.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::ExecError;
use super::ops::{self, Context, Output};
use crate::graph::{Graph, Node, Op, Param, ParamId, ValueId, cost};
use crate::kernels::{self, Moments};
use crate::tensor::{DType, TensorData, TensorError};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A backward pass follows: what it needs is kept. Batch normalisation goes by the batch's statistics and moves the
    /// running ones; dropout leaves elements out.
    Train,
    /// Outputs only; values are dropped once they are no longer needed.
    Eval,
}

/// What a forward pass returns; every value is row-major with the batch axis first.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// One entry an output of the graph.
    pub outputs: Vec<Vec<f32>>,
    /// One entry a tapped value, in the order asked for.
    pub taps: Vec<Vec<f32>>,
}

/// Where a parameter lies in the flat buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamView {
    /// The parameter.
    pub id: ParamId,
    /// Its name.
    pub name: String,
    /// Its places in the buffers, in row-major order.
    pub range: Range<usize>,
}

/// A graph made ready to run. See the [module documentation](super).
pub struct Session {
    nodes: Vec<Node>,
    input: ValueId,
    outputs: Vec<ValueId>,
    sample_shape: Vec<usize>,
    /// Numbers of the largest value, for one sample.
    largest_value: u64,
    /// The last node that reads a value, by value.
    last_reader: Vec<Option<usize>>,
    /// The number format that values are rounded to after each node.
    activations: DType,
    /// In the graph's order of parameters.
    views: Vec<ParamView>,
    shapes: Vec<Vec<usize>>,
    masks: Vec<Option<Arc<[bool]>>>,
    /// The parameters that do not change, not even in [`Mode::Train`].
    frozen: HashSet<ParamId>,
    params: Vec<f32>,
    /// As long as the trained parameters, which come first in `params`.
    gradients: Vec<f32>,
    /// The parameters as tensors, kept between forward passes in [`Mode::Eval`] until somebody may have changed them.
    tensors: Option<Vec<Tensor>>,
    seed: u64,
    momentum: Option<f64>,
    tape: Option<Tape>,
}

/// What a forward pass in [`Mode::Train`] leaves for the backward pass.
struct Tape {
    /// One entry a parameter, `None` for those that are not trained.
    params: Vec<Option<Var>>,
    outputs: Vec<Tensor>,
    taps: Vec<Tensor>,
}

/// What the node at place `node` measured of a batch.
struct Measured {
    node: usize,
    moments: Moments,
}

impl Session {
    /// Numbers of the network's largest value, for one sample: what decides how many samples fit into memory at once.
    pub fn largest_value(&self) -> u64 {
        self.largest_value
    }

    /// Copies the parameters of `graph`, which may be of any floating point type. All but the statistics are trained.
    pub fn new(graph: &Graph) -> Result<Self, ExecError> {
        Self::for_training(graph, &HashSet::new())
    }

    /// As [`Session::new`], but the parameters `frozen` get no gradient. A batch normalisation one of whose running
    /// statistics is frozen goes by these in [`Mode::Train`] too and leaves them as they are.
    pub fn for_training(graph: &Graph, frozen: &HashSet<ParamId>) -> Result<Self, ExecError> {
        let Some(&input) = graph.inputs().first() else {
            return Err(ExecError::OtherGraph { problem: "it has no input".into() });
        };
        let mut last_reader = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|v| last_reader[v.index()] = Some(i));
        }
        let (views, trained) = layout(graph, frozen);
        let mut session = Self {
            nodes: graph.nodes().to_vec(),
            input,
            outputs: graph.outputs().to_vec(),
            sample_shape: graph.input_shape(),
            largest_value: cost::activations(graph).largest,
            last_reader,
            activations: graph.activations(),
            params: vec![0.0; views.iter().map(|view| view.range.len()).sum()],
            views,
            shapes: graph.params().iter().map(|p| p.data.shape().to_vec()).collect(),
            masks: Vec::new(),
            frozen: frozen.clone(),
            gradients: vec![0.0; trained],
            tensors: None,
            seed: 0,
            momentum: None,
            tape: None,
        };
        session.load(graph)?;
        Ok(session)
    }

    /// Takes over values and masks of the parameters of `graph`, which has the structure that the session was made for.
    pub fn load(&mut self, graph: &Graph) -> Result<(), ExecError> {
        self.check_structure(graph)?;
        for (view, param) in self.views.iter().zip(graph.params()) {
            let values = param.data.to_f32().map_err(|source| param_error(param, source))?;
            self.params[view.range.clone()].copy_from_slice(&values);
        }
        self.masks = graph.params().iter().map(|p| p.mask.clone()).collect();
        self.tensors = None;
        self.tape = None;
        self.apply_masks();
        Ok(())
    }

    /// Stores the parameters in `graph`, each in the number format that it has there; masks stay as they are.
    pub fn write_back(&self, graph: &mut Graph) -> Result<(), ExecError> {
        self.check_structure(graph)?;
        let mut edit = graph.edit();
        for view in &self.views {
            let param = edit.graph().param(view.id);
            let values = &self.params[view.range.clone()];
            let data = TensorData::from_f32(param.data.shape().to_vec(), values)
                .and_then(|data| data.to_float(param.data.dtype()))
                .map_err(|source| param_error(param, source))?;
            edit.set_param(view.id, data);
        }
        edit.commit()?;
        Ok(())
    }

    /// Computes the outputs for `batch` samples, and the values `taps` on the way. `inputs` is `[batch, sample...]`.
    pub fn forward(
        &mut self,
        inputs: &[f32],
        batch: usize,
        mode: Mode,
        taps: &[ValueId],
    ) -> Result<Activations, ExecError> {
        self.tape = None;
        let input = self.input_tensor(inputs, batch)?;
        let (params, vars) = match mode {
            Mode::Train => self.variables()?,
            Mode::Eval => (self.constants()?, Vec::new()),
        };
        let (values, moments) = self.run(input, &params, taps, mode)?;
        let pick = |ids: &[ValueId]| -> Result<Vec<Tensor>, ExecError> {
            ids.iter().map(|v| values.get(v.index()).cloned().flatten().ok_or_else(|| self.no_such_value(*v))).collect()
        };
        let (outputs, tapped) = (pick(&self.outputs)?, pick(taps)?);
        let activations = Activations { outputs: read_all(&outputs)?, taps: read_all(&tapped)? };
        self.follow(&moments);
        if mode == Mode::Train {
            self.tape = Some(Tape { params: vars, outputs, taps: tapped });
        }
        Ok(activations)
    }

    /// Says from what the choices of the next forward passes in [`Mode::Train`] follow: the elements that a dropout leaves
    /// out are a function of this seed and the node's name. Whoever trains sets another one for each step.
    pub fn set_randomness(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Lets the running statistics of all batch normalisations follow with this momentum instead of their own; `1 / (t +
    /// 1)` in the forward pass `t`, counted from 0, makes them the mean over all passes.
    pub fn set_momentum(&mut self, momentum: Option<f64>) {
        self.momentum = momentum;
    }

    /// Computes the gradient at every trained parameter, given those at the outputs and taps of the forward pass before, which
    /// was in [`Mode::Train`]. Masked values get gradient 0.
    pub fn backward(&mut self, d_outputs: &[Vec<f32>], d_taps: &[Vec<f32>]) -> Result<(), ExecError> {
        let tape = self.tape.take().ok_or(ExecError::NoForward)?;
        self.gradients.fill(0.0);
        // The gradient of sum(value * d), with d held fixed, is what the chain rule asks for.
        let mut terms = weighted(&tape.outputs, d_outputs, "output")?;
        terms.extend(weighted(&tape.taps, d_taps, "tap")?);
        let total = terms.into_iter().map(Ok).reduce(|a, b| a? + b?);
        let Some(total) = total.transpose().map_err(backward_error)? else { return Ok(()) };
        let found = total.backward().map_err(backward_error)?;
        for (view, var) in self.views.iter().zip(&tape.params) {
            // A parameter that leads to none of the values has no entry.
            if let Some(gradient) = var.as_ref().and_then(|var| found.get(var)) {
                let to = &mut self.gradients[view.range.clone()];
                to.copy_from_slice(&read(gradient).map_err(backward_error)?);
            }
        }
        clear_masked(&mut self.gradients, &self.views, &self.masks);
        Ok(())
    }

    /// How many numbers are trained. They come first in the buffers; frozen parameters and running statistics follow.
    pub fn trained(&self) -> usize {
        self.gradients.len()
    }

    /// All parameters, running statistics among them.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// All parameters, to be changed. Masked ones that become non-zero stay so until [`Session::apply_masks`].
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.tensors = None;
        &mut self.params
    }

    /// The gradients that the last backward pass found, at the trained parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// The trained parameters and their gradients at once, for clipping and stepping.
    pub fn buffers_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.tensors = None;
        (&mut self.params[..self.gradients.len()], &mut self.gradients)
    }

    /// Where each parameter lies in the buffers, in the graph's order of parameters.
    pub fn views(&self) -> &[ParamView] {
        &self.views
    }

    /// Sets the masked parameters to zero again.
    pub fn apply_masks(&mut self) {
        self.tensors = None;
        clear_masked(&mut self.params, &self.views, &self.masks);
    }

    fn check_structure(&self, graph: &Graph) -> Result<(), ExecError> {
        let other = |problem: String| Err(ExecError::OtherGraph { problem });
        if graph.nodes() != self.nodes || graph.outputs() != self.outputs || graph.activations() != self.activations {
            return other("its nodes differ".into());
        }
        if graph.params().len() != self.views.len() {
            return other(format!("it has {} parameters, not {}", graph.params().len(), self.views.len()));
        }
        for ((param, view), shape) in graph.params().iter().zip(&self.views).zip(&self.shapes) {
            if param.name != view.name || param.data.shape() != shape {
                let found = format!("'{}' {:?}", param.name, param.data.shape());
                return other(format!("it has a parameter {found} in the place of '{}' {shape:?}", view.name));
            }
        }
        Ok(())
    }

    fn input_tensor(&self, inputs: &[f32], batch: usize) -> Result<Tensor, ExecError> {
        let sample: usize = self.sample_shape.iter().product();
        if batch == 0 {
            return Err(ExecError::EmptyBatch);
        }
        if batch.checked_mul(sample) != Some(inputs.len()) {
            return Err(ExecError::Input { batch, sample, actual: inputs.len() });
        }
        let shape: Vec<usize> = std::iter::once(batch).chain(self.sample_shape.iter().copied()).collect();
        Tensor::from_slice(inputs, shape, &Device::Cpu).map_err(|e| ExecError::Node {
            node: "input".into(),
            op: "Input",
            reason: e.to_string(),
        })
    }

    /// All parameters for a backward pass, and those of them that are trained as what candle's tape starts from.
    fn variables(&self) -> Result<(Vec<Tensor>, Vec<Option<Var>>), ExecError> {
        let variable = |place: usize| {
            let (view, shape) = (&self.views[place], self.shapes[place].as_slice());
            if view.range.end > self.gradients.len() {
                return Ok((self.constant(place)?, None));
            }
            let var = Var::from_slice(&self.params[view.range.clone()], shape, &Device::Cpu);
            let var = var.map_err(|e| load_error(view, e))?;
            Ok((var.as_tensor().clone(), Some(var)))
        };
        (0..self.views.len()).map(variable).collect()
    }

    fn constants(&mut self) -> Result<Vec<Tensor>, ExecError> {
        if let Some(tensors) = &self.tensors {
            return Ok(tensors.clone());
        }
        let tensors: Vec<Tensor> = (0..self.views.len()).map(|place| self.constant(place)).collect::<Result<_, _>>()?;
        self.tensors = Some(tensors.clone());
        Ok(tensors)
    }

    fn constant(&self, place: usize) -> Result<Tensor, ExecError> {
        let (view, shape) = (&self.views[place], self.shapes[place].as_slice());
        Tensor::from_slice(&self.params[view.range.clone()], shape, &Device::Cpu).map_err(|e| load_error(view, e))
    }

    /// All values of the graph that are still needed after the last node (outputs, taps and what no node reads), and the
    /// batch's moments for each node that measured them, by its place.
    fn run(
        &self,
        input: Tensor,
        params: &[Tensor],
        taps: &[ValueId],
        mode: Mode,
    ) -> Result<(Vec<Option<Tensor>>, Vec<Measured>), ExecError> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.last_reader.len()];
        let mut measured = Vec::new();
        values[self.input.index()] = Some(input);
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |reason: String| ExecError::Node { node: node.name.clone(), op: node.op.name(), reason };
            let inputs: Option<Vec<&Tensor>> = node.inputs.iter().map(|v| values[v.index()].as_ref()).collect();
            let inputs = inputs.ok_or_else(|| fail("its input is not there yet".into()))?;
            let params: Vec<&Tensor> = node.params.iter().map(|p| &params[p.index()]).collect();
            let context =
                Context { mode, seed: self.seed, measures: mode == Mode::Train && !self.has_frozen_statistics(node) };
            let output = ops::compute(node, &inputs, &params, &context)
                .and_then(|y| Ok(Output { value: kernels::round(&y.value, self.activations)?, ..y }))
                .map_err(|e| fail(e.to_string()))?;
            measured.extend(output.moments.map(|moments| Measured { node: i, moments }));
            values[node.output.index()] = Some(output.value);
            for value in &node.inputs {
                let done = self.last_reader[value.index()] == Some(i);
                if done && !self.outputs.contains(value) && !taps.contains(value) {
                    values[value.index()] = None;
                }
            }
        }
        Ok((values, measured))
    }

    fn has_frozen_statistics(&self, node: &Node) -> bool {
        node.params.get(node.op.statistics()).is_some_and(|ids| ids.iter().any(|id| self.frozen.contains(id)))
    }

    /// Moves the running statistics of the nodes at these places towards a batch's moments.
    fn follow(&mut self, measured: &[Measured]) {
        for Measured { node, moments } in measured {
            let node = &self.nodes[*node];
            let Op::BatchNorm(config) = &node.op else { continue };
            let momentum = self.momentum.unwrap_or(config.momentum);
            for (id, batch) in
                node.params[node.op.statistics()].iter().zip([moments.means(), moments.unbiased_variances()])
            {
                let running = &mut self.params[self.views[id.index()].range.clone()];
                running.iter_mut().zip(batch).for_each(|(running, batch)| {
                    *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
                });
            }
        }
        if !measured.is_empty() {
            self.tensors = None;
        }
    }

    fn no_such_value(&self, value: ValueId) -> ExecError {
        ExecError::NoSuchValue { index: value.index(), values: self.last_reader.len() }
    }
}

/// Where each parameter lies, trained ones first, and how many numbers are trained.
fn layout(graph: &Graph, frozen: &HashSet<ParamId>) -> (Vec<ParamView>, usize) {
    let statistics = graph.statistics();
    let is_trained = |id: &ParamId| !statistics.contains(id) && !frozen.contains(id);
    let (trained, rest): (Vec<ParamId>, Vec<ParamId>) = graph.param_ids().partition(is_trained);
    let mut end = 0;
    let mut place = |id: ParamId| {
        let (param, start) = (graph.param(id), end);
        end += param.data.elements();
        ParamView { id, name: param.name.clone(), range: start..end }
    };
    let mut views: Vec<ParamView> = trained.into_iter().map(&mut place).collect();
    let trained = views.last().map_or(0, |view| view.range.end);
    views.extend(rest.into_iter().map(place));
    views.sort_by_key(|view| view.id);
    (views, trained)
}

/// Sets what is masked to zero, in a buffer that may end before the last parameters.
fn clear_masked(buffer: &mut [f32], views: &[ParamView], masks: &[Option<Arc<[bool]>>]) {
    for (view, mask) in views.iter().zip(masks) {
        let (Some(mask), Some(values)) = (mask, buffer.get_mut(view.range.clone())) else { continue };
        for (value, keep) in values.iter_mut().zip(mask.iter()) {
            *value = if *keep { *value } else { 0.0 };
        }
    }
}

/// `sum(value * d)` of each value, with its shape checked.
fn weighted(values: &[Tensor], d: &[Vec<f32>], what: &'static str) -> Result<Vec<Tensor>, ExecError> {
    if values.len() != d.len() {
        let index = values.len().min(d.len());
        let expected = values.get(index).map_or(0, Tensor::elem_count);
        return Err(ExecError::Gradient { what, index, expected, actual: d.get(index).map_or(0, Vec::len) });
    }
    let one = |(index, (value, d)): (usize, (&Tensor, &Vec<f32>))| {
        if value.elem_count() != d.len() {
            return Err(ExecError::Gradient { what, index, expected: value.elem_count(), actual: d.len() });
        }
        Tensor::from_slice(d, value.shape(), &Device::Cpu).and_then(|d| (value * d)?.sum_all()).map_err(backward_error)
    };
    values.iter().zip(d).enumerate().map(one).collect()
}

fn read_all(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>, ExecError> {
    let fail = |e: candle_core::Error| ExecError::Node { node: "output".into(), op: "Output", reason: e.to_string() };
    tensors.iter().map(|t| read(t).map_err(fail)).collect()
}

fn read(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn backward_error(error: candle_core::Error) -> ExecError {
    ExecError::Backward { reason: error.to_string() }
}

fn load_error(view: &ParamView, error: candle_core::Error) -> ExecError {
    ExecError::Node { node: view.name.clone(), op: "Param", reason: error.to_string() }
}

fn param_error(param: &Param, source: TensorError) -> ExecError {
    ExecError::Param { name: param.name.clone(), source }
}
