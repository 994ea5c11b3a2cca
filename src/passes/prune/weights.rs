//! Pruning of single weights: those that matter least become zero and stay zero (Han et al. 2015).
//!
//! What a weight matters is its magnitude, or a score that is given as plain numbers; whoever measures those on samples
//! does it elsewhere. Weights are parameters with two or more axes; biases are left alone. The network computes the same
//! graph as before with zeros in it: neither smaller nor faster by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pattern::Pattern;
use super::rank::{keep_best, keep_largest};
use crate::graph::{GraphEdit, Param, ParamId, glob};
use crate::passes::{Pass, PassError};
use crate::tensor::TensorData;

/// How many weights go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share of the weights, in `[0, 1)`; those that went before count.
    Sparsity(f64),
    /// A share of the weights that have not gone before, in `[0, 1)`.
    SparsityOfRest(f64),
    /// All below a threshold.
    Threshold(Threshold),
    /// All but the best of every few next to each other.
    Pattern(Pattern),
}

/// A magnitude below which a weight goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// The magnitude itself.
    Absolute(f64),
    /// A multiple of the layer's standard deviation of weights.
    Quality(f64),
}

/// Which weights are compared with which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All weights of the network.
    Global,
    /// Each layer's weights by themselves.
    Layer,
    /// The weights of each output of a layer by themselves: those with the same place on the first axis.
    Output,
}

/// What each weight matters, one number an element in row-major order: those with the least go. Any finite numbers.
pub type Scores = BTreeMap<ParamId, Vec<f64>>;

/// Sets the weights that matter least to zero and masks them.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneWeights {
    /// How many weights go.
    pub amount: Amount,
    /// Which weights are compared with which, for a share of them.
    pub scope: Scope,
    /// Parameters left alone, by name or glob.
    pub ignored: Vec<String>,
    /// What each weight matters, of all that are not ignored; `None`: its magnitude. A threshold is one of magnitudes.
    pub scores: Option<Scores>,
}

impl Pass for PruneWeights {
    fn name(&self) -> &'static str {
        "prune-weights"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let layers = self.layers(edit)?;
        let masks: Vec<Vec<bool>> = match self.amount {
            Amount::Sparsity(_) | Amount::SparsityOfRest(_) => self.ranked(&layers),
            Amount::Threshold(threshold) => layers.iter().map(|layer| keep_above(layer, threshold)).collect(),
            Amount::Pattern(pattern) => layers.iter().map(|l| pattern.keep(&l.shape, &l.scores())).collect(),
        };
        for (layer, mut mask) in layers.iter().zip(masks) {
            // What was pruned before stays pruned, also where less is asked for now.
            if let Some(before) = &layer.before {
                mask.iter_mut().zip(before.iter()).for_each(|(keep, before)| *keep &= *before);
            }
            let values: Vec<f32> =
                layer.values.iter().zip(&mask).map(|(v, keep)| if *keep { *v } else { 0.0 }).collect();
            let old = &edit.graph().param(layer.id).data;
            let data = TensorData::from_f32(old.shape().to_vec(), &values)?.to_float(old.dtype())?;
            edit.set_param(layer.id, data);
            edit.set_mask(layer.id, Some(Arc::from(mask)));
        }
        Ok(())
    }
}

/// One weight.
struct Layer<'s> {
    id: ParamId,
    shape: Vec<usize>,
    values: Vec<f32>,
    scores: Option<&'s [f64]>,
    /// What went before.
    before: Option<Arc<[bool]>>,
}

impl Layer<'_> {
    fn gone(&self) -> usize {
        self.before.as_ref().map_or(0, |mask| mask.iter().filter(|keep| !**keep).count())
    }

    /// What each element matters. One that went before matters least.
    fn scores(&self) -> Vec<f64> {
        let mut scores = match self.scores {
            Some(scores) => scores.to_vec(),
            None => self.values.iter().map(|v| f64::from(v.abs())).collect(),
        };
        let gone = self.before.iter().flat_map(|mask| mask.iter()).zip(&mut scores).filter(|(keep, _)| !**keep);
        gone.for_each(|(_, score)| *score = f64::NEG_INFINITY);
        scores
    }
}

