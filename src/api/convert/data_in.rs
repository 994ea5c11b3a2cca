//! `niwaki.v1.DataSpec` to what it means. The bounds and defaults are those of the comments in `data.proto`.

use super::{ANY, BETWEEN, Checks, Numbers, POSITIVE, Path};
use crate::api::v1;
use crate::data::{DataSource, DataSpec, IdxPair, SplitSpec, Transform};

const NOT_ZERO: Numbers = Numbers("other than 0", |v| v != 0.0);
const MAX_TRANSFORMS: usize = 16;
/// As many channels as no image has, and few enough to be no burden.
const MAX_CHANNELS: usize = 65_536;

pub(super) fn data(pb: v1::DataSpec, at: &Path, checks: &mut Checks) -> DataSpec {
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
