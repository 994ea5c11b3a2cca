//! What a channel matters, by the weights alone, and the parts that measures over data are made of.
//!
//! A channel is all its slices: one that many layers write and read, in a residual stream, counts in each of them. With `w`
//! the elements of a slice at coordinate `i`:
//!
//! | importance | score of `i` | source |
//! |---|---|---|
//! | l1, l2 | sum of `|w|` or `w^2` of each weight's slices, as a share of the group's, summed over the weights | Li et al. 2017; Fang et al. 2023 |
//! | batch-norm-scale | mean of `|gamma|` over the normalisations | Liu et al. 2017 |
//! | fpgm | distance of the producers' filters from all others of the group, summed, as a share of the group's | He et al. 2019 |
//! | random | a random number | |

use rand::Rng;

use crate::graph::dims::{Dims, Group};
use crate::graph::{Graph, Op, ParamId};
use crate::passes::PassError;
use crate::seed;

/// What a channel matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// The sum of its weights' magnitudes.
    L1,
    /// The sum of its weights' squares.
    L2,
    /// The scale that batch normalisations give it.
    BatchNormScale,
    /// How far its filters are from all others.
    Fpgm,
    /// Nothing: the baseline that every other must beat.
    Random,
    /// How much the loss would change without it, to first order, squared and averaged over batches.
    Taylor,
    /// How much the loss would grow without it, to second order, by the Fisher information of single samples.
    Obd,
    /// The energy that it brings to the layers that read it.
    ActivationEnergy,
    /// The share of places where it is not zero.
    Apoz,
}

impl Importance {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Importance); 9] = [
        ("l1", Importance::L1),
        ("l2", Importance::L2),
        ("batch-norm-scale", Importance::BatchNormScale),
        ("fpgm", Importance::Fpgm),
        ("random", Importance::Random),
        ("taylor", Importance::Taylor),
        ("obd", Importance::Obd),
        ("activation-energy", Importance::ActivationEnergy),
        ("apoz", Importance::Apoz),
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }

    /// Whether it is measured on training samples.
    pub fn needs_data(self) -> bool {
        matches!(self, Importance::Taylor | Importance::Obd | Importance::ActivationEnergy | Importance::Apoz)
    }
}

/// One score for each coordinate of every group that can be cut, in the order of [`Dims::groups`]; empty for all others.
pub type ChannelScores = Vec<Vec<f64>>;

/// The scores by the weights alone; `None` where the importance is measured on samples.
///
/// Errors: a group without a normalisation where its scale is asked for, and weights that are no finite numbers.
pub fn by_weights(
    graph: &Graph,
    dims: &Dims,
    importance: Importance,
    seed: u64,
) -> Result<Option<ChannelScores>, PassError> {
    let mut rng = seed::stream(seed, "importance");
    let mut score = |group: &Group| -> Result<Vec<f64>, PassError> {
        match importance {
            Importance::L1 => by_norm(graph, dims, group, |w| w.abs()),
            Importance::L2 => by_norm(graph, dims, group, |w| w * w),
            Importance::BatchNormScale => by_scale(graph, dims, group),
            Importance::Fpgm => by_distance(graph, dims, group),
            _ => Ok((0..group.size).map(|_| rng.random()).collect()),
        }
    };
    if importance.needs_data() {
        return Ok(None);
    }
    let groups = dims.groups().iter().map(|group| if group.is_exact() { score(group) } else { Ok(Vec::new()) });
    let scores: ChannelScores = groups.collect::<Result<_, _>>()?;
    for (group, scores) in dims.groups().iter().zip(&scores) {
        let count = scores.iter().filter(|score| !score.is_finite()).count();
        if count > 0 {
            return Err(PassError::NonFinite { name: group.name.clone(), count });
        }
    }
    Ok(Some(scores))
}

/// For each coordinate of a group, the sum of what the elements of a parameter are along one axis of it.
pub fn slice_sums(
    graph: &Graph,
    dims: &Dims,
    group: &Group,
    (param, axis): (ParamId, usize),
    element: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let shape = graph.param(param).data.shape();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut along = vec![0.0; shape[axis]];
    for place in 0..shape.iter().product() {
        along[place / inner % shape[axis]] += element(place);
    }
    let mut sums = vec![0.0; group.size];
    for (place, coordinate) in dims.coordinates(param, axis, group) {
        sums[coordinate] += along[place];
    }
    sums
}

