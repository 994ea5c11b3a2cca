//! Runs that are broken off at any place and gone on with: model and report must be those of an undisturbed run, but for
//! the times in the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use niwaki::data::{Augmentation, DataSpec, Dataset, Inputs, Part, Transform, split};
use niwaki::exec::Session;
use niwaki::format::{self, native};
use niwaki::graph::builder::GraphBuilder;
use niwaki::graph::op::{Activation, BatchNorm, Conv2d};
use niwaki::graph::{Graph, init};
use niwaki::passes::insert_batch_norm::{InsertBatchNorm, Place};
use niwaki::passes::insert_dropout::InsertDropout;
use niwaki::passes::low_rank::{LowRank, Rank};
use niwaki::passes::prune::channels::importance::Importance;
use niwaki::passes::prune::channels::plan::{Limits, Metric};
use niwaki::passes::prune::channels::repair::Repair;
use niwaki::passes::prune::{Amount, Scope};
use niwaki::passes::quantize::{Format, Quantize, Values};
use niwaki::recipe::run::{BEST_FILE, MODEL_FILE, REPORT_FILE, Run, run};
use niwaki::recipe::{
    Choose, Cubic, EvolveChannelsStep, Given, InsertBatchNormStep, Keep, Network, PruneSchedule, PruneWeightsStep,
    Recipe, RecipeError, Repeat, Start, Step, StepKind, Student, Upload, VERSION,
};
use niwaki::report::Report;
use niwaki::seed;
use niwaki::train::calibrate::Batches;
use niwaki::train::config::{
    ClipConfig, EarlyStop, Length, ObjectiveConfig, OptimizerConfig, ScheduleConfig, Teacher, TrainConfig,
};
use niwaki::train::criterion::Criterion;
use niwaki::train::metrics::evaluate;
use rand::Rng;

/// Small noisy images: which third of the columns is brightest is the class.
fn images(samples: usize, seed: u64) -> Part {
    let mut rng = seed::stream(seed, "images");
    let mut inputs = Vec::new();
    let mut labels = Vec::new();
    for i in 0..samples {
        let label = (i % 3) as u32;
        for pixel in 0..36u32 {
            let bright = if pixel % 6 / 2 == label { 0.8 } else { 0.0 };
            inputs.push(bright + rng.random_range(-1.0..1.0f32));
        }
        labels.push(label);
    }
    Part { sample_shape: vec![1, 6, 6], inputs: Inputs::F32(inputs), labels }
}

fn dataset() -> Dataset {
    Dataset {
        source: "safetensors",
        classes: 3,
        class_names: vec![],
        train: Arc::new(images(90, 1)),
        validation: Some(Arc::new(images(30, 2))),
        selection: None,
        test: Some(Arc::new(images(30, 3))),
    }
}

fn network() -> Graph {
    let mut graph = GraphBuilder::new("net", &[1, 6, 6])
        .conv("conv", 4, 3, Conv2d::default())
        .activation("relu1", Activation::Relu)
        .flatten("flatten")
        .linear("fc1", 12)
        .activation("relu2", Activation::Relu)
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

/// Models that a recipe may speak of.
fn extra() -> BTreeMap<String, Upload> {
    [("teacher".to_string(), upload(&network()))].into()
}

/// Batches of 32 of 90 samples: three steps an epoch.
fn training() -> TrainConfig {
    TrainConfig {
        length: Length::Epochs(3),
        batch_size: 32,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 },
        learning_rate: 0.05,
        schedule: ScheduleConfig::Cosine { floor: 0.1 },
        warmup_steps: 2,
        clip: ClipConfig { value: Some((-0.5, 0.5)), norm: Some(1.0) },
        ..TrainConfig::default()
    }
}

fn adamw() -> TrainConfig {
    let optimizer = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 };
    TrainConfig { optimizer, learning_rate: 0.01, ..training() }
}

fn recipe(steps: Vec<StepKind>) -> Recipe {
    let data = DataSpec { transforms: vec![Transform::Scale { factor: 0.5 }], ..DataSpec::default() };
    let steps = steps.into_iter().map(|kind| Step { name: String::new(), kind }).collect();
    Recipe { version: VERSION, name: "test".into(), description: String::new(), seed: 9, data, start: None, steps }
}

