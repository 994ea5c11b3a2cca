//! `niwaki.v1.Recipe` to what it means. The bounds and defaults are those of the comments in `recipe.proto`; whether the
//! recipe fits a model and a data set is `Recipe::validate`'s question.

use super::train_in::train;
use super::{ANY, BELOW_ONE, BETWEEN, Checks, NOT_NEGATIVE, Numbers, POSITIVE, Path, SHARE};
use crate::api::v1;
use crate::data::{DataSource, DataSpec, IdxPair, SplitSpec, Transform};
use crate::error::Violation;
use crate::passes::prune::{Amount, Scope, Threshold};
use crate::passes::quantize::{Format, Quantize};
use crate::recipe::{self, Cubic, PruneWeightsStep, Recipe, Start, Step, StepKind};

const NOT_ZERO: Numbers = Numbers("other than 0", |v| v != 0.0);
const MAX_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 10_000;
const MAX_TRANSFORMS: usize = 16;
const MAX_PATTERNS: usize = 256;
/// As many channels as no image has, and few enough to be no burden.
const MAX_CHANNELS: usize = 65_536;

/// What a recipe means; all its bad fields otherwise, by their paths below `root`.
pub fn recipe(pb: v1::Recipe, root: &Path) -> Result<Recipe, Vec<Violation>> {
    let mut checks = Checks::default();
    let version = pb.version;
    if version != recipe::VERSION {
        let known = recipe::VERSION;
        checks.refuse(&root.field("version"), format!("{version} is not a version that this niwaki reads: {known} is"));
    }
    let at = root.field("steps");
    if pb.steps.len() > recipe::MAX_STEPS {
        checks.refuse(&at, format!("has {} steps, at most {} are allowed", pb.steps.len(), recipe::MAX_STEPS));
    }
    if pb.steps.is_empty() && pb.start.is_none() {
        checks.refuse(&at, "is empty, and there is no `start` either: nothing to do");
    }
    let meaning = Recipe {
        version,
        name: checks.text(&root.field("name"), pb.name, MAX_NAME),
        description: checks.text(&root.field("description"), pb.description, MAX_DESCRIPTION),
        seed: pb.seed,
        data: data(pb.data.unwrap_or_default(), &root.field("data"), &mut checks),
        start: pb.start.map(|pb| start(pb, &root.field("start"), &mut checks)),
        // More steps than are allowed are not looked at: they would only make the answer longer.
        steps: (pb.steps.into_iter().take(recipe::MAX_STEPS).enumerate())
            .filter_map(|(i, pb)| step(pb, &at.index(i), &mut checks))
            .collect(),
    };
    checks.finish(meaning)
}

fn start(pb: v1::Start, at: &Path, checks: &mut Checks) -> Start {
    if pb.train.is_none() {
        checks.refuse(&at.field("train"), "is missing");
    }
    let preset = checks.name(&at.field("preset"), pb.preset);
    let train = pb.train.unwrap_or(v1::Train { epochs: 1, ..Default::default() });
    Start { preset, train: self::train(train, &at.field("train"), checks) }
}

fn step(pb: v1::Step, at: &Path, checks: &mut Checks) -> Option<Step> {
    use v1::step::Kind;
    let name = checks.text(&at.field("name"), pb.name, MAX_NAME);
    let kind = match pb.kind {
        None => {
            checks.refuse(at, "says not what to do: one of evaluate, prune_weights, train, quantize is needed");
            return None;
        }
        Some(Kind::Evaluate(v1::Evaluate {})) => StepKind::Evaluate,
        Some(Kind::PruneWeights(pb)) => StepKind::PruneWeights(prune(pb, &at.field("prune_weights"), checks)),
        Some(Kind::Train(pb)) => StepKind::Train(train(pb, &at.field("train"), checks)),
        Some(Kind::Quantize(pb)) => StepKind::Quantize(quantize(pb, &at.field("quantize"), checks)),
    };
    Some(Step { name, kind })
}

