//! The session: a graph's parameters in flat buffers, and its forward and backward pass.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::ExecError;
use super::ops::{self, Context, Way};
use super::tape::{Step, Tape};
use crate::graph::op::Activation;
use crate::graph::{Graph, Node, Op, Param, ParamId, ValueId, cost};
use crate::kernels::{self, Kernel, Moments};
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

/// What a forward pass comes to.
struct Run {
    /// The values that are still needed after the last node: outputs, taps and what no node reads.
    values: Vec<Option<Tensor>>,
    measured: Vec<Measured>,
    tape: Tape,
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
        let params = match mode {
            Mode::Train => (0..self.views.len()).map(|place| self.param(place, mode)).collect::<Result<_, _>>()?,
            Mode::Eval => self.constants()?,
        };
        let Run { values, measured, mut tape } = self.run(input, &params, taps, mode)?;
        let pick = |ids: &[ValueId]| -> Result<Vec<&Tensor>, ExecError> {
            ids.iter()
                .map(|v| values.get(v.index()).and_then(Option::as_ref).ok_or_else(|| self.no_such_value(*v)))
                .collect()
        };
        let (outputs, tapped) = (pick(&self.outputs)?, pick(taps)?);
        let activations = Activations { outputs: read_all(&outputs)?, taps: read_all(&tapped)? };
        if mode == Mode::Train {
            let ends = |ids: &[ValueId], tensors: &[&Tensor]| {
                ids.iter().zip(tensors).map(|(id, tensor)| (*id, tensor.dims().to_vec())).collect()
            };
            tape.end(ends(&self.outputs, &outputs), ends(taps, &tapped));
            self.tape = Some(tape);
        }
        self.follow(&measured);
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
        let (views, gradients) = (&self.views, &mut self.gradients);
        tape.walk_back(&self.nodes, self.last_reader.len(), d_outputs, d_taps, |param, found| {
            let sum = &mut gradients[views[param.index()].range.clone()];
            sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        })?;
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

    fn constants(&mut self) -> Result<Vec<Tensor>, ExecError> {
        if let Some(tensors) = &self.tensors {
            return Ok(tensors.clone());
        }
        let tensors =
            (0..self.views.len()).map(|place| self.param(place, Mode::Eval)).collect::<Result<Vec<_>, _>>()?;
        self.tensors = Some(tensors.clone());
        Ok(tensors)
    }

    /// The parameter at `place` as a tensor, at which a gradient is needed if it is trained.
    fn param(&self, place: usize, mode: Mode) -> Result<Tensor, ExecError> {
        let (view, shape) = (&self.views[place], self.shapes[place].as_slice());
        let is_trained = view.range.end <= self.gradients.len();
        kernels::tensor(self.params[view.range.clone()].to_vec(), shape, is_trained && mode == Mode::Train)
            .map_err(|e| ExecError::Node { node: view.name.clone(), op: "Param", reason: e.to_string() })
    }

    fn run(&self, input: Tensor, params: &[Tensor], taps: &[ValueId], mode: Mode) -> Result<Run, ExecError> {
        let mut run = Run { values: vec![None; self.last_reader.len()], measured: Vec::new(), tape: Tape::default() };
        run.values[self.input.index()] = Some(input);
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |reason: String| ExecError::Node { node: node.name.clone(), op: node.op.name(), reason };
            let args: Option<Vec<&Tensor>> = node.inputs.iter().map(|v| run.values[v.index()].as_ref()).collect();
            let mut args = args.ok_or_else(|| fail("its input is not there yet".into()))?;
            args.extend(node.params.iter().map(|p| &params[p.index()]));
            let measures = mode == Mode::Train && !self.has_frozen_statistics(node);
            let context = Context { mode, seed: self.seed, measures };
            let (step, moments) = self.step(i, &args, &context).map_err(|e| fail(e.to_string()))?;
            run.measured.extend(moments.map(|moments| Measured { node: i, moments }));
            run.values[node.output().index()] = Some(step.y.clone());
            if mode == Mode::Train {
                run.tape.push(step);
            }
            for value in &node.inputs {
                let done = self.last_reader[value.index()] == Some(i);
                if done && !self.outputs.contains(value) && !taps.contains(value) {
                    run.values[value.index()] = None;
                }
            }
        }
        Ok(run)
    }

    /// Computes the node at place `node` for its inputs and parameters.
    fn step(&self, node: usize, args: &[&Tensor], context: &Context) -> candle_core::Result<(Step, Option<Moments>)> {
        let (inputs, params) = args.split_at(self.nodes[node].inputs.len());
        let (y, kernel, moments) = match ops::way(&self.nodes[node], inputs, params, context)? {
            Way::Kernel(kernel) => (kernel.forward(args)?, Some(kernel), None),
            Way::Measured(kernel, moments) => (kernel.forward(args)?, Some(kernel), Some(moments)),
            Way::Through(y) => (y, None, None),
        };
        let args = args.iter().take(kernel.as_ref().map_or(1, Kernel::arity)).map(|arg| (*arg).clone()).collect();
        let y = if hands_on(&self.nodes[node].op) { y } else { kernels::round(&y, self.activations)? };
        Ok((Step { node, kernel, args, y }, moments))
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
                    // With momentum 1 what was there before does not count, not even if it was no number.
                    let kept = if momentum == 1.0 { 0.0 } else { (1.0 - momentum) * f64::from(*running) };
                    *running = (kept + momentum * batch) as f32;
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

/// Whether the numbers that come out are numbers that went in, or 0: there is nothing to round.
fn hands_on(op: &Op) -> bool {
    matches!(op, Op::Activation(Activation::Relu) | Op::MaxPool2d(_) | Op::Pad(_) | Op::Slice(_) | Op::Flatten)
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

fn read_all(tensors: &[&Tensor]) -> Result<Vec<Vec<f32>>, ExecError> {
    let fail = |e: candle_core::Error| ExecError::Node { node: "output".into(), op: "Output", reason: e.to_string() };
    tensors.iter().map(|t| kernels::read(t, <[f32]>::to_vec).map_err(fail)).collect()
}

fn param_error(param: &Param, source: TensorError) -> ExecError {
    ExecError::Param { name: param.name.clone(), source }
}
