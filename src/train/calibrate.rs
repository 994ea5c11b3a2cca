//! What is measured on training samples without learning from them: the moments of values inside a network, and the
//! running statistics of batch normalisations.
//!
//! Samples come without augmentation, in full batches of a seeded order of the training split.

use std::collections::HashSet;

use super::{TrainError, order};
use crate::data::Subset;
use crate::exec::{Mode, Session};
use crate::graph::{Graph, Op, ParamId, ValueId};
use crate::passes::PassError;
use crate::passes::insert_batch_norm::Moments;

/// On how many samples to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Batches; there are fewer where the training split has not so many. A last batch that is not full is left out,
    /// unless it is the only one.
    pub batches: u32,
    /// Samples of each.
    pub batch_size: u32,
}

/// Adds to `sums`, one a channel, `of` each number of a value `[N, channels, ..]` of which `inner` lie behind each channel.
pub(super) fn add_by_channel(sums: &mut [f64], values: &[f32], inner: usize, of: impl Fn(f64) -> f64) {
    let channels = sums.len();
    for (place, values) in values.chunks(inner).enumerate() {
        sums[place % channels] += values.iter().map(|v| of(f64::from(*v))).sum::<f64>();
    }
}

/// Mean and unbiased variance of each channel of `values`, whose shapes are `[N, c]` or `[N, c, h, w]`, in [`Mode::Eval`].
/// A channel of which there is only one number has variance 0. `cancelled` is asked before every batch.
pub fn moments(
    graph: &Graph,
    values: &[ValueId],
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Moments>, TrainError> {
    let mut session = Session::new(graph)?;
    let channels = |value: &ValueId| graph.value(*value).sample_shape().first().copied().unwrap_or(1);
    let mut running: Vec<Vec<Running>> = values.iter().map(|v| vec![Running::default(); channels(v)]).collect();
    for places in batches(train, how, seed)? {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = train.batch(places);
        let taps = session.forward(&batch.inputs, batch.labels.len(), Mode::Eval, values)?.taps;
        for (running, tap) in running.iter_mut().zip(&taps) {
            let channels = running.len();
            let per_channel = tap.len() / (channels * batch.labels.len()).max(1);
            for (channel, running) in running.iter_mut().enumerate() {
                let images = tap.chunks_exact(per_channel).skip(channel).step_by(channels);
                running.merge(Running::of(images.flatten()));
            }
        }
    }
    let finished = |(running, value): (Vec<Running>, &ValueId)| {
        let mean = running.iter().map(|r| r.mean).collect();
        let variance: Vec<f64> = running.iter().map(Running::variance).collect();
        if variance.iter().any(|v| !v.is_finite()) {
            return Err(TrainError::NotFinite { name: graph.value(*value).name.clone() });
        }
        Ok(Moments { mean, variance })
    };
    running.into_iter().zip(values).map(finished).collect()
}

/// Measures the running statistics of all batch normalisations anew: each becomes the mean over batches of the batch's
/// mean or unbiased variance (PyTorch's `momentum=None`), with every batch normalisation using its own batch's, as while
/// training. Weights do not change, and dropouts do not act. Where there is no batch normalisation, nothing is computed.
/// On an error the graph is as it was. `cancelled` is asked before every batch.
pub fn recalibrate(
    graph: &mut Graph,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), TrainError> {
    if running_statistics(graph).is_empty() {
        return Ok(());
    }
    let batches = batches(train, how, seed)?;
    let smallest = order::smallest_batch(graph, &HashSet::new());
    if train.len().min(how.batch_size as usize) < smallest {
        let problem = "must be at least 2: a batch normalisation needs a variance over samples";
        return Err(TrainError::Config { field: "batch_size", problem });
    }
    let mut measured = without_dropouts(graph)?;
    let mut session = Session::new(&measured)?;
    for (before, places) in (0u32..).zip(batches) {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        // The t-th batch, counted from 1, has the share 1/t in the mean over t batches. The first one's is 1: what the
        // statistics were before does not count.
        session.set_momentum(Some(1.0 / (f64::from(before) + 1.0)));
        let batch = train.batch(places);
        session.forward(&batch.inputs, batch.labels.len(), Mode::Train, &[])?;
    }
    session.write_back(&mut measured)?;
    take_statistics(graph, &measured)
}

/// The places of each batch.
pub(super) fn batches(train: &Subset, how: Batches, seed: u64) -> Result<impl Iterator<Item = Vec<usize>>, TrainError> {
    for (field, value) in [("batches", how.batches), ("batch_size", how.batch_size)] {
        if value == 0 {
            return Err(TrainError::Config { field, problem: "must be at least 1" });
        }
    }
    if train.is_empty() {
        return Err(TrainError::Empty { split: "training" });
    }
    let order = order::shuffled(train.len(), seed, "calibrate");
    let size = train.len().min(how.batch_size as usize);
    let count = (train.len() / size).min(how.batches as usize);
    Ok((0..count).map(move |i| order[i * size..(i + 1) * size].to_vec()))
}

/// The graph with dropouts taken out: in [`Mode::Train`] they would act.
pub(super) fn without_dropouts(graph: &Graph) -> Result<Graph, TrainError> {
    let mut plain = graph.clone();
    let mut edit = plain.edit();
    for node in graph.nodes().iter().filter(|node| matches!(node.op, Op::Dropout(_))) {
        edit.replace_node(&node.name, vec![]).map_err(PassError::from)?;
    }
    edit.commit().map_err(PassError::from)?;
    Ok(plain)
}

/// The means and variances of batch normalisations: what is measured, and not a number of the network's structure.
fn running_statistics(graph: &Graph) -> Vec<ParamId> {
    let mut ids: Vec<ParamId> = graph.statistics().into_iter().filter(|id| !graph.param(*id).fixed).collect();
    ids.sort_unstable();
    ids
}

/// Gives `graph` the running statistics that `measured` has under the same names.
fn take_statistics(graph: &mut Graph, measured: &Graph) -> Result<(), TrainError> {
    let statistics = running_statistics(graph);
    let mut edit = graph.edit();
    for id in statistics {
        let name = &edit.graph().param(id).name;
        let found = measured.params().iter().find(|param| param.name == *name);
        let found = found.expect("taking dropouts out leaves every parameter where it is");
        if found.data.to_f32().map_err(PassError::from)?.iter().any(|v| !v.is_finite()) {
            return Err(TrainError::NotFinite { name: name.clone() });
        }
        edit.set_param(id, found.data.clone());
    }
    edit.commit().map_err(PassError::from)?;
    Ok(())
}

/// Count, mean and sum of squared distances from the mean, which merge without loss of precision (Chan, Golub and LeVeque
/// 1979); the difference of `sum x^2` and `(sum x)^2 / n` would lose all of it where the mean is large.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Running {
    fn of<'v>(values: impl Iterator<Item = &'v f32> + Clone) -> Self {
        let (count, sum) = values.clone().fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + f64::from(*v)));
        let mean = sum / count;
        Self { count, mean, squares: values.map(|v| (f64::from(*v) - mean).powi(2)).sum() }
    }

    fn merge(&mut self, other: Self) {
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        self.mean += distance * other.count / count;
        self.squares += other.squares + distance * distance * self.count * other.count / count;
        self.count = count;
    }

    fn variance(&self) -> f64 {
        self.squares / (self.count - 1.0).max(1.0)
    }
}

#[cfg(test)]
mod tests;
