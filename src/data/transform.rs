//! Transforms: composed to as few steps as they come to, and written into a model's metadata, so that whoever gets the model
//! knows what its input must go through.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::chain::Link;
use super::{Affine, Chain, DataError, Transform};

/// The metadata key of the transforms.
pub const METADATA_KEY: &str = "niwaki.transforms";

/// A transform as its JSON has it: the same form as in a recipe file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum TransformText {
    Scale { factor: Exact },
    Normalize { mean: Vec<Exact>, std: Vec<Exact> },
    Binarise { threshold: Exact },
}

/// A number that comes back bit for bit: serde_json's own reading of 17 digits may be off by the last bit, the standard
/// library's never is.
#[derive(Serialize, Clone, Copy)]
#[serde(transparent)]
struct Exact(f64);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        text.parse().map(Exact).map_err(|_| D::Error::custom("a number is expected"))
    }
}

/// The transforms as JSON, in a recipe file's form.
///
/// ```
/// use niwaki::data::Transform;
/// use niwaki::data::transform::{from_json, to_json};
/// let transforms = [Transform::Scale { factor: 0.5 }, Transform::Normalize { mean: vec![0.1], std: vec![0.3] }];
/// let json = to_json(&transforms);
/// assert_eq!(json, r#"[{"scale":{"factor":0.5}},{"normalize":{"mean":[0.1],"std":[0.3]}}]"#);
/// assert_eq!(from_json(&json)?, transforms);
/// # Ok::<(), niwaki::data::DataError>(())
/// ```
pub fn to_json(transforms: &[Transform]) -> String {
    let exact = |numbers: &[f64]| numbers.iter().copied().map(Exact).collect();
    let text = |transform: &Transform| match transform {
        Transform::Scale { factor } => TransformText::Scale { factor: Exact(*factor) },
        Transform::Normalize { mean, std } => TransformText::Normalize { mean: exact(mean), std: exact(std) },
        Transform::Binarise { threshold } => TransformText::Binarise { threshold: Exact(*threshold) },
    };
    let texts: Vec<TransformText> = transforms.iter().map(text).collect();
    serde_json::to_string(&texts).expect("numbers and lists of them always have a JSON form")
}

/// Reads what [`to_json`] wrote. Whether the numbers suit a data set is asked by [`compose`].
pub fn from_json(json: &str) -> Result<Vec<Transform>, DataError> {
    let texts: Vec<TransformText> = serde_json::from_str(json).map_err(|e| DataError::Spec {
        field: METADATA_KEY.to_string(),
        problem: format!("in the model's metadata is no list of transforms: {e}"),
    })?;
    let numbers = |exact: Vec<Exact>| exact.into_iter().map(|e| e.0).collect();
    let transform = |text| match text {
        TransformText::Scale { factor } => Transform::Scale { factor: factor.0 },
        TransformText::Normalize { mean, std } => Transform::Normalize { mean: numbers(mean), std: numbers(std) },
        TransformText::Binarise { threshold } => Transform::Binarise { threshold: threshold.0 },
    };
    Ok(texts.into_iter().map(transform).collect())
}

/// The transforms that a model's metadata say its input has been through, checked to suit samples of that shape; `None` where
/// they say nothing. Of a sample with two axes either may be the channels: it may be a time series.
pub fn of_model(metadata: &BTreeMap<String, String>, shape: &[usize]) -> Result<Option<Vec<Transform>>, DataError> {
    let Some(json) = metadata.get(METADATA_KEY) else { return Ok(None) };
    let transforms = from_json(json)?;
    let channels = shape.first().copied().unwrap_or(1);
    match (compose(&transforms, channels), shape) {
        (Err(error), [_, last]) => compose(&transforms, *last).map_err(|_| error)?,
        (composed, _) => composed?,
    };
    Ok(Some(transforms))
}

