//! Scores by what a weight is multiplied with: `|w| ‖x‖`, the L2 norm over samples, steps and pixels of the input feature
//! of a linear layer or the input channel of a convolution.

use super::super::TrainError;
use super::super::calibrate::{Batches, add_by_channel, batches};
use crate::data::Subset;
use crate::exec::{Mode, Session};
use crate::graph::{Graph, Node, Op, ParamId, ValueId};
use crate::passes::prune::Scores;

/// A layer that reads a weight, and where its input is among those looked at.
struct Reader {
    weight: ParamId,
    input: usize,
    /// Inputs of an output: those of its group.
    own: usize,
    /// Groups that outputs divide into.
    groups: usize,
}

pub(super) fn scores(
    graph: &Graph,
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Scores, TrainError> {
    let (readers, inputs) = readers(graph);
    let mut squares: Vec<Vec<f64>> = inputs.iter().map(|(_, channels, _)| vec![0.0; *channels]).collect();
    let mut session = Session::new(graph)?;
    let taps: Vec<ValueId> = inputs.iter().map(|(value, ..)| *value).collect();
    for places in batches(train, how, seed)? {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = train.batch(places);
        let found = session.forward(&batch.inputs, batch.labels.len(), Mode::Eval, &taps)?.taps;
        for ((squares, tap), (.., pixels)) in squares.iter_mut().zip(&found).zip(&inputs) {
            add_by_channel(squares, tap, *pixels, |x| x * x);
        }
    }
    let mut sums = std::collections::BTreeMap::<ParamId, Vec<f64>>::new();
    for Reader { weight, input, own, groups } in readers {
        let shape = graph.param(weight).data.shape();
        let behind: usize = shape[2..].iter().product();
        let outputs = shape[0] / groups;
        // The squares of what each weight is multiplied with; several layers may share a weight.
        let of = |place: usize| {
            let (output, channel) = (place / (own * behind), place / behind % own);
            squares[input][output / outputs * own + channel]
        };
        let sums = sums.entry(weight).or_insert_with(|| vec![0.0; shape.iter().product()]);
        sums.iter_mut().enumerate().for_each(|(place, sum)| *sum += of(place));
    }
    let score = |(id, sums): (ParamId, Vec<f64>)| {
        let values = graph.param(id).data.to_f32().map_err(crate::passes::PassError::from)?;
        Ok((id, values.iter().zip(sums).map(|(w, sum)| f64::from(w.abs()) * sum.sqrt()).collect()))
    };
    sums.into_iter().map(score).collect()
}

/// The weights of which nothing is known, for no linear layer or convolution reads them.
pub fn unread(graph: &Graph) -> Vec<ParamId> {
    let (readers, _) = readers(graph);
    let known = |id: &ParamId| readers.iter().any(|reader| reader.weight == *id);
    graph.param_ids().filter(|id| graph.param(*id).is_weight() && !known(id)).collect()
}

/// The layers, and the values they read, each once: with its channels and the numbers of a channel that lie together.
fn readers(graph: &Graph) -> (Vec<Reader>, Vec<(ValueId, usize, usize)>) {
    let (mut readers, mut inputs) = (Vec::new(), Vec::<(ValueId, usize, usize)>::new());
    for node in graph.nodes() {
        let Some((groups, weight, value)) = layer(node) else { continue };
        let shape = graph.param(weight).data.shape();
        let sample = graph.value(value).sample_shape();
        let own = shape[1];
        let pixels = if node.op == Op::Linear { 1 } else { sample.iter().skip(1).product() };
        let input = (value, own * groups, pixels);
        let place = inputs.iter().position(|known| *known == input).unwrap_or(inputs.len());
        if place == inputs.len() {
            inputs.push(input);
        }
        readers.push(Reader { weight, input: place, own, groups });
    }
    (readers, inputs)
}

/// Groups, weight and input of a layer whose inputs are told apart by its weight's second axis.
fn layer(node: &Node) -> Option<(usize, ParamId, ValueId)> {
    let groups = match &node.op {
        Op::Linear => 1,
        Op::Conv2d(config) => config.groups,
        _ => return None,
    };
    Some((groups, *node.params.first()?, *node.inputs.first()?))
}
