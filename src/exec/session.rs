//! The session: a graph's parameters in flat buffers, and its forward and backward pass.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::ExecError;
use super::held::Held;
use super::inputs::{self, Input};
use super::params::{ParamView, clear_masked, layout};
use super::pass::{Measured, Pass};
use super::plan::{self, Key, Lent, Plan};
use super::tape::{End, Tape};
use crate::graph::dim::Sizes;
use crate::graph::{Graph, Node, Op, Param, ParamId, ValueId, ValueType, cost};
use crate::kernels;
use crate::tensor::{DType, TensorData, TensorError};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// What [`Session::run`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// One entry an output of the graph.
    pub outputs: Vec<TensorData>,
    /// One entry a tapped value, in the order asked for.
    pub taps: Vec<TensorData>,
}

/// What computes [`Session::forward`] and the backward pass after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executor {
    /// An execution plan: kernels of our own in memory that is laid out before.
    Plan,
    /// candle's tensors, operator by operator.
    Candle {
        /// Why: the first thing that the plan does not cover.
        because: String,
    },
}

/// `plan`, or `candle: node 'x' (Erf): ...`.
impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Executor::Plan => f.write_str("plan"),
            Executor::Candle { because } => write!(f, "candle: {because}"),
        }
    }
}

/// Plans that a session keeps: for training and evaluation, and for the last batch of each, which may be smaller.
const PLANS: usize = 4;

/// What the backward pass goes by.
enum Pending {
    Tape(Tape),
    /// The first of the plans.
    Plan,
}

