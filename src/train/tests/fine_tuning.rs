//! Training a part of a network, for a number of steps, with an average of the weights, a dropout, batch normalisations.

use super::*;
use crate::data::{Augmentation, DataSpec, Dataset, split};
use crate::graph::op::{BatchNorm, Dropout};
use crate::graph::{NewNode, Op};
use crate::tensor::TensorData;

/// A configuration without schedule: the first steps of a longer training are a shorter one.
fn steady(length: Length) -> TrainConfig {
    TrainConfig { length, warmup_steps: 0, schedule: ScheduleConfig::Constant, learning_rate: 0.05, ..config() }
}

/// The network of the other tests with a batch normalisation of the input, and a dropout before the last layer.
fn with_batch_norm() -> Graph {
    let mut graph = network();
    let mut edit = graph.edit();
    let params = [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)].map(|(role, value)| {
        edit.add_param(&format!("bn.{role}"), TensorData::from_f32(vec![2], &[value; 2]).unwrap())
    });
    let (input, hidden) = (edit.graph().inputs()[0], edit.graph().nodes()[1].output());
    let batch_norm = Op::BatchNorm(BatchNorm { momentum: 0.25, ..BatchNorm::default() });
    edit.insert_after(input, NewNode { name: "bn".into(), op: batch_norm, params: params.to_vec() }).unwrap();
    let dropout = Op::Dropout(Dropout { rate: 0.25 });
    edit.insert_after(hidden, NewNode { name: "drop".into(), op: dropout, params: vec![] }).unwrap();
    edit.commit().unwrap();
    graph
}

fn values(graph: &Graph, name: &str) -> Vec<f32> {
    graph.param(graph.param_id(name).unwrap()).data.to_f32().unwrap()
}

fn frozen(patterns: &[&str], config: TrainConfig) -> TrainConfig {
    TrainConfig { frozen: patterns.iter().map(|p| p.to_string()).collect(), ..config }
}

#[test]
fn a_number_of_steps_ends_within_an_epoch_which_is_validated() {
    let mut seen = Vec::new();
    let mut graph = network();
    let config = steady(Length::Steps(40));
    let detail = train_with(&mut graph, &config, None, 1, &|| false, &mut |p| seen.push(*p)).unwrap();
    assert_eq!((detail.total_steps, detail.epochs.len(), detail.stopped_early), (40, 3, false));
    let last = seen.last().unwrap();
    assert_eq!((last.step, last.total_steps, last.epoch, last.epochs), (40, 40, 3, 3));
    assert_eq!(last.validation_accuracy, Some(detail.epochs[2].validation_accuracy));

    // Up to there it is the training of whole epochs.
    let epochs = train(&mut network(), &steady(Length::Epochs(3)), 1).unwrap();
    assert_eq!(detail.epochs[..2], epochs.epochs[..2]);
    assert_eq!(detail.curve[..40], epochs.curve[..40]);
    let whole = train(&mut network(), &steady(Length::Steps(48)), 1).unwrap();
    assert_eq!(whole, epochs);
}

#[test]
fn a_number_of_steps_that_comes_to_too_many_epochs_is_refused() {
    let config = TrainConfig { batch_size: 500, ..steady(Length::Steps(10_001)) };
    let error = train(&mut network(), &config, 1).unwrap_err();
    assert_eq!(error.violations(), [Violation::new("steps", "come to more than 10000 epochs")]);
}

#[test]
fn the_curve_tells_loss_accuracy_norm_and_clipping_of_every_stretch() {
    let clip = ClipConfig { value: None, norm: Some(0.1) };
    let detail = train(&mut network(), &TrainConfig { clip, ..config() }, 1).unwrap();
    assert_eq!((detail.curve.len(), detail.curve[319].step), (320, 320));
    let epoch = &detail.curve[..16];
    let mean_norm = epoch.iter().map(|p| p.gradient_norm).sum::<f64>() / 16.0;
    assert!((mean_norm - detail.epochs[0].gradient_norm).abs() < 1e-12);
    assert_eq!(detail.curve.iter().map(|p| p.clipped).sum::<f64>() as u64, detail.clipped_steps);
    assert!(detail.clipped_steps > 0 && detail.clipped_steps < 320);
    // In the end the network does on the batches about as on the validation split.
    let accuracy = detail.curve[304..].iter().map(|p| p.accuracy).sum::<f64>() / 16.0;
    assert!((accuracy - detail.epochs[19].validation_accuracy).abs() < 0.1, "{accuracy}");
}

