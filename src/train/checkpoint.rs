//! The state of a training between two steps, from which the same training goes on to the same bits.
//!
//! The order of the samples, their augmentation and what dropouts leave out are functions of the seed and of the epoch or
//! step, and so is the learning rate: no generator of random numbers has a state, and the two counters stand for all of
//! it. What has a state is here:
//!
//! | tensor | what |
//! |---|---|
//! | `params` | all parameters as the session has them, running statistics among them |
//! | `mask.N` | the mask of parameter `N` of the graph, which pruning changes on the way |
//! | `optimizer.N` | the optimizer's moments |
//! | `average` | the moving average of the weights |
//! | `aside` | the weights that would be in the place of those pruned for now |
//! | `movement` | what each weight matters in movement pruning |
//! | `best` | the parameters after the best epoch so far |
//!
//! and, as JSON, the counters, the sums for the report, and what decides about the best epoch and the early end. A teacher
//! has no state: it is made anew from the model that it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::curve::{Curve, Sums};
use super::fit::Training;
use super::optim::OptimizerState;
use super::plan::Plan;
use super::selection::{Best, Figures, Plateau};
use crate::fault::{self, Bug};
use crate::graph::ParamId;
use crate::report::TrainDetail;
use crate::tensor::{DType, TensorData};

/// The state of a training between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainState {
    numbers: Numbers,
    tensors: BTreeMap<String, TensorData>,
}

/// What of the state is no tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Numbers {
    epoch: u32,
    step: u64,
    sums: Sums,
    curve: Curve,
    detail: TrainDetail,
    optimizer_steps: u64,
    average_steps: Option<u64>,
    best: Option<Figures>,
    plateau: Option<Plateau>,
}

impl TrainState {
    /// As JSON, for what is no tensor, and tensors by name.
    pub fn to_parts(&self) -> (String, &BTreeMap<String, TensorData>) {
        let json = serde_json::to_string(&self.numbers).expect("numbers and strings are JSON");
        (json, &self.tensors)
    }

    /// Puts the parts together again. Whether they are those of a training at hand shows when it is to go on from them.
    pub fn from_parts(json: &str, tensors: BTreeMap<String, TensorData>) -> Result<Self, serde_json::Error> {
        Ok(Self { numbers: serde_json::from_str(json)?, tensors })
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.tensors.get(name)?.to_f32().ok()
    }

    fn mask(&self, id: ParamId) -> Option<Arc<[bool]>> {
        let mask = self.tensors.get(&format!("mask.{}", id.index()))?;
        Some(mask.bytes().iter().map(|flag| *flag == 1).collect())
    }
}

impl Training {
    /// The state, copied.
    pub(super) fn state(&self) -> TrainState {
        let OptimizerState { steps: optimizer_steps, moments } = self.optimizer.state();
        let average = self.average.as_ref().map(|average| average.state());
        let (best, plateau) = self.selection.state();
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, tensor: TensorData| tensors.insert(name, tensor);
        put("params".into(), floats(self.session.params()));
        for (id, param) in self.draft.param_ids().zip(self.draft.params()) {
            if let Some(mask) = &param.mask {
                put(format!("mask.{}", id.index()), flags(mask));
            }
        }
        for (place, moments) in moments.iter().enumerate() {
            put(format!("optimizer.{place}"), floats(moments));
        }
        if let Some((_, values)) = average {
            put("average".into(), floats(values));
        }
        for (name, values) in [("aside", &self.pruner.aside), ("movement", &self.pruner.movement)] {
            if let Some(values) = values {
                put(name.into(), floats(values));
            }
        }
        if let Some(best) = best {
            put("best".into(), floats(&best.params));
        }
        let numbers = Numbers {
            epoch: self.epoch,
            step: self.step,
            sums: self.sums.clone(),
            curve: self.curve.clone(),
            detail: self.detail.clone(),
            optimizer_steps,
            average_steps: average.map(|(steps, _)| steps),
            best: best.map(|best| best.figures),
            plateau,
        };
        TrainState { numbers, tensors }
    }

    /// Goes on from a state; the error says which part of it is of another training. The training is then good for
    /// nothing.
    pub(super) fn load_state(&mut self, state: &TrainState, plan: &Plan) -> Result<(), &'static str> {
        let numbers = &state.numbers;
        let begin = u64::from(numbers.epoch.saturating_sub(1)) * plan.steps_per_epoch;
        let end = plan.total.min(begin + plan.steps_per_epoch);
        if !(1..=plan.epochs).contains(&numbers.epoch) || !(begin..=end).contains(&numbers.step) {
            return Err("step");
        }
        let params = state.floats("params").filter(|params| params.len() == self.session.params().len());
        let params = params.ok_or("params")?;
        let mut edit = self.draft.edit();
        for id in edit.graph().param_ids() {
            edit.set_mask(id, state.mask(id));
        }
        edit.commit().map_err(|_| "masks")?;
        self.session.load(&self.draft).map_err(|_| "masks")?;
        self.session.params_mut().copy_from_slice(&params);

        if !self.pruner.load_state(&mut self.session, state.floats("aside"), state.floats("movement")) {
            return Err("pruning");
        }
        let moments = (0..).map_while(|place| state.floats(&format!("optimizer.{place}"))).collect();
        if !self.optimizer.load_state(OptimizerState { steps: numbers.optimizer_steps, moments }) {
            return Err("optimizer");
        }
        let taken = match (&mut self.average, numbers.average_steps, state.floats("average")) {
            (None, None, None) => true,
            (Some(average), Some(steps), Some(values)) => average.load_state(steps, values),
            _ => false,
        };
        if !taken {
            return Err("average");
        }
        let best = match (numbers.best, state.floats("best")) {
            (None, None) => None,
            (Some(figures), Some(best)) if best.len() == params.len() => Some(Best { figures, params: best }),
            _ => return Err("best"),
        };
        self.selection.load_state(best, numbers.plateau);
        self.sums = numbers.sums.clone();
        self.curve = numbers.curve.clone();
        self.detail = numbers.detail.clone();
        (self.epoch, self.step) = (numbers.epoch, numbers.step);
        self.forgotten = if fault::planted(Bug::CheckpointWithoutRandomness) { self.step } else { 0 };
        Ok(())
    }
}

fn floats(values: &[f32]) -> TensorData {
    TensorData::from_f32(vec![values.len()], values).expect("the shape is that of the values")
}

fn flags(mask: &[bool]) -> TensorData {
    let bytes: Vec<u8> = mask.iter().map(|keep| u8::from(*keep)).collect();
    TensorData::new(DType::Bool, vec![mask.len()], bytes).expect("the shape is that of the flags")
}