fn dropout() -> StepKind {
    StepKind::InsertDropout(InsertDropout { after: vec!["relu*".into()], rate: 0.3 })
}

fn half() -> StepKind {
    StepKind::Quantize(Quantize { format: Format::F16, keep_f32: vec![], activations: Values::Rounded })
}

/// One try at a recipe in the folder `out`, going on from what the try before left; `after` saves it is cancelled.
fn attempt(
    recipe: &Recipe,
    model: Option<&Upload>,
    data: &Dataset,
    out: &Path,
    after: u64,
) -> Result<Report, RecipeError> {
    let saved = AtomicU64::new(0);
    let file = out.join("state");
    let keep = Keep {
        resume: file.exists().then(|| file.clone()),
        file,
        owner: "job".into(),
        every: Duration::MAX,
        at_once: &|| true,
        kept: &mut || {
            saved.fetch_add(1, Ordering::Relaxed);
        },
    };
    let cancelled = || saved.load(Ordering::Relaxed) >= after;
    let mut progress = |_: &_| ();
    let mut listener = Run { keep: Some(keep), ..Run::new(&cancelled, &mut progress) };
    run(recipe, &Given { model, extra: &extra(), data }, out, &mut listener)
}

/// The report without what a clock measured.
fn timeless(mut report: Report) -> Report {
    report.steps.iter_mut().for_each(|step| step.seconds = 0.0);
    for metrics in [&mut report.baseline, &mut report.result] {
        (metrics.latency_ms.p50, metrics.latency_ms.p95) = (0.0, 0.0);
    }
    report
}

fn undisturbed(recipe: &Recipe, model: Option<&Upload>) -> (Vec<u8>, Report) {
    let folder = tempfile::tempdir().unwrap();
    let mut progress = |_: &_| ();
    let mut listener = Run::new(&|| false, &mut progress);
    let given = Given { model, extra: &extra(), data: &dataset() };
    let report = run(recipe, &given, folder.path(), &mut listener).unwrap();
    (fs::read(folder.path().join(MODEL_FILE)).unwrap(), timeless(report))
}

/// Breaks the recipe off at every place where its state is saved, one after the other, each time in a run of its own; the
/// last must end as an undisturbed run. Says how often it was broken off.
fn broken_off_everywhere(recipe: &Recipe, model: Option<&Upload>) -> u64 {
    let (expected, expected_report) = undisturbed(recipe, model);
    let folder = tempfile::tempdir().unwrap();
    let data = dataset();
    for breaks in 0.. {
        // A run that goes on first saves the place where it begins, then the next one.
        let after = if breaks == 0 { 1 } else { 2 };
        match attempt(recipe, model, &data, folder.path(), after) {
            Err(RecipeError::Cancelled) => {}
            Err(error) => panic!("after {breaks} breaks: {error}"),
            Ok(report) => {
                assert_eq!(timeless(report), expected_report);
                assert!(fs::read(folder.path().join(MODEL_FILE)).unwrap() == expected, "the models differ");
                return breaks;
            }
        }
    }
    unreachable!()
}

#[test]
fn momentum_dropout_average_and_augmentation() {
    let train = TrainConfig { ema_decay: Some(0.9), ..training() };
    let mut recipe = recipe(vec![dropout(), StepKind::Train(train), StepKind::Fold]);
    recipe.data.augment = vec![Augmentation::Flip, Augmentation::ShiftCrop { pixels: 1 }];
    // Before each of three steps and after the last; nine training steps and the end of three epochs, of which the first
    // is the place before the step.
    assert_eq!(broken_off_everywhere(&recipe, Some(&upload(&network()))), 4 + 12);
}

