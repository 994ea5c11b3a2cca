//! A `data` section to `niwaki.v1.DataSpec`.

use super::source_out::source;
use crate::api::v1;
use crate::data::{Augmentation, DataSpec, Transform};

pub(super) fn data(spec: &DataSpec) -> v1::DataSpec {
    v1::DataSpec {
        source: spec.source.as_ref().map(source),
        transforms: spec.transforms.iter().map(transform).collect(),
        split: Some(v1::Split {
            validation_fraction: spec.split.validation_fraction,
            test_fraction: spec.split.test_fraction,
            selection_fraction: spec.split.selection_fraction,
            train_samples: spec.split.train_samples,
        }),
        classes: spec.classes.clone(),
        relabel: spec.relabel.clone(),
        augment: spec.augment.iter().map(augmentation).collect(),
    }
}

fn transform(transform: &Transform) -> v1::Transform {
    use v1::transform::Kind;
    let kind = match transform {
        Transform::Scale { factor } => Kind::Scale(v1::Scale { factor: *factor }),
        Transform::Normalize { mean, std } => Kind::Normalize(v1::Normalize { mean: mean.clone(), std: std.clone() }),
        Transform::Binarise { threshold } => Kind::Binarise(v1::Binarise { threshold: *threshold }),
    };
    v1::Transform { kind: Some(kind) }
}

fn augmentation(augmentation: &Augmentation) -> v1::Augmentation {
    use v1::augmentation::Kind;
    let kind = match augmentation {
        Augmentation::Flip => Kind::Flip(v1::Flip {}),
        Augmentation::ShiftCrop { pixels } => Kind::ShiftCrop(v1::ShiftCrop { pixels: *pixels }),
    };
    v1::Augmentation { kind: Some(kind) }
}
