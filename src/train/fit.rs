//! The training loop.

use std::collections::HashSet;

use super::config::TrainConfig;
use super::curve::{Curve, Seen, Sums};
use super::ema::Average;
use super::metrics::{self, evaluate};
use super::objective::Objective;
use super::plan::Plan;
use super::schedule::Schedule;
use super::selection::{Next, Selection};
use super::{TrainContext, TrainError, TrainProgress, clip, optim, order};
use crate::exec::{Mode, Session};
use crate::graph::{Graph, ParamId};
use crate::passes;
use crate::passes::prune::{GradualPruning, PruneWeights};
use crate::report::TrainDetail;
use crate::seed;
use crate::tensor::{DType, TensorData, TensorError};

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
    if cx.validation.is_empty() {
        return Err(TrainError::Empty { split: "validation" });
    }
    let Plan { frozen, steps_per_epoch, epochs, total } = Plan::new(graph, config, cx.train.len())?;
    let mut draft = in_f32(graph)?;
    let mut session = Session::for_training(&draft, &frozen)?;
    let mut optimizer = optim::build(&config.optimizer, session.trained());
    let mut average = config.ema_decay.map(|decay| Average::new(decay, &session));
    let schedule = Schedule::new(config, steps_per_epoch, total);
    let taps = objective.taps();
    let mut selection = Selection::new(config.early_stop);
    let mut curve = Curve::new(total);
    let mut detail = TrainDetail::default();
    let mut progress = TrainProgress { epochs, total_steps: total, ..TrainProgress::default() };
    let mut step = 0;

    for epoch in 1..=epochs {
        progress.epoch = epoch;
        let mut sums = Sums::default();
        let order = order::shuffled(cx.train.len(), cx.seed, &format!("order/{epoch}"));
        let augmentation = seed::derive(cx.seed, &format!("augment/{epoch}"));
        for places in order.chunks(config.batch_size as usize).take(steps_per_epoch.min(total - step) as usize) {
            if (cx.cancelled)() {
                return Err(TrainError::Cancelled);
            }
            if let Some(mut pruning) = gradual.and_then(|g| g.at(step, total)) {
                pruning.ignored.extend_from_slice(&config.frozen);
                prune(&mut session, &mut draft, &pruning)?;
            }
            let lr = schedule.lr(step);
            let batch = cx.train.training_batch(places.iter().copied(), augmentation);
            session.set_randomness(seed::derive(cx.seed, &format!("dropout/{step}")));
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
            if let Some(average) = &mut average {
                average.follow(&session);
            }

            let correct = metrics::correct(&activations, &batch.labels)?;
            let (loss, samples) = (loss.value, batch.labels.len());
            let seen = Seen { loss, samples, correct, norm: clipped.norm, clipped: clipped.acted };
            sums.add(seen);
            curve.add(seen);
            detail.clipped_steps += u64::from(clipped.acted);
            progress = TrainProgress { step, loss: Some(loss), ..progress };
            if step.is_multiple_of((total / REPORTS).max(1)) {
                (cx.progress)(&progress);
            }
        }

        // Where there is an average, it is what is judged and kept; training goes on from the weights.
        if let Some(average) = &mut average {
            average.swap(&mut session);
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
        if let Some(average) = &mut average {
            average.swap(&mut session);
        }
    }

    if let Some(mut best) = selection.into_best() {
        detail.best_epoch = best.epoch;
        session.params_mut().swap_with_slice(&mut best.params);
    }
    detail.total_steps = step;
    detail.curve = curve.into_points();
    session.write_back(&mut draft)?;
    *graph = in_formats_of(draft, graph, &frozen)?;
    Ok(detail)
}

/// Prunes in the middle of a training. The optimizer's state stays: what it holds for masked weights never shows.
fn prune(session: &mut Session, draft: &mut Graph, pruning: &PruneWeights) -> Result<(), TrainError> {
    session.write_back(draft)?;
    passes::apply(pruning, draft)?;
    Ok(session.load(draft)?)
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
    for id in edit.graph().param_ids() {
        let data = data(id, &edit.graph().param(id).data).map_err(passes::PassError::from)?;
        edit.set_param(id, data);
    }
    edit.commit().map_err(passes::PassError::from)?;
    Ok(graph)
}
