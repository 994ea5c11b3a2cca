//! Where samples come from: one file a format, and what all formats have in common.

mod cifar;
mod csv;
mod detect;
#[cfg(test)]
mod fixture;
mod idx;
mod images;
mod npy;
mod npz;
mod safetensors;
mod ts;
mod zip;

use std::sync::Arc;

use super::{BySplit, DataError, DataSource, Dataset, Files, Inputs, Part};

pub(super) use detect::detect;
pub(super) use ts::NAME as SERIES;

/// The most bytes a file may unpack to: 1 GiB. A server holds the files of a few data sets in memory at a time.
const MAX_BYTES: u64 = 1 << 30;
/// The most classes; more are no classification.
const MAX_CLASSES: u32 = 1 << 20;

/// The inputs of a part as they were found in a file.
struct Samples {
    file: String,
    count: usize,
    sample_shape: Vec<usize>,
    values: Inputs,
}

/// The labels of a part as they were found in a file.
struct Labels {
    file: String,
    values: Vec<u32>,
}

/// Reads the files that `source` names.
pub(super) fn read(files: &Files, source: &DataSource) -> Result<Dataset, DataError> {
    check_once(source)?;
    match source {
        DataSource::Idx(pairs) => dataset("idx", pairs.as_ref().try_map(|pair| idx::read(files, pair))?, Vec::new()),
        DataSource::Safetensors { files: names, inputs, labels } => {
            let parts = names.as_ref().try_map(|file| safetensors::read(files, file, inputs, labels))?;
            dataset("safetensors", parts, Vec::new())
        }
        DataSource::Cifar { files: names, form } => {
            let parts = names.as_ref().try_map(|names| cifar::read(files, names, *form))?;
            dataset("cifar", parts, cifar::class_names(files, *form))
        }
        DataSource::Npz { arrays, layout } => {
            dataset("npz", arrays.as_ref().try_map(|pair| npz::read(files, pair, *layout))?, Vec::new())
        }
        DataSource::Images { folders, size, color } => {
            let (parts, names) = images::read(files, folders, *size, *color)?;
            dataset("images", parts, names)
        }
        DataSource::Csv { files: names, header, label, shape } => {
            let (parts, names) = csv::read(files, names, &csv::Form { header: *header, label, shape })?;
            dataset("csv", parts, names)
        }
        DataSource::Ts(names) => {
            let (parts, names) = ts::read(files, names)?;
            dataset(ts::NAME, parts, names)
        }
    }
}

