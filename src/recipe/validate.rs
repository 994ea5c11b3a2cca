//! What a recipe must fit: the model it is given and the data set. Ranges of single fields are checked where a recipe is
//! read (`api::recipe`); here is what can only be known with model and data at hand.
//!
//! All violations are reported at once, each by the path of its field in `niwaki.v1.Recipe`.

use super::outline::Outline;
use super::unroll::Unrolled;
use super::{Given, MAX_STEPS, MAX_UNROLLED, Recipe, VERSION};
use crate::data;
use crate::error::{Classify, Violation};
use crate::graph::{Dim, Graph, Value, preset};

impl Recipe {
    /// Everything that keeps the recipe from running on what is given; empty if it may run.
    pub fn validate(&self, given: &Given<'_>) -> Vec<Violation> {
        let mut violations = Vec::new();
        if self.version != VERSION {
            let text = format!("this niwaki reads version {VERSION}, the recipe says {}", self.version);
            violations.push(Violation::new("version", text));
        }
        if self.steps.len() > MAX_STEPS {
            let text = format!("at most {MAX_STEPS} steps are allowed, got {}", self.steps.len());
            violations.push(Violation::new("steps", text));
        }
        let unrolled = self.unrolled_len();
        if unrolled > MAX_UNROLLED {
            let text = format!("come to {unrolled} with every round of `repeat`, at most {MAX_UNROLLED} are allowed");
            violations.push(Violation::new("steps", text));
            return violations;
        }
        let (mut classes, mut samples) = (given.data.classes, given.data.train.labels.len());
        match data::split(given.data, &self.data, self.seed) {
            Ok(splits) => (classes, samples) = (splits.classes, splits.train.len()),
            Err(error) => violations.extend(error.violations()),
        }
        if let Some(graph) = self.network(given, &mut violations) {
            violations.extend(misfits(&graph, &given.data.train.sample_shape, classes));
            let mut outline = Outline::new(graph, given, classes, samples);
            if let Some(start) = &self.start {
                outline.start(&start.train);
            }
            for Unrolled { step, path, .. } in self.unrolled() {
                outline.step(&step.kind, &path);
            }
            violations.extend(outline.violations());
        }
        violations
    }

    /// The network that the steps will see.
    fn network(&self, given: &Given<'_>, violations: &mut Vec<Violation>) -> Option<Graph> {
        match (&self.start, given.model) {
            (None, Some(upload)) => return Some(upload.model.graph.clone()),
            (None, None) => {
                violations.push(Violation::new("start", "give a model, or name a built-in network in `start.preset`"));
            }
            (Some(_), Some(_)) => {
                let text = "the recipe starts from a built-in network, so no model may be given with it";
                violations.push(Violation::new("start", text));
            }
            (Some(start), None) => match preset::build(&start.preset) {
                Ok(graph) => return Some(graph),
                Err(error) => violations.push(Violation::new("start.preset", error.to_string())),
            },
        }
        None
    }
}

/// What keeps a network from taking samples of this shape and having an output for each of so many classes; empty if nothing
/// does.
pub fn misfits(graph: &Graph, sample: &[usize], classes: u32) -> Vec<Violation> {
    let mut violations = unusable(graph);
    if !violations.is_empty() {
        return violations;
    }
    let takes = graph.input_shape();
    let same_size = takes.iter().product::<usize>() == sample.iter().product::<usize>();
    // A network that takes a plain vector may be given images; anything else must fit axis by axis.
    if takes != sample && !(same_size && takes.len() == 1) {
        let text = format!("a sample has shape {sample:?}, the network takes {takes:?}");
        violations.push(Violation::new("data", text));
    }
    match graph.output_shape()[..] {
        [outputs] if outputs >= classes as usize => {}
        [outputs] => {
            let text = format!("the labels go up to {}, the network has {outputs} outputs", classes - 1);
            violations.push(Violation::new("data", text));
        }
        ref shape => {
            let text = format!("the network's output has shape {shape:?}; a classifier's is [classes]");
            violations.push(Violation::new("data", text));
        }
    }
    violations
}

