//! The training loop.

use rand::seq::SliceRandom;

use super::config::{Length, TrainConfig};
use super::metrics::evaluate;
use super::objective::Objective;
use super::schedule::Schedule;
use super::selection::{Next, Selection};
use super::{TrainContext, TrainError, TrainProgress, clip, optim};
use crate::exec::{Mode, Session};
use crate::graph::Graph;
use crate::passes;
use crate::passes::prune::GradualPruning;
use crate::report::{Epoch, TrainDetail};
use crate::seed;
use crate::tensor::DType;

/// About how many times a training tells its progress, beside the ends of epochs.
const REPORTS: u64 = 100;

/// Trains the parameters of `graph` to make `objective` small, and leaves those of the best epoch in it, each in the
/// number format it had. With `gradual`, weights are pruned on the way and only epochs that end with the full sparsity
/// take part in the choice. On an error the graph is as it was.
pub fn fit(
    graph: &mut Graph,
    config: &TrainConfig,
    gradual: Option<&GradualPruning>,
    objective: &mut dyn Objective,
    cx: &mut TrainContext<'_>,
) -> Result<TrainDetail, TrainError> {
    check(config, cx)?;
    let mut draft = in_f32(graph)?;
    let mut session = Session::new(&draft)?;
    let mut optimizer = optim::build(&config.optimizer, session.params().len());
    let batch_size = config.batch_size as usize;
    let steps_per_epoch = cx.train.len().div_ceil(batch_size) as u64;
    let (epochs, total) = match config.length {
        Length::Epochs(epochs) => (epochs, steps_per_epoch * u64::from(epochs)),
        Length::Steps(steps) => (steps.div_ceil(steps_per_epoch) as u32, steps),
    };
    let schedule = Schedule::new(config, steps_per_epoch, total);
    let taps = objective.taps();
    let mut selection = Selection::new(config.early_stop);
    let mut detail = TrainDetail::default();
    let mut progress = TrainProgress { epochs: epochs, total_steps: total, ..TrainProgress::default() };
    let mut step = 0;

    for epoch in 1..=epochs {
        progress.epoch = epoch;
        let mut sums = Sums::default();
        for places in order(cx.train.len(), cx.seed, epoch).chunks(batch_size) {
            if (cx.cancelled)() {
                return Err(TrainError::Cancelled);
            }
            if let Some(pruning) = gradual.and_then(|g| g.at(step, total)) {
                // The optimizer's state stays: what it holds for masked weights never shows.
                session.write_back(&mut draft)?;
                passes::apply(&pruning, &mut draft)?;
                session.load(&draft)?;
            }
            let lr = schedule.lr(step);
            let batch = cx.train.batch(places.iter().copied());
            let activations = session.forward(&batch.inputs, batch.labels.len(), Mode::Train, &taps)?;
            let loss = objective.loss(&activations, &batch)?;
            session.backward(&loss.d_outputs, &loss.d_taps)?;
            let (params, gradients) = session.buffers_mut();
            let clipped = clip::clip(gradients, &config.clip);
            step += 1;
            if !loss.value.is_finite() || !clipped.norm.is_finite() {
                return Err(TrainError::Diverged { epoch, step });
            }
            optimizer.step(lr, params, gradients);
            session.apply_masks();

            sums.add(loss.value, batch.labels.len(), clipped.norm);
            detail.clipped_steps += u64::from(clipped.acted);
            progress = TrainProgress { step, loss: Some(loss.value), ..progress };
            if step.is_multiple_of((total / REPORTS).max(1)) {
                (cx.progress)(&progress);
            }
        }

        let found = evaluate(&mut session, cx.validation, cx.cancelled)?;
        if !found.loss.is_finite() {
            return Err(TrainError::Diverged { epoch, step });
        }
        detail.epochs.push(sums.epoch(found.accuracy, found.loss, schedule.lr(step - 1)));
        progress.validation_accuracy = Some(found.accuracy);
        (cx.progress)(&progress);
        let eligible = gradual.is_none_or(|g| g.complete(step, total));
        if eligible && selection.observe(epoch, &found, session.params()) == Next::Stop {
            detail.stopped_early = epoch < epochs;
            break;
        }
    }

    if let Some(mut best) = selection.into_best() {
        detail.best_epoch = best.epoch;
        session.params_mut().swap_with_slice(&mut best.params);
    }
    detail.total_steps = step;
    session.write_back(&mut draft)?;
    *graph = in_formats_of(draft, graph)?;
    Ok(detail)
}

fn check(config: &TrainConfig, cx: &TrainContext<'_>) -> Result<(), TrainError> {
    let length = match config.length {
        Length::Epochs(epochs) => ("epochs", u64::from(epochs)),
        Length::Steps(steps) => ("steps", steps),
    };
    for (field, value) in [("batch_size", u64::from(config.batch_size)), length] {
        if value == 0 {
            return Err(TrainError::Config { field, problem: "must be at least 1" });
        }
    }
    for (split, subset) in [("training", cx.train), ("validation", cx.validation)] {
        if subset.is_empty() {
            return Err(TrainError::Empty { split });
        }
    }
    Ok(())
}

/// The order in which an epoch sees the samples.
fn order(samples: usize, seed: u64, epoch: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut seed::stream(seed, &format!("order/{epoch}")));
    order
}

/// The graph with all parameters in `f32`, so that what happens in the middle of a training rounds nothing.
fn in_f32(graph: &Graph) -> Result<Graph, TrainError> {
    convert(graph.clone(), |_| DType::F32)
}

/// The trained graph with every parameter in the number format that it has in `like`.
fn in_formats_of(graph: Graph, like: &Graph) -> Result<Graph, TrainError> {
    convert(graph, |place| like.params()[place].data.dtype())
}

fn convert(mut graph: Graph, dtype: impl Fn(usize) -> DType) -> Result<Graph, TrainError> {
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let data = edit.graph().param(id).data.to_float(dtype(id.index())).map_err(passes::PassError::from)?;
        edit.set_param(id, data);
    }
    edit.commit().map_err(passes::PassError::from)?;
    Ok(graph)
}

/// Sums over an epoch's steps.
#[derive(Default)]
struct Sums {
    loss: f64,
    samples: usize,
    norm: f64,
    steps: usize,
}

impl Sums {
    fn add(&mut self, loss: f64, samples: usize, norm: f64) {
        // The loss is a mean over the batch, and the last batch may be smaller.
        self.loss += loss * samples as f64;
        self.samples += samples;
        self.norm += norm;
        self.steps += 1;
    }

    fn epoch(&self, validation_accuracy: f64, validation_loss: f64, learning_rate: f64) -> Epoch {
        Epoch {
            train_loss: self.loss / self.samples as f64,
            validation_accuracy,
            validation_loss,
            gradient_norm: self.norm / self.steps as f64,
            learning_rate,
        }
    }
}