/// As shares of their sum: a layer that loses all its channels has lost one whole, however many it had.
pub fn shares(mut scores: Vec<f64>) -> Vec<f64> {
    let sum = scores.iter().sum::<f64>();
    if sum > 0.0 {
        scores.iter_mut().for_each(|score| *score /= sum);
    }
    scores
}

/// The sum of several lists of scores.
pub fn sum(of: &[Vec<f64>], size: usize) -> Vec<f64> {
    (0..size).map(|i| of.iter().map(|scores| scores[i]).sum()).collect()
}

/// The mean of several lists of scores.
pub fn mean(of: &[Vec<f64>], size: usize) -> Vec<f64> {
    let count = of.len().max(1) as f64;
    sum(of, size).into_iter().map(|score| score / count).collect()
}

/// The slices of weights that write the group (`W [out, in]` along `out`), or those that read it.
pub fn slices(graph: &Graph, group: &Group, side: Side) -> Vec<(ParamId, usize)> {
    let weights = group.slices.iter().filter(|(param, _)| graph.param(*param).is_weight());
    weights.copied().filter(|slice| sides(graph, group, *slice).contains(&side)).collect()
}

/// Which end of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It writes the channel.
    Producer,
    /// It reads it.
    Consumer,
}

fn sides(graph: &Graph, group: &Group, (param, axis): (ParamId, usize)) -> Vec<Side> {
    let readers = graph.nodes().iter().enumerate().filter(|(_, node)| node.params.contains(&param));
    let side = readers.filter_map(|(place, node)| {
        let output = match node.op {
            Op::Linear | Op::Conv2d(_) | Op::Conv1d(_) => 0,
            Op::ConvTranspose2d(_) | Op::ConvTranspose1d(_) | Op::Embedding | Op::Lstm(_) | Op::Gru(_) => 1,
            _ => return None,
        };
        // A depthwise convolution writes what it reads.
        let writes = axis == output && group.layers.contains(&place);
        Some(if writes { Side::Producer } else { Side::Consumer })
    });
    side.collect()
}

fn by_norm(graph: &Graph, dims: &Dims, group: &Group, of: impl Fn(f64) -> f64) -> Result<Vec<f64>, PassError> {
    let mut scores = Vec::new();
    for slice in group.slices.iter().filter(|(param, _)| graph.param(*param).is_weight()) {
        let values = graph.param(slice.0).data.to_f32()?;
        scores.push(shares(slice_sums(graph, dims, group, *slice, |place| of(f64::from(values[place])))));
    }
    Ok(sum(&scores, group.size))
}

fn by_scale(graph: &Graph, dims: &Dims, group: &Group) -> Result<Vec<f64>, PassError> {
    let scales: Vec<ParamId> =
        graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm(_))).map(|node| node.params[0]).collect();
    let mut scores = Vec::new();
    for slice in group.slices.iter().filter(|(param, _)| scales.contains(param)) {
        let values = graph.param(slice.0).data.to_f32()?;
        scores.push(slice_sums(graph, dims, group, *slice, |place| f64::from(values[place].abs())));
    }
    if scores.is_empty() {
        return Err(PassError::NoScale { group: group.name.clone() });
    }
    Ok(mean(&scores, group.size))
}

fn by_distance(graph: &Graph, dims: &Dims, group: &Group) -> Result<Vec<f64>, PassError> {
    let mut scores = Vec::new();
    for (param, axis) in slices(graph, group, Side::Producer) {
        let (values, shape) = (graph.param(param).data.to_f32()?, graph.param(param).data.shape());
        let inner: usize = shape[axis + 1..].iter().product();
        let mut filters = vec![Vec::new(); group.size];
        let mut own = vec![Vec::new(); shape[axis]];
        dims.coordinates(param, axis, group).into_iter().for_each(|(place, at)| own[place].push(at));
        for (place, value) in values.iter().enumerate() {
            own[place / inner % shape[axis]].iter().for_each(|at| filters[*at].push(f64::from(*value)));
        }
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        scores.push(shares(filters.iter().map(|a| filters.iter().map(|b| distance(a, b)).sum()).collect()));
    }
    Ok(sum(&scores, group.size))
}