fn prune(pb: v1::PruneWeights, at: &Path, checks: &mut Checks) -> PruneWeightsStep {
    use v1::prune_weights::{Amount as PbAmount, Schedule, Scope as PbScope};
    let amount = match pb.amount {
        Some(PbAmount::Sparsity(share)) => Amount::Sparsity(checks.number(&at.field("sparsity"), share, &BELOW_ONE)),
        Some(PbAmount::Threshold(pb)) => Amount::Threshold(threshold(pb, &at.field("threshold"), checks)),
        None => {
            checks.refuse(at, "says not how many weights go: one of sparsity, threshold is needed");
            Amount::Sparsity(0.0)
        }
    };
    let scope = match PbScope::try_from(pb.scope) {
        Ok(PbScope::Unspecified | PbScope::Global) => Scope::Global,
        Ok(PbScope::Layer) => Scope::Layer,
        Err(_) => {
            checks.refuse(&at.field("scope"), format!("{} is no scope", pb.scope));
            Scope::Global
        }
    };
    let cubic = match pb.schedule {
        None | Some(Schedule::OneShot(v1::OneShot {})) => None,
        Some(Schedule::Cubic(pb)) => {
            if matches!(amount, Amount::Threshold(_)) {
                checks.refuse(&at.field("cubic"), "goes with sparsity, not with a threshold");
            }
            Some(self::cubic(pb, &at.field("cubic"), checks))
        }
    };
    PruneWeightsStep { amount, scope, ignored: patterns(pb.ignored, &at.field("ignored"), checks), cubic }
}

fn threshold(pb: v1::Threshold, at: &Path, checks: &mut Checks) -> Threshold {
    use v1::threshold::Kind;
    match pb.kind {
        Some(Kind::Absolute(value)) => Threshold::Absolute(checks.number(&at.field("absolute"), value, &NOT_NEGATIVE)),
        Some(Kind::Quality(value)) => Threshold::Quality(checks.number(&at.field("quality"), value, &NOT_NEGATIVE)),
        None => {
            checks.refuse(at, "has no value: one of absolute, quality is needed");
            Threshold::Absolute(0.0)
        }
    }
}

fn cubic(pb: v1::Cubic, at: &Path, checks: &mut Checks) -> Cubic {
    if pb.train.is_none() {
        checks.refuse(&at.field("train"), "is missing");
    }
    let train = pb.train.unwrap_or(v1::Train { epochs: 1, ..Default::default() });
    let begin = checks.number(&at.field("begin"), pb.begin.unwrap_or(0.0), &SHARE);
    let end = checks.number(&at.field("end"), pb.end.unwrap_or(0.5), &SHARE);
    if begin >= end {
        checks.refuse(&at.field("end"), format!("{end} is not above begin, {begin}"));
    }
    let every = checks.whole(&at.field("every"), pb.every.unwrap_or(100), 1, u32::MAX);
    Cubic { train: self::train(train, &at.field("train"), checks), begin, end, every }
}

fn quantize(pb: v1::Quantize, at: &Path, checks: &mut Checks) -> Quantize {
    use v1::quantize::Format as PbFormat;
    match PbFormat::try_from(pb.format) {
        Ok(PbFormat::F16) => {}
        Ok(PbFormat::Unspecified) => checks.refuse(&at.field("format"), "is missing"),
        Err(_) => checks.refuse(&at.field("format"), format!("{} is no format", pb.format)),
    }
    Quantize { format: Format::F16, keep_f32: patterns(pb.keep_f32, &at.field("keep_f32"), checks) }
}

fn patterns(pb: Vec<String>, at: &Path, checks: &mut Checks) -> Vec<String> {
    if pb.len() > MAX_PATTERNS {
        checks.refuse(at, format!("has {} patterns, at most {MAX_PATTERNS} are allowed", pb.len()));
        return Vec::new();
    }
    pb.into_iter().enumerate().map(|(i, pattern)| checks.name(&at.index(i), pattern)).collect()
}

