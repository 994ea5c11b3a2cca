//! Tests of distillation: the loss by its definition, its limits, and a student that learns from the teacher alone.

use std::sync::Arc;

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::data::{Affine, Batch, Inputs, Part, Subset};
use crate::exec::{Activations, Mode, Session};
use crate::graph::builder::GraphBuilder;
use crate::graph::op::Activation;
use crate::graph::{Graph, init};
use crate::seed;
use crate::tensor::TensorData;
use crate::train::config::{Length, OptimizerConfig, ScheduleConfig, TrainConfig};
use crate::train::metrics::evaluate;
use crate::train::objective::{CrossEntropy, Loss, Objective};
use crate::train::{TrainContext, TrainError, fit};

const CLASSES: usize = 4;

/// A teacher whose outputs are the sample itself.
fn echo(classes: usize) -> Session {
    let mut graph = GraphBuilder::new("echo", &[classes]).linear("fc", classes).build().unwrap();
    let one = |i: usize| if i.is_multiple_of(classes + 1) { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..classes * classes).map(one).collect();
    let mut edit = graph.edit();
    let weight = edit.graph().param_id("fc.weight").unwrap();
    edit.set_param(weight, TensorData::from_f32(vec![classes, classes], &values).unwrap());
    edit.commit().unwrap();
    Session::new(&graph).unwrap()
}

/// The loss where teacher and student say this of samples with these labels.
fn loss(taught: &[f32], outputs: &[f32], labels: &[u32], temperature: f64, hard: f64) -> Result<Loss, TrainError> {
    let batch = Batch { inputs: taught.to_vec(), labels: labels.to_vec(), mixed: None };
    let activations = Activations { outputs: vec![outputs.to_vec()], taps: vec![] };
    Distill::new(echo(CLASSES), temperature, hard).loss(&activations, &batch)
}

/// By the definition, in `f64`, with no care for overflow.
fn naive(taught: &[f32], outputs: &[f64], labels: &[u32], temperature: f64, hard: f64) -> f64 {
    let softmax = |row: &[f64], t: f64| {
        let all: f64 = row.iter().map(|v| (v / t).exp()).sum();
        row.iter().map(|v| (v / t).exp() / all).collect::<Vec<f64>>()
    };
    let taught: Vec<f64> = taught.iter().map(|v| f64::from(*v)).collect();
    let mut sum = 0.0;
    for (i, label) in labels.iter().enumerate() {
        let row = i * CLASSES..(i + 1) * CLASSES;
        let (p, q) = (softmax(&taught[row.clone()], temperature), softmax(&outputs[row.clone()], temperature));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let cross_entropy = -softmax(&outputs[row], 1.0)[*label as usize].ln();
        sum += (1.0 - hard) * temperature * temperature * kl + hard * cross_entropy;
    }
    sum / labels.len() as f64
}

proptest! {
    #[test]
    fn the_gradient_is_the_central_difference(
        taught in prop::collection::vec(-6f32..6.0, 3 * CLASSES), outputs in prop::collection::vec(-6f32..6.0, 3 * CLASSES),
        labels in prop::collection::vec(0..CLASSES as u32, 3), temperature in 0.5f64..20.0, hard in 0f64..=1.0,
    ) {
        const STEP: f64 = 1e-5;
        let found = loss(&taught, &outputs, &labels, temperature, hard).unwrap();
        let mut x: Vec<f64> = outputs.iter().map(|v| f64::from(*v)).collect();
        let expected = naive(&taught, &x, &labels, temperature, hard);
        prop_assert!((found.value - expected).abs() < 1e-9 * expected.max(1.0));
        for i in 0..x.len() {
            let at = x[i];
            x[i] = at + STEP;
            let above = naive(&taught, &x, &labels, temperature, hard);
            x[i] = at - STEP;
            let expected = (above - naive(&taught, &x, &labels, temperature, hard)) / (2.0 * STEP);
            x[i] = at;
            // The gradient is rounded to f32; the loss is up to some tens, which costs the difference about 1e-9.
            let tolerance = 1e-6 * expected.abs().max(1.0);
            prop_assert!((f64::from(found.d_outputs[0][i]) - expected).abs() < tolerance);
        }
    }

    #[test]
    fn at_a_high_temperature_it_is_the_regression_of_outputs(
        taught in prop::collection::vec(-3f32..3.0, 2 * CLASSES), outputs in prop::collection::vec(-3f32..3.0, 2 * CLASSES),
    ) {
        let found = loss(&taught, &outputs, &[0, 0], 1e4, 0.0).unwrap();
        let mut value = 0.0;
        for row in 0..2 {
            let places = row * CLASSES..(row + 1) * CLASSES;
            let distance: Vec<f64> =
                places.clone().map(|i| f64::from(outputs[i]) - f64::from(taught[i])).collect();
            let mean = distance.iter().sum::<f64>() / CLASSES as f64;
            for (i, distance) in places.zip(distance) {
                let expected = (distance - mean) / CLASSES as f64 / 2.0;
                value += expected * (distance - mean) / 2.0;
                // What is left out is of the order of outputs / temperature.
                prop_assert!((f64::from(found.d_outputs[0][i]) - expected).abs() < 1e-3, "{expected}");
            }
        }
        prop_assert!((found.value - value).abs() < 1e-2, "{} {value}", found.value);
    }
}

