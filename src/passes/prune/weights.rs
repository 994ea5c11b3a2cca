//! Magnitude pruning of single weights (Han et al. 2015): the smallest become zero and stay zero.
//!
//! Weights are parameters with two or more axes; biases are left alone. The network computes the same graph as before
//! with zeros in it: neither smaller nor faster by itself.

use std::sync::Arc;

use niwaki_kernels::prune::Cut;

use crate::graph::{GraphEdit, ParamId, glob};
use crate::passes::{Pass, PassError};
use crate::tensor::TensorData;

/// How many weights go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share of the weights, in `[0, 1)`.
    Sparsity(f64),
    /// All below a threshold.
    Threshold(Threshold),
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
}

/// Sets the weights of least magnitude to zero and masks them.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneWeights {
    /// How many weights go.
    pub amount: Amount,
    /// Which weights are compared with which, for [`Amount::Sparsity`].
    pub scope: Scope,
    /// Parameters left alone, by name or glob.
    pub ignored: Vec<String>,
}

impl Pass for PruneWeights {
    fn name(&self) -> &'static str {
        "prune-weights"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let layers = self.layers(edit)?;
        let masks: Vec<Vec<bool>> = match (self.amount, self.scope) {
            (Amount::Sparsity(share), Scope::Global) => {
                keep_largest(&layers.iter().map(|layer| layer.values.as_slice()).collect::<Vec<_>>(), share)
            }
            (Amount::Sparsity(share), Scope::Layer) => {
                layers.iter().flat_map(|layer| keep_largest(&[&layer.values], share)).collect()
            }
            (Amount::Threshold(threshold), _) => layers.iter().map(|layer| keep_above(layer, threshold)).collect(),
        };
        for (layer, mut mask) in layers.iter().zip(masks) {
            // What was pruned before stays pruned, also where less is asked for now.
            if let Some(before) = &edit.graph().param(layer.id).mask {
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

/// The values of one weight.
struct Layer {
    id: ParamId,
    values: Vec<f32>,
}

impl PruneWeights {
    fn layers(&self, edit: &GraphEdit<'_>) -> Result<Vec<Layer>, PassError> {
        let graph = edit.graph();
        let ignored = glob::select(graph, &self.ignored)
            .map_err(|pattern| PassError::NoSuchParam { field: "ignored", pattern: pattern.to_string() })?;
        let mut layers = Vec::new();
        for id in graph.param_ids().filter(|id| graph.param(*id).is_weight() && !ignored.contains(id)) {
            let values = graph.param(id).data.to_f32()?;
            let count = values.iter().filter(|v| !v.is_finite()).count();
            if count > 0 {
                return Err(PassError::NonFinite { name: graph.param(id).name.clone(), count });
            }
            layers.push(Layer { id, values });
        }
        Ok(layers)
    }
}

/// Which weights of `layers`, ranked together, stay when the smallest `share` of them goes: `round(share * n)` weights,
/// exactly. Of equal magnitudes the earlier one goes first, so the result is defined.
fn keep_largest(layers: &[&[f32]], share: f64) -> Vec<Vec<bool>> {
    let total: usize = layers.iter().map(|values| values.len()).sum();
    Cut::after((share * total as f64).round() as usize, layers).keep(layers)
}

fn keep_above(layer: &Layer, threshold: Threshold) -> Vec<bool> {
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Graph;
    use crate::graph::builder::GraphBuilder;
    use crate::passes::apply;

    /// Two linear layers, `fc1 [3, 2]` and `fc2 [2, 3]`, with these weights.
    fn network(fc1: &[f32], fc2: &[f32]) -> Graph {
        let mut graph = GraphBuilder::new("test", &[2]).linear("fc1", 3).linear("fc2", 2).build().unwrap();
        let mut edit = graph.edit();
        for (name, shape, values) in [("fc1.weight", [3, 2], fc1), ("fc2.weight", [2, 3], fc2)] {
            let id = edit.graph().param_id(name).unwrap();
            edit.set_param(id, TensorData::from_f32(shape.to_vec(), values).unwrap());
        }
        edit.commit().unwrap();
        graph
    }

    fn weights(graph: &Graph, name: &str) -> Vec<f32> {
        graph.param(graph.param_id(name).unwrap()).data.to_f32().unwrap()
    }

    fn prune(amount: Amount, scope: Scope, ignored: &[&str]) -> PruneWeights {
        PruneWeights { amount, scope, ignored: ignored.iter().map(|s| s.to_string()).collect() }
    }

    #[test]
    fn global_scope_takes_the_smallest_of_the_whole_network() {
        let mut graph = network(&[1., 2., 3., 4., 5., 6.], &[-0.1, 0.2, -7., 8., 9., 10.]);
        apply(&prune(Amount::Sparsity(0.25), Scope::Global, &[]), &mut graph).unwrap();
        assert_eq!(weights(&graph, "fc1.weight"), [0., 2., 3., 4., 5., 6.]);
        assert_eq!(weights(&graph, "fc2.weight"), [0., 0., -7., 8., 9., 10.]);
    }

    #[test]
    fn layer_scope_takes_the_same_share_of_each_layer() {
        let mut graph = network(&[1., 2., 3., 4., 5., 6.], &[10., 20., 30., 40., 50., 60.]);
        apply(&prune(Amount::Sparsity(0.5), Scope::Layer, &[]), &mut graph).unwrap();
        assert_eq!(weights(&graph, "fc1.weight"), [0., 0., 0., 4., 5., 6.]);
        assert_eq!(weights(&graph, "fc2.weight"), [0., 0., 0., 40., 50., 60.]);
    }

    #[test]
    fn what_was_pruned_stays_pruned() {
        let mut graph = network(&[1., 2., 3., 4., 5., 6.], &[7., 8., 9., 10., 11., 12.]);
        apply(&prune(Amount::Sparsity(0.5), Scope::Global, &[]), &mut graph).unwrap();
        let before = graph.clone();
        apply(&prune(Amount::Sparsity(0.25), Scope::Global, &[]), &mut graph).unwrap();
        assert_eq!(graph, before);
        // As the last: half of each layer, and fc1 had lost more.
        apply(&prune(Amount::Sparsity(0.5), Scope::Layer, &[]), &mut graph).unwrap();
        assert_eq!(weights(&graph, "fc1.weight"), [0.; 6]);
        assert_eq!(weights(&graph, "fc2.weight"), [0., 0., 0., 10., 11., 12.]);
    }

    #[test]
    fn ignored_layers_are_left_alone_and_a_glob_without_match_is_refused() {
        let mut graph = network(&[1.; 6], &[2.; 6]);
        let before = graph.clone();
        let error = apply(&prune(Amount::Sparsity(0.5), Scope::Global, &["conv*"]), &mut graph).unwrap_err();
        assert_eq!(error, PassError::NoSuchParam { field: "ignored", pattern: "conv*".into() });
        assert_eq!(graph, before);
        apply(&prune(Amount::Sparsity(0.5), Scope::Global, &["fc1.*"]), &mut graph).unwrap();
        assert_eq!(weights(&graph, "fc1.weight"), [1.; 6]);
        assert_eq!(weights(&graph, "fc2.weight"), [0., 0., 0., 2., 2., 2.]);
    }

    #[test]
    fn a_quality_threshold_is_a_multiple_of_each_layers_deviation() {
        // The deviation of fc1 is 1, that of fc2 is 10.
        let mut graph = network(&[1., -1., 1., -1., 1., -1.], &[10., -10., 10., -10., 10., -10.]);
        apply(&prune(Amount::Threshold(Threshold::Quality(0.99)), Scope::Global, &[]), &mut graph).unwrap();
        assert_eq!(graph.params().iter().filter(|p| p.is_weight()).map(|p| p.data.nonzero()).sum::<usize>(), 12);
        apply(&prune(Amount::Threshold(Threshold::Quality(1.01)), Scope::Global, &[]), &mut graph).unwrap();
        assert_eq!(graph.params().iter().filter(|p| p.is_weight()).map(|p| p.data.nonzero()).sum::<usize>(), 0);
    }

    #[test]
    fn a_weight_that_is_no_number_is_named() {
        let mut graph = network(&[1., f32::NAN, 3., 4., 5., 6.], &[1.; 6]);
        let error = apply(&prune(Amount::Sparsity(0.5), Scope::Global, &[]), &mut graph).unwrap_err();
        assert_eq!(error, PassError::NonFinite { name: "fc1.weight".into(), count: 1 });
    }

    proptest! {
        /// Against the definition: sort all magnitudes, stably, and drop the first.
        #[test]
        fn as_many_go_as_asked_and_none_is_larger_than_one_that_stays(
            fc1 in prop::collection::vec(-2f32..2.0, 6), fc2 in prop::collection::vec(-2f32..2.0, 6), share in 0f64..1.0,
        ) {
            let mut graph = network(&fc1, &fc2);
            apply(&prune(Amount::Sparsity(share), Scope::Global, &[]), &mut graph).unwrap();
            let before: Vec<f32> = fc1.iter().chain(&fc2).copied().collect();
            let mut order: Vec<usize> = (0..12).collect();
            order.sort_by(|a, b| before[*a].abs().total_cmp(&before[*b].abs()));
            let mut expected = before.clone();
            for place in order.iter().take((share * 12.0).round() as usize) {
                expected[*place] = 0.0;
            }
            let after: Vec<f32> = ["fc1.weight", "fc2.weight"].iter().flat_map(|n| weights(&graph, n)).collect();
            prop_assert_eq!(after, expected);
        }
    }
}
