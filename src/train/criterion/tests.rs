//! Tests of the criteria against their definitions.

use std::sync::Arc;

use rand::Rng;

use super::*;
use crate::data::{Affine, Inputs, Part};
use crate::exec::{Mode, Session};
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d};
use crate::graph::{ParamId, init};
use crate::seed;
use crate::tensor::TensorData;
use crate::train::metrics::evaluate;

fn samples(n: usize, shape: &[usize]) -> Subset {
    let mut rng = seed::stream(3, "samples");
    let size = n * shape.iter().product::<usize>();
    let inputs = Inputs::F32((0..size).map(|_| rng.random_range(-1.0..1.0)).collect());
    let labels = (0..n).map(|i| (i % 3) as u32).collect();
    let part = Part { sample_shape: shape.to_vec(), inputs, labels };
    Subset::new(Arc::new(part), (0..n as u32).collect(), Affine { channels: vec![(1.0, 0.0); shape[0]] })
}

/// A grouped convolution with a normalisation, a dropout that must not act, and a linear layer: all that scores go by.
fn network() -> Graph {
    let grouped = Conv2d { groups: 2, ..Conv2d::default() };
    let mut graph = GraphBuilder::new("net", &[2, 4, 4])
        .conv("conv", 4, 3, grouped)
        .batch_norm("bn")
        .activation("tanh", Activation::Tanh)
        .dropout("drop", 0.5)
        .flatten("flatten")
        .linear("fc", 3)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, 5).unwrap();
    graph
}

fn weights(graph: &Graph) -> Vec<ParamId> {
    graph.param_ids().filter(|id| graph.param(*id).is_weight()).collect()
}

fn scores(criterion: Criterion, graph: &Graph, train: &Subset) -> Scores {
    criterion.scores(graph, train, 1, &|| false).unwrap().unwrap()
}

/// The loss over all samples with one element of one weight changed.
fn loss_with(graph: &Graph, train: &Subset, id: ParamId, place: usize, change: f32) -> f64 {
    let mut changed = graph.clone();
    let mut edit = changed.edit();
    let data = edit.graph().param(id).data.clone();
    let mut values = data.to_f32().unwrap();
    values[place] += change;
    edit.set_param(id, TensorData::from_f32(data.shape().to_vec(), &values).unwrap());
    edit.commit().unwrap();
    evaluate(&mut Session::new(&changed).unwrap(), train, &|| false).unwrap().loss
}

#[test]
fn snip_is_what_the_loss_loses_to_first_order() {
    let (graph, train) = (network(), samples(12, &[2, 4, 4]));
    let found = scores(Criterion::Snip(Batches { batches: 3, batch_size: 4 }), &graph, &train);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), weights(&graph));
    for (id, scores) in &found {
        let values = graph.param(*id).data.to_f32().unwrap();
        for place in (0..values.len()).step_by(7) {
            let step = 1e-2;
            let of = |change| loss_with(&graph, &train, *id, place, change);
            let gradient = (of(step) - of(-step)) / f64::from(2.0 * step);
            let expected = (f64::from(values[place]) * gradient).abs();
            assert!((scores[place] - expected).abs() < 1e-4, "{} {expected}", scores[place]);
        }
    }
}

#[test]
fn taylor_and_fisher_are_means_of_squares_over_batches_and_over_samples() {
    let (graph, train) = (network(), samples(6, &[2, 4, 4]));
    // Of one batch, the mean of squares is the square of snip's; of batches of one sample it is twice Fisher's.
    let all = Batches { batches: 1, batch_size: 6 };
    let (taylor, snip) = (scores(Criterion::Taylor(all), &graph, &train), scores(Criterion::Snip(all), &graph, &train));
    let each = scores(Criterion::Taylor(Batches { batches: 6, batch_size: 1 }), &graph, &train);
    let fisher = scores(Criterion::Fisher(Batches { batches: 2, batch_size: 3 }), &graph, &train);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-18;
    for id in weights(&graph) {
        for place in 0..graph.param(id).data.elements() {
            assert!(near(taylor[&id][place], snip[&id][place].powi(2)));
            assert!(near(fisher[&id][place], each[&id][place] / 2.0));
        }
        assert_ne!(taylor[&id], each[&id]);
    }
}

#[test]
fn wanda_goes_by_the_norm_of_what_a_weight_is_multiplied_with() {
    let (graph, train) = (network(), samples(8, &[2, 4, 4]));
    let found = scores(Criterion::Wanda(Batches { batches: 2, batch_size: 4 }), &graph, &train);
    let ids = weights(&graph);
    let input = train.batch(0..8).inputs;
    // A convolution in two groups: each output sees one channel, the first two outputs the first.
    let conv = graph.param(ids[0]).data.to_f32().unwrap();
    for (place, weight) in conv.iter().enumerate() {
        let channel = place / 9 / 2;
        let squares: f64 = (0..8).flat_map(|n| &input[(n * 2 + channel) * 16..][..16]).map(|x| f64::from(x * x)).sum();
        let expected = f64::from(weight.abs()) * squares.sqrt();
        assert!((found[&ids[0]][place] - expected).abs() < 1e-5);
    }
    let flat = graph.nodes()[4].output();
    let tap = Session::new(&graph).unwrap().forward(&input, 8, Mode::Eval, &[flat]).unwrap().taps.concat();
    let fc = graph.param(ids[1]).data.to_f32().unwrap();
    let features = tap.len() / 8;
    for (place, weight) in fc.iter().enumerate() {
        let squares: f64 = (0..8).map(|n| f64::from(tap[n * features + place % features]).powi(2)).sum();
        let expected = f64::from(weight.abs()) * squares.sqrt();
        assert!((found[&ids[1]][place] - expected).abs() < 1e-5);
    }
    assert_eq!(unread(&graph), []);
}

#[test]
fn what_measures_nothing_has_no_scores_and_what_is_measured_is_finite() {
    let (mut graph, train) = (network(), samples(6, &[2, 4, 4]));
    for criterion in [Criterion::Magnitude, Criterion::Movement] {
        assert_eq!(criterion.scores(&graph, &train, 1, &|| false).unwrap(), None);
    }
    let how = Batches { batches: 1, batch_size: 6 };
    assert!(matches!(Criterion::Snip(how).scores(&graph, &train, 1, &|| true), Err(TrainError::Cancelled)));
    let id = weights(&graph)[1];
    let mut edit = graph.edit();
    let shape = edit.graph().param(id).data.shape().to_vec();
    let values = vec![f32::MAX; shape.iter().product()];
    edit.set_param(id, TensorData::from_f32(shape, &values).unwrap());
    edit.commit().unwrap();
    for criterion in [Criterion::Taylor(how), Criterion::Snip(how), Criterion::Fisher(how)] {
        let error = criterion.scores(&graph, &train, 1, &|| false).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    }
}
