//! Whole recipes, run by the engine without a server, on data small enough to train on in a moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use niwaki::data::{DataSpec, Dataset, Inputs, Part, Transform};
use niwaki::digest::Digest;
use niwaki::error::{Classify, Kind};
use niwaki::format::{self, native};
use niwaki::graph::builder::GraphBuilder;
use niwaki::graph::op::Activation;
use niwaki::graph::{Graph, cost, init};
use niwaki::passes::prune::{Amount, Pattern, Scope};
use niwaki::passes::quantize::{Format, Quantize, Values};
use niwaki::recipe::run::{MODEL_FILE, REPORT_FILE, Run, run};
use niwaki::recipe::{
    Cubic, Given, PruneSchedule, PruneWeightsStep, Recipe, RecipeError, Repeat, Step, StepKind, Upload, VERSION,
};
use niwaki::report::Report;
use niwaki::seed;
use niwaki::tensor::TensorData;
use niwaki::train::calibrate::Batches;
use niwaki::train::config::{ClipConfig, Length, OptimizerConfig, ScheduleConfig, TrainConfig};
use niwaki::train::criterion::Criterion;
use rand::Rng;

/// Three overlapping clouds of points in six dimensions, one a class.
fn clouds(samples: usize, seed: u64) -> Part {
    let mut rng = seed::stream(seed, "clouds");
    let mut inputs = Vec::new();
    let mut labels = Vec::new();
    for i in 0..samples {
        let label = (i % 3) as u32;
        for axis in 0..6 {
            let centre = if axis / 2 == label as usize { 1.0 } else { -0.3 };
            inputs.push(centre + rng.random_range(-1.5..1.5f32));
        }
        labels.push(label);
    }
    Part { sample_shape: vec![6], inputs: Inputs::F32(inputs), labels }
}

fn dataset() -> Dataset {
    let (train, test) = (Arc::new(clouds(600, 1)), Arc::new(clouds(300, 2)));
    Dataset {
        source: "safetensors",
        classes: 3,
        class_names: vec![],
        train,
        validation: None,
        selection: None,
        test: Some(test),
    }
}

fn network() -> Graph {
    let mut graph = GraphBuilder::new("mlp", &[6])
        .linear("fc1", 24)
        .activation("relu", Activation::Relu)
        .linear("fc2", 3)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, 5).unwrap();
    graph
}

fn upload(graph: &Graph) -> Upload {
    let bytes = Bytes::from(native::write(graph, &Default::default()).unwrap());
    Upload { bytes: bytes.len() as u64, model: format::open_model(bytes, None).unwrap() }
}

fn training(epochs: u32) -> TrainConfig {
    TrainConfig {
        length: Length::Epochs(epochs),
        batch_size: 32,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 },
        learning_rate: 0.1,
        schedule: ScheduleConfig::Cosine { floor: 0.0 },
        warmup_steps: 5,
        clip: ClipConfig { value: Some((-1.0, 1.0)), norm: Some(2.0) },
        early_stop: None,
        ..TrainConfig::default()
    }
}

fn recipe(steps: Vec<StepKind>) -> Recipe {
    let data = DataSpec { transforms: vec![Transform::Scale { factor: 0.5 }], ..DataSpec::default() };
    let steps = steps.into_iter().map(|kind| Step { name: String::new(), kind }).collect();
    Recipe { version: VERSION, name: "test".into(), description: String::new(), seed: 9, data, start: None, steps }
}

fn gradual(sparsity: f64) -> StepKind {
    StepKind::PruneWeights(PruneWeightsStep {
        amount: Amount::Sparsity(sparsity),
        scope: Scope::Global,
        ignored: vec![],
        criterion: Criterion::Magnitude,
        schedule: PruneSchedule::Cubic(Cubic { train: training(6), begin: 0.0, end: 0.5, every: 3 }),
    })
}

fn half() -> StepKind {
    StepKind::Quantize(Quantize { format: Format::F16, keep_f32: vec![], activations: Values::Rounded })
}

/// Runs a recipe on a model alone.
fn run_on(
    recipe: &Recipe,
    model: &Upload,
    data: &Dataset,
    out: &Path,
    listener: &mut Run<'_>,
) -> Result<Report, RecipeError> {
    run(recipe, &Given { model: Some(model), extra: &BTreeMap::new(), data }, out, listener)
}

/// Runs a recipe on a fresh copy of the network; returns the report and the emitted bytes.
fn cook(recipe: &Recipe) -> (Report, Bytes) {
    let folder = tempfile::tempdir().unwrap();
    let upload = upload(&network());
    let report = run_on(recipe, &upload, &dataset(), folder.path(), &mut Run::new(&|| false, &mut |_| {})).unwrap();
    let written: Report = serde_json::from_slice(&fs::read(folder.path().join(REPORT_FILE)).unwrap()).unwrap();
    assert_eq!(written, report);
    (report, fs::read(folder.path().join(MODEL_FILE)).unwrap().into())
}

