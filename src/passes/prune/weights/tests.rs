//! Tests of pruning single weights, against sorting.

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
    PruneWeights { amount, scope, ignored: ignored.iter().map(|s| s.to_string()).collect(), scores: None }
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

/// Scores for `fc1` and `fc2` of [`network`].
fn scored(graph: &Graph, fc1: &[f64], fc2: &[f64]) -> Scores {
    let id = |name| graph.param_id(name).unwrap();
    [(id("fc1.weight"), fc1.to_vec()), (id("fc2.weight"), fc2.to_vec())].into()
}

#[test]
fn scores_decide_in_the_place_of_magnitudes_and_may_be_negative() {
    let mut graph = network(&[9.; 6], &[9.; 6]);
    let scores = scored(&graph, &[5., -7., 3., -1., 0., 2.], &[1., 1., 1., 1., -2., 9.]);
    let pass = PruneWeights { scores: Some(scores), ..prune(Amount::Sparsity(0.25), Scope::Global, &[]) };
    apply(&pass, &mut graph).unwrap();
    assert_eq!(weights(&graph, "fc1.weight"), [9., 0., 9., 0., 9., 9.]);
    assert_eq!(weights(&graph, "fc2.weight"), [9., 9., 9., 9., 0., 9.]);
    // What went before goes again, however high its score is now.
    let scores = scored(&graph, &[1., 9., 1., 9., 1., 1.], &[1., 1., 1., 1., 9., 0.]);
    let pass = PruneWeights { scores: Some(scores), ..prune(Amount::Sparsity(0.33), Scope::Global, &[]) };
    apply(&pass, &mut graph).unwrap();
    assert_eq!(weights(&graph, "fc2.weight"), [9., 9., 9., 9., 0., 0.]);
}

#[test]
fn scores_of_something_else_are_refused_by_name() {
    let mut graph = network(&[1.; 6], &[2.; 6]);
    let mut missing = scored(&graph, &[1.; 6], &[1.; 6]);
    missing.pop_last();
    let short = scored(&graph, &[1.; 6], &[1.; 5]);
    let infinite = scored(&graph, &[1.; 6], &[f64::INFINITY; 6]);
    for scores in [missing, short, infinite] {
        let pass = PruneWeights { scores: Some(scores), ..prune(Amount::Sparsity(0.5), Scope::Global, &[]) };
        let error = apply(&pass, &mut graph).unwrap_err();
        assert!(matches!(error, PassError::Scores { name, .. } if name == "fc2.weight"));
    }
}

#[test]
fn the_weights_of_an_output_are_compared_with_each_other() {
    let mut graph = network(&[1., 2., 40., 30., 500., 600.], &[3., 2., 1., 10., 20., 30.]);
    apply(&prune(Amount::Sparsity(0.5), Scope::Output, &[]), &mut graph).unwrap();
    assert_eq!(weights(&graph, "fc1.weight"), [0., 2., 40., 0., 0., 600.]);
    // Half of three is two, rounded.
    assert_eq!(weights(&graph, "fc2.weight"), [3., 0., 0., 0., 0., 30.]);
}

#[test]
fn a_share_of_the_rest_is_one_of_what_is_left() {
    let mut graph = network(&[1., 2., 3., 4., 5., 6.], &[7., 8., 9., 10., 11., 12.]);
    let round = prune(Amount::SparsityOfRest(0.5), Scope::Global, &[]);
    let mut left = Vec::new();
    for _ in 0..4 {
        apply(&round, &mut graph).unwrap();
        left.push(graph.params().iter().filter(|p| p.is_weight()).map(|p| p.data.nonzero()).sum::<usize>());
    }
    // Half of three is two, rounded.
    assert_eq!(left, [6, 3, 1, 0]);
}

#[test]
fn a_pattern_takes_layers_that_divide_and_leaves_the_others() {
    let mut graph = network(&[1., -2., 4., 3., 5., 6.], &[1., 2., 3., 4., 5., 6.]);
    let pattern = Amount::Pattern(Pattern { keep: 1, of: 2 });
    apply(&prune(pattern, Scope::Global, &[]), &mut graph).unwrap();
    assert_eq!(weights(&graph, "fc1.weight"), [0., -2., 4., 0., 0., 6.]);
    assert_eq!(weights(&graph, "fc2.weight"), [1., 2., 3., 4., 5., 6.]);
}

proptest! {
    /// Scores that are the magnitudes go the way of magnitudes, in every scope and again on what is pruned.
    #[test]
    fn magnitudes_as_scores_are_magnitudes(
        fc1 in prop::collection::vec(-2f32..2.0, 6), fc2 in prop::collection::vec(-2f32..2.0, 6), share in 0f64..1.0,
        rest: bool, scope in prop::sample::select(vec![Scope::Global, Scope::Layer, Scope::Output]),
    ) {
        let amount = if rest { Amount::SparsityOfRest(share) } else { Amount::Sparsity(share) };
        let mut graph = network(&fc1, &fc2);
        for _ in 0..2 {
            let magnitudes = |name| weights(&graph, name).iter().map(|v| f64::from(v.abs())).collect::<Vec<_>>();
            let scores = Some(scored(&graph, &magnitudes("fc1.weight"), &magnitudes("fc2.weight")));
            let mut scored = graph.clone();
            apply(&PruneWeights { scores, ..prune(amount, scope, &[]) }, &mut scored).unwrap();
            apply(&prune(amount, scope, &[]), &mut graph).unwrap();
            prop_assert_eq!(&scored, &graph);
        }
    }
}
