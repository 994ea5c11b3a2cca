//! Tests of the training loop on a small problem that a linear network cannot solve.

mod fine_tuning;
mod pruning;
mod resuming;

use std::cell::Cell;
use std::sync::Arc;

use rand::Rng;

use super::config::{ClipConfig, EarlyStop, Length, OptimizerConfig, ScheduleConfig, TrainConfig};
use super::criterion::Criterion;
use super::metrics::evaluate;
use super::objective::CrossEntropy;
use super::*;
use crate::data::{Affine, Inputs, Part};
use crate::exec::Session;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::Activation;
use crate::graph::{Graph, init};
use crate::passes::apply;
use crate::passes::prune::{Amount, GradualPruning, PruneWeights, Scope};
use crate::report::TrainDetail;
use crate::seed;
use crate::tensor::DType;

/// `n` points in a square whose label says whether both coordinates have one sign.
fn exclusive_or(n: usize, name: &str) -> Subset {
    let mut rng = seed::stream(3, name);
    let points: Vec<f32> = (0..2 * n).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels = points.chunks(2).map(|p| u32::from(p[0] * p[1] > 0.0)).collect();
    let part = Part { sample_shape: vec![2], inputs: Inputs::F32(points), labels };
    Subset::new(Arc::new(part), (0..n as u32).collect(), Affine { channels: vec![(1.0, 0.0); 2] })
}

fn network() -> Graph {
    let mut graph = GraphBuilder::new("mlp", &[2])
        .linear("fc1", 24)
        .activation("relu", Activation::Relu)
        .linear("fc2", 2)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, 5).unwrap();
    graph
}

fn config() -> TrainConfig {
    TrainConfig {
        length: Length::Epochs(20),
        batch_size: 32,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 },
        learning_rate: 0.2,
        schedule: ScheduleConfig::Cosine { floor: 0.0 },
        warmup_steps: 5,
        clip: ClipConfig::default(),
        early_stop: None,
        ..TrainConfig::default()
    }
}

/// By magnitude, for good.
fn gradual(sparsity: f64, begin: f64, end: f64, every: u32) -> Pruning {
    let (scope, ignored, settle) = (Scope::Global, vec![], None);
    let gradual = GradualPruning { sparsity, scope, ignored, begin, end, every, settle };
    Pruning { gradual, criterion: Criterion::Magnitude, decay: 0.0 }
}

fn train_with(
    graph: &mut Graph,
    config: &TrainConfig,
    gradual: Option<&Pruning>,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(&TrainProgress),
) -> Result<TrainDetail, TrainError> {
    let (train, validation) = (exclusive_or(500, "train"), exclusive_or(300, "validation"));
    let mut cx = TrainContext::new(&train, &validation, seed, cancelled, progress);
    fit(graph, config, gradual, &mut CrossEntropy::default(), &mut cx)
}

fn train(graph: &mut Graph, config: &TrainConfig, seed: u64) -> Result<TrainDetail, TrainError> {
    train_with(graph, config, None, seed, &|| false, &mut |_| ())
}

fn zeros(graph: &Graph) -> usize {
    graph.params().iter().filter(|p| p.is_weight()).map(|p| p.data.elements() - p.data.nonzero()).sum()
}

fn pruned(sparsity: f64) -> Graph {
    let mut graph = network();
    let prune =
        PruneWeights { amount: Amount::Sparsity(sparsity), scope: Scope::Global, ignored: vec![], scores: None };
    apply(&prune, &mut graph).unwrap();
    graph
}

#[test]
fn it_learns_what_no_linear_network_can() {
    let adamw = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let with_adamw = TrainConfig { optimizer: adamw, learning_rate: 0.02, ..config() };
    for config in [config(), with_adamw] {
        let mut graph = network();
        let detail = train(&mut graph, &config, 1).unwrap();
        assert_eq!((detail.epochs.len(), detail.total_steps), (20, 20 * 16));
        let best = detail.epochs[detail.best_epoch as usize - 1];
        assert!(best.validation_accuracy > 0.95, "{detail:?}");
        assert!(detail.epochs[19].train_loss < 0.5 * detail.epochs[0].train_loss);

        // The graph holds the parameters of the epoch that the report names.
        let mut session = Session::new(&graph).unwrap();
        let found = evaluate(&mut session, &exclusive_or(300, "validation"), &|| false).unwrap();
        assert_eq!((found.accuracy, found.loss), (best.validation_accuracy, best.validation_loss));
        let highest = detail.epochs.iter().map(|e| e.validation_accuracy).fold(0.0, f64::max);
        assert_eq!(best.validation_accuracy, highest);
    }
}

