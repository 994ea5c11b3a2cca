//! The session: a graph's parameters in flat buffers, and its forward and backward pass.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::{ExecError, ops};
use crate::graph::{Graph, Node, Param, ParamId, ValueId, cost};
use crate::tensor::{TensorData, TensorError};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A backward pass follows: what it needs is kept.
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
    views: Vec<ParamView>,
    shapes: Vec<Vec<usize>>,
    masks: Vec<Option<Arc<[bool]>>>,
    params: Vec<f32>,
    gradients: Vec<f32>,
    /// The parameters as tensors, kept between forward passes in [`Mode::Eval`] until somebody may have changed them.
    frozen: Option<Vec<Tensor>>,
    tape: Option<Tape>,
}

/// What a forward pass in [`Mode::Train`] leaves for the backward pass.
struct Tape {
    params: Vec<Var>,
    outputs: Vec<Tensor>,
    taps: Vec<Tensor>,
}

impl Session {
    /// Numbers of the network's largest value, for one sample: what decides how many samples fit into memory at once.
    pub fn largest_value(&self) -> u64 {
        self.largest_value
    }

    /// Copies the parameters of `graph`, which may be of any floating point type.
    pub fn new(graph: &Graph) -> Result<Self, ExecError> {
        let Some(&input) = graph.inputs().first() else {
            return Err(ExecError::OtherGraph { problem: "it has no input".into() });
        };
        let mut last_reader = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|v| last_reader[v.index()] = Some(i));
        }
        let mut end = 0;
        let views: Vec<ParamView> = graph
            .param_ids()
            .zip(graph.params())
            .map(|(id, param)| {
                let start = end;
                end += param.data.elements();
                ParamView { id, name: param.name.clone(), range: start..end }
            })
            .collect();
        let mut session = Self {
            nodes: graph.nodes().to_vec(),
            input,
            outputs: graph.outputs().to_vec(),
            sample_shape: graph.input_shape(),
            largest_value: cost::activations(graph).largest,
            last_reader,
            views,
            shapes: graph.params().iter().map(|p| p.data.shape().to_vec()).collect(),
            masks: Vec::new(),
            params: vec![0.0; end],
            gradients: vec![0.0; end],
            frozen: None,
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
        self.frozen = None;
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
        let vars = match mode {
            Mode::Train => self.variables()?,
            Mode::Eval => Vec::new(),
        };
        let params: Vec<Tensor> = match mode {
            Mode::Train => vars.iter().map(|v| v.as_tensor().clone()).collect(),
            Mode::Eval => self.frozen_params()?,
        };
        let values = self.run(input, &params, taps)?;
        let pick = |ids: &[ValueId]| -> Result<Vec<Tensor>, ExecError> {
            ids.iter().map(|v| values.get(v.index()).cloned().flatten().ok_or_else(|| self.no_such_value(*v))).collect()
        };
        let (outputs, tapped) = (pick(&self.outputs)?, pick(taps)?);
        let activations = Activations { outputs: read_all(&outputs)?, taps: read_all(&tapped)? };
        if mode == Mode::Train {
            self.tape = Some(Tape { params: vars, outputs, taps: tapped });
        }
        Ok(activations)
    }

    /// Computes the gradient at every parameter, given those at the outputs and taps of the forward pass before, which
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
            if let Some(gradient) = found.get(var) {
                let to = &mut self.gradients[view.range.clone()];
                to.copy_from_slice(&read(gradient).map_err(backward_error)?);
            }
        }
        clear_masked(&mut self.gradients, &self.views, &self.masks);
        Ok(())
    }

    /// The parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The parameters, to be changed. Masked ones that become non-zero stay so until [`Session::apply_masks`].
    pub fn params_mut(&mut self) -> &mut [f32] {
        self.frozen = None;
        &mut self.params
    }

    /// The gradients that the last backward pass found.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Parameters and gradients at once, for clipping and stepping.
    pub fn buffers_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.frozen = None;
        (&mut self.params, &mut self.gradients)
    }

    /// Where each parameter lies in the buffers.
    pub fn views(&self) -> &[ParamView] {
        &self.views
    }

    /// Sets the masked parameters to zero again.
    pub fn apply_masks(&mut self) {
        self.frozen = None;
        clear_masked(&mut self.params, &self.views, &self.masks);
    }

    fn check_structure(&self, graph: &Graph) -> Result<(), ExecError> {
        let other = |problem: String| Err(ExecError::OtherGraph { problem });
        if graph.nodes() != self.nodes || graph.outputs() != self.outputs {
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

    fn variables(&self) -> Result<Vec<Var>, ExecError> {
        let variable = |(view, shape): (&ParamView, &Vec<usize>)| {
            Var::from_slice(&self.params[view.range.clone()], shape.as_slice(), &Device::Cpu)
                .map_err(|e| load_error(view, e))
        };
        self.views.iter().zip(&self.shapes).map(variable).collect()
    }

    fn frozen_params(&mut self) -> Result<Vec<Tensor>, ExecError> {
        if let Some(tensors) = &self.frozen {
            return Ok(tensors.clone());
        }
        let tensor = |(view, shape): (&ParamView, &Vec<usize>)| {
            Tensor::from_slice(&self.params[view.range.clone()], shape.as_slice(), &Device::Cpu)
                .map_err(|e| load_error(view, e))
        };
        let tensors: Vec<Tensor> = self.views.iter().zip(&self.shapes).map(tensor).collect::<Result<_, _>>()?;
        self.frozen = Some(tensors.clone());
        Ok(tensors)
    }

    /// All values of the graph that are still needed after the last node: outputs, taps and what no node reads.
    fn run(&self, input: Tensor, params: &[Tensor], taps: &[ValueId]) -> Result<Vec<Option<Tensor>>, ExecError> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.last_reader.len()];
        values[self.input.index()] = Some(input);
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |reason: String| ExecError::Node { node: node.name.clone(), op: node.op.name(), reason };
            let source = node.inputs[0];
            let x = values[source.index()].as_ref().ok_or_else(|| fail("its input is not there yet".into()))?;
            let params: Vec<&Tensor> = node.params.iter().map(|p| &params[p.index()]).collect();
            let y = ops::compute(&node.op, x, &params).map_err(|e| fail(e.to_string()))?;
            values[node.output.index()] = Some(y);
            let done = self.last_reader[source.index()] == Some(i);
            if done && !self.outputs.contains(&source) && !taps.contains(&source) {
                values[source.index()] = None;
            }
        }
        Ok(values)
    }

    fn no_such_value(&self, value: ValueId) -> ExecError {
        ExecError::NoSuchValue { index: value.index(), values: self.last_reader.len() }
    }
}

fn clear_masked(buffer: &mut [f32], views: &[ParamView], masks: &[Option<Arc<[bool]>>]) {
    for (view, mask) in views.iter().zip(masks) {
        let Some(mask) = mask else { continue };
        for (value, keep) in buffer[view.range.clone()].iter_mut().zip(mask.iter()) {
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
