//! What a recipe must fit: the model it is given and the data set. Ranges of single fields are checked where a recipe is
//! read (`api::recipe`); here is what can only be known with model and data at hand.
//!
//! All violations are reported at once, each by the path of its field in `niwaki.v1.Recipe`.

use crate::data::{Dataset, Transform};
use crate::error::Violation;
use crate::graph::{Graph, glob, preset};

use super::{MAX_STEPS, Recipe, StepKind, VERSION};

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
        self.check_data(data, &mut violations);
        if let Some(graph) = self.network(model, &mut violations) {
            check_fit(&graph, data, &mut violations);
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

    fn check_data(&self, data: &Dataset, violations: &mut Vec<Violation>) {
        if data.test.is_some() && self.data.split.test_fraction.is_some() {
            let text = "the data set has test samples of its own, so none may be cut from its training samples";
            violations.push(Violation::new("data.split.test_fraction", text));
        }
        let channels = data.train.sample_shape.first().copied().unwrap_or(1);
        for (i, transform) in self.data.transforms.iter().enumerate() {
            let Transform::Normalize { mean, .. } = transform else { continue };
            if mean.len() != 1 && mean.len() != channels {
                let field = format!("data.transforms[{i}].normalize.mean");
                let text = format!("has {} numbers; 1 or {channels} (the sample's channels) are needed", mean.len());
                violations.push(Violation::new(field, text));
            }
        }
    }

    fn check_steps(&self, graph: &Graph, violations: &mut Vec<Violation>) {
        let mut quantized = false;
        for (i, step) in self.steps.iter().enumerate() {
            let path = format!("steps[{i}].{}", step.kind.field());
            let globs = match &step.kind {
                StepKind::PruneWeights(prune) => Some(("ignored", &prune.ignored)),
                StepKind::Quantize(quantize) => Some(("keep_f32", &quantize.keep_f32)),
                StepKind::Evaluate | StepKind::Train(_) => None,
            };
            if let Some((field, patterns)) = globs
                && let Err(pattern) = glob::select(graph, patterns)
            {
                let text = format!("'{pattern}' fits no parameter of the model");
                violations.push(Violation::new(format!("{path}.{field}"), text));
            }
            let trains = match &step.kind {
                StepKind::Train(_) => true,
                StepKind::PruneWeights(prune) => prune.cubic.is_some(),
                StepKind::Evaluate | StepKind::Quantize(_) => false,
            };
            if trains && quantized {
                let text = "training after `quantize` would be rounded away; move `quantize` behind the last training";
                violations.push(Violation::new(path, text));
            }
            quantized |= matches!(step.kind, StepKind::Quantize(_));
        }
    }
}

/// Whether the network takes the samples and has an output for every class.
fn check_fit(graph: &Graph, data: &Dataset, violations: &mut Vec<Violation>) {
    let (takes, sample) = (graph.input_shape(), &data.train.sample_shape);
    let same_size = takes.iter().product::<usize>() == sample.iter().product::<usize>();
    // A network that takes a plain vector may be given images; anything else must fit axis by axis.
    if takes != *sample && !(same_size && takes.len() == 1) {
        let text = format!("a sample has shape {sample:?}, the network takes {takes:?}");
        violations.push(Violation::new("data", text));
    }
    match graph.output_shape()[..] {
        [classes] if classes >= data.classes as usize => {}
        [classes] => {
            let text = format!("the labels go up to {}, the network has {classes} outputs", data.classes - 1);
            violations.push(Violation::new("data", text));
        }
        ref shape => {
            let text = format!("the network's output has shape {shape:?}; a classifier's is [classes]");
            violations.push(Violation::new("data", text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{DataSpec, Inputs, Part};
    use crate::passes::quantize::{Format, Quantize};
    use crate::recipe::{Start, Step};
    use crate::train::config::{ClipConfig, OptimizerConfig, ScheduleConfig, TrainConfig};

    fn data(sample_shape: &[usize], classes: u32) -> Dataset {
        let size = sample_shape.iter().product::<usize>();
        let part = Part {
            sample_shape: sample_shape.to_vec(),
            inputs: Inputs::F32(vec![0.0; size]),
            labels: vec![classes - 1],
        };
        let part = Arc::new(part);
        Dataset { source: "safetensors", classes, train: part.clone(), test: Some(part) }
    }

    fn train() -> TrainConfig {
        TrainConfig {
            epochs: 1,
            batch_size: 8,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
            learning_rate: 0.1,
            schedule: ScheduleConfig::Constant,
            warmup_steps: 0,
            clip: ClipConfig::default(),
            early_stop: None,
        }
    }

    fn recipe(preset: Option<&str>, steps: Vec<StepKind>) -> Recipe {
        Recipe {
            version: VERSION,
            name: "test".into(),
            description: String::new(),
            seed: 1,
            data: DataSpec::default(),
            start: preset.map(|p| Start { preset: p.into(), train: train() }),
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
        let quantize = Quantize { format: Format::F16, keep_f32: vec!["conv9.*".into()] };
        let mut recipe = recipe(Some("lenet5"), vec![StepKind::Quantize(quantize), StepKind::Train(train())]);
        recipe.version = 7;
        recipe.data.split.test_fraction = Some(0.5);
        recipe.data.transforms = vec![Transform::Normalize { mean: vec![0.0; 3], std: vec![1.0; 3] }];
        assert_eq!(
            fields(&recipe, &data(&[1, 32, 32], 11)),
            [
                "version",
                "data.split.test_fraction",
                "data.transforms[0].normalize.mean",
                "data",
                "data",
                "steps[0].quantize.keep_f32",
                "steps[1].train"
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