/// No sample may be in two splits: what a split is read from is read for it alone.
fn check_once(source: &DataSource) -> Result<(), DataError> {
    type Uses = Vec<(&'static str, Vec<String>)>;
    let of =
        |files: &BySplit<String>| -> Uses { files.iter().map(|(split, file)| (split, vec![file.clone()])).collect() };
    let (kind, uses): (&str, Uses) = match source {
        DataSource::Idx(pairs) => {
            ("idx", pairs.iter().map(|(split, p)| (split, vec![p.inputs.clone(), p.labels.clone()])).collect())
        }
        DataSource::Safetensors { files, .. } => ("safetensors", of(files)),
        DataSource::Cifar { files, .. } => {
            ("cifar", files.iter().map(|(split, files)| (split, files.clone())).collect())
        }
        DataSource::Npz { arrays, .. } => {
            ("npz", arrays.iter().map(|(split, p)| (split, vec![format!("{}/{}", p.file, p.inputs)])).collect())
        }
        DataSource::Images { folders, .. } => ("images", of(folders)),
        DataSource::Csv { files, .. } => ("csv", of(files)),
        DataSource::Ts(files) => (ts::NAME, of(files)),
    };
    let folders = kind == "images";
    let overlap = |a: &str, b: &str| a == b || folders && (images::is_in(a, b) || images::is_in(b, a));
    let all: Vec<(&str, &String)> =
        uses.iter().flat_map(|(split, names)| names.iter().map(move |name| (*split, name))).collect();
    for (i, (split, name)) in all.iter().enumerate() {
        if let Some((first, other)) = all[..i].iter().find(|(_, other)| overlap(other, name)) {
            let problem = format!("reads '{other}' for the {first} split and '{name}' for the {split} split");
            return Err(DataError::Spec { field: format!("data.source.{kind}"), problem });
        }
    }
    Ok(())
}

/// Parts that make up a data set: samples of one shape. `names` are those of the classes, if the files tell them.
fn dataset(source: &'static str, parts: BySplit<Part>, names: Vec<String>) -> Result<Dataset, DataError> {
    let shape = &parts.train.sample_shape;
    if let Some((split, other)) = parts.iter().find(|(_, part)| part.sample_shape != *shape) {
        let other = &other.sample_shape;
        let problem = format!("training samples have shape {shape:?}, {split} samples {other:?}");
        return Err(DataError::Unclear { problem });
    }
    let seen = parts.iter().flat_map(|(_, part)| &part.labels).max().map_or(0, |label| label + 1);
    let BySplit { train, validation, selection, test } = parts;
    Ok(Dataset {
        source,
        classes: seen.max(names.len() as u32),
        class_names: names,
        train: Arc::new(train),
        validation: validation.map(Arc::new),
        selection: selection.map(Arc::new),
        test: test.map(Arc::new),
    })
}

/// Inputs and labels that belong together: one label a sample, at least one sample, and finite numbers.
fn part(samples: Samples, labels: Labels) -> Result<Part, DataError> {
    if samples.count != labels.values.len() {
        return Err(DataError::Count {
            inputs_file: samples.file,
            inputs: samples.count,
            labels_file: labels.file,
            labels: labels.values.len(),
        });
    }
    // Checked before any division by the size of a sample.
    if samples.count == 0 || samples.sample_shape.contains(&0) {
        let problem = format!(
            "file '{}' holds no values: {} samples of shape {:?}",
            samples.file, samples.count, samples.sample_shape
        );
        return Err(DataError::Empty { problem });
    }
    if u32::try_from(samples.count).is_err() {
        let problem = format!("{} samples, at most {} are allowed", samples.count, u32::MAX);
        return Err(DataError::Format { file: samples.file, problem });
    }
    if let Inputs::F32(values) = &samples.values
        && let Some(place) = values.iter().position(|v| !v.is_finite())
    {
        let size: usize = samples.sample_shape.iter().product();
        return Err(DataError::NonFinite { file: samples.file, sample: place / size });
    }
    Ok(Part { sample_shape: samples.sample_shape, inputs: samples.values, labels: labels.values })
}

/// Numbers as labels.
fn labels(file: &str, values: impl Iterator<Item = i128>) -> Result<Labels, DataError> {
    let limit = MAX_CLASSES;
    // They become four bytes each.
    let bytes = values.size_hint().0 as u64 * 4;
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge { file: file.to_string(), bytes, limit: MAX_BYTES });
    }
    let checked = values.enumerate().map(|(sample, value)| match u32::try_from(value) {
        Ok(label) if label < limit => Ok(label),
        _ => Err(DataError::Label { file: file.to_string(), sample, value, limit }),
    });
    Ok(Labels { file: file.to_string(), values: checked.collect::<Result<_, _>>()? })
}

/// An error of the file system while `file` is read.
fn unreadable(file: &str) -> impl Fn(std::io::Error) -> DataError + '_ {
    move |source| DataError::Unreadable { file: file.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{CifarForm, Color, IdxPair, Layout, NpzPair};

    fn problem(source: &DataSource) -> String {
        check_once(source).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_read_for_one_split_is_read_for_no_other() {
        let pair = |inputs: &str, labels: &str| IdxPair { inputs: inputs.into(), labels: labels.into() };
        let idx = |test| DataSource::Idx(BySplit { test: Some(test), ..BySplit::train(pair("a", "b")) });
        assert_eq!(problem(&idx(pair("c", "d"))), "");
        let twice = "`data.source.idx` reads 'b' for the train split and 'b' for the test split";
        assert_eq!(problem(&idx(pair("c", "b"))), twice);

        let several = |validation: &str| {
            let train = vec!["a".to_string(), "b".to_string()];
            let files = BySplit { validation: Some(vec![validation.to_string()]), ..BySplit::train(train) };
            DataSource::Cifar { files, form: CifarForm::Cifar10 }
        };
        assert_eq!(problem(&several("c")), "");
        assert!(problem(&several("b")).starts_with("`data.source.cifar` reads 'b' for the train split"));

        let pair = |inputs: &str| NpzPair { file: "f".into(), inputs: inputs.into(), labels: "y".into() };
        let npz = |test: &str| DataSource::Npz {
            arrays: BySplit { test: Some(pair(test)), ..BySplit::train(pair("x")) },
            layout: Layout::Detected,
        };
        assert_eq!(problem(&npz("z")), "");
        assert!(problem(&npz("x")).contains("'f/x'"));
    }

    #[test]
    fn no_folder_of_a_split_lies_in_that_of_another() {
        let images = |train: &str, test: &str| DataSource::Images {
            folders: BySplit { test: Some(test.into()), ..BySplit::train(train.into()) },
            size: None,
            color: Color::Detected,
        };
        for (train, test) in [("a", "a"), ("", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "")] {
            assert!(!problem(&images(train, test)).is_empty(), "{train} {test}");
        }
        for (train, test) in [("a", "b"), ("a", "ab"), ("a/b", "a/c")] {
            assert_eq!(problem(&images(train, test)), "", "{train} {test}");
        }
    }
}
