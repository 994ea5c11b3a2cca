//! The training loop.

use std::collections::HashSet;

use super::config::TrainConfig;
use super::curve::{Curve, Seen, Sums};
use super::ema::Average;
use super::metrics::{self, evaluate};
use super::objective::Objective;
use super::optim::Optimizer;
use super::plan::Plan;
use super::pruning::{Pruner, Pruning};
use super::schedule::Schedule;
use super::selection::{Best, Next, Selection};
use super::{TrainContext, TrainError, TrainProgress, clip, optim, order};
use crate::exec::{Awake, Mode, Session};
use crate::graph::{Graph, ParamId};
use crate::passes;
use crate::report::TrainDetail;
use crate::seed;
use crate::tensor::{DType, TensorData, TensorError};

/// About how many times a training tells its progress, beside the ends of epochs.
const REPORTS: u64 = 100;

/// Trains the parameters of `graph` to make `objective` small, and leaves those of the best epoch in it, each in the
/// number format it had. With `pruning`, weights are pruned on the way and only epochs that end with the full
/// sparsity, and with what is pruned decided, take part in the choice. On an error the graph is as it was.
pub fn fit(
    graph: &mut Graph,
    config: &TrainConfig,
    pruning: Option<&Pruning>,
    objective: &mut dyn Objective,
    cx: &mut TrainContext<'_>,
) -> Result<TrainDetail, TrainError> {
    if cx.validation.is_empty() {
        return Err(TrainError::Empty { split: "validation" });
    }
    let plan = Plan::new(graph, config, cx.train.len())?;
    let mut at = Training::begin(graph, config, pruning, &plan)?;
    if let Some(state) = cx.resume.take()
        && let Err(problem) = at.load_state(&state, &plan)
    {
        tracing::warn!(problem, "the training's state is no good: it begins anew");
        at = Training::begin(graph, config, pruning, &plan)?;
    }
    let ended = at.follow(config, pruning, &plan, objective, cx);
    let Training { mut session, mut draft, selection, curve, mut detail, step, .. } = at;
    let best = selection.into_best();
    let cancelled = match (ended, &best) {
        (Ok(()), _) => false,
        (Err(TrainError::Cancelled), Some(_)) => true,
        (Err(error), _) => return Err(error),
    };
    if let Some(Best { figures, mut params }) = best {
        detail.best_epoch = figures.epoch;
        session.params_mut().swap_with_slice(&mut params);
    }
    session.write_back(&mut draft)?;
    let trained = in_formats_of(draft, graph, &plan.frozen)?;
    if cancelled {
        cx.best = Some(trained);
        return Err(TrainError::Cancelled);
    }
    *graph = trained;
    detail.total_steps = step;
    detail.curve = curve.into_points();
    Ok(detail)
}

/// A training at work: everything that changes while it goes on. What it is of this between two steps,
/// [`TrainState`](super::TrainState) holds.
pub(super) struct Training {
    /// The graph, for passes; its parameters are those of the latest pruning.
    pub(super) draft: Graph,
    pub(super) session: Session,
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) average: Option<Average>,
    pub(super) pruner: Pruner,
    pub(super) selection: Selection,
    pub(super) curve: Curve,
    /// Sums over the steps of the epoch at work.
    pub(super) sums: Sums,
    pub(super) detail: TrainDetail,
    /// The epoch at work, counted from 1.
    pub(super) epoch: u32,
    /// Steps done.
    pub(super) step: u64,
    /// Steps whose random numbers count as not drawn: none, but for a bug on purpose.
    pub(super) forgotten: u64,
}

impl Training {
    fn begin(graph: &Graph, config: &TrainConfig, pruning: Option<&Pruning>, plan: &Plan) -> Result<Self, TrainError> {
        let draft = in_f32(graph)?;
        let session = Session::for_training(&draft, &plan.frozen)?;
        Ok(Self {
            optimizer: optim::build(&config.optimizer, session.trained()),
            average: config.ema_decay.map(|decay| Average::new(decay, &session)),
            selection: Selection::new(config.early_stop),
            curve: Curve::new(plan.total),
            sums: Sums::default(),
            detail: TrainDetail::default(),
            epoch: 1,
            step: 0,
            forgotten: 0,
            pruner: Pruner::new(pruning, &draft, &session),
            draft,
            session,
        })
    }

