//! A `data` section to `niwaki.v1.DataSpec`.

use crate::api::v1;
use crate::data::{DataSource, DataSpec, Transform};

pub(super) fn data(spec: &DataSpec) -> v1::DataSpec {
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
