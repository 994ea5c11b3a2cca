//! What a channel matters, measured on training samples.
//!
//! With the weights `w` by which the layers behind read the channel, the gradient `g` of the mean cross entropy at them, and
//! the channel's values `a` there:
//!
//! | importance | score | source |
//! |---|---|---|
//! | taylor | mean over batches of `(sum w g)^2`; the sum is that of `a dL/da` over all places | Molchanov et al. 2019 |
//! | obd | `mean (sum w g)^2 / 2` over single samples: optimal brain damage of the whole channel with the Fisher information in the place of the Hessian | LeCun et al. 1990; Liu et al. 2021 |
//! | activation-energy | `E[a^2] sum w^2`, as a share of the layer's, summed over the layers | He et al. 2017 |
//! | apoz | share of places where `a` is not zero | Hu et al. 2016 |
//!
//! Where no weight reads a channel (queries meet keys), those that write it stand in.

use std::collections::BTreeMap;

use super::TrainError;
use super::calibrate::{Batches, add_by_channel, batches};
use super::criterion::gradient::gradients;
use crate::data::Subset;
use crate::exec::{Mode, Session};
use crate::graph::dims::{Dims, Group};
use crate::graph::{Graph, Op, ParamId, ValueId};
use crate::passes::PassError;
use crate::passes::prune::channels::importance::{
    self, ChannelScores, Importance, Side, mean, shares, slice_sums, sum,
};