#[test]
fn frozen_parameters_do_not_change_by_a_bit() {
    let decay = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
    let config = frozen(&["fc1.*"], TrainConfig { optimizer: decay, ema_decay: Some(0.9), ..config() });
    let mut graph = network();
    // A number that no 32-bit number can stand for.
    let mut edit = graph.edit();
    let bias = edit.graph().param_id("fc1.bias").unwrap();
    let thirds: Vec<u8> = (1..=24).flat_map(|i| (f64::from(i) / 3.0).to_le_bytes()).collect();
    edit.set_param(bias, TensorData::new(DType::F64, vec![24], thirds).unwrap());
    edit.commit().unwrap();
    let before = graph.clone();
    let detail = train(&mut graph, &config, 1).unwrap();
    for (param, before) in graph.params().iter().zip(before.params()) {
        assert_eq!(param.data == before.data, param.name.starts_with("fc1."), "{}", param.name);
    }
    // With them the network was judged, too.
    let mut session = Session::new(&graph).unwrap();
    let found = evaluate(&mut session, &exclusive_or(300, "validation"), &|| false).unwrap();
    assert_eq!(found.loss, detail.epochs[detail.best_epoch as usize - 1].validation_loss);
}

#[test]
fn pruned_weights_may_be_frozen() {
    let mut graph = pruned(0.5);
    let before = graph.clone();
    train(&mut graph, &frozen(&["fc1.*"], config()), 1).unwrap();
    assert_eq!(zeros(&graph), zeros(&before));
    assert_eq!(values(&graph, "fc1.weight"), values(&before, "fc1.weight"));
    assert_ne!(values(&graph, "fc2.weight"), values(&before, "fc2.weight"));
}

#[test]
fn gradual_pruning_leaves_frozen_weights_alone() {
    let gradual = gradual(0.75, 0.1, 0.5, 5);
    let mut graph = network();
    let config = frozen(&["fc1.weight"], steady(Length::Epochs(3)));
    train_with(&mut graph, &config, Some(&gradual), 1, &|| false, &mut |_| ()).unwrap();
    assert_eq!(values(&graph, "fc1.weight"), values(&network(), "fc1.weight"));
    assert_eq!(values(&graph, "fc2.weight").iter().filter(|v| **v == 0.0).count(), 36);
}

#[test]
fn a_pattern_that_freezes_nothing_and_one_that_leaves_nothing_are_refused() {
    let error = train(&mut network(), &frozen(&["fc*", "conv9.*"], config()), 1).unwrap_err();
    assert!(matches!(&error, TrainError::NoSuchParam { pattern } if pattern == "conv9.*"), "{error}");
    assert_eq!((error.kind(), error.violations()[0].field.as_str()), (Kind::InvalidArgument, "frozen"));
    // Running statistics are not learned: they are nothing to train.
    for (mut graph, patterns) in [(network(), vec!["*"]), (with_batch_norm(), vec!["*.weight", "*.bias"])] {
        let error = train(&mut graph, &frozen(&patterns, config()), 1).unwrap_err();
        assert_eq!(error.violations(), [Violation::new("frozen", "leaves no parameter to train")]);
    }
}