#[test]
fn adamw_with_batch_normalisation_and_half_precision() {
    let insert = InsertBatchNorm {
        place: Place::Before,
        activations: vec![],
        config: BatchNorm { epsilon: 1e-5, momentum: 0.1 },
        moments: vec![],
    };
    let batches = Batches { batches: 2, batch_size: 32 };
    let steps = vec![
        StepKind::InsertBatchNorm(InsertBatchNormStep { insert, calibrate: batches }),
        StepKind::Train(TrainConfig { frozen: vec!["fc2.*".into()], length: Length::Steps(7), ..adamw() }),
        StepKind::RecalibrateBatchNorm(batches),
        StepKind::Fold,
        half(),
    ];
    assert_eq!(broken_off_everywhere(&recipe(steps), Some(&upload(&network()))), 6 + 7 + 3);
}

#[test]
fn gradual_pruning_an_early_end_and_low_rank() {
    let prune = |train: TrainConfig| {
        StepKind::PruneWeights(PruneWeightsStep {
            amount: Amount::Sparsity(0.6),
            scope: Scope::Global,
            ignored: vec![],
            criterion: Criterion::Magnitude,
            schedule: PruneSchedule::Cubic(Cubic { train, begin: 0.0, end: 0.6, every: 2 }),
        })
    };
    let early = TrainConfig {
        length: Length::Epochs(5),
        early_stop: Some(EarlyStop { patience: 1, min_delta: 0.9 }),
        schedule: ScheduleConfig::Step { every_epochs: 1, gamma: 0.5 },
        ..training()
    };
    let low_rank = LowRank { layers: vec!["conv".into()], ignored: vec![], rank: Rank::Fixed(1), round_to: 1 };
    let steps = vec![StepKind::LowRank(low_rank), prune(training()), StepKind::Train(early)];
    let breaks = broken_off_everywhere(&recipe(steps), Some(&upload(&network())));
    // The early end came: five epochs would have been 15 steps.
    assert!(breaks < 4 + 12 + 20 && breaks > 4 + 12, "{breaks}");
}

#[test]
fn surgery_and_movement_whose_weights_come_back() {
    let prune = |criterion| {
        StepKind::PruneWeights(PruneWeightsStep {
            amount: Amount::Sparsity(0.6),
            scope: Scope::Global,
            criterion,
            ignored: vec![],
            schedule: PruneSchedule::Surgery {
                cubic: Cubic { train: training(), begin: 0.0, end: 0.4, every: 1 },
                settle: 0.7,
                decay: 0.01,
            },
        })
    };
    let steps = vec![prune(Criterion::Movement), StepKind::Initialise(init::Init::He), prune(Criterion::Magnitude)];
    assert_eq!(broken_off_everywhere(&recipe(steps), Some(&upload(&network()))), 4 + 24);
}

#[test]
fn rounds_of_pruning_with_rewinding() {
    let how = Batches { batches: 2, batch_size: 16 };
    let prune = |criterion| {
        StepKind::PruneWeights(PruneWeightsStep {
            amount: Amount::SparsityOfRest(0.4),
            scope: Scope::Layer,
            criterion,
            ignored: vec!["conv.*".into()],
            schedule: PruneSchedule::OneShot,
        })
    };
    let train = || StepKind::Train(TrainConfig { length: Length::Steps(2), ..training() });
    let steps = vec![prune(Criterion::Taylor(how)), StepKind::Rewind, train()];
    let steps = steps.into_iter().map(|kind| Step { name: "round".into(), kind }).collect();
    let repeat = StepKind::Repeat(Repeat { times: 3, steps });
    let all = vec![StepKind::Initialise(init::Init::He), StepKind::Mark, train(), repeat];
    // Three steps, three rounds of three, and the end; four trainings of two steps, of whose three places the first is
    // the one before the step.
    let recipe = recipe(all);
    assert_eq!(broken_off_everywhere(&recipe, Some(&upload(&network()))), 3 + 9 + 1 + 4 * 3);
    let (_, report) = undisturbed(&recipe, Some(&upload(&network())));
    let rounds: Vec<(u32, u32)> = report.steps.iter().map(|step| (step.step, step.round)).collect();
    let expected = (1..=12).map(|step: u32| (step, step.saturating_sub(1) / 3)).collect::<Vec<_>>();
    assert_eq!(rounds, expected);
}

