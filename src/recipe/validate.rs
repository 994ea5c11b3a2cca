//! What a recipe must fit: the model it is given and the data set. Ranges of single fields are checked where a recipe is
//! read (`api::recipe`); here is what can only be known with model and data at hand.
//!
//! All violations are reported at once, each by the path of its field in `niwaki.v1.Recipe`.

use crate::data::{self, Dataset};
use crate::error::{Classify, Violation};
use crate::graph::{Graph, cost, glob, preset};
use crate::train::config::TrainConfig;

use super::{MAX_STEPS, Recipe, StepKind, VERSION};

/// Memory that a training step's activations and gradients may take.
const MAX_BATCH_BYTES: u64 = 8 << 30;

impl Recipe {
    /// Everything that keeps the recipe from running on `model` (`None`: no model is given) with `data`; empty if it may
    /// run.
    pub fn validate(&self, model: Option<&Graph>, data: &Dataset) -> Vec<Violation> {
        let mut violations = Vec::new();
        if self.version != VERSION {
            let text = format!("this niwaki reads version {VERSION}, the recipe says {}", self.version);
            violations.push(Violation::new("version", text));
        }
        if self.steps.len() > MAX_STEPS {
            let text = format!("at most {MAX_STEPS} steps are allowed, got {}", self.steps.len());
            violations.push(Violation::new("steps", text));
        }
        let mut classes = data.classes;
        match data::split(data, &self.data, self.seed) {
            Ok(splits) => classes = splits.classes,
            Err(error) => violations.extend(error.violations()),
        }
        if let Some(graph) = self.network(model, &mut violations) {
            violations.extend(misfits(&graph, &data.train.sample_shape, classes));
            self.check_steps(&graph, &mut violations);
        }
        violations
    }

    /// The network that the steps will see.
    fn network(&self, model: Option<&Graph>, violations: &mut Vec<Violation>) -> Option<Graph> {
        match (&self.start, model) {
            (None, Some(graph)) => return Some(graph.clone()),
            (None, None) => {
                violations.push(Violation::new("start", "give a model, or name a built-in network in `start.preset`"));
            }
            (Some(_), Some(_)) => {
                let text = "the recipe starts from a built-in network, so no model may be given with it";
                violations.push(Violation::new("start", text));
            }
            (Some(start), None) => match preset::build(&start.preset) {
                Some(graph) => return Some(graph),
                None => {
                    let names = preset::names().collect::<Vec<_>>().join(", ");
                    let text = format!("there is no built-in network '{}'; there are: {names}", start.preset);
                    violations.push(Violation::new("start.preset", text));
                }
            },
        }
        None
    }

    fn check_steps(&self, graph: &Graph, violations: &mut Vec<Violation>) {
        if let Some(start) = &self.start {
            check_memory(graph, &start.train, "start.train", violations);
        }
        let mut quantized = false;
        for (i, step) in self.steps.iter().enumerate() {
            let path = format!("steps[{i}].{}", step.kind.field());
            let training = match &step.kind {
                StepKind::Evaluate => None,
                StepKind::Train(train) => Some((path.clone(), train)),
                StepKind::PruneWeights(prune) => {
                    check_globs(graph, &prune.ignored, format!("{path}.ignored"), violations);
                    let left = |id| glob::select(graph, &prune.ignored).is_ok_and(|ignored| !ignored.contains(&id));
                    if !graph.param_ids().any(|id| graph.param(id).is_weight() && left(id)) {
                        let text = "leaves no weight to prune";
                        violations.push(Violation::new(format!("{path}.ignored"), text));
                    }
                    prune.cubic.as_ref().map(|cubic| (format!("{path}.cubic.train"), &cubic.train))
                }
                StepKind::Quantize(quantize) => {
                    check_globs(graph, &quantize.keep_f32, format!("{path}.keep_f32"), violations);
                    None
                }
                _ => todo!(),
            };
            if let Some((field, train)) = training {
                check_memory(graph, train, &field, violations);
                if quantized {
                    let text =
                        "training after `quantize` would be rounded away; move `quantize` behind the last training";
                    violations.push(Violation::new(path, text));
                }
            }
            quantized |= matches!(step.kind, StepKind::Quantize(_));
        }
    }
}

fn check_globs(graph: &Graph, patterns: &[String], field: String, violations: &mut Vec<Violation>) {
    if let Err(pattern) = glob::select(graph, patterns) {
        violations.push(Violation::new(field, format!("'{pattern}' fits no parameter of the model")));
    }
}

/// A batch's activations and their gradients must fit into memory.
fn check_memory(graph: &Graph, train: &TrainConfig, path: &str, violations: &mut Vec<Violation>) {
    let needed = cost::activations(graph).total.saturating_mul(2 * 4).saturating_mul(u64::from(train.batch_size));
    if needed > MAX_BATCH_BYTES {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let text = format!(
            "{} samples at once would take about {:.1} GiB of activations, at most {:.0} are allowed",
            train.batch_size,
            gib(needed),
            gib(MAX_BATCH_BYTES)
        );
        violations.push(Violation::new(format!("{path}.batch_size"), text));
    }
}

/// What keeps a network from taking samples of this shape and having an output for each of so many classes; empty if nothing
/// does.
pub fn misfits(graph: &Graph, sample: &[usize], classes: u32) -> Vec<Violation> {
    let mut violations = Vec::new();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{DataSpec, Inputs, Part, Transform};
    use crate::graph::init::Init;
    use crate::passes::prune::{Amount, Scope};
    use crate::passes::quantize::{Format, Quantize, Values};
    use crate::recipe::{Cubic, PruneWeightsStep, Start, Step};
    use crate::train::config::{ClipConfig, Length, OptimizerConfig, ScheduleConfig, TrainConfig};

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
        TrainConfig {
            length: Length::Epochs(1),
            batch_size: 8,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
            learning_rate: 0.1,
            schedule: ScheduleConfig::Constant,
            warmup_steps: 0,
            clip: ClipConfig::default(),
            early_stop: None,
            ..TrainConfig::default()
        }
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
        recipe.validate(None, data).into_iter().map(|v| v.field).collect()
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
            cubic: Some(Cubic { train: huge.clone(), begin: 0.0, end: 0.5, every: 10 }),
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
        let graph = preset::build("lenet5").unwrap();
        let both = recipe(Some("lenet5"), vec![]).validate(Some(&graph), &data(&[1, 28, 28], 10));
        assert_eq!(both[0].field, "start");
    }
}