#[test]
fn the_gradient_is_as_large_at_any_temperature() {
    let (taught, outputs) = ([1.0, -0.5, 0.25, 0.0], [-0.5, 0.75, 0.0, 0.5]);
    let norm = |temperature| {
        let found = loss(&taught, &outputs, &[0], temperature, 0.0).unwrap();
        found.d_outputs[0].iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt()
    };
    for temperature in [2.0, 5.0, 20.0, 1000.0] {
        let ratio = norm(temperature) / norm(10.0);
        assert!((0.9..1.1).contains(&ratio), "{temperature}: {ratio}");
    }
}

#[test]
fn a_student_like_its_teacher_has_nothing_to_learn() {
    let outputs = [900.0, -900.0, 3.0, 0.0];
    let found = loss(&outputs, &outputs, &[1], 1.0, 0.0).unwrap();
    assert_eq!((found.value, &found.d_outputs[0][..]), (0.0, &[0.0; CLASSES][..]));
}

#[test]
fn the_labels_alone_are_the_cross_entropy() {
    let batch = Batch { inputs: vec![5.0; CLASSES], labels: vec![2], mixed: None };
    let activations = Activations { outputs: vec![vec![0.5, 1.0, -1.0, 0.0]], taps: vec![] };
    let found = Distill::new(echo(CLASSES), 4.0, 1.0).loss(&activations, &batch).unwrap();
    assert_eq!(found, CrossEntropy::default().loss(&activations, &batch).unwrap());
}

#[test]
fn a_teacher_that_does_not_fit_is_refused_with_both_numbers() {
    let with = |teacher: usize, inputs: Vec<f32>| {
        let batch = Batch { inputs, labels: vec![0, 1], mixed: None };
        let activations = Activations { outputs: vec![vec![0.0; 2 * CLASSES]], taps: vec![] };
        Distill::new(echo(teacher), 4.0, 0.5).loss(&activations, &batch).unwrap_err()
    };
    let error = with(3, vec![0.0; 6]);
    assert_eq!(error.to_string(), "the teacher has 3 classes, the student 4");
    assert_eq!((error.kind(), error.violations()[0].field.as_str()), (Kind::InvalidArgument, "distill.teacher"));
    let error = with(4, vec![0.0; 10]);
    assert_eq!(error.to_string(), "the teacher takes samples of 4 values, the student's have 5");
    let error = with(4, vec![f32::INFINITY; 8]);
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("the teacher's outputs are not finite", Kind::FailedPrecondition)
    );
}

/// `n` points in a square whose label says whether both coordinates have one sign; with `Labels::Wrong`, none has.
fn points(n: usize, name: &str, labels: Labels) -> Subset {
    let mut rng = seed::stream(3, name);
    let points: Vec<f32> = (0..2 * n).map(|_| rng.random_range(-1.0..1.0)).collect();
    let label = |p: &[f32]| u32::from((p[0] * p[1] > 0.0) == (labels == Labels::Right));
    let labels = points.chunks(2).map(label).collect();
    let part = Part { sample_shape: vec![2], inputs: Inputs::F32(points), labels };
    Subset::new(Arc::new(part), (0..n as u32).collect(), Affine { channels: vec![(1.0, 0.0); 2] })
}

#[derive(PartialEq)]
enum Labels {
    Right,
    Wrong,
}

fn network(hidden: usize, seed: u64) -> Graph {
    let mut graph = GraphBuilder::new("mlp", &[2])
        .linear("fc1", hidden)
        .activation("relu", Activation::Relu)
        .linear("fc2", 2)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, seed).unwrap();
    graph
}

#[test]
fn a_student_learns_its_teachers_function_though_every_label_is_wrong() {
    let config = TrainConfig {
        length: Length::Epochs(20),
        batch_size: 32,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 },
        learning_rate: 0.1,
        schedule: ScheduleConfig::Cosine { floor: 0.0 },
        ..TrainConfig::default()
    };
    let validation = points(300, "validation", Labels::Right);
    let learn = |graph: &mut Graph, train: &Subset, objective: &mut dyn Objective| {
        let progress = &mut |_: &_| ();
        let mut cx = TrainContext::new(train, &validation, 1, &|| false, progress);
        fit(graph, &config, None, objective, &mut cx).unwrap()
    };
    let (mut teacher, mut student) = (network(24, 5), network(16, 6));
    learn(&mut teacher, &points(500, "train", Labels::Right), &mut CrossEntropy::default());
    let mut objective = Distill::new(Session::new(&teacher).unwrap(), 2.0, 0.0);
    learn(&mut student, &points(500, "train", Labels::Wrong), &mut objective);

    let test = points(1000, "test", Labels::Right);
    let batch = test.batch(0..1000);
    let mut sessions = [teacher, student].map(|graph| Session::new(&graph).unwrap());
    let found = sessions.each_mut().map(|session| {
        assert!(evaluate(session, &test, &|| false).unwrap().accuracy > 0.9);
        let outputs = session.forward(&batch.inputs, 1000, Mode::Eval, &[]).unwrap().outputs.remove(0);
        // The share of the first class.
        outputs.chunks(2).map(|row| 1.0 / (1.0 + (row[1] - row[0]).exp())).collect::<Vec<f32>>()
    });
    let distance = found[0].iter().zip(&found[1]).map(|(t, s)| (t - s).abs()).sum::<f32>() / 1000.0;
    assert!(distance < 0.05, "{distance}");
}