#[test]
fn a_preset_that_is_trained_first_and_then_teaches() {
    let preset = |hidden: &str| format!("mlp:input=1x6x6,hidden={hidden},classes=3,dropout=0.2");
    let objective = ObjectiveConfig::Distill { teacher: Teacher::Baseline, temperature: 3.0, hard_weight: 0.3 };
    let steps = vec![
        StepKind::Student(Student { network: Network::Preset(preset("6")), init: init::Init::He }),
        StepKind::Train(TrainConfig { objective, ..adamw() }),
    ];
    let start = Start { preset: preset("16"), init: init::Init::He, train: training() };
    let recipe = Recipe { start: Some(start), ..recipe(steps) };
    assert_eq!(broken_off_everywhere(&recipe, None), 12 + 3 + 12);
}

#[test]
fn another_model_that_teaches() {
    let teacher = Teacher::Model("teacher".into());
    let objective = ObjectiveConfig::Distill { teacher, temperature: 3.0, hard_weight: 0.3 };
    let steps = vec![StepKind::Train(TrainConfig { objective, ..adamw() })];
    assert_eq!(broken_off_everywhere(&recipe(steps), Some(&upload(&network()))), 2 + 12);
}

#[test]
fn a_model_in_half_precision_is_widened_once() {
    let mut graph = network();
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let data = edit.graph().param(id).data.to_float(niwaki::tensor::DType::F16).unwrap();
        edit.set_param(id, data);
    }
    edit.commit().unwrap();
    let plain = TrainConfig {
        optimizer: OptimizerConfig::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        length: Length::Epochs(1),
        ..training()
    };
    assert_eq!(broken_off_everywhere(&recipe(vec![StepKind::Train(plain)]), Some(&upload(&graph))), 2 + 4);
}

#[test]
fn a_search_and_the_training_after_it() {
    let evolve = EvolveChannelsStep {
        cost: Metric::Params,
        budget: None,
        choose: Choose::Knee,
        population: 4,
        generations: 3,
        samples: 20,
        importance: Importance::Taylor,
        limits: Limits { round_to: 1, ..Limits::default() },
        measure: Batches { batches: 2, batch_size: 32 },
        repair: Some(Repair::Reconstruct),
    };
    let short = TrainConfig { length: Length::Epochs(1), ..training() };
    let steps = vec![StepKind::EvolveChannels(evolve), StepKind::Train(short)];
    // Three places between steps; before each of three generations and after the last; three training steps and the end of
    // an epoch. The report tells the digest of each file of the front, and so that all are the same.
    assert_eq!(broken_off_everywhere(&recipe(steps), Some(&upload(&network()))), 3 + 4 + 4);
}

/// Breaks a training off in its middle and returns the folder with the state.
fn broken_off(recipe: &Recipe, model: &Upload) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let error = attempt(recipe, Some(model), &dataset(), folder.path(), 6).unwrap_err();
    assert!(matches!(error, RecipeError::Cancelled));
    folder
}

/// How many states a run that goes on from `state` saves.
fn saves(recipe: &Recipe, model: &Upload, data: &Dataset, folder: &Path) -> u64 {
    let other = folder.join("other");
    fs::create_dir_all(&other).unwrap();
    let saved = AtomicU64::new(0);
    let keep = Keep {
        file: other.join("state"),
        owner: "job".into(),
        every: Duration::MAX,
        resume: Some(folder.join("state")),
        at_once: &|| true,
        kept: &mut || {
            saved.fetch_add(1, Ordering::Relaxed);
        },
    };
    let mut progress = |_: &_| ();
    let mut listener = Run { keep: Some(keep), ..Run::new(&|| false, &mut progress) };
    run(recipe, &Given { model: Some(model), extra: &extra(), data }, &other, &mut listener).unwrap();
    saved.into_inner()
}

