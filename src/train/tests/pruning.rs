//! Pruning along a training: what may come back, and what decides.

use super::*;
use crate::train::calibrate::Batches;

/// Surgery in 20 epochs of 16 steps.
fn surgery(criterion: Criterion) -> Pruning {
    let pruning = gradual(0.75, 0.1, 0.4, 10);
    Pruning { gradual: GradualPruning { settle: Some(0.6), ..pruning.gradual }, criterion, decay: 0.0 }
}

fn masks(graph: &Graph) -> Vec<bool> {
    graph.params().iter().flat_map(|p| p.mask.iter().flat_map(|mask| mask.to_vec())).collect()
}

/// Stops a training by its length, with the schedule of one of 320 steps: the masks then.
fn masks_after(steps: u64, pruning: &Pruning) -> Vec<bool> {
    let share = |at: f64| at * 320.0 / steps as f64;
    let GradualPruning { begin, end, settle, .. } = pruning.gradual;
    let gradual =
        GradualPruning { begin: share(begin), end: share(end), settle: settle.map(share), ..pruning.gradual.clone() };
    let config = TrainConfig { length: Length::Steps(steps), schedule: ScheduleConfig::Constant, ..config() };
    let mut graph = network();
    let pruning = Pruning { gradual, ..pruning.clone() };
    train_with(&mut graph, &config, Some(&pruning), 1, &|| false, &mut |_| ()).unwrap();
    masks(&graph)
}

#[test]
fn surgery_ends_at_the_target_with_masks_that_hold() {
    for criterion in [Criterion::Magnitude, Criterion::Movement] {
        let mut graph = network();
        let detail = train_with(&mut graph, &config(), Some(&surgery(criterion)), 1, &|| false, &mut |_| ()).unwrap();
        assert_eq!(zeros(&graph), 72);
        assert_eq!(masks(&graph).iter().filter(|keep| !**keep).count(), 72);
        // It settles before step 192, the first of the thirteenth epoch, which is the first that may be kept.
        assert!(detail.best_epoch >= 13, "{criterion:?}");
        let last = detail.epochs[19].validation_accuracy;
        assert!(last > 0.85, "{criterion:?}: {last}");
    }
}

#[test]
fn pruned_weights_come_back_in_surgery_and_only_there() {
    // Long past the full sparsity, decisions still differ.
    let pruning = surgery(Criterion::Magnitude);
    let came_back = |pruning: &Pruning| {
        let (early, late) = (masks_after(150, pruning), masks_after(190, pruning));
        early.iter().zip(&late).filter(|(early, late)| !**early && **late).count()
    };
    assert!(came_back(&pruning) > 0);
    let kept = Pruning { gradual: GradualPruning { settle: None, ..pruning.gradual }, ..pruning };
    assert_eq!(came_back(&kept), 0);
}

#[test]
fn what_is_set_aside_shrinks_and_comes_back_less() {
    let came_back = |decay: f64| {
        let pruning = Pruning { decay, ..surgery(Criterion::Magnitude) };
        let (early, late) = (masks_after(150, &pruning), masks_after(190, &pruning));
        early.iter().zip(&late).filter(|(early, late)| !**early && **late).count()
    };
    assert!(came_back(0.99) < came_back(0.0), "{} {}", came_back(0.99), came_back(0.0));
}

#[test]
fn what_was_pruned_before_the_training_does_not_come_back() {
    let mut graph = pruned(0.3);
    let before = masks(&graph);
    train_with(&mut graph, &config(), Some(&surgery(Criterion::Magnitude)), 1, &|| false, &mut |_| ()).unwrap();
    assert!(before.iter().zip(masks(&graph)).all(|(before, after)| *before || !after));
    assert_eq!(zeros(&graph), 72);
}

#[test]
fn frozen_and_ignored_weights_are_left_alone_by_surgery() {
    let mut graph = network();
    let config = TrainConfig { frozen: vec!["fc1.weight".into()], ..config() };
    train_with(&mut graph, &config, Some(&surgery(Criterion::Movement)), 1, &|| false, &mut |_| ()).unwrap();
    assert_eq!(graph.params()[0].data, network().params()[0].data);
    assert_eq!(zeros(&graph), 36);
}

#[test]
fn criteria_that_look_at_samples_prune_along_a_training() {
    let how = Batches { batches: 2, batch_size: 16 };
    let mut found = Vec::new();
    for criterion in [Criterion::Taylor(how), Criterion::Snip(how), Criterion::Fisher(how), Criterion::Wanda(how)] {
        let mut graph = network();
        let pruning = Pruning { criterion, ..gradual(0.75, 0.1, 0.7, 20) };
        let detail = train_with(&mut graph, &config(), Some(&pruning), 1, &|| false, &mut |_| ()).unwrap();
        assert_eq!(zeros(&graph), 72);
        // The mean gradient of a trained network says little: SNIP is made for fresh ones.
        let least = if matches!(criterion, Criterion::Snip(_)) { 0.6 } else { 0.8 };
        let last = detail.epochs[19].validation_accuracy;
        assert!(last > least, "{criterion:?}: {last}");
        found.push(masks(&graph));
    }
    found.dedup();
    assert_eq!(found.len(), 4, "each goes by something else");
}

/// Against the definition, by hand: one weight a layer, plain gradient descent.
#[test]
fn movement_is_the_sum_of_what_moves_a_weight_from_zero() {
    let mut graph = GraphBuilder::new("line", &[2]).linear("fc", 2).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 5).unwrap();
    let sgd = OptimizerConfig::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let steps = 12;
    let config = TrainConfig {
        optimizer: sgd,
        length: Length::Steps(steps),
        schedule: ScheduleConfig::Constant,
        warmup_steps: 0,
        ..config()
    };
    let after = |steps: u64| {
        let mut graph = graph.clone();
        train(&mut graph, &TrainConfig { length: Length::Steps(steps), ..config.clone() }, 1).unwrap();
        graph.params()[0].data.to_f32().unwrap()
    };
    // Without momentum a step is the gradient times the rate: w g = -w (w' - w) / rate.
    let weights: Vec<Vec<f32>> = (0..steps).map(after_or_start(&graph, &after)).collect();
    let mut scores = [0f64; 4];
    for pair in weights.windows(2) {
        for (score, (then, now)) in scores.iter_mut().zip(pair[0].iter().zip(&pair[1])) {
            *score += f64::from(*then) * f64::from(now - then);
        }
    }
    let mut order = [0, 1, 2, 3];
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    // Pruned once, before the last step.
    let pruning = Pruning { criterion: Criterion::Movement, ..gradual(0.5, 0.99, 1.0, 1) };
    let mut pruned = graph.clone();
    train_with(&mut pruned, &config, Some(&pruning), 1, &|| false, &mut |_| ()).unwrap();
    let mask = masks(&pruned);
    assert_eq!((mask[order[0]], mask[order[1]], mask[order[2]], mask[order[3]]), (false, false, true, true));
}

/// The weights after so many steps; before the first, those of `graph`.
fn after_or_start<'a>(graph: &'a Graph, after: &'a dyn Fn(u64) -> Vec<f32>) -> impl Fn(u64) -> Vec<f32> + 'a {
    |steps| if steps == 0 { graph.params()[0].data.to_f32().unwrap() } else { after(steps) }
}