#[test]
fn the_same_recipe_gives_the_same_bytes_and_another_seed_gives_others() {
    let mut recipe = recipe(vec![StepKind::Train(training(3)), gradual(0.8), half()]);
    let (_, first) = cook(&recipe);
    let (_, second) = cook(&recipe);
    assert_eq!(Digest::of(&first), Digest::of(&second));
    recipe.seed += 1;
    let (_, other) = cook(&recipe);
    assert_ne!(Digest::of(&first), Digest::of(&other));
}

#[test]
fn the_report_describes_the_emitted_file() {
    let (report, bytes) = cook(&recipe(vec![StepKind::Train(training(6)), gradual(0.75), half()]));
    let emitted = format::open_model(bytes.clone(), None).unwrap();
    let cost = cost::of_graph(&emitted.graph);
    let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["model.safetensors", "model.onnx"]);
    assert_eq!(report.files[0].digest, Digest::of(&bytes).to_string());
    assert_eq!(report.result.bytes, bytes.len() as u64);
    assert_eq!((report.result.params, report.result.nonzero_params), (cost.params, cost.nonzero_params));
    assert_eq!(report.baseline.bytes, upload(&network()).bytes);
    assert_eq!(report.test_samples, 300);

    // 24 x 6 and 3 x 24 weights, of which a quarter stays; rounding to f16 may turn a small one into zero.
    let weights: u64 = report.steps[1].sparsity.iter().map(|s| s.values).sum();
    let zeros: u64 = report.steps[1].sparsity.iter().map(|s| s.zeros).sum();
    assert_eq!((weights, zeros), (216, 162));
    assert!(report.result.nonzero_params <= 54 + 27);

    // An untrained network knows nothing of three classes; a trained one most of it.
    assert!(report.baseline.accuracy < 0.6, "{}", report.baseline.accuracy);
    assert!(report.result.accuracy > 0.75, "{}", report.result.accuracy);
    let delta = report.result.accuracy - report.baseline.accuracy;
    assert!((report.accuracy_delta - delta).abs() < 1e-12);
    let [low, high] = report.accuracy_delta_ci95;
    assert!(low < report.accuracy_delta && report.accuracy_delta < high);
    let per_class: f64 = report.classes.iter().map(|c| c.result_accuracy * c.samples as f64).sum();
    assert!((per_class / 300.0 - report.result.accuracy).abs() < 1e-12);
}

#[test]
fn zeros_alone_are_called_zeros() {
    let step = PruneWeightsStep {
        amount: Amount::Sparsity(0.5),
        scope: Scope::Layer,
        ignored: vec!["fc2.*".into()],
        criterion: Criterion::Magnitude,
        schedule: PruneSchedule::OneShot,
    };
    let (report, _) = cook(&recipe(vec![StepKind::PruneWeights(step)]));
    assert_eq!(report.result.macs, report.baseline.macs);
    assert!(report.warnings.iter().any(|w| w.contains("Zeros alone are not compression")), "{:?}", report.warnings);
    assert!(report.warnings.iter().any(|w| w.contains("no smaller than the baseline")), "{:?}", report.warnings);
}

#[test]
fn pruning_weights_changes_nothing_but_their_values() {
    let pattern = |keep, of| PruneWeightsStep {
        amount: Amount::Pattern(Pattern { keep, of }),
        scope: Scope::Global,
        criterion: Criterion::Magnitude,
        ignored: vec![],
        schedule: PruneSchedule::OneShot,
    };
    let how = Batches { batches: 2, batch_size: 32 };
    let wanda = PruneWeightsStep {
        amount: Amount::SparsityOfRest(0.5),
        scope: Scope::Output,
        criterion: Criterion::Wanda(how),
        ..pattern(1, 2)
    };
    let steps = [pattern(1, 2), pattern(2, 4), wanda].map(StepKind::PruneWeights);
    let (report, bytes) = cook(&recipe(steps.to_vec()));
    let (before, after) = (network(), format::open_model(bytes, None).unwrap().graph);
    assert_eq!(native::graph_json(&after), native::graph_json(&before));
    for (before, after) in before.params().iter().zip(after.params()) {
        let (before, after) = (before.data.to_f32().unwrap(), after.data.to_f32().unwrap());
        assert!(before.iter().zip(after).all(|(before, after)| after == 0.0 || *before == after));
    }
    // Six inputs are no multiple of four: that layer was left alone, and the report says so.
    let kept = |step: usize| report.steps[step].sparsity.iter().map(|p| p.kept_because.as_str()).collect::<Vec<_>>();
    assert_eq!(kept(0), ["", ""]);
    assert_eq!(kept(1), ["6 inputs do not divide into groups of 4", ""]);
    let zeros = |step: usize| report.steps[step].sparsity.iter().map(|p| p.zeros).sum::<u64>();
    // Each of 24 outputs loses one or two of its three weights left, rounded to two, and each of three six of twelve.
    assert_eq!((zeros(0), zeros(2)), (108, 108 + 24 * 2 + 3 * 6));
    assert!(report.warnings.iter().any(|w| w.contains("Zeros alone are not compression")), "{:?}", report.warnings);
}