/// The transforms as they are applied to samples of `channels` channels: scalings and normalisations that follow one
/// another come to one factor and one offset a channel, computed in f64 and rounded once.
pub fn compose(transforms: &[Transform], channels: usize) -> Result<Chain, DataError> {
    let mut links = Vec::new();
    let mut composed = Composed::new(channels);
    for (i, transform) in transforms.iter().enumerate() {
        let bad = |field: &str, problem: String| {
            Err(DataError::Spec { field: format!("data.transforms[{i}].{field}"), problem })
        };
        match transform {
            Transform::Scale { factor } => {
                if !factor.is_finite() || *factor == 0.0 {
                    return bad("scale.factor", format!("must be finite and not 0, is {factor}"));
                }
                composed.map(|_, (a, b)| (a * factor, b * factor));
            }
            Transform::Normalize { mean, std } => {
                for (field, values) in [("normalize.mean", mean), ("normalize.std", std)] {
                    if values.len() != 1 && values.len() != channels {
                        let problem = format!("has {} numbers; the samples have {channels} channels", values.len());
                        return bad(field, problem);
                    }
                }
                if let Some(bad_mean) = mean.iter().find(|m| !m.is_finite()) {
                    return bad("normalize.mean", format!("must be finite, is {bad_mean}"));
                }
                if let Some(bad_std) = std.iter().find(|s| !s.is_finite() || **s <= 0.0) {
                    return bad("normalize.std", format!("must be finite and above 0, is {bad_std}"));
                }
                // One number stands for all channels.
                let of = |values: &[f64], channel: usize| values[channel % values.len()];
                composed.map(|c, (a, b)| (a / of(std, c), (b - of(mean, c)) / of(std, c)));
            }
            Transform::Binarise { threshold } => {
                if !threshold.is_finite() || !(*threshold as f32).is_finite() {
                    return bad("binarise.threshold", format!("must be finite in f32, is {threshold}"));
                }
                links.extend(composed.link()?);
                links.push(Link::Threshold(*threshold as f32));
                composed = Composed::new(channels);
            }
        }
    }
    links.extend(composed.link()?);
    Ok(Chain::new(links))
}

/// Scalings and normalisations that follow one another: a factor and an offset for each channel.
struct Composed(Vec<(f64, f64)>);

impl Composed {
    fn new(channels: usize) -> Self {
        Self(vec![(1.0, 0.0); channels])
    }

    fn map(&mut self, to: impl Fn(usize, (f64, f64)) -> (f64, f64)) {
        self.0.iter_mut().enumerate().for_each(|(channel, pair)| *pair = to(channel, *pair));
    }

