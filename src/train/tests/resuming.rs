//! A training that is broken off before every step and every validation, and gone on with.

use super::*;
use crate::graph::op::Dropout;
use crate::graph::{NewNode, Op};
use crate::train::calibrate::Batches;

/// A training by hand: from `resume` on, broken off at the place number `after` where its state may be kept, if that is not
/// `None`.
fn attempt(
    graph: &mut Graph,
    config: &TrainConfig,
    gradual: Option<&Pruning>,
    resume: Option<TrainState>,
    after: Option<u32>,
) -> (Result<TrainDetail, TrainError>, Option<TrainState>, Option<Graph>) {
    let (train, validation) = (exclusive_or(60, "train"), exclusive_or(30, "validation"));
    let (places, state) = (Cell::new(0), Cell::new(None));
    let cancelled = || after.is_some_and(|after| places.get() > after);
    let progress = &mut |_: &TrainProgress| ();
    let mut keep = |now: &dyn Fn() -> TrainState| {
        state.set(Some(now()));
        places.set(places.get() + 1);
    };
    let mut cx = TrainContext::new(&train, &validation, 7, &cancelled, progress);
    cx.keep = Some(&mut keep);
    cx.resume = resume;
    let result = fit(graph, config, gradual, &mut CrossEntropy::default(), &mut cx);
    let best = cx.best.take();
    (result, state.take(), best)
}

/// Through the parts in which a state is stored.
fn stored(state: TrainState) -> TrainState {
    let (json, tensors) = state.to_parts();
    let stored = TrainState::from_parts(&json, tensors.clone()).unwrap();
    assert_eq!(stored, state);
    stored
}

fn network() -> Graph {
    let mut graph = super::network();
    let mut edit = graph.edit();
    let hidden = edit.graph().nodes()[1].output();
    let dropout = Op::Dropout(Dropout { rate: 0.3 });
    edit.insert_after(hidden, NewNode { name: "drop".into(), op: dropout, params: vec![] }).unwrap();
    edit.commit().unwrap();
    graph
}

fn ends_the_same_wherever_it_is_broken_off(config: &TrainConfig, gradual: Option<&Pruning>) {
    let mut expected = network();
    let (detail, ..) = attempt(&mut expected, config, gradual, None, None);
    let detail = detail.unwrap();
    for place in 0.. {
        let mut graph = network();
        let (broken, state, _) = attempt(&mut graph, config, gradual, None, Some(place));
        if broken.is_ok() {
            assert!(place > 8, "broken off at {place} places");
            return;
        }
        assert_eq!(graph, network(), "a training that is broken off leaves the graph alone");
        let (resumed, ..) = attempt(&mut graph, config, gradual, state.map(stored), None);
        assert_eq!(resumed.unwrap(), detail, "broken off at place {place}");
        assert!(graph == expected, "broken off at place {place}");
    }
}

fn short() -> TrainConfig {
    TrainConfig { length: Length::Epochs(3), batch_size: 16, ..config() }
}

#[test]
fn momentum_with_an_average_ends_the_same_wherever_it_is_broken_off() {
    ends_the_same_wherever_it_is_broken_off(&TrainConfig { ema_decay: Some(0.9), ..short() }, None);
}

#[test]
fn adamw_with_frozen_parameters_ends_the_same_wherever_it_is_broken_off() {
    let optimizer = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 };
    let config = TrainConfig { optimizer, frozen: vec!["fc1.bias".into()], length: Length::Steps(10), ..short() };
    ends_the_same_wherever_it_is_broken_off(&config, None);
}

#[test]
fn gradual_pruning_with_an_early_end_ends_the_same_wherever_it_is_broken_off() {
    let gradual = gradual(0.5, 0.0, 0.4, 2);
    let early_stop = Some(EarlyStop { patience: 1, min_delta: 0.5 });
    let config = TrainConfig { early_stop, length: Length::Epochs(6), ..short() };
    ends_the_same_wherever_it_is_broken_off(&config, Some(&gradual));
}

#[test]
fn surgery_ends_the_same_wherever_it_is_broken_off() {
    let config = TrainConfig { ema_decay: Some(0.9), length: Length::Epochs(4), ..short() };
    for criterion in [Criterion::Magnitude, Criterion::Movement] {
        let pruning = gradual(0.6, 0.1, 0.4, 2);
        let pruning =
            Pruning { gradual: GradualPruning { settle: Some(0.7), ..pruning.gradual }, criterion, decay: 0.01 };
        ends_the_same_wherever_it_is_broken_off(&config, Some(&pruning));
    }
}

#[test]
fn pruning_by_samples_ends_the_same_wherever_it_is_broken_off() {
    let how = Batches { batches: 2, batch_size: 8 };
    for criterion in [Criterion::Movement, Criterion::Taylor(how), Criterion::Wanda(how)] {
        let pruning = Pruning { criterion, ..gradual(0.5, 0.0, 0.6, 3) };
        ends_the_same_wherever_it_is_broken_off(&short(), Some(&pruning));
    }
}

#[test]
fn a_training_that_is_cancelled_after_an_epoch_hands_over_the_best_network() {
    let mut graph = network();
    let (error, _, best) = attempt(&mut graph, &short(), None, None, Some(2));
    assert!(matches!(error, Err(TrainError::Cancelled)) && best.is_none());
    let (error, _, best) = attempt(&mut graph, &short(), None, None, Some(6));
    assert!(matches!(error, Err(TrainError::Cancelled)));
    // One epoch is over, and so its network is the best.
    let (whole, ..) = attempt(&mut network(), &short(), None, None, None);
    let mut session = Session::new(&best.unwrap()).unwrap();
    let found = evaluate(&mut session, &exclusive_or(30, "validation"), &|| false).unwrap();
    assert_eq!(found.loss, whole.unwrap().epochs[0].validation_loss);
}

#[test]
fn a_state_of_another_training_is_put_aside() {
    let mut expected = network();
    let sgd = short();
    attempt(&mut expected, &sgd, None, None, None).0.unwrap();
    let optimizer = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 };
    let longer = TrainConfig { length: Length::Epochs(9), ..short() };
    for other in [TrainConfig { optimizer, ..short() }, TrainConfig { ema_decay: Some(0.5), ..short() }, longer] {
        let late = if other.length == sgd.length { 5 } else { 30 };
        let (_, state, _) = attempt(&mut network(), &other, None, None, Some(late));
        let mut graph = network();
        attempt(&mut graph, &sgd, None, state, None).0.unwrap();
        assert!(graph == expected, "{other:?}");
    }
}
