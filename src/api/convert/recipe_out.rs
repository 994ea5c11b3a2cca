//! A recipe to `niwaki.v1.Recipe`. Defaults are written out, so that the message says all that the recipe means.

use crate::api::v1;
use crate::data::{DataSource, DataSpec, Transform};
use crate::passes::prune::{Amount, Scope, Threshold};
use crate::passes::quantize::{Format, Quantize};
use crate::recipe::{Cubic, PruneWeightsStep, Recipe, Start, Step, StepKind};
use crate::train::config::{OptimizerConfig, ScheduleConfig, TrainConfig};

/// The message of a recipe.
pub fn recipe(recipe: &Recipe) -> v1::Recipe {
    v1::Recipe {
        version: recipe.version,
        name: recipe.name.clone(),
        description: recipe.description.clone(),
        seed: recipe.seed,
        data: Some(data(&recipe.data)),
        start: recipe
            .start
            .as_ref()
            .map(|Start { preset, train }| v1::Start { preset: preset.clone(), train: Some(self::train(train)) }),
        steps: recipe.steps.iter().map(step).collect(),
    }
}

fn step(step: &Step) -> v1::Step {
    use v1::step::Kind;
    let kind = match &step.kind {
        StepKind::Evaluate => Kind::Evaluate(v1::Evaluate {}),
        StepKind::PruneWeights(step) => Kind::PruneWeights(prune(step)),
        StepKind::Train(config) => Kind::Train(train(config)),
        StepKind::Quantize(Quantize { format: Format::F16, keep_f32 }) => {
            Kind::Quantize(v1::Quantize { format: v1::quantize::Format::F16 as i32, keep_f32: keep_f32.clone() })
        }
    };
    v1::Step { name: step.name.clone(), kind: Some(kind) }
}

fn prune(step: &PruneWeightsStep) -> v1::PruneWeights {
    use v1::prune_weights::{Amount as PbAmount, Schedule, Scope as PbScope};
    use v1::threshold::Kind;
    let threshold = |kind| PbAmount::Threshold(v1::Threshold { kind: Some(kind) });
    let scope = match step.scope {
        Scope::Global => PbScope::Global,
        Scope::Layer => PbScope::Layer,
    };
    v1::PruneWeights {
        amount: Some(match step.amount {
            Amount::Sparsity(share) => PbAmount::Sparsity(share),
            Amount::Threshold(Threshold::Absolute(value)) => threshold(Kind::Absolute(value)),
            Amount::Threshold(Threshold::Quality(value)) => threshold(Kind::Quality(value)),
        }),
        scope: scope as i32,
        ignored: step.ignored.clone(),
        schedule: Some(match &step.cubic {
            None => Schedule::OneShot(v1::OneShot {}),
            Some(Cubic { train, begin, end, every }) => Schedule::Cubic(v1::Cubic {
                train: Some(self::train(train)),
                begin: Some(*begin),
                end: Some(*end),
                every: Some(*every),
            }),
        }),
    }
}

fn train(config: &TrainConfig) -> v1::Train {
    use v1::train::{Optimizer, Schedule};
    let optimizer = match config.optimizer {
        OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
            Optimizer::Sgd(v1::Sgd { momentum: Some(momentum), nesterov, weight_decay })
        }
        OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay } => {
            Optimizer::Adamw(v1::AdamW { beta1: Some(beta1), beta2: Some(beta2), epsilon: Some(epsilon), weight_decay })
        }
    };
    let schedule = match config.schedule {
        ScheduleConfig::Constant => Schedule::Constant(v1::ConstantSchedule {}),
        ScheduleConfig::Step { every_epochs, gamma } => {
            Schedule::Step(v1::StepSchedule { every_epochs, gamma: Some(gamma) })
        }
        ScheduleConfig::Cosine { floor } => Schedule::Cosine(v1::CosineSchedule { floor }),
    };
    let clip = &config.clip;
    v1::Train {
        epochs: config.epochs,
        batch_size: Some(config.batch_size),
        optimizer: Some(optimizer),
        learning_rate: Some(config.learning_rate),
        schedule: Some(schedule),
        warmup_steps: config.warmup_steps,
        clip: (clip.value.is_some() || clip.norm.is_some()).then(|| v1::GradientClip {
            value: clip.value.map(|(min, max)| v1::ClipValue { min, max }),
            norm: clip.norm.map(|max| v1::ClipNorm { max }),
        }),
        early_stop: config.early_stop.map(|stop| v1::EarlyStop { patience: stop.patience, min_delta: stop.min_delta }),
    }
}

fn data(spec: &DataSpec) -> v1::DataSpec {
    v1::DataSpec {
        source: spec.source.as_ref().map(source),
        transforms: spec.transforms.iter().map(transform).collect(),
        split: Some(v1::Split {
            validation_fraction: Some(spec.split.validation_fraction),
            test_fraction: spec.split.test_fraction,
        }),
    }
}

fn source(source: &DataSource) -> v1::DataSource {
    use v1::data_source::Kind;
    let kind = match source {
        DataSource::Idx { train, test } => Kind::Idx(v1::IdxSource {
            train_inputs: train.inputs.clone(),
            train_labels: train.labels.clone(),
            test_inputs: test.as_ref().map(|pair| pair.inputs.clone()).unwrap_or_default(),
            test_labels: test.as_ref().map(|pair| pair.labels.clone()).unwrap_or_default(),
        }),
        DataSource::Safetensors { train, test, inputs, labels } => Kind::Safetensors(v1::SafetensorsSource {
            train: train.clone(),
            test: test.clone().unwrap_or_default(),
            inputs: inputs.clone(),
            labels: labels.clone(),
        }),
    };
    v1::DataSource { kind: Some(kind) }
}

fn transform(transform: &Transform) -> v1::Transform {
    use v1::transform::Kind;
    let kind = match transform {
        Transform::Scale { factor } => Kind::Scale(v1::Scale { factor: *factor }),
        Transform::Normalize { mean, std } => Kind::Normalize(v1::Normalize { mean: mean.clone(), std: std.clone() }),
    };
    v1::Transform { kind: Some(kind) }
}