    /// The link that does it; none is needed where nothing is to be done.
    fn link(&self) -> Result<Option<Link>, DataError> {
        if self.0.iter().all(|pair| *pair == (1.0, 0.0)) {
            return Ok(None);
        }
        let channels: Vec<(f32, f32)> = self.0.iter().map(|(a, b)| (*a as f32, *b as f32)).collect();
        if channels.iter().any(|(a, b)| !a.is_finite() || !b.is_finite() || *a == 0.0) {
            let problem = "come to a factor or an offset that is too large or too small for f32".to_string();
            return Err(DataError::Spec { field: "data.transforms".to_string(), problem });
        }
        Ok(Some(Link::Affine(Affine { channels })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transforms() -> impl Strategy<Value = Vec<Transform>> {
        let number = prop::num::f64::NORMAL;
        let transform = prop_oneof![
            number.prop_map(|factor| Transform::Scale { factor }),
            (prop::collection::vec(number, 0..4), prop::collection::vec(number, 0..4))
                .prop_map(|(mean, std)| Transform::Normalize { mean, std }),
            number.prop_map(|threshold| Transform::Binarise { threshold }),
        ];
        prop::collection::vec(transform, 0..4)
    }

    /// The field that is blamed where samples have 3 channels.
    fn blamed(transforms: &[Transform]) -> String {
        match compose(transforms, 3).unwrap_err() {
            DataError::Spec { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn json_keeps_every_bit(transforms in transforms()) {
            prop_assert_eq!(from_json(&to_json(&transforms)).unwrap(), transforms);
        }
    }

    #[test]
    fn transforms_happen_in_their_order_channel_by_channel() {
        let normalize = Transform::Normalize { mean: vec![0.5, 0.25, 0.0], std: vec![0.5] };
        let scale = Transform::Scale { factor: 2.0 };
        let affine = |pairs: [(f32, f32); 3]| Link::Affine(Affine { channels: pairs.into() });
        let both = affine([(4.0, -1.0), (4.0, -0.5), (4.0, 0.0)]);
        assert_eq!(compose(&[scale.clone(), normalize.clone()], 3).unwrap(), Chain::new(vec![both.clone()]));
        let turned = affine([(4.0, -2.0), (4.0, -1.0), (4.0, 0.0)]);
        assert_eq!(compose(&[normalize.clone(), scale.clone()], 3).unwrap(), Chain::new(vec![turned]));
        assert_eq!(compose(&[], 3).unwrap(), Chain::new(vec![]));
        // A threshold cannot be joined with what is around it.
        let binarise = Transform::Binarise { threshold: 0.5 };
        let chain = compose(&[scale.clone(), normalize, binarise.clone(), binarise, scale], 3).unwrap();
        let half = Link::Threshold(0.5);
        assert_eq!(chain, Chain::new(vec![both, half.clone(), half, affine([(2.0, 0.0); 3])]));
    }

    #[test]
    fn a_number_of_no_use_is_named_by_its_field() {
        let scale = |factor| Transform::Scale { factor };
        let normalize = |mean: &[f64], std: &[f64]| Transform::Normalize { mean: mean.into(), std: std.into() };
        assert_eq!(blamed(&[scale(0.0)]), "data.transforms[0].scale.factor");
        assert_eq!(blamed(&[scale(1.0), scale(f64::NAN)]), "data.transforms[1].scale.factor");
        assert_eq!(blamed(&[normalize(&[0.1, 0.2], &[1.0])]), "data.transforms[0].normalize.mean");
        assert_eq!(blamed(&[normalize(&[], &[1.0])]), "data.transforms[0].normalize.mean");
        assert_eq!(blamed(&[normalize(&[f64::INFINITY], &[1.0])]), "data.transforms[0].normalize.mean");
        assert_eq!(blamed(&[normalize(&[0.0], &[1.0, 1.0, 0.0])]), "data.transforms[0].normalize.std");
        assert_eq!(blamed(&[normalize(&[0.0], &[1.0, 1.0])]), "data.transforms[0].normalize.std");
        assert_eq!(blamed(&[scale(1e300), scale(1e300)]), "data.transforms");
        let binarise = |threshold| Transform::Binarise { threshold };
        assert_eq!(blamed(&[scale(1e300), binarise(0.5)]), "data.transforms");
        assert_eq!(blamed(&[binarise(f64::NAN)]), "data.transforms[0].binarise.threshold");
        assert_eq!(blamed(&[binarise(1e300)]), "data.transforms[0].binarise.threshold");
    }

    #[test]
    fn a_models_transforms_suit_the_channels_of_images_or_of_series() {
        let normalize = Transform::Normalize { mean: vec![0.0; 3], std: vec![1.0] };
        let metadata = BTreeMap::from([(METADATA_KEY.to_string(), to_json(std::slice::from_ref(&normalize)))]);
        for shape in [&[3][..], &[3, 8, 8], &[3, 8], &[8, 3]] {
            assert_eq!(of_model(&metadata, shape).unwrap(), Some(vec![normalize.clone()]), "{shape:?}");
        }
        let told = |shape: &[usize]| of_model(&metadata, shape).unwrap_err().to_string();
        assert!(told(&[8, 4]).contains("the samples have 8 channels"));
        assert!(told(&[8, 8, 3]).contains("the samples have 8 channels") && told(&[]).contains("have 1 channels"));
        assert_eq!(of_model(&BTreeMap::new(), &[8]).unwrap(), None);
    }

    #[test]
    fn other_json_is_refused() {
        for json in [
            "",
            "{}",
            "[{\"crop\":{}}]",
            "[{\"scale\":{\"factor\":1,\"x\":2}}]",
            "[{\"scale\":{}}]",
            "[{\"scale\":{\"factor\":\"1\"}}]",
        ] {
            assert!(from_json(json).is_err(), "{json}");
        }
    }
}