#[test]
fn a_seed_fixes_every_bit_and_another_gives_another_model() {
    let run = |seed| {
        let mut graph = network();
        let detail = train(&mut graph, &TrainConfig { length: Length::Epochs(3), ..config() }, seed).unwrap();
        (graph, detail)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn masked_weights_stay_zero_under_momentum_and_weight_decay() {
    let mut graph = pruned(0.5);
    let before = graph.clone();
    train(&mut graph, &config(), 1).unwrap();
    assert_eq!(zeros(&graph), (24 * 2 + 2 * 24) / 2);
    for (param, before) in graph.params().iter().zip(before.params()) {
        assert_eq!(param.mask, before.mask);
        assert_ne!(param.data, before.data);
        let values = param.data.to_f32().unwrap();
        let mask = param.mask.iter().flat_map(|m| m.iter());
        assert!(values.iter().zip(mask).all(|(v, keep)| *keep || *v == 0.0));
    }
}

#[test]
fn gradual_pruning_ends_at_the_target_and_only_fully_pruned_epochs_are_kept() {
    let gradual = gradual(0.75, 0.1, 0.7, 7);
    let mut graph = network();
    // Early stop with no patience at all: it must not act before the target is reached.
    let config = TrainConfig { early_stop: Some(EarlyStop { patience: 1, min_delta: 1.0 }), ..config() };
    let detail = train_with(&mut graph, &config, Some(&gradual), 1, &|| false, &mut |_| ()).unwrap();
    assert_eq!(zeros(&graph), 72);
    // 70 % of 20 epochs are 14: the 15th is the first that ends fully pruned, and the 16th is no improvement.
    assert_eq!((detail.epochs.len(), detail.stopped_early), (16, true));
    assert!(detail.best_epoch >= 15);
    assert!(detail.epochs[14].validation_accuracy > 0.85, "{detail:?}");
    for param in graph.params().iter().filter(|p| p.is_weight()) {
        let kept = param.mask.as_ref().unwrap().iter().filter(|keep| **keep).count();
        assert_eq!(kept, param.data.nonzero());
    }
}

#[test]
fn half_precision_parameters_are_trained_in_full_precision_and_stored_as_they_were() {
    let mut graph = network();
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let data = edit.graph().param(id).data.to_float(DType::F16).unwrap();
        edit.set_param(id, data);
    }
    edit.commit().unwrap();
    // Steps far smaller than half precision can tell apart add up to something.
    let small = TrainConfig { learning_rate: 1e-4, warmup_steps: 0, schedule: ScheduleConfig::Constant, ..config() };
    let before = graph.clone();
    train(&mut graph, &small, 1).unwrap();
    assert!(graph.params().iter().all(|p| p.data.dtype() == DType::F16));
    assert_ne!(graph, before);
}

#[test]
fn cancelling_stops_before_the_next_step_and_leaves_the_graph_alone() {
    let (asked, steps) = (Cell::new(0), Cell::new(0));
    let mut graph = network();
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 10
    };
    let result = train_with(&mut graph, &config(), None, 1, &cancelled, &mut |p| steps.set(p.step));
    assert!(matches!(result, Err(TrainError::Cancelled)));
    assert_eq!(asked.get(), 11);
    assert!(steps.get() <= 10);
    assert_eq!(graph, network());
}

#[test]
fn training_that_gains_nothing_ends_early() {
    let config = TrainConfig { early_stop: Some(EarlyStop { patience: 3, min_delta: 1.0 }), ..config() };
    let detail = train(&mut network(), &config, 1).unwrap();
    assert_eq!((detail.epochs.len(), detail.stopped_early, detail.total_steps), (4, true, 4 * 16));
}

#[test]
fn a_diverging_training_is_reported_with_its_place() {
    let mut graph = network();
    let wild = TrainConfig { learning_rate: 1e30, warmup_steps: 0, schedule: ScheduleConfig::Constant, ..config() };
    let error = train(&mut graph, &wild, 1).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { epoch: 1, step: 2..=4 }), "{error}");
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "DIVERGED"));
    assert_eq!(graph, network());
}

#[test]
fn clipping_is_counted_and_a_batch_larger_than_the_data_is_all_of_it() {
    let clip = ClipConfig { value: Some((-1e-3, 1e-3)), norm: Some(1e-3) };
    let config = TrainConfig { length: Length::Epochs(2), batch_size: 10_000, clip, ..config() };
    let detail = train(&mut network(), &config, 1).unwrap();
    assert_eq!((detail.total_steps, detail.clipped_steps), (2, 2));
    assert!(detail.epochs[0].gradient_norm > 1e-2);
}

#[test]
fn progress_grows_to_the_end() {
    let mut seen: Vec<TrainProgress> = Vec::new();
    let config = TrainConfig { length: Length::Epochs(3), ..config() };
    train_with(&mut network(), &config, None, 1, &|| false, &mut |p| seen.push(*p)).unwrap();
    assert!(seen.windows(2).all(|w| w[0].step <= w[1].step && w[0].epoch <= w[1].epoch));
    let last = seen.last().unwrap();
    assert_eq!((last.step, last.total_steps, last.epoch, last.epochs), (48, 48, 3, 3));
    assert!(last.loss.is_some() && last.validation_accuracy.is_some());
}

#[test]
fn a_configuration_without_epochs_or_samples_is_refused() {
    let error = train(&mut network(), &TrainConfig { length: Length::Epochs(0), ..config() }, 1).unwrap_err();
    assert_eq!(error.violations(), [Violation::new("epochs", "must be at least 1")]);
    let error = train(&mut network(), &TrainConfig { batch_size: 0, ..config() }, 1).unwrap_err();
    assert_eq!(error.violations()[0].field, "batch_size");
}

#[test]
fn a_label_without_output_is_named() {
    let mut graph = GraphBuilder::new("one", &[2]).linear("fc", 1).build().unwrap();
    let error = train(&mut graph, &config(), 1).unwrap_err();
    assert!(matches!(error, TrainError::Label { label: 1, classes: 1 }), "{error}");
}
