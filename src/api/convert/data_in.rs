//! `niwaki.v1.DataSpec` to what it means. The bounds and defaults are those of the comments in `data.proto`.

use super::source_in::source;
use super::{ANY, BETWEEN, Checks, Numbers, POSITIVE, Path};
use crate::api::v1;
use crate::data::{Augmentation, DataSpec, SplitSpec, Transform};

const NOT_ZERO: Numbers = Numbers("other than 0", |v| v != 0.0);
const MAX_TRANSFORMS: usize = 16;
const MAX_AUGMENTATIONS: usize = 16;
const MAX_CLASSES: usize = 4096;
/// Pixels that an image may be moved by.
const MAX_SHIFT: u32 = 128;
/// As many channels as no image has, and few enough to be no burden.
const MAX_CHANNELS: usize = 65_536;

pub(super) fn data(pb: v1::DataSpec, at: &Path, checks: &mut Checks) -> DataSpec {
    if pb.transforms.len() > MAX_TRANSFORMS {
        let given = pb.transforms.len();
        checks.refuse(&at.field("transforms"), format!("has {given} transforms, at most {MAX_TRANSFORMS} are allowed"));
    }
    if pb.augment.len() > MAX_AUGMENTATIONS {
        let given = pb.augment.len();
        let problem = format!("has {given} augmentations, at most {MAX_AUGMENTATIONS} are allowed");
        checks.refuse(&at.field("augment"), problem);
    }
    DataSpec {
        source: pb.source.and_then(|pb| source(pb, &at.field("source"), checks)),
        classes: labels(pb.classes, &at.field("classes"), checks),
        relabel: labels(pb.relabel, &at.field("relabel"), checks),
        augment: (pb.augment.into_iter().take(MAX_AUGMENTATIONS).enumerate())
            .filter_map(|(i, pb)| augmentation(pb, &at.field("augment").index(i), checks))
            .collect(),
        transforms: (pb.transforms.into_iter().take(MAX_TRANSFORMS).enumerate())
            .filter_map(|(i, pb)| transform(pb, &at.field("transforms").index(i), checks))
            .collect(),
        split: split(pb.split.unwrap_or_default(), &at.field("split"), checks),
    }
}

fn split(pb: v1::Split, at: &Path, checks: &mut Checks) -> SplitSpec {
    let mut fraction = |value: Option<f64>, name: &str| value.map(|v| checks.number(&at.field(name), v, &BETWEEN));
    SplitSpec {
        validation_fraction: fraction(pb.validation_fraction, "validation_fraction"),
        selection_fraction: fraction(pb.selection_fraction, "selection_fraction"),
        test_fraction: fraction(pb.test_fraction, "test_fraction"),
        train_samples: pb.train_samples.map(|most| checks.whole(&at.field("train_samples"), most, 1, u32::MAX)),
    }
}

fn augmentation(pb: v1::Augmentation, at: &Path, checks: &mut Checks) -> Option<Augmentation> {
    use v1::augmentation::Kind;
    match pb.kind {
        None => {
            checks.refuse(at, "says not what to do: one of flip, shift_crop is needed");
            None
        }
        Some(Kind::Flip(v1::Flip {})) => Some(Augmentation::Flip),
        Some(Kind::ShiftCrop(pb)) => {
            let pixels = checks.whole(&at.field("shift_crop").field("pixels"), pb.pixels, 1, MAX_SHIFT);
            Some(Augmentation::ShiftCrop { pixels })
        }
    }
}

fn labels(pb: Vec<u32>, at: &Path, checks: &mut Checks) -> Vec<u32> {
    if pb.len() > MAX_CLASSES {
        checks.refuse(at, format!("has {} numbers, at most {MAX_CLASSES} are allowed", pb.len()));
    }
    pb
}

fn transform(pb: v1::Transform, at: &Path, checks: &mut Checks) -> Option<Transform> {
    use v1::transform::Kind;
    match pb.kind {
        None => {
            checks.refuse(at, "says not what to do: one of scale, normalize, binarise is needed");
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
        Some(Kind::Binarise(pb)) => {
            let at = at.field("binarise").field("threshold");
            Some(Transform::Binarise { threshold: checks.number(&at, pb.threshold, &ANY) })
        }
    }
}