/// A graph made ready to run. See the [module documentation](super).
pub struct Session {
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<ValueId>,
    /// Number format and shape of each value.
    pub(super) types: Vec<ValueType>,
    /// Numbers of the largest value, for one sample.
    largest_value: u64,
    /// The last node that reads a value, by value.
    pub(super) last_reader: Vec<Option<usize>>,
    /// The number format that values are rounded to after each node.
    pub(super) activations: DType,
    /// In the graph's order of parameters.
    pub(super) views: Vec<ParamView>,
    /// The parameters of whole numbers, which are not in the buffers.
    plain: Vec<Option<TensorData>>,
    pub(super) shapes: Vec<Vec<usize>>,
    masks: Vec<Option<Arc<[bool]>>>,
    /// Where given, gradients are cleared by these instead.
    closed: Option<Vec<Option<Arc<[bool]>>>>,
    /// The parameters that do not change, not even in [`Mode::Train`].
    pub(super) frozen: HashSet<ParamId>,
    params: Vec<f32>,
    /// As long as the trained parameters, which come first in `params`.
    gradients: Vec<f32>,
    /// The parameters as tensors, kept between forward passes in [`Mode::Eval`] until somebody may have changed them.
    tensors: Option<Vec<Held>>,
    /// Counts the times that parameters may have changed.
    version: u64,
    pub(super) seed: u64,
    momentum: Option<f64>,
    executor: Executor,
    /// The plans that were used last, the latest first.
    plans: Vec<Plan>,
    /// What the plans compute in.
    memory: Vec<f32>,
    pending: Option<Pending>,
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
        if graph.inputs().is_empty() {
            return Err(ExecError::OtherGraph { problem: "it has no input".into() });
        }
        let mut last_reader = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|v| last_reader[v.index()] = Some(i));
        }
        let (views, trained) = layout(graph, frozen);
        let mut session = Self {
            nodes: graph.nodes().to_vec(),
            inputs: inputs::of_graph(graph),
            outputs: graph.outputs().to_vec(),
            types: graph.values().iter().map(|value| value.ty.clone()).collect(),
            largest_value: cost::activations(graph).largest,
            last_reader,
            activations: graph.activations(),
            params: vec![0.0; views.iter().map(|view| view.range.len()).sum()],
            views,
            plain: Vec::new(),
            shapes: graph.params().iter().map(|p| p.data.shape().to_vec()).collect(),
            masks: Vec::new(),
            closed: None,
            frozen: frozen.clone(),
            gradients: vec![0.0; trained],
            tensors: None,
            version: 0,
            seed: 0,
            momentum: None,
            executor: Executor::Plan,
            plans: Vec::new(),
            memory: Vec::new(),
            pending: None,
        };
        session.load(graph)?;
        if let Some(why) = session.uncovered() {
            session.executor = Executor::Candle { because: why.to_string() };
        }
        Ok(session)
    }

    /// Takes over values and masks of the parameters of `graph`, which has the structure that the session was made for.
    pub fn load(&mut self, graph: &Graph) -> Result<(), ExecError> {
        self.check_structure(graph)?;
        self.plain = graph.params().iter().map(|p| (!p.data.dtype().is_float()).then(|| p.data.clone())).collect();
        for (view, param) in self.views.iter().zip(graph.params()).filter(|(_, p)| p.data.dtype().is_float()) {
            let values = param.data.to_f32().map_err(|source| param_error(param, source))?;
            self.params[view.range.clone()].copy_from_slice(&values);
        }
        self.masks = graph.params().iter().map(|p| p.mask.clone()).collect();
        self.pending = None;
        self.apply_masks();
        Ok(())
    }

    /// Stores the parameters in `graph`, each in the number format that it has there; masks stay as they are.
    pub fn write_back(&self, graph: &mut Graph) -> Result<(), ExecError> {
        self.check_structure(graph)?;
        let mut edit = graph.edit();
        for view in &self.views {
            let param = edit.graph().param(view.id);
            // What is fixed never changes, and may have more digits than the buffers.
            if param.fixed || !param.data.dtype().is_float() {
                continue;
            }
            let values = &self.params[view.range.clone()];
            let data = TensorData::from_f32(param.data.shape().to_vec(), values)
                .and_then(|data| data.to_float(param.data.dtype()))
                .map_err(|source| param_error(param, source))?;
            edit.set_param(view.id, data);
        }
        edit.commit()?;
        Ok(())
    }

    /// Computes the outputs for `batch` samples of a graph with one input of floating point numbers, and the values `taps`
    /// on the way. `inputs` is `[batch, sample...]`. Whole numbers come out as `f32`.
    pub fn forward(
        &mut self,
        inputs: &[f32],
        batch: usize,
        mode: Mode,
        taps: &[ValueId],
    ) -> Result<Activations, ExecError> {
        let shape = self.check_input(inputs, batch)?;
        if self.executor == Executor::Plan {
            if let Some(unknown) = taps.iter().find(|tap| tap.index() >= self.types.len()) {
                return Err(self.no_such_value(*unknown));
            }
            let key = Key { mode, batch, taps: taps.to_vec() };
            match self.planned(key) {
                Ok(()) => return self.forward_by_plan(inputs),
                Err(why) => tracing::warn!(%why, "a plan that was to be does not come about: candle computes"),
            }
        }
        let (input, sizes) = (self.input_tensor(inputs, shape)?, Sizes::of_batch(batch));
        let (outputs, taps) = self.compute(vec![input], sizes, mode, taps, |held, _| held.to_f32())?;
        Ok(Activations { outputs, taps })
    }

    /// Computes the outputs of any graph, and the values `taps` on the way, each in its own number format. `inputs` are those
    /// of the graph, of the number formats that it says; their shapes decide the open sizes.
    ///
    /// A [`Session::backward`] may follow as after [`Session::forward`]; gradients at whole numbers and truth values are
    /// not looked at.
    pub fn run(&mut self, inputs: &[TensorData], mode: Mode, taps: &[ValueId]) -> Result<Results, ExecError> {
        let sizes = inputs::check(&self.inputs, inputs)?;
        let inputs = inputs.iter().map(Held::of).collect::<candle_core::Result<Vec<_>>>().map_err(input_error)?;
        let read = |held: &Held, dtype: DType| {
            let data = held.data()?;
            if dtype.is_float() {
                data.to_float(dtype).map_err(|e| candle_core::Error::Msg(e.to_string()))
            } else {
                Ok(data)
            }
        };
        let (outputs, taps) = self.compute(inputs, sizes, mode, taps, read)?;
        Ok(Results { outputs, taps })
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
    /// was in [`Mode::Train`]. Masked values get gradient 0, but for [`Session::let_through`].
    pub fn backward(&mut self, d_outputs: &[Vec<f32>], d_taps: &[Vec<f32>]) -> Result<(), ExecError> {
        let tape = match self.pending.take().ok_or(ExecError::NoForward)? {
            Pending::Tape(tape) => tape,
            Pending::Plan => {
                let (plan, lent) = self.lend();
                plan.backward(d_outputs, d_taps, lent)?;
                clear_masked(&mut self.gradients, &self.views, self.closed.as_ref().unwrap_or(&self.masks));
                return Ok(());
            }
        };
        self.gradients.fill(0.0);
        let (views, gradients) = (&self.views, &mut self.gradients);
        tape.walk_back(&self.nodes, self.last_reader.len(), d_outputs, d_taps, |param, found| {
            let sum = &mut gradients[views[param.index()].range.clone()];
            sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        })?;
        clear_masked(&mut self.gradients, &self.views, self.closed.as_ref().unwrap_or(&self.masks));
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
        self.changed();
        &mut self.params
    }

    /// The gradients that the last backward pass found, at the trained parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// The trained parameters and their gradients at once, for clipping and stepping.
    pub fn buffers_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.changed();
        (&mut self.params[..self.gradients.len()], &mut self.gradients)
    }

    /// Where each parameter lies in the buffers, in the graph's order of parameters.
    pub fn views(&self) -> &[ParamView] {
        &self.views
    }

    /// Sets the masked parameters to zero again.
    pub fn apply_masks(&mut self) {
        self.changed();
        clear_masked(&mut self.params, &self.views, &self.masks);
    }

    /// Lets gradients through to masked parameters from now on, as if these masks were all there are, in the graph's order
    /// of parameters; parameters stay masked. `None`: masked ones get gradient 0 again.
    pub fn let_through(&mut self, closed: Option<Vec<Option<Arc<[bool]>>>>) {
        self.closed = closed;
    }

    /// What computes [`Session::forward`], which follows from the graph alone. [`Session::run`] is always computed by candle.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Lets candle compute from now on, whatever the graph.
    pub fn use_candle(&mut self) {
        self.executor = Executor::Candle { because: "it was asked for".into() };
        self.plans.clear();
        self.memory = Vec::new();
        self.pending = None;
    }

    /// Parameters may have changed.
    fn changed(&mut self) {
        self.tensors = None;
        self.version += 1;
    }

    /// Makes the plan for this the first one.
    fn planned(&mut self, key: Key) -> Result<(), plan::Uncovered> {
        let plan = match self.plans.iter().position(|plan| plan.key == key) {
            Some(place) => self.plans.remove(place),
            None => plan::compile(self, key)?,
        };
        self.plans.insert(0, plan);
        self.plans.truncate(PLANS);
        Ok(())
    }

    /// The first plan, and what it computes with.
    fn lend(&mut self) -> (&mut Plan, Lent<'_>) {
        let lent = Lent {
            memory: &mut self.memory,
            params: &mut self.params,
            version: self.version,
            gradients: &mut self.gradients,
            seed: self.seed,
            momentum: self.momentum,
        };
        (&mut self.plans[0], lent)
    }

    /// A forward pass by the first plan.
    fn forward_by_plan(&mut self, inputs: &[f32]) -> Result<Activations, ExecError> {
        self.pending = None;
        let (plan, lent) = self.lend();
        let activations = plan.forward(inputs, lent)?;
        let (mode, measures) = (plan.key.mode, plan.measures);
        if mode == Mode::Train {
            self.pending = Some(Pending::Plan);
        }
        if measures {
            self.changed();
        }
        Ok(activations)
    }

    fn check_structure(&self, graph: &Graph) -> Result<(), ExecError> {
        let other = |problem: String| Err(ExecError::OtherGraph { problem });
        if graph.nodes() != self.nodes || graph.outputs() != self.outputs || graph.activations() != self.activations {
            return other("its nodes differ".into());
        }
        if inputs::of_graph(graph) != self.inputs {
            return other("its inputs differ".into());
        }
        if graph.params().len() != self.views.len() {
            return other(format!("it has {} parameters, not {}", graph.params().len(), self.views.len()));
        }
        for ((param, view), shape) in graph.params().iter().zip(&self.views).zip(&self.shapes) {
            // Parameters of whole numbers have no places in the buffers.
            let places = if param.data.dtype().is_float() { param.data.elements() } else { 0 };
            if param.name != view.name || param.data.shape() != shape || places != view.range.len() {
                let found = format!("'{}' {:?}", param.name, param.data.shape());
                return other(format!("it has a parameter {found} in the place of '{}' {shape:?}", view.name));
            }
        }
        Ok(())
    }

    /// The shape of a batch of these numbers.
    fn check_input(&self, inputs: &[f32], batch: usize) -> Result<Vec<usize>, ExecError> {
        let shape = inputs::sample_shape(&self.inputs)?;
        let sample: usize = shape.iter().product();
        if batch == 0 {
            return Err(ExecError::EmptyBatch);
        }
        if batch.checked_mul(sample) != Some(inputs.len()) {
            return Err(ExecError::Input { batch, sample, actual: inputs.len() });
        }
        Ok(std::iter::once(batch).chain(shape).collect())
    }

    fn input_tensor(&self, inputs: &[f32], shape: Vec<usize>) -> Result<Held, ExecError> {
        let tensor = Tensor::from_slice(inputs, shape, &Device::Cpu);
        let tensor = match self.inputs[0].ty.dtype {
            half @ (DType::F16 | DType::BF16) => tensor.and_then(|tensor| kernels::round(&tensor, half)),
            _ => tensor,
        };
        Ok(Held::Numbers(tensor.map_err(input_error)?))
    }

    /// The parameters as the nodes read them.
    fn held_params(&mut self, mode: Mode) -> Result<Vec<Held>, ExecError> {
        if let Some(tensors) = self.tensors.as_ref().filter(|_| mode == Mode::Eval) {
            return Ok(tensors.clone());
        }
        let tensors = (0..self.views.len()).map(|place| self.param(place, mode)).collect::<Result<Vec<_>, _>>()?;
        if mode == Mode::Eval {
            self.tensors = Some(tensors.clone());
        }
        Ok(tensors)
    }

    /// The parameter at `place`; a gradient is needed there if it is trained.
    fn param(&self, place: usize, mode: Mode) -> Result<Held, ExecError> {
        if let Some(data) = &self.plain[place] {
            return Ok(Held::Plain(data.clone()));
        }
        let (view, shape) = (&self.views[place], self.shapes[place].as_slice());
        let is_trained = view.range.end <= self.gradients.len();
        kernels::tensor(self.params[view.range.clone()].to_vec(), shape, is_trained && mode == Mode::Train)
            .map(Held::Numbers)
            .map_err(|e| ExecError::Node { node: view.name.clone(), op: "Param", reason: e.to_string() })
    }

    /// A forward pass, of which `read` takes each output and tap.
    fn compute<T>(
        &mut self,
        inputs: Vec<Held>,
        sizes: Sizes,
        mode: Mode,
        taps: &[ValueId],
        read: impl Fn(&Held, DType) -> candle_core::Result<T>,
    ) -> Result<(Vec<T>, Vec<T>), ExecError> {
        self.pending = None;
        let params = self.held_params(mode)?;
        let Pass { values, measured, mut tape } = self.pass(inputs, &params, taps, mode, sizes)?;
        let pick = |ids: &[ValueId]| -> Result<Vec<T>, ExecError> {
            let one = |id: &ValueId| {
                let held = values.get(id.index()).and_then(Option::as_ref).ok_or_else(|| self.no_such_value(*id))?;
                read(held, self.types[id.index()].dtype).map_err(output_error)
            };
            ids.iter().map(one).collect()
        };
        let picked = (pick(&self.outputs)?, pick(taps)?);
        if mode == Mode::Train {
            let ends = |ids: &[ValueId]| -> Vec<End> {
                let held = |id: ValueId| values[id.index()].as_ref().and_then(Held::numbers);
                ids.iter().map(|id| End { value: *id, shape: held(*id).map(|tensor| tensor.dims().to_vec()) }).collect()
            };
            tape.end(ends(&self.outputs), ends(taps));
            self.pending = Some(Pending::Tape(tape));
        }
        self.follow(&measured);
        Ok(picked)
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
                running.iter_mut().zip(batch).for_each(|(running, b)| *running = followed(*running, b, momentum));
            }
        }
        if !measured.is_empty() {
            self.changed();
        }
    }

    fn no_such_value(&self, value: ValueId) -> ExecError {
        ExecError::NoSuchValue { index: value.index(), values: self.last_reader.len() }
    }
}

/// A running statistic after it has followed a batch's.
pub(super) fn followed(running: f32, batch: f64, momentum: f64) -> f32 {
    // With momentum 1 what was there before does not count, not even if it was no number.
    let kept = if momentum == 1.0 { 0.0 } else { (1.0 - momentum) * f64::from(running) };
    (kept + momentum * batch) as f32
}

fn input_error(error: candle_core::Error) -> ExecError {
    ExecError::Node { node: "input".into(), op: "Input", reason: error.to_string() }
}

fn output_error(error: candle_core::Error) -> ExecError {
    ExecError::Node { node: "output".into(), op: "Output", reason: error.to_string() }
}

fn param_error(param: &Param, source: TensorError) -> ExecError {
    ExecError::Param { name: param.name.clone(), source }
}