#[test]
fn the_average_of_the_weights_is_what_is_kept() {
    // Trainings within one epoch keep what they end with: the weights after every step.
    let after = |steps, ema_decay| {
        let mut graph = network();
        train(&mut graph, &TrainConfig { ema_decay, ..steady(Length::Steps(steps)) }, 1).unwrap();
        values(&graph, "fc1.weight")
    };
    let mut average: Vec<f64> = values(&network(), "fc1.weight").into_iter().map(f64::from).collect();
    for t in 0..12 {
        // From t = 8 on, 0.5 is the smaller one.
        let decay = (f64::from(1 + t) / f64::from(10 + t)).min(0.5);
        let weights = after(t as u64 + 1, None);
        average.iter_mut().zip(weights).for_each(|(a, w)| *a = decay * *a + (1.0 - decay) * f64::from(w));
    }
    let found = after(12, Some(0.5));
    assert!(found.iter().zip(average).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-6));
}

#[test]
fn training_goes_on_from_the_weights_and_not_from_their_average() {
    let losses = |ema_decay| {
        let detail = train(&mut network(), &TrainConfig { ema_decay, ..config() }, 1).unwrap();
        detail.curve.iter().map(|p| p.loss).collect::<Vec<f64>>()
    };
    assert_eq!(losses(Some(0.99)), losses(None));
}

#[test]
fn the_average_of_pruned_weights_is_pruned() {
    let gradual = gradual(0.75, 0.1, 0.5, 5);
    let mut graph = network();
    let config = TrainConfig { ema_decay: Some(0.99), ..config() };
    train_with(&mut graph, &config, Some(&gradual), 1, &|| false, &mut |_| ()).unwrap();
    assert_eq!(zeros(&graph), 72);
}

#[test]
fn running_statistics_follow_the_data_and_neither_decay_nor_average_moves_them() {
    let decay = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.5 };
    let with = |config: TrainConfig| {
        let mut graph = with_batch_norm();
        train(&mut graph, &config, 1).unwrap();
        ["bn.running_mean", "bn.running_var", "bn.weight"].map(|name| values(&graph, name))
    };
    let plain = with(steady(Length::Steps(10)));
    let other = with(TrainConfig { optimizer: decay, ema_decay: Some(0.9), ..steady(Length::Steps(10)) });
    assert_eq!(plain[..2], other[..2]);
    assert_ne!(plain[2], other[2]);
    // Uniform between -1 and 1: the variance is a third; after 10 steps of momentum 1/4 the start has a share of 6 %.
    assert!(plain[1].iter().all(|v| (v - 0.37).abs() < 0.08), "{plain:?}");
}

#[test]
fn frozen_statistics_are_those_that_training_uses() {
    let mut graph = with_batch_norm();
    let mut edit = graph.edit();
    let dropout = edit.graph().nodes().iter().find(|n| n.name == "drop").unwrap().name.clone();
    edit.replace_node(&dropout, vec![]).unwrap();
    edit.commit().unwrap();
    // With mean 0 and variance 1 the batch normalisation does next to nothing.
    let config = frozen(&["bn.*"], TrainConfig { batch_size: 500, ..steady(Length::Steps(1)) });
    let found = train(&mut graph, &config, 1).unwrap();
    let expected = train(&mut network(), &TrainConfig { batch_size: 500, ..steady(Length::Steps(1)) }, 1).unwrap();
    assert!((found.curve[0].loss - expected.curve[0].loss).abs() < 1e-4);
    assert_eq!(values(&graph, "bn.running_mean"), [0.0; 2]);
    assert_eq!(values(&graph, "bn.running_var"), [1.0; 2]);
}