/// What keeps a network from being run on a data set, whatever the samples.
fn unusable(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |text: String| violations.push(Violation::new("model", text));
    let unknown = graph.unknown_operators();
    if !unknown.is_empty() {
        refuse(format!("the network has operators that niwaki does not have: {}", unknown.join(", ")));
    }
    let inputs: Vec<&Value> = graph.inputs().iter().map(|id| graph.value(*id)).collect();
    match inputs[..] {
        [input] if !input.ty.dtype.is_float() => {
            refuse(format!("the network takes {}; a data set has floating point numbers", input.ty));
        }
        [input] if input.shape().first() != Some(&Dim::Batch) => {
            refuse(format!("the network takes {}, whose first axis is not the number of samples", input.ty));
        }
        [input] if input.shape()[1..].iter().any(|dim| dim.fixed().is_none()) => {
            refuse(format!("the network takes {}; a data set has samples of one size", input.ty));
        }
        [_] => {}
        _ => {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            refuse(format!("the network has {} inputs ({}); a data set has one", names.len(), names.join(", ")));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::data::{DataSpec, Dataset, Inputs, Part, Transform};
    use crate::format::Model;
    use crate::graph::init::Init;
    use crate::graph::op::BatchNorm;
    use crate::passes::insert_batch_norm::{InsertBatchNorm, Place};
    use crate::passes::low_rank::{LowRank, Rank};
    use crate::passes::prune::channels::importance::Importance;
    use crate::passes::prune::channels::plan;
    use crate::passes::prune::{Amount, Pattern, Scope};
    use crate::passes::quantize::{Format, Quantize, Values};
    use crate::recipe::{
        Cubic, InsertBatchNormStep, Network, PruneChannelsStep, PruneSchedule, PruneWeightsStep, Repeat, Start, Step,
        StepKind, Student, Upload,
    };
    use crate::train::calibrate::Batches;
    use crate::train::config::{Length, ObjectiveConfig, Teacher, TrainConfig};
    use crate::train::criterion::Criterion;

    fn data(sample_shape: &[usize], classes: u32) -> Dataset {
        let size = sample_shape.iter().product::<usize>();
        let part = Part {
            sample_shape: sample_shape.to_vec(),
            inputs: Inputs::F32(vec![0.0; size * 10]),
            labels: vec![classes - 1; 10],
        };
        let part = Arc::new(part);
        Dataset {
            source: "safetensors",
            classes,
            class_names: vec![],
            train: part.clone(),
            validation: None,
            selection: None,
            test: Some(part),
        }
    }

    fn train() -> TrainConfig {
        TrainConfig { batch_size: 8, ..TrainConfig::default() }
    }

    fn recipe(preset: Option<&str>, steps: Vec<StepKind>) -> Recipe {
        Recipe {
            version: VERSION,
            name: "test".into(),
            description: String::new(),
            seed: 1,
            data: DataSpec::default(),
            start: preset.map(|p| Start { preset: p.into(), init: Init::He, train: train() }),
            steps: steps.into_iter().map(|kind| Step { name: String::new(), kind }).collect(),
        }
    }

    fn fields(recipe: &Recipe, data: &Dataset) -> Vec<String> {
        recipe.validate(&Given { model: None, extra: &BTreeMap::new(), data }).into_iter().map(|v| v.field).collect()
    }

    fn upload(graph: Graph) -> Upload {
        Upload { bytes: 0, model: Model { graph, metadata: BTreeMap::new() } }
    }

    #[test]
    fn a_recipe_that_fits_has_no_violations() {
        assert_eq!(fields(&recipe(Some("lenet5"), vec![StepKind::Train(train())]), &data(&[1, 28, 28], 10)), [""; 0]);
    }

    #[test]
    fn every_violation_is_reported_by_its_path() {
        let quantize = Quantize { format: Format::F16, keep_f32: vec!["conv9.*".into()], activations: Values::Rounded };
        let mut recipe = recipe(Some("lenet5"), vec![StepKind::Quantize(quantize), StepKind::Train(train())]);
        recipe.version = 7;
        recipe.data.split.test_fraction = Some(0.5);
        assert_eq!(
            fields(&recipe, &data(&[1, 32, 32], 11)),
            ["version", "data.split.test_fraction", "data", "data", "steps[0].quantize.keep_f32", "steps[1].train"]
        );
    }

    #[test]
    fn transforms_and_splits_must_suit_the_data() {
        let mut recipe = recipe(Some("lenet5"), vec![]);
        recipe.data.transforms = vec![Transform::Normalize { mean: vec![0.0; 3], std: vec![1.0; 3] }];
        assert_eq!(fields(&recipe, &data(&[1, 28, 28], 10)), ["data.transforms[0].normalize.mean"]);
        recipe.data.transforms.clear();
        recipe.data.split.validation_fraction = Some(0.01);
        assert_eq!(fields(&recipe, &data(&[1, 28, 28], 10)), ["data.split"]);
    }

    #[test]
    fn a_batch_must_fit_into_memory_and_a_pruning_must_have_weights() {
        let huge = TrainConfig { batch_size: 200_000, ..train() };
        let nothing = PruneWeightsStep {
            amount: Amount::Sparsity(0.5),
            scope: Scope::Global,
            ignored: vec!["*".into()],
            criterion: Criterion::Magnitude,
            schedule: PruneSchedule::Cubic(Cubic { train: huge.clone(), begin: 0.0, end: 0.5, every: 10 }),
        };
        let mut recipe = recipe(Some("lenet5"), vec![StepKind::Train(huge), StepKind::PruneWeights(nothing)]);
        recipe.start.as_mut().unwrap().train.batch_size = 100_000;
        assert_eq!(
            fields(&recipe, &data(&[1, 28, 28], 10)),
            [
                "start.train.batch_size",
                "steps[0].train.batch_size",
                "steps[1].prune_weights.ignored",
                "steps[1].prune_weights.cubic.train.batch_size"
            ]
        );
    }

    #[test]
    fn a_recipe_needs_one_place_to_start_from() {
        assert_eq!(fields(&recipe(None, vec![]), &data(&[1, 28, 28], 10)), ["start"]);
        assert_eq!(fields(&recipe(Some("alexnet"), vec![]), &data(&[1, 28, 28], 10)), ["start.preset"]);
        let model = upload(preset::build("lenet5").unwrap());
        let given = Given { model: Some(&model), extra: &BTreeMap::new(), data: &data(&[1, 28, 28], 10) };
        assert_eq!(recipe(Some("lenet5"), vec![]).validate(&given)[0].field, "start");
    }

    fn distill(teacher: Teacher) -> TrainConfig {
        let objective = ObjectiveConfig::Distill { teacher, temperature: 4.0, hard_weight: 0.1 };
        TrainConfig { objective, ..train() }
    }

    #[test]
    fn teachers_and_students_must_be_there_and_fit() {
        let student = |network| StepKind::Student(Student { network, init: Init::He });
        let model = |name: &str| Network::Model(name.into());
        let teacher = |name: &str| Teacher::Model(name.into());
        let mut recipe = recipe(
            Some("lenet5"),
            vec![
                student(Network::Preset("lenet6".into())),
                student(model("absent")),
                student(model("wide")),
                StepKind::Train(distill(teacher("absent"))),
                StepKind::Train(distill(teacher("wide"))),
                StepKind::Train(distill(Teacher::Baseline)),
            ],
        );
        recipe.start.as_mut().unwrap().train = distill(Teacher::Baseline);
        let wide = upload(preset::build("mlp:input=1x32x32,hidden=4,classes=12").unwrap());
        let extra = BTreeMap::from([("wide".to_string(), wide)]);
        let given = Given { model: None, extra: &extra, data: &data(&[1, 28, 28], 10) };
        let fields: Vec<String> = recipe.validate(&given).into_iter().map(|v| v.field).collect();
        assert_eq!(
            fields,
            [
                "start.train.distill.teacher",
                "steps[0].student.preset",
                "steps[1].student.model",
                "steps[2].student",
                "steps[3].train.distill.teacher",
                "steps[4].train.distill.teacher",
                // The student of step 2 has 12 classes, the baseline 10.
                "steps[5].train.distill.teacher",
            ]
        );
    }

    #[test]
    fn an_importance_must_say_something_of_every_layer() {
        let channels = |importance| {
            let (amount, limits) = (plan::Amount::Ratio(0.5), plan::Limits::default());
            let measure = Batches { batches: 2, batch_size: 8 };
            let step = PruneChannelsStep { amount, importance, limits, measure, repair: None };
            fields(&recipe(Some("lenet5"), vec![StepKind::PruneChannels(step)]), &data(&[1, 28, 28], 10))
        };
        assert_eq!(channels(Importance::BatchNormScale), ["steps[0].prune_channels.importance"]);
        assert_eq!(channels(Importance::ActivationEnergy), [""; 0]);
    }

    #[test]
    fn steps_are_checked_against_what_the_steps_before_make_of_the_network() {
        let low_rank =
            LowRank { layers: vec![], ignored: vec!["nothing*".into()], rank: Rank::Energy(0.5), round_to: 8 };
        let norm = InsertBatchNormStep {
            insert: InsertBatchNorm {
                place: Place::Before,
                activations: vec!["relu9".into()],
                config: BatchNorm::default(),
                moments: vec![],
            },
            calibrate: Batches { batches: 1, batch_size: 8 },
        };
        let recalibrate = StepKind::RecalibrateBatchNorm(norm.calibrate);
        let mut sound = norm.clone();
        sound.insert.activations.clear();
        let pruned = StepKind::PruneWeights(PruneWeightsStep {
            amount: Amount::Sparsity(0.5),
            scope: Scope::Global,
            ignored: vec![],
            criterion: Criterion::Magnitude,
            schedule: PruneSchedule::OneShot,
        });
        let budget = LowRank { layers: vec![], ignored: vec![], rank: Rank::MacRatio(0.5), round_to: 8 };
        let freeze = |pattern: &str| StepKind::Train(TrainConfig { frozen: vec![pattern.into()], ..train() });
        let steps = vec![
            StepKind::LowRank(low_rank.clone()),
            StepKind::InsertBatchNorm(norm),
            recalibrate.clone(),
            freeze("fc1.1.weight"),
            StepKind::LowRank(LowRank { ignored: vec![], ..low_rank }),
            StepKind::InsertBatchNorm(sound),
            recalibrate,
            freeze("fc1.1.weight"),
            freeze("fc1.0.1.weight"),
            freeze("*"),
            StepKind::Student(Student { network: Network::Preset("lenet5".into()), init: Init::He }),
            freeze("*"),
            pruned,
            // What is pruned is left alone, so that nothing is left to save on.
            StepKind::LowRank(budget),
            StepKind::RecalibrateBatchNorm(Batches { batches: 1, batch_size: 1 << 16 }),
            StepKind::Train(TrainConfig { length: Length::Steps(1 << 40), ..train() }),
        ];
        assert_eq!(
            fields(&recipe(Some("lenet5"), steps), &data(&[1, 28, 28], 10)),
            [
                "steps[0].low_rank.ignored",
                "steps[1].insert_batch_norm.activations",
                "steps[2].recalibrate_batch_norm",
                "steps[3].train.frozen",
                "steps[8].train.frozen",
                "steps[11].train.frozen",
                "steps[13].low_rank.mac_ratio",
                "steps[14].recalibrate_batch_norm",
                "steps[15].train.steps",
            ]
        );
    }

    fn prune(amount: Amount, criterion: Criterion, ignored: &[&str]) -> PruneWeightsStep {
        let ignored = ignored.iter().map(|name| name.to_string()).collect();
        PruneWeightsStep { amount, scope: Scope::Global, criterion, ignored, schedule: PruneSchedule::OneShot }
    }

    #[test]
    fn a_pruning_must_fit_the_network() {
        let half = Amount::Sparsity(0.5);
        let pattern = |of| Amount::Pattern(Pattern { keep: 1, of });
        let huge = Batches { batches: 1, batch_size: 1 << 30 };
        let steps = [
            prune(half, Criterion::Magnitude, &["conv9.*"]),
            prune(half, Criterion::Snip(huge), &["*"]),
            // One, six and sixteen channels, 400, 120 and 84 features.
            prune(pattern(4), Criterion::Magnitude, &[]),
            prune(pattern(7), Criterion::Magnitude, &["fc3.*"]),
        ];
        let steps: Vec<StepKind> = steps.into_iter().map(StepKind::PruneWeights).collect();
        let expected = [
            "steps[0].prune_weights.ignored",
            "steps[1].prune_weights.ignored",
            "steps[1].prune_weights.snip.batch_size",
            "steps[3].prune_weights.pattern.of",
        ];
        assert_eq!(fields(&recipe(Some("lenet5"), steps), &data(&[1, 28, 28], 10)), expected);
        let wanda = Criterion::Wanda(Batches { batches: 1, batch_size: 8 });
        let wanda = |ignored: &[&str]| StepKind::PruneWeights(prune(half, wanda, ignored));
        let lstm = recipe(Some("lstm:input=29x12,classes=9"), vec![wanda(&[]), wanda(&["lstm*"])]);
        assert_eq!(fields(&lstm, &data(&[29, 12], 9)), ["steps[0].prune_weights.wanda"]);
    }

    #[test]
    fn what_is_rewound_must_have_been_marked_and_not_have_changed() {
        let repeat = |steps: Vec<StepKind>| {
            let steps = steps.into_iter().map(|kind| Step { name: String::new(), kind }).collect();
            StepKind::Repeat(Repeat { times: 3, steps })
        };
        let low_rank = LowRank { layers: vec![], ignored: vec![], rank: Rank::Energy(0.5), round_to: 8 };
        let steps = vec![
            repeat(vec![StepKind::Rewind]),
            StepKind::Mark,
            repeat(vec![StepKind::Train(train()), StepKind::Rewind]),
            StepKind::LowRank(low_rank),
            StepKind::Rewind,
            StepKind::Mark,
            StepKind::Rewind,
            StepKind::Student(Student { network: Network::Preset("lenet5-caffe".into()), init: Init::He }),
            StepKind::Rewind,
            StepKind::Mark,
            StepKind::Quantize(Quantize { format: Format::F16, keep_f32: vec![], activations: Values::Rounded }),
            StepKind::Rewind,
        ];
        let recipe = recipe(Some("lenet5"), steps);
        let expected = ["steps[0].repeat.steps[0].rewind", "steps[4].rewind", "steps[8].rewind", "steps[11].rewind"];
        assert_eq!(fields(&recipe, &data(&[1, 28, 28], 10)), expected);
    }

    #[test]
    fn rounds_beyond_all_bounds_are_refused_before_they_are_looked_at() {
        let evaluate = Step { name: String::new(), kind: StepKind::Evaluate };
        let repeat = StepKind::Repeat(Repeat { times: u32::MAX, steps: vec![evaluate; 64] });
        assert_eq!(fields(&recipe(Some("lenet5"), vec![repeat]), &data(&[1, 28, 28], 10)), ["steps"]);
    }
}
