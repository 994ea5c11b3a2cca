//! Samples as arrays in `.npz` files, as `numpy.savez` and `savez_compressed` write them: inputs `[n, ...]` of any numbers
//! (u8 and bool stay bytes, all others become f32) and labels `[n]` or `[n, 1]` of whole numbers.
//!
//! Images `[n, h, w]` have no axis for channels; their samples are given one: `[1, h, w]`. Images with the channels last are
//! turned round to `[c, h, w]`.

use super::npy::{self, Array, Dtype, Head, NpyError};
use super::zip::{Archive, Unpacked};
use super::{Labels, Samples, labels, part};
use crate::data::{DataError, Files, Inputs, Layout, NpzPair, Part};

/// Reads the arrays of these names from a file. What their headers say is compared before any value is read.
pub(super) fn read(files: &Files, pair: &NpzPair, layout: Layout) -> Result<Part, DataError> {
    let NpzPair { file, inputs, labels } = pair;
    let mut archive = Archive::open(files, file)?;
    let of_labels = array(&mut archive, file, labels, npy::head)?;
    let of_inputs = array(&mut archive, file, inputs, npy::head)?;
    check_labels(file, labels, &of_labels)?;
    let form = Form::of(file, inputs, &of_inputs, layout)?;
    if form.count != of_labels.shape[0] {
        let (inputs_file, labels_file) = (file.clone(), file.clone());
        return Err(DataError::Count { inputs_file, inputs: form.count, labels_file, labels: of_labels.shape[0] });
    }
    let labels = classes(file, labels, array(&mut archive, file, labels, npy::read)?)?;
    let mut values = match of_inputs.dtype {
        Dtype::Bool | Dtype::U8 => Values::Bytes(array(&mut archive, file, inputs, npy::read)?.bytes),
        _ => Values::Numbers(array(&mut archive, file, inputs, npy::read_f32)?),
    };
    if form.channels_last {
        match &mut values {
            Values::Bytes(bytes) => channels_first(bytes, &form.sample_shape),
            Values::Numbers(numbers) => channels_first(numbers, &form.sample_shape),
        }
    }
    let values = match values {
        Values::Bytes(bytes) => Inputs::U8(bytes.into()),
        Values::Numbers(numbers) => Inputs::F32(numbers),
    };
    part(Samples { file: file.clone(), count: form.count, sample_shape: form.sample_shape, values }, labels)
}

enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>),
}

/// The names of the arrays in a file.
pub(super) fn names(files: &Files, file: &str) -> Result<Vec<String>, DataError> {
    let archive = Archive::open(files, file)?;
    Ok(archive.names().filter_map(|name| name.strip_suffix(".npy")).map(String::from).collect())
}

/// What `read` makes of the array of that name.
fn array<T>(
    archive: &mut Archive,
    file: &str,
    name: &str,
    read: impl Fn(&mut Unpacked<'_>) -> Result<T, NpyError>,
) -> Result<T, DataError> {
    if let Some(mut member) = archive.member(&format!("{name}.npy"))? {
        return read(&mut member).map_err(|error| error.of(file, name));
    }
    let known: Vec<&str> = archive.names().map(|name| name.trim_end_matches(".npy")).take(10).collect();
    let problem = format!("it has no array '{name}'; it has {}", known.join(", "));
    Err(DataError::Format { file: file.to_string(), problem })
}

/// What an array of inputs is, by its header.
struct Form {
    count: usize,
    sample_shape: Vec<usize>,
    /// `[n, h, w, c]`: the samples are turned round.
    channels_last: bool,
}

impl Form {
    fn of(file: &str, name: &str, head: &Head, layout: Layout) -> Result<Self, DataError> {
        let bad = |problem: String| NpyError::Format(problem).of(file, name);
        let channels_last = match (layout, &head.shape[..]) {
            (Layout::Detected, [_, second, _, last]) => matches!(last, 1 | 3 | 4) && !matches!(second, 1 | 3 | 4),
            (Layout::Detected, _) | (Layout::ChannelsFirst, _) => false,
            (Layout::ChannelsLast, [_, _, _, _]) => true,
            (Layout::ChannelsLast, shape) => {
                return Err(bad(format!("has shape {shape:?}; images with their channels last have four axes")));
            }
        };
        let (count, sample_shape) = match *head.shape {
            [n, h, w] => (n, vec![1, h, w]),
            [n, h, w, c] if channels_last => (n, vec![c, h, w]),
            [n, ref sample @ ..] if !sample.is_empty() => (n, sample.to_vec()),
            ref shape => return Err(bad(format!("has shape {shape:?}; inputs are [samples, ...]"))),
        };
        Ok(Self { count, sample_shape, channels_last })
    }
}

/// `[n, h, w, c]` to `[n, c, h, w]`, in place, where `sample` is `[c, h, w]`.
fn channels_first<T: Copy>(values: &mut [T], sample: &[usize]) {
    let mut turned = Vec::new();
    // Without values there may be axes of any size beside those of 0.
    for image in values.chunks_exact_mut(sample.iter().product::<usize>().max(1)) {
        turned.clear();
        (0..sample[0]).for_each(|channel| turned.extend(image[channel..].iter().step_by(sample[0])));
        image.copy_from_slice(&turned);
    }
}

fn check_labels(file: &str, name: &str, head: &Head) -> Result<(), DataError> {
    let bad = |problem: String| NpyError::Format(problem).of(file, name);
    if !matches!(*head.shape, [_] | [_, 1]) {
        return Err(bad(format!("has shape {:?}; labels are [samples]", head.shape)));
    }
    if matches!(head.dtype, Dtype::F16 | Dtype::F32 | Dtype::F64) {
        return Err(bad("has floating point numbers; labels are integers".to_string()));
    }
    Ok(())
}

fn classes(file: &str, name: &str, array: Array) -> Result<Labels, DataError> {
    let bad = |problem: String| NpyError::Format(problem).of(file, name);
    let whole = array.integers().ok_or_else(|| bad("has floating point numbers; labels are integers".to_string()))?;
    labels(file, whole)
}

#[cfg(test)]
mod tests;