fn data(pb: v1::DataSpec, at: &Path, checks: &mut Checks) -> DataSpec {
    if pb.transforms.len() > MAX_TRANSFORMS {
        let given = pb.transforms.len();
        checks.refuse(&at.field("transforms"), format!("has {given} transforms, at most {MAX_TRANSFORMS} are allowed"));
    }
    let split = pb.split.unwrap_or_default();
    let fraction = |value: Option<f64>, name: &str, checks: &mut Checks| {
        value.map(|value| checks.number(&at.field("split").field(name), value, &BETWEEN))
    };
    let validation = fraction(split.validation_fraction, "validation_fraction", checks);
    DataSpec {
        source: pb.source.and_then(|pb| source(pb, &at.field("source"), checks)),
        transforms: (pb.transforms.into_iter().take(MAX_TRANSFORMS).enumerate())
            .filter_map(|(i, pb)| transform(pb, &at.field("transforms").index(i), checks))
            .collect(),
        split: SplitSpec {
            validation_fraction: validation.unwrap_or(SplitSpec::default().validation_fraction),
            test_fraction: fraction(split.test_fraction, "test_fraction", checks),
        },
    }
}

fn source(pb: v1::DataSource, at: &Path, checks: &mut Checks) -> Option<DataSource> {
    use v1::data_source::Kind;
    match pb.kind {
        None => {
            checks.refuse(at, "says not what the files are: one of idx, safetensors is needed");
            None
        }
        Some(Kind::Idx(pb)) => {
            let at = at.field("idx");
            let train = IdxPair {
                inputs: checks.name(&at.field("train_inputs"), pb.train_inputs),
                labels: checks.name(&at.field("train_labels"), pb.train_labels),
            };
            let test = (!pb.test_inputs.is_empty() || !pb.test_labels.is_empty()).then(|| IdxPair {
                inputs: checks.name(&at.field("test_inputs"), pb.test_inputs),
                labels: checks.name(&at.field("test_labels"), pb.test_labels),
            });
            Some(DataSource::Idx { train, test })
        }
        Some(Kind::Safetensors(pb)) => {
            let at = at.field("safetensors");
            let or = |text: String, usual: &str| if text.is_empty() { usual.to_string() } else { text };
            Some(DataSource::Safetensors {
                train: checks.name(&at.field("train"), pb.train),
                test: (!pb.test.is_empty()).then(|| checks.name(&at.field("test"), pb.test)),
                inputs: checks.name(&at.field("inputs"), or(pb.inputs, "inputs")),
                labels: checks.name(&at.field("labels"), or(pb.labels, "labels")),
            })
        }
    }
}

fn transform(pb: v1::Transform, at: &Path, checks: &mut Checks) -> Option<Transform> {
    use v1::transform::Kind;
    match pb.kind {
        None => {
            checks.refuse(at, "says not what to do: one of scale, normalize is needed");
            None
        }
        Some(Kind::Scale(pb)) => {
            Some(Transform::Scale { factor: checks.number(&at.field("scale").field("factor"), pb.factor, &NOT_ZERO) })
        }
        Some(Kind::Normalize(pb)) => {
            let at = at.field("normalize");
            if pb.mean.is_empty() || pb.mean.len() != pb.std.len() || pb.mean.len() > MAX_CHANNELS {
                let (means, stds) = (pb.mean.len(), pb.std.len());
                checks.refuse(&at, format!("has {means} means and {stds} standard deviations: as many are needed"));
                return None;
            }
            let each = |name: &str, values: Vec<f64>, numbers: &Numbers, checks: &mut Checks| -> Vec<f64> {
                let at = at.field(name);
                values.into_iter().enumerate().map(|(i, v)| checks.number(&at.index(i), v, numbers)).collect()
            };
            let mean = each("mean", pb.mean, &ANY, checks);
            Some(Transform::Normalize { mean, std: each("std", pb.std, &POSITIVE, checks) })
        }
    }
}
