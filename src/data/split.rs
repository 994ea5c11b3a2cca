//! Which samples train, validate, select and test. The test split measures and never selects.

use std::sync::Arc;

use rand::seq::SliceRandom;

use super::labels::Relabelling;
use super::{Chain, DataError, DataSpec, Dataset, Part, Subset, augment, transform};
use crate::seed;

/// The share that is set aside for validation where the data set has no such samples and the recipe says nothing.
const VALIDATION_FRACTION: f64 = 0.1;
/// The share that becomes the test split where the data set has none and the recipe says nothing.
const TEST_FRACTION: f64 = 0.2;

/// The splits. No sample is in two of them, but where nothing else is said the validation split selects, too.
#[derive(Debug, Clone)]
pub struct Splits {
    /// What weights are fitted to.
    pub train: Subset,
    /// What a training is watched by.
    pub validation: Subset,
    /// What choices between candidates are made by.
    pub selection: Subset,
    /// What the result is measured on.
    pub test: Subset,
    /// Classes: one more than the largest label that the recipe leaves.
    pub classes: u32,
}

/// Splits a data set as `spec` says. What the data set does not declare is drawn from its training samples by `seed`; within
/// a split samples stay in the order of the file. Only the training split is augmented.
pub fn split(dataset: &Dataset, spec: &DataSpec, seed: u64) -> Result<Splits, DataError> {
    let view = View::new(dataset, spec)?;
    augment::check(&spec.augment, &dataset.train.sample_shape)?;

    let given = &spec.split;
    let validation = share("validation", &dataset.validation, given.validation_fraction, Some(VALIDATION_FRACTION))?;
    let selection = share("selection", &dataset.selection, given.selection_fraction, None)?;
    let test = share("test", &dataset.test, given.test_fraction, Some(TEST_FRACTION))?;

    let mut train = view.kept(&dataset.train);
    let samples = train.len();
    train.shuffle(&mut seed::stream(seed, "split"));
    // Drawn from the end of the order, which therefore begins with the same samples whatever is drawn.
    let mut take = |declared: &Option<Arc<Part>>, fraction: Option<f64>| match (declared, fraction) {
        (Some(part), _) => Some(view.subset(part, view.kept(part))),
        (None, None) => None,
        (None, Some(fraction)) => {
            let count = (train.len() as f64 * fraction).round() as usize;
            Some(view.subset(&dataset.train, train.split_off(train.len() - count)))
        }
    };
    let test = take(&dataset.test, test);
    let validation = take(&dataset.validation, validation);
    let selection = take(&dataset.selection, selection).or_else(|| validation.clone());
    train.truncate(given.train_samples.map_or(usize::MAX, |most| most as usize));

    let train = Some(view.subset(&dataset.train, train).augmented(&spec.augment));
    let filled = |name: &str, split: Option<Subset>| filled(name, split, samples);
    Ok(Splits {
        train: filled("train", train)?,
        validation: filled("validation", validation)?,
        selection: filled("selection", selection)?,
        test: filled("test", test)?,
        classes: view.relabelling.map_or(dataset.classes, |found| found.classes),
    })
}

/// The test split of [`split`] alone: training samples are needed only where it is drawn from them.
pub fn test_split(dataset: &Dataset, spec: &DataSpec, seed: u64) -> Result<Subset, DataError> {
    let Some(part) = &dataset.test else { return Ok(split(dataset, spec, seed)?.test) };
    let view = View::new(dataset, spec)?;
    filled("test", Some(view.subset(part, view.kept(part))), dataset.train.labels.len())
}

/// How samples of a data set are seen: what their values go through and what their labels become.
struct View {
    chain: Chain,
    relabelling: Option<Relabelling>,
    table: Option<Arc<[u32]>>,
}

impl View {
    fn new(dataset: &Dataset, spec: &DataSpec) -> Result<Self, DataError> {
        let shape = &dataset.train.sample_shape;
        let series = dataset.is_series();
        let channels = if series { shape.last() } else { shape.first() }.copied().unwrap_or(1);
        let chain = transform::compose(&spec.transforms, channels)?;
        let chain = if series { chain.over_steps(channels) } else { chain };
        let relabelling = Relabelling::of(spec, dataset.classes)?;
        let table = relabelling.as_ref().map(|found| found.table.clone().into());
        Ok(Self { chain, relabelling, table })
    }

    /// The samples whose classes are kept.
    fn kept(&self, part: &Part) -> Vec<u32> {
        let labels = (0..).zip(&part.labels);
        let keeps = |label: u32| self.relabelling.as_ref().is_none_or(|found| found.keeps(label));
        labels.filter(|(_, label)| keeps(**label)).map(|(sample, _)| sample).collect()
    }

    /// These samples, in the order of the file.
    fn subset(&self, part: &Arc<Part>, mut indices: Vec<u32>) -> Subset {
        indices.sort_unstable();
        Subset::new(part.clone(), indices, self.chain.clone()).relabelled(self.table.clone())
    }
}

/// Refuses a split without samples; `samples` is how many there are for training and for what is drawn from them.
fn filled(name: &str, split: Option<Subset>, samples: usize) -> Result<Subset, DataError> {
    split.filter(|split| !split.is_empty()).ok_or_else(|| {
        let problem = format!("leaves no sample for the {name} split: there are {samples} training samples");
        DataError::Spec { field: "data.split".to_string(), problem }
    })
}