impl PruneWeights {
    fn layers(&self, edit: &GraphEdit<'_>) -> Result<Vec<Layer<'_>>, PassError> {
        let graph = edit.graph();
        let ignored = glob::select(graph, &self.ignored)
            .map_err(|pattern| PassError::NoSuchParam { field: "ignored", pattern: pattern.to_string() })?;
        let mut layers = Vec::new();
        for id in graph.param_ids().filter(|id| graph.param(*id).is_weight() && !ignored.contains(id)) {
            let Param { name, data, mask, .. } = graph.param(id);
            let values = data.to_f32()?;
            let count = values.iter().filter(|v| !v.is_finite()).count();
            if count > 0 {
                return Err(PassError::NonFinite { name: name.clone(), count });
            }
            let scores = match &self.scores {
                None => None,
                Some(scores) => Some(
                    scores_of(scores, id, values.len())
                        .map_err(|problem| PassError::Scores { name: name.clone(), problem })?,
                ),
            };
            layers.push(Layer { id, shape: data.shape().to_vec(), values, scores, before: mask.clone() });
        }
        Ok(layers)
    }

    /// Which weights stay of those that are compared.
    fn ranked(&self, layers: &[Layer<'_>]) -> Vec<Vec<bool>> {
        match self.scope {
            Scope::Global => self.keep(&layers.iter().collect::<Vec<_>>()),
            Scope::Layer => layers.iter().flat_map(|layer| self.keep(&[layer])).collect(),
            Scope::Output => layers.iter().map(|layer| self.keep_by_output(layer)).collect(),
        }
    }

    /// Which weights of `layers`, compared with each other, stay.
    fn keep(&self, layers: &[&Layer<'_>]) -> Vec<Vec<bool>> {
        let total = layers.iter().map(|layer| layer.values.len()).sum();
        let go = self.go(total, layers.iter().map(|layer| layer.gone()).sum());
        if self.scores.is_some() {
            keep_best(go, &layers.iter().map(|layer| layer.scores()).collect::<Vec<_>>())
        } else {
            keep_largest(go, &layers.iter().map(|layer| layer.values.as_slice()).collect::<Vec<_>>())
        }
    }

    fn keep_by_output(&self, layer: &Layer<'_>) -> Vec<bool> {
        let size = layer.shape[1..].iter().product::<usize>().max(1);
        let of_output = |scores: &[f64]| {
            let gone = scores.iter().filter(|score| **score == f64::NEG_INFINITY).count();
            keep_best(self.go(size, gone), &[scores]).concat()
        };
        layer.scores().chunks(size).flat_map(of_output).collect()
    }

    /// How many of `total` weights that are compared go, `gone` of which went before.
    fn go(&self, total: usize, gone: usize) -> usize {
        let of = |share: f64, weights: usize| (share * weights as f64).round() as usize;
        match self.amount {
            Amount::Sparsity(share) => of(share, total),
            Amount::SparsityOfRest(share) => gone + of(share, total - gone),
            Amount::Threshold(_) | Amount::Pattern(_) => gone,
        }
    }
}

/// The scores of a parameter with so many elements, or what is wrong with them.
fn scores_of(scores: &Scores, id: ParamId, elements: usize) -> Result<&[f64], String> {
    match scores.get(&id) {
        None => Err("are missing".to_string()),
        Some(scores) if scores.len() != elements => Err(format!("are {} for {elements} values", scores.len())),
        Some(scores) if scores.iter().any(|score| !score.is_finite()) => Err("are not all finite".to_string()),
        Some(scores) => Ok(scores),
    }
}

fn keep_above(layer: &Layer<'_>, threshold: Threshold) -> Vec<bool> {
    let bound = match threshold {
        Threshold::Absolute(bound) => bound,
        Threshold::Quality(quality) => quality * standard_deviation(&layer.values),
    };
    layer.values.iter().map(|v| f64::from(v.abs()) >= bound).collect()
}

fn standard_deviation(values: &[f32]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests;