    /// Trains from where it is to the end.
    fn follow(
        &mut self,
        config: &TrainConfig,
        pruning: Option<&Pruning>,
        plan: &Plan,
        objective: &mut dyn Objective,
        cx: &mut TrainContext<'_>,
    ) -> Result<(), TrainError> {
        let Plan { steps_per_epoch, epochs, total, .. } = *plan;
        let schedule = Schedule::new(config, steps_per_epoch, total);
        let taps = objective.taps();
        let _awake = Awake::new();
        let mut progress = TrainProgress { epochs, total_steps: total, step: self.step, ..TrainProgress::default() };

        loop {
            let epoch = self.epoch;
            progress.epoch = epoch;
            let order = order::shuffled(cx.train.len(), cx.seed, &format!("order/{epoch}"));
            let augmentation = seed::derive(cx.seed, &format!("augment/{epoch}"));
            let begin = u64::from(epoch - 1) * steps_per_epoch;
            let done = self.step - begin;
            let left = steps_per_epoch.min(total - begin) - done;
            let batches = order.chunks(config.batch_size as usize).skip(done.saturating_sub(self.forgotten) as usize);
            for places in batches.take(left as usize) {
                self.pause(cx)?;
                if let Some(pruning) = pruning {
                    self.prune(pruning, &config.frozen, total, cx)?;
                }
                let chance = |of: &str| seed::derive(cx.seed, &format!("{of}/{}", self.step - self.forgotten));
                let mut batch = cx.train.training_batch(places.iter().copied(), augmentation);
                if let Some(alpha) = config.mixup_alpha {
                    batch = batch.mixed(alpha, chance("mixup"));
                }
                self.session.set_randomness(chance("dropout"));
                let activations = self.session.forward(&batch.inputs, batch.labels.len(), Mode::Train, &taps)?;
                let loss = objective.loss(&activations, &batch)?;
                self.session.backward(&loss.d_outputs, &loss.d_taps)?;
                let (params, gradients) = self.session.buffers_mut();
                let clipped = clip::clip(gradients, &config.clip);
                if !loss.value.is_finite() || !clipped.norm.is_finite() {
                    return Err(TrainError::Diverged { epoch, step: self.step + 1 });
                }
                self.pruner.before_step(params, gradients);
                self.optimizer.step(schedule.lr(self.step), params, gradients);
                self.pruner.after_step(&mut self.session);
                if let Some(average) = &mut self.average {
                    average.follow(&self.session);
                }
                self.step += 1;

                let correct = metrics::correct(&activations, &batch.labels)?;
                let (loss, samples) = (loss.value, batch.labels.len());
                let seen = Seen { loss, samples, correct, norm: clipped.norm, clipped: clipped.acted };
                self.sums.add(seen);
                self.curve.add(seen);
                self.detail.clipped_steps += u64::from(clipped.acted);
                progress = TrainProgress { step: self.step, loss: Some(loss), ..progress };
                if self.step.is_multiple_of((total / REPORTS).max(1)) {
                    (cx.progress)(&progress);
                }
            }

            self.pause(cx)?;
            // Where there is an average, it is what is judged and kept; training goes on from the weights.
            if let Some(average) = &mut self.average {
                average.swap(&mut self.session);
            }
            let found = evaluate(&mut self.session, cx.validation, cx.cancelled)?;
            if !found.loss.is_finite() {
                return Err(TrainError::Diverged { epoch, step: self.step });
            }
            self.detail.epochs.push(self.sums.epoch(found.accuracy, found.loss, schedule.lr(self.step - 1)));
            progress.validation_accuracy = Some(found.accuracy);
            (cx.progress)(&progress);
            let eligible = pruning.is_none_or(|p| p.gradual.complete(self.step, total));
            let next = if eligible { self.selection.observe(epoch, &found, self.session.params()) } else { Next::GoOn };
            if let Some(average) = &mut self.average {
                average.swap(&mut self.session);
            }
            self.detail.stopped_early = next == Next::Stop && epoch < epochs;
            if next == Next::Stop || epoch == epochs {
                return Ok(());
            }
            self.sums = Sums::default();
            self.epoch += 1;
        }
    }

    /// A place from which the training may go on later: its state may be kept, and it may be cancelled.
    fn pause(&self, cx: &mut TrainContext<'_>) -> Result<(), TrainError> {
        if let Some(keep) = &mut cx.keep {
            keep(&|| self.state());
        }
        if (cx.cancelled)() { Err(TrainError::Cancelled) } else { Ok(()) }
    }
}

/// The graph with all parameters in `f32`, so that what happens in the middle of a training rounds nothing.
fn in_f32(graph: &Graph) -> Result<Graph, TrainError> {
    convert(graph.clone(), |_, data| data.to_float(DType::F32))
}

/// The trained graph with every parameter in the number format that it has in `like`; the frozen ones are the very same.
fn in_formats_of(graph: Graph, like: &Graph, frozen: &HashSet<ParamId>) -> Result<Graph, TrainError> {
    convert(graph, |id, data| {
        let before = &like.param(id).data;
        if frozen.contains(&id) { Ok(before.clone()) } else { data.to_float(before.dtype()) }
    })
}

fn convert(
    mut graph: Graph,
    data: impl Fn(ParamId, &TensorData) -> Result<TensorData, TensorError>,
) -> Result<Graph, TrainError> {
    let mut edit = graph.edit();
    let learned: Vec<ParamId> = edit.graph().param_ids().filter(|id| !edit.graph().param(*id).fixed).collect();
    for id in learned {
        let data = data(id, &edit.graph().param(id).data).map_err(passes::PassError::from)?;
        edit.set_param(id, data);
    }
    edit.commit().map_err(passes::PassError::from)?;
    Ok(graph)
}