/// The share of the training samples that a split takes; `None` where it takes none.
fn share(
    split: &str,
    declared: &Option<Arc<Part>>,
    given: Option<f64>,
    usual: Option<f64>,
) -> Result<Option<f64>, DataError> {
    let bad = |problem: String| Err(DataError::Spec { field: format!("data.split.{split}_fraction"), problem });
    match given {
        Some(_) if declared.is_some() => bad(format!("must be left out: the data set has {split} samples of its own")),
        // Written so that NaN is refused as well.
        Some(fraction) if !(fraction > 0.0 && fraction < 1.0) => {
            bad(format!("must be above 0 and below 1, is {fraction}"))
        }
        _ if declared.is_some() => Ok(None),
        given => Ok(given.or(usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Augmentation, Inputs, SplitSpec};
    use crate::error::Classify;
    use proptest::prelude::*;

    /// `n` samples, of which sample `i` has the label `first + i`: a label tells which sample it is.
    fn part(n: usize, first: u32) -> Arc<Part> {
        let inputs = Inputs::U8(vec![0; n].into());
        Arc::new(Part { sample_shape: vec![1], inputs, labels: (first..first + n as u32).collect() })
    }

    fn dataset(train: usize, test: Option<usize>) -> Dataset {
        Dataset {
            source: "idx",
            classes: train as u32,
            class_names: vec![],
            train: part(train, 0),
            validation: None,
            selection: None,
            test: test.map(|n| part(n, 10_000)),
        }
    }

    fn spec(validation_fraction: f64, test_fraction: Option<f64>) -> DataSpec {
        let split = SplitSpec { validation_fraction: Some(validation_fraction), test_fraction, ..SplitSpec::default() };
        DataSpec { split, ..DataSpec::default() }
    }

    fn labels(subset: &Subset) -> Vec<u32> {
        (0..subset.len()).map(|i| subset.label(i)).collect()
    }

    proptest! {
        #[test]
        fn every_training_sample_is_in_exactly_one_split(
            n in 20usize..300, validation in 0.1f64..0.4, selection in 0.1f64..0.4, test in 0.1f64..0.4, seed: u64,
        ) {
            let mut spec = spec(validation, Some(test));
            spec.split.selection_fraction = Some(selection);
            let splits = split(&dataset(n, None), &spec, seed).unwrap();
            let parts = [&splits.train, &splits.validation, &splits.selection, &splits.test].map(labels);
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
        assert_eq!(labels(&splits.selection), labels(&splits.validation));
    }

    #[test]
    fn parts_of_their_own_are_taken_whole_and_nothing_is_drawn_for_them() {
        let declared =
            Dataset { validation: Some(part(3, 20_000)), selection: Some(part(2, 30_000)), ..dataset(100, Some(7)) };
        let splits = split(&declared, &DataSpec::default(), 1).unwrap();
        assert_eq!(labels(&splits.train), (0..100).collect::<Vec<_>>());
        assert_eq!(labels(&splits.validation), [20_000, 20_001, 20_002]);
        assert_eq!(labels(&splits.selection), [30_000, 30_001]);
        for field in ["validation", "selection", "test"] {
            let mut spec = DataSpec::default();
            match field {
                "validation" => spec.split.validation_fraction = Some(0.1),
                "selection" => spec.split.selection_fraction = Some(0.1),
                _ => spec.split.test_fraction = Some(0.1),
            }
            let violations = split(&declared, &spec, 1).unwrap_err().violations();
            assert_eq!(violations[0].field, format!("data.split.{field}_fraction"));
        }
    }

    #[test]
    fn fewer_training_samples_are_the_first_of_more_and_leave_the_other_splits_alone() {
        let with = |train_samples| {
            let split_spec = SplitSpec { train_samples, ..SplitSpec::default() };
            split(&dataset(100, None), &DataSpec { split: split_spec, ..DataSpec::default() }, 1).unwrap()
        };
        let (few, more, all) = (with(Some(5)), with(Some(20)), with(Some(1000)));
        assert_eq!((few.train.len(), more.train.len(), all.train.len()), (5, 20, 72));
        assert!(labels(&few.train).iter().all(|label| labels(&more.train).contains(label)));
        assert_eq!(labels(&few.validation), labels(&all.validation));
        assert_eq!(labels(&few.test), labels(&all.test));
    }

    #[test]
    fn only_samples_of_kept_classes_are_in_any_split_under_their_new_labels() {
        let part = |labels: &[u32]| {
            let inputs = Inputs::U8(vec![0; labels.len()].into());
            Arc::new(Part { sample_shape: vec![1], inputs, labels: labels.into() })
        };
        let cycle: Vec<u32> = (0..100).map(|i| i % 5).collect();
        let declared = Dataset { classes: 5, train: part(&cycle), test: Some(part(&[4, 0, 3])), ..dataset(1, None) };
        let spec = DataSpec { classes: vec![4, 3, 1], relabel: vec![0, 1, 0], ..DataSpec::default() };
        let splits = split(&declared, &spec, 1).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len(), splits.classes), (54, 6, 2));
        assert_eq!(labels(&splits.test), [0, 1]);
        assert_eq!(splits.test.batch([0, 1]).labels, [0, 1]);
        let none = DataSpec { classes: vec![2], ..DataSpec::default() };
        assert!(split(&declared, &none, 1).unwrap_err().to_string().contains("no sample for the test split"));
    }

    #[test]
    fn only_the_training_split_is_augmented() {
        let values: Vec<u8> = (0..200).map(|i| (i % 2) as u8).collect();
        let train = Part { sample_shape: vec![1, 1, 2], inputs: Inputs::U8(values.into()), labels: vec![0; 100] };
        let dataset = Dataset { train: Arc::new(train), ..dataset(1, None) };
        let spec = DataSpec { augment: vec![Augmentation::Flip], ..DataSpec::default() };
        let splits = split(&dataset, &spec, 1).unwrap();
        let changed = |subset: &Subset| subset.training_batch(0..subset.len(), 1) != subset.batch(0..subset.len());
        assert_eq!([&splits.train, &splits.validation, &splits.test].map(changed), [true, false, false]);
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