#[test]
fn a_seed_fixes_what_dropouts_leave_out() {
    let run = |seed| {
        let mut graph = with_batch_norm();
        let config = frozen(&["fc1.bias"], TrainConfig { ema_decay: Some(0.9), ..steady(Length::Steps(20)) });
        let detail = train(&mut graph, &config, seed).unwrap();
        (graph, detail)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn every_step_and_every_seed_leaves_out_other_elements() {
    // Where all samples are one and nothing is learned, losses differ by what is left out.
    let point = Part { sample_shape: vec![2], inputs: Inputs::F32([0.5, -0.25].repeat(64)), labels: vec![0; 64] };
    let identity = Affine { channels: vec![(1.0, 0.0); 2] };
    let samples = Subset::new(Arc::new(point), (0..64).collect(), identity);
    let config = TrainConfig { learning_rate: 1e-20, ..steady(Length::Epochs(2)) };
    let mut losses: Vec<f64> = Vec::new();
    for seed in [1, 2] {
        let mut graph = network();
        let mut edit = graph.edit();
        let hidden = edit.graph().nodes()[1].output();
        let dropout = Op::Dropout(Dropout { rate: 0.5 });
        edit.insert_after(hidden, NewNode { name: "drop".into(), op: dropout, params: vec![] }).unwrap();
        edit.commit().unwrap();
        let (train, validation) = (&samples, &samples);
        let progress = &mut |_: &TrainProgress| ();
        let mut cx = TrainContext::new(train, validation, seed, &|| false, progress);
        let detail = fit(&mut graph, &config, None, &mut CrossEntropy::default(), &mut cx).unwrap();
        losses.extend(detail.curve.iter().map(|p| p.loss));
    }
    losses.sort_by(f64::total_cmp);
    assert!(losses.len() == 8 && losses.windows(2).all(|w| w[1] - w[0] > 1e-9), "{losses:?}");
}

#[test]
fn every_epoch_has_an_augmentation_of_its_own() {
    // A column at the edge of each image, in each of another shade: which are mirrored is all that tells epochs apart.
    let part = |n: usize| {
        let images = (0..n).flat_map(|i| [(i as f32).sqrt(), 0.0, 0.0, 0.0, 0.0]).collect();
        Arc::new(Part { sample_shape: vec![1, 1, 5], inputs: Inputs::F32(images), labels: vec![0; n] })
    };
    let (train, validation, test) = (part(40), Some(part(10)), Some(part(10)));
    let data = Dataset { source: "npz", classes: 1, class_names: vec![], train, validation, selection: None, test };
    let spec = DataSpec { augment: vec![Augmentation::Flip], ..DataSpec::default() };
    let splits = split(&data, &spec, 1).unwrap();
    let mut graph = GraphBuilder::new("net", &[1, 1, 5]).flatten("flatten").linear("fc", 2).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    let config = TrainConfig { batch_size: 40, learning_rate: 1e-20, ..steady(Length::Epochs(4)) };
    let progress = &mut |_: &TrainProgress| ();
    let (train, validation) = (&splits.train, &splits.validation);
    let mut cx = TrainContext::new(train, validation, 1, &|| false, progress);
    let detail = fit(&mut graph, &config, None, &mut CrossEntropy::default(), &mut cx).unwrap();
    let mut losses: Vec<f64> = detail.epochs.iter().map(|e| e.train_loss).collect();
    losses.sort_by(f64::total_cmp);
    assert!(losses.windows(2).all(|w| w[1] - w[0] > 1e-6), "{losses:?}");
    // The samples that measure stay as they are.
    assert!(detail.epochs.windows(2).all(|w| w[0].validation_loss == w[1].validation_loss));
}

#[test]
fn a_last_batch_of_one_sample_which_has_no_variance_is_left_out() {
    // 500 samples are 2 batches of 249 and one of 2, or one of 499 and one sample.
    let steps = |mut graph: Graph, batch_size, patterns: &[&str]| {
        let config = frozen(patterns, TrainConfig { batch_size, ..steady(Length::Epochs(2)) });
        train(&mut graph, &config, 1).map(|detail| detail.total_steps)
    };
    assert_eq!(steps(with_batch_norm(), 249, &[]).unwrap(), 6);
    assert_eq!(steps(with_batch_norm(), 499, &[]).unwrap(), 2);
    assert_eq!(steps(with_batch_norm(), 499, &["bn.running_*"]).unwrap(), 4);
    assert_eq!(steps(network(), 499, &[]).unwrap(), 4);
    let error = steps(with_batch_norm(), 1, &[]).unwrap_err();
    assert_eq!(error.violations()[0].field, "batch_size");
}
