//! Where samples come from: one file a format, and what all formats have in common.

mod detect;
mod idx;
mod safetensors;

use std::sync::Arc;

use super::{DataError, DataSource, Dataset, Files, Inputs, Part};

pub(super) use detect::detect;

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
    match source {
        DataSource::Idx { train, test } => {
            let test = test.as_ref().map(|pair| idx::read(files, pair)).transpose()?;
            dataset("idx", idx::read(files, train)?, test)
        }
        DataSource::Safetensors { train, test, inputs, labels } => {
            let read = |file: &str| safetensors::read(files, file, inputs, labels);
            let test = test.as_deref().map(read).transpose()?;
            dataset("safetensors", read(train)?, test)
        }
    }
}

fn dataset(source: &'static str, train: Part, test: Option<Part>) -> Result<Dataset, DataError> {
    if let Some(test) = &test
        && test.sample_shape != train.sample_shape
    {
        let (train, test) = (&train.sample_shape, &test.sample_shape);
        let problem = format!("training samples have shape {train:?}, test samples {test:?}");
        return Err(DataError::Unclear { problem });
    }
    let labels = train.labels.iter().chain(test.iter().flat_map(|part| &part.labels));
    let classes = labels.max().map_or(0, |label| label + 1);
    Ok(Dataset { source, classes, train: Arc::new(train), test: test.map(Arc::new) })
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