#[test]
fn a_state_of_anything_else_or_with_a_flipped_bit_is_put_aside_and_the_run_begins_anew() {
    let one = TrainConfig { length: Length::Epochs(2), ..training() };
    let (recipe, model, data) = (recipe(vec![StepKind::Train(one)]), upload(&network()), dataset());
    let (expected, _) = undisturbed(&recipe, Some(&model));
    let folder = broken_off(&recipe, &model);
    let out = folder.path().join("other");
    // Six places were passed: two steps, the start included, and the end of the first epoch among them.
    let all = 2 + 8;
    assert_eq!(saves(&recipe, &model, &data, folder.path()), all - 5);

    // Another model, other data, another recipe.
    let mut graph = network();
    init::initialise(&mut graph, init::Init::He, 6).unwrap();
    assert_eq!(saves(&recipe, &upload(&graph), &data, folder.path()), all);
    let other = Dataset { test: Some(Arc::new(images(30, 4))), ..dataset() };
    assert_eq!(saves(&recipe, &model, &other, folder.path()), all);
    let seed = Recipe { seed: 10, ..recipe.clone() };
    assert_eq!(saves(&seed, &model, &data, folder.path()), all);

    // Bits in the header, in the JSON and in the tensors; and a file that was cut off.
    let state = fs::read(folder.path().join("state")).unwrap();
    let mut rng = seed::stream(1, "bits");
    let flips: Vec<(usize, u32)> = (0..6).map(|_| (rng.random_range(0..state.len()), rng.random_range(0..8))).collect();
    for (place, bit) in flips.into_iter().chain([(0, 0), (9, 1), (40, 2), (state.len() - 1, 7)]) {
        let mut flipped = state.clone();
        flipped[place] ^= 1 << bit;
        fs::write(folder.path().join("state"), flipped).unwrap();
        assert_eq!(saves(&recipe, &model, &data, folder.path()), all, "byte {place}");
        assert!(fs::read(out.join(MODEL_FILE)).unwrap() == expected);
    }
    fs::write(folder.path().join("state"), &state[..state.len() / 2]).unwrap();
    assert_eq!(saves(&recipe, &model, &data, folder.path()), all);
}

#[test]
fn a_state_that_cannot_be_saved_does_not_end_the_run() {
    let (recipe, model) = (recipe(vec![StepKind::Train(training())]), upload(&network()));
    let (expected, _) = undisturbed(&recipe, Some(&model));
    let folder = tempfile::tempdir().unwrap();
    // A folder is where the file should be.
    fs::create_dir_all(folder.path().join("state/occupied")).unwrap();
    attempt(&recipe, Some(&model), &dataset(), folder.path(), 1).unwrap();
    assert!(fs::read(folder.path().join(MODEL_FILE)).unwrap() == expected);
}

#[test]
fn a_cancelled_run_leaves_the_best_model_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, model) = (recipe(vec![StepKind::Train(training())]), upload(&network()));
    // In the third epoch: of the first two, one is the best.
    attempt(&recipe, Some(&model), &dataset(), folder.path(), 10).unwrap_err();
    assert!(!folder.path().join(MODEL_FILE).exists() && !folder.path().join(REPORT_FILE).exists());
    let bytes = Bytes::from(fs::read(folder.path().join(BEST_FILE)).unwrap());
    let best = format::open_model(bytes, None).unwrap().graph;
    let splits = split(&dataset(), &recipe.data, recipe.seed).unwrap();
    let found = evaluate(&mut Session::new(&best).unwrap(), &splits.validation, &|| false).unwrap();
    let (_, report) = undisturbed(&recipe, Some(&model));
    let epochs = &report.steps[0].train.as_ref().unwrap().epochs[..2];
    let of_best = epochs.iter().map(|epoch| epoch.validation_accuracy).fold(0.0, f64::max);
    assert_eq!(found.accuracy, of_best);
    assert!(epochs.iter().any(|epoch| epoch.validation_loss == found.loss), "{found:?} {epochs:?}");
}

#[test]
fn a_network_that_has_not_learnt_anything_is_not_left() {
    let folder = tempfile::tempdir().unwrap();
    let train = StepKind::Train(training());
    let fresh = recipe(vec![StepKind::Initialise(init::Init::He), train]);
    attempt(&fresh, Some(&upload(&network())), &dataset(), folder.path(), 3).unwrap_err();
    assert!(!folder.path().join(BEST_FILE).exists());
}
