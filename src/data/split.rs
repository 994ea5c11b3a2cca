//! Which samples train, validate and test. The test split measures and never selects.

use std::sync::Arc;

use rand::seq::SliceRandom;

use super::{DataError, DataSpec, Dataset, Part, Subset, transform};
use crate::seed;

/// The share that becomes the test split where the data set has none and the recipe says nothing.
const TEST_FRACTION: f64 = 0.2;

/// The three splits; no sample is in two of them.
#[derive(Debug, Clone)]
pub struct Splits {
    /// What weights are fitted to.
    pub train: Subset,
    /// What choices are made by.
    pub validation: Subset,
    /// What the result is measured on.
    pub test: Subset,
}

/// Splits a data set as `spec` says. The validation split, and the test split where the data set has none of its own, are
/// drawn from the training samples by `seed`; within a split samples stay in the order of the file.
pub fn split(dataset: &Dataset, spec: &DataSpec, seed: u64) -> Result<Splits, DataError> {
    let bad = |field: &str, problem: String| Err(DataError::Spec { field: format!("data.split.{field}"), problem });
    let channels = dataset.train.sample_shape.first().copied().unwrap_or(1);
    let affine = Arc::new(transform::compose(&spec.transforms, channels)?);

    let test_fraction = match (&dataset.test, spec.split.test_fraction) {
        (Some(_), Some(_)) => {
            return bad("test_fraction", "must be left out: the data set has test samples of its own".to_string());
        }
        (Some(_), None) => None,
        (None, given) => Some(given.unwrap_or(TEST_FRACTION)),
    };
    let validation_fraction = spec.split.validation_fraction;
    for (field, fraction) in [("validation_fraction", Some(validation_fraction)), ("test_fraction", test_fraction)] {
        // Written so that NaN is refused as well.
        if let Some(fraction) = fraction
            && !(fraction > 0.0 && fraction < 1.0)
        {
            return bad(field, format!("must be above 0 and below 1, is {fraction}"));
        }
    }

    let mut train: Vec<u32> = (0..dataset.train.labels.len() as u32).collect();
    train.shuffle(&mut seed::stream(seed, "split"));
    let share = |of: usize, fraction: f64| (of as f64 * fraction).round() as usize;
    let test = test_fraction.map(|fraction| train.split_off(train.len() - share(train.len(), fraction)));
    let validation = train.split_off(train.len() - share(train.len(), validation_fraction));

    let subset = |part: &Arc<Part>, mut indices: Vec<u32>| {
        indices.sort_unstable();
        Subset::new(part.clone(), indices, affine.clone())
    };
    let test = match (&dataset.test, test) {
        (Some(part), _) => subset(part, (0..part.labels.len() as u32).collect()),
        (None, indices) => subset(&dataset.train, indices.unwrap_or_default()),
    };
    let splits = Splits { train: subset(&dataset.train, train), validation: subset(&dataset.train, validation), test };
    for (name, split) in [("train", &splits.train), ("validation", &splits.validation), ("test", &splits.test)] {
        if split.is_empty() {
            let problem = format!("leaves no sample for the {name} split: there are {}", dataset.train.labels.len());
            return Err(DataError::Spec { field: "data.split".to_string(), problem });
        }
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Inputs, SplitSpec};
    use crate::error::Classify;
    use proptest::prelude::*;

    /// `n` samples, of which sample `i` has the label `first + i`: a label tells which sample it is.
    fn part(n: usize, first: u32) -> Arc<Part> {
        let inputs = Inputs::U8(vec![0; n].into());
        Arc::new(Part { sample_shape: vec![1], inputs, labels: (first..first + n as u32).collect() })
    }

    fn dataset(train: usize, test: Option<usize>) -> Dataset {
        Dataset { source: "idx", classes: 1, train: part(train, 0), test: test.map(|n| part(n, 10_000)) }
    }

    fn spec(validation_fraction: f64, test_fraction: Option<f64>) -> DataSpec {
        DataSpec { split: SplitSpec { validation_fraction, test_fraction }, ..DataSpec::default() }
    }

    fn labels(subset: &Subset) -> Vec<u32> {
        (0..subset.len()).map(|i| subset.label(i)).collect()
    }

    proptest! {
        #[test]
        fn every_training_sample_is_in_exactly_one_split(
            n in 10usize..300, validation in 0.1f64..0.5, test in 0.1f64..0.5, seed: u64,
        ) {
            let splits = split(&dataset(n, None), &spec(validation, Some(test)), seed).unwrap();
            let parts = [&splits.train, &splits.validation, &splits.test].map(labels);
            prop_assert!(parts.iter().all(|part| part.is_sorted()));
            let mut all = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_test_part_of_its_own_is_taken_whole() {
        let splits = split(&dataset(100, Some(7)), &DataSpec::default(), 1).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len()), (90, 10));
        assert_eq!(labels(&splits.test), (10_000..10_007).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_test_part_a_fifth_is_set_aside_before_the_tenth_for_validation() {
        let splits = split(&dataset(100, None), &DataSpec::default(), 1).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len(), splits.test.len()), (72, 8, 20));
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let validation = |seed| labels(&split(&dataset(1000, None), &DataSpec::default(), seed).unwrap().validation);
        assert_eq!(validation(1), validation(1));
        assert_ne!(validation(1), validation(2));
    }

    #[test]
    fn fractions_that_make_no_sense_are_named() {
        let field = |dataset: Dataset, spec: DataSpec| {
            let violations = split(&dataset, &spec, 1).unwrap_err().violations();
            violations[0].field.clone()
        };
        for fraction in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(field(dataset(100, None), spec(fraction, None)), "data.split.validation_fraction");
            assert_eq!(field(dataset(100, None), spec(0.1, Some(fraction))), "data.split.test_fraction");
        }
        assert_eq!(field(dataset(100, Some(5)), spec(0.1, Some(0.2))), "data.split.test_fraction");
        for n in [1, 3] {
            assert_eq!(field(dataset(n, None), spec(0.1, None)), "data.split");
        }
    }
}