#[test]
fn zeros_of_a_round_are_called_zeros_too() {
    let prune = PruneWeightsStep {
        amount: Amount::SparsityOfRest(0.5),
        scope: Scope::Global,
        criterion: Criterion::Magnitude,
        ignored: vec![],
        schedule: PruneSchedule::OneShot,
    };
    let steps = vec![Step { name: "half".into(), kind: StepKind::PruneWeights(prune) }];
    let (report, _) = cook(&recipe(vec![StepKind::Repeat(Repeat { times: 3, steps })]));
    assert!(report.warnings.iter().any(|w| w.contains("Zeros alone are not compression")), "{:?}", report.warnings);
    let found: Vec<(u32, u32, &str)> = report.steps.iter().map(|s| (s.step, s.round, s.name.as_str())).collect();
    assert_eq!(found, [(1, 1, "half"), (2, 2, "half"), (3, 3, "half")]);
    let zeros: Vec<u64> = report.steps.iter().map(|s| s.sparsity.iter().map(|p| p.zeros).sum()).collect();
    assert_eq!(zeros, [108, 162, 189]);
}

#[test]
fn a_model_that_has_seen_the_validation_samples_is_found_out() {
    // Learns 600 samples by heart: labels are noise, so only having seen them helps.
    let mut noisy = dataset();
    let mut rng = seed::stream(3, "noise");
    let mut train = clouds(120, 1);
    train.labels.iter_mut().for_each(|l| *l = rng.random_range(0..3));
    noisy.train = Arc::new(train);
    let mut graph = network();
    let learn = Recipe { data: DataSpec::default(), ..recipe(vec![]) };
    let all = DataSpec::default();
    let splits = niwaki::data::split(&noisy, &all, learn.seed).unwrap();
    let (samples, progress) = (&splits.validation, &mut |_: &niwaki::train::TrainProgress| ());
    let mut cx = niwaki::train::TrainContext::new(samples, samples, 1, &|| false, progress);
    let config = TrainConfig { clip: ClipConfig::default(), ..training(400) };
    niwaki::train::fit(&mut graph, &config, None, &mut niwaki::train::objective::CrossEntropy::default(), &mut cx)
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let report = run_on(&learn, &upload(&graph), &noisy, folder.path(), &mut Run::new(&|| false, &mut |_| {})).unwrap();
    assert!(report.warnings.iter().any(|w| w.contains("has probably seen these samples")), "{:?}", report.warnings);
}

#[test]
fn a_cancelled_run_stops_soon_and_leaves_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let asked = AtomicU64::new(0);
    let error = run_on(
        &recipe(vec![StepKind::Train(training(10_000))]),
        &upload(&network()),
        &dataset(),
        folder.path(),
        &mut Run::new(&|| asked.fetch_add(1, Ordering::Relaxed) > 200, &mut |_| {}),
    )
    .unwrap_err();
    assert!(matches!(error, RecipeError::Cancelled));
    let asked = asked.into_inner();
    assert!(asked < 210, "asked {asked} times");
    assert!(!folder.path().join(REPORT_FILE).exists());
    assert!(!folder.path().join(MODEL_FILE).exists());
}

#[test]
fn a_recipe_that_does_not_fit_is_refused_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(vec![half(), StepKind::Train(training(1))]);
    recipe.version = 2;
    let mut told = 0;
    let error =
        run_on(&recipe, &upload(&network()), &dataset(), folder.path(), &mut Run::new(&|| false, &mut |_| told += 1))
            .unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let fields: Vec<String> = error.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["version", "steps[1].train"]);
    assert_eq!(told, 0);
}

#[test]
fn a_training_that_explodes_fails_with_its_step() {
    let wild = TrainConfig { learning_rate: 1e30, clip: ClipConfig::default(), ..training(2) };
    let folder = tempfile::tempdir().unwrap();
    let error = run_on(
        &recipe(vec![StepKind::Evaluate, StepKind::Train(wild)]),
        &upload(&network()),
        &dataset(),
        folder.path(),
        &mut Run::new(&|| false, &mut |_| {}),
    )
    .unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "DIVERGED"));
    assert!(error.to_string().starts_with("step 2: "), "{error}");
    assert!(!folder.path().join(MODEL_FILE).exists());
}

#[test]
fn a_model_whose_outputs_overflow_is_refused_and_not_reported() {
    let mut graph = network();
    let mut edit = graph.edit();
    for name in ["fc1.weight", "fc2.weight"] {
        let id = edit.graph().param_id(name).unwrap();
        let shape = edit.graph().param(id).data.shape().to_vec();
        let values = vec![1e30; shape.iter().product()];
        edit.set_param(id, TensorData::from_f32(shape, &values).unwrap());
    }
    edit.commit().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut silent = |_: &_| ();
    let mut listener = Run::new(&|| false, &mut silent);
    let error = run_on(&recipe(vec![half()]), &upload(&graph), &dataset(), folder.path(), &mut listener).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "NON_FINITE"));
    assert!(!folder.path().join(REPORT_FILE).exists());
}