/// One score for each coordinate of every group of `dims` that can be cut, by whatever importance, measured on batches of
/// `train` that follow from `seed` where it is measured. `cancelled` is asked before every batch.
///
/// Errors: what [`importance::by_weights`] says, no samples, and a score that is no finite number, by the group.
pub fn scores(
    graph: &Graph,
    dims: &Dims,
    by: Importance,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<ChannelScores, TrainError> {
    let scores = match importance::by_weights(graph, dims, by, seed)? {
        Some(scores) => scores,
        None => match by {
            Importance::Taylor => by_gradient(graph, dims, train, how, seed, cancelled)?,
            Importance::Obd => {
                let each = Batches { batches: how.batches.saturating_mul(how.batch_size), batch_size: 1 };
                let mut scores = by_gradient(graph, dims, train, each, seed, cancelled)?;
                scores.iter_mut().flatten().for_each(|score| *score /= 2.0);
                scores
            }
            _ => by_activation(graph, dims, by, train, how, seed, cancelled)?,
        },
    };
    match dims.groups().iter().zip(&scores).find(|(_, scores)| scores.iter().any(|score| !score.is_finite())) {
        Some((group, _)) => Err(TrainError::NotFinite { name: group.name.clone() }),
        None => Ok(scores),
    }
}

/// Whether an importance says something of every group that can be cut, whatever the weights and the samples.
///
/// Errors: [`PassError::NoScale`] and [`PassError::NoReader`].
pub fn check(graph: &Graph, dims: &Dims, by: Importance) -> Result<(), PassError> {
    match by {
        Importance::BatchNormScale => importance::by_weights(graph, dims, by, 0).map(|_| ()),
        Importance::ActivationEnergy | Importance::Apoz => {
            let readers = readers(graph, dims);
            let unread = exact(dims).find(|(place, _)| readers.iter().all(|reader| reader.group != *place));
            unread.map_or(Ok(()), |(_, group)| Err(PassError::NoReader { group: group.name.clone() }))
        }
        _ => Ok(()),
    }
}

fn exact(dims: &Dims) -> impl Iterator<Item = (usize, &Group)> {
    dims.groups().iter().enumerate().filter(|(_, group)| group.is_exact())
}

fn by_gradient(
    graph: &Graph,
    dims: &Dims,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<ChannelScores, TrainError> {
    let mut scores: ChannelScores = vec![Vec::new(); dims.groups().len()];
    let slices: Vec<(usize, Vec<(ParamId, usize)>)> = exact(dims)
        .map(|(place, group)| {
            let readers = importance::slices(graph, group, Side::Consumer);
            let own = if readers.is_empty() { importance::slices(graph, group, Side::Producer) } else { readers };
            scores[place] = vec![0.0; group.size];
            (place, own)
        })
        .collect();
    let mut count = 0.0;
    gradients(graph, train, how, seed, cancelled, &mut |session| {
        let (params, gradients) = (session.params(), session.gradients());
        for (place, slices) in &slices {
            let group = &dims.groups()[*place];
            let mut sums = vec![0.0; group.size];
            for (param, axis) in slices {
                // Taking dropouts out leaves the parameters in their order.
                let start = session.views()[param.index()].range.start;
                let change = |at: usize| f64::from(params[start + at]) * f64::from(gradients[start + at]);
                let own = slice_sums(graph, dims, group, (*param, *axis), change);
                sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
            scores[*place].iter_mut().zip(sums).for_each(|(score, sum)| *score += sum * sum);
        }
        count += 1.0;
    })?;
    scores.iter_mut().flatten().for_each(|score| *score /= count);
    Ok(scores)
}

/// A layer that reads a group through a weight `[out, in, ..]`.
struct Reader {
    group: usize,
    weight: ParamId,
    input: ValueId,
}

fn by_activation(
    graph: &Graph,
    dims: &Dims,
    by: Importance,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<ChannelScores, TrainError> {
    check(graph, dims, by)?;
    let readers = readers(graph, dims);
    let mut taps: Vec<ValueId> = readers.iter().map(|reader| reader.input).collect();
    taps.sort_unstable();
    taps.dedup();
    // By value, for each place along the axis of its channels.
    let mut sums: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
    let mut session = Session::new(graph)?;
    let mut samples = 0.0;
    for places in batches(train, how, seed)? {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = train.batch(places);
        samples += batch.labels.len() as f64;
        let found = session.forward(&batch.inputs, batch.labels.len(), Mode::Eval, &taps)?.taps;
        for (tap, found) in taps.iter().zip(&found) {
            let (channels, inner) = channels(graph, *tap);
            let sums = sums.entry(*tap).or_insert_with(|| vec![0.0; channels]);
            let of = |v: f64| if by == Importance::Apoz { f64::from(v != 0.0) } else { v * v };
            add_by_channel(sums, found, inner, |v| of(v) / inner as f64);
        }
    }
    let mut found: Vec<Vec<Vec<f64>>> = vec![Vec::new(); dims.groups().len()];
    for Reader { group: place, weight, input } in readers {
        let group = &dims.groups()[place];
        let shape = graph.param(weight).data.shape();
        let values = graph.param(weight).data.to_f32().map_err(PassError::from)?;
        let kernel: usize = shape[2..].iter().product();
        let energy = |at: usize| sums[&input][at / kernel % shape[1]] * f64::from(values[at]).powi(2);
        let active = |at: usize| sums[&input][at / kernel % shape[1]] / samples;
        let scores = match by {
            Importance::Apoz => {
                let counts = slice_sums(graph, dims, group, (weight, 1), |_| 1.0);
                let sums = slice_sums(graph, dims, group, (weight, 1), active);
                sums.into_iter().zip(counts).map(|(sum, count)| sum / count).collect()
            }
            _ => shares(slice_sums(graph, dims, group, (weight, 1), energy)),
        };
        found[place].push(scores);
    }
    let scores = dims.groups().iter().zip(found).map(|(group, found)| match by {
        _ if !group.is_exact() => Vec::new(),
        Importance::Apoz => mean(&found, group.size),
        _ => sum(&found, group.size),
    });
    Ok(scores.collect())
}

fn readers(graph: &Graph, dims: &Dims) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (group, own) in exact(dims) {
        let slices = importance::slices(graph, own, Side::Consumer);
        for node in graph.nodes() {
            if node.op.is_dense() && slices.contains(&(node.params[0], 1)) {
                readers.push(Reader { group, weight: node.params[0], input: node.inputs[0] });
            }
        }
    }
    readers
}

/// How many channels a layer's input has, and how many numbers of one lie together.
fn channels(graph: &Graph, value: ValueId) -> (usize, usize) {
    let convolved = graph.readers(value).any(|node| matches!(node.op, Op::Conv2d(_) | Op::Conv1d(_)));
    let sample = graph.value(value).sample_shape();
    if convolved { (sample[0], sample[1..].iter().product()) } else { (sample.last().copied().unwrap_or(1), 1) }
}

#[cfg(test)]
mod tests;
