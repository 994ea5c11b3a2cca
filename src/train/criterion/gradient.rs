//! Scores by the gradient of the mean cross entropy: `w^2 mean(g^2)` and `|w mean(g)|`, the means over batches.

use std::collections::HashSet;

use super::super::TrainError;
use super::super::calibrate::{Batches, batches, without_dropouts};
use super::super::objective::{CrossEntropy, Objective};
use crate::data::Subset;
use crate::exec::{Mode, Session};
use crate::graph::{Graph, ParamId};
use crate::passes::prune::Scores;

/// What of the gradients is averaged over batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mean {
    /// `|w mean(g)|`.
    Values,
    /// `mean((w g)^2)`.
    Squares,
}

pub(super) fn scores(
    graph: &Graph,
    mean: Mean,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Scores, TrainError> {
    let mut sums = Vec::new();
    let mut count = 0f64;
    let session = gradients(graph, train, how, seed, cancelled, &mut |session| {
        sums.resize(session.trained(), 0f64);
        for (sum, gradient) in sums.iter_mut().zip(session.gradients()) {
            let gradient = f64::from(*gradient);
            *sum += if mean == Mean::Squares { gradient * gradient } else { gradient };
        }
        count += 1.0;
    })?;
    let score = |(weight, sum): (&f32, &f64)| match mean {
        Mean::Values => (f64::from(*weight) * sum / count).abs(),
        Mean::Squares => f64::from(*weight).powi(2) * sum / count,
    };
    // Taking dropouts out leaves the parameters as they are, and weights are no statistics: they are trained.
    let weights = graph.param_ids().filter(|id| graph.param(*id).is_weight());
    let own = weights.filter_map(|id| {
        let view = session.views().iter().find(|view| view.name == graph.param(id).name)?;
        let (params, sums) = (session.params().get(view.range.clone())?, sums.get(view.range.clone())?);
        Some((id, params.iter().zip(sums).map(score).collect()))
    });
    Ok(own.collect())
}

/// Calls `each` after every batch with a session that has the gradient of the mean cross entropy; gives the session back.
/// Batch normalisations go by their running statistics, also with a batch of one sample, and dropouts do not act.
pub(in crate::train) fn gradients(
    graph: &Graph,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&Session),
) -> Result<Session, TrainError> {
    let statistics: HashSet<ParamId> = graph.statistics();
    let mut session = Session::for_training(&without_dropouts(graph)?, &statistics)?;
    for places in batches(train, how, seed)? {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = train.batch(places);
        let activations = session.forward(&batch.inputs, batch.labels.len(), Mode::Train, &[])?;
        let loss = CrossEntropy::default().loss(&activations, &batch)?;
        session.backward(&loss.d_outputs, &loss.d_taps)?;
        each(&session);
    }
    Ok(session)
}
