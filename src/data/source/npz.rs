//! Samples as arrays in `.npz` files, as `numpy.savez` and `savez_compressed` write them: inputs `[n, ...]` of any numbers
//! (u8 and bool stay bytes, all others become f32) and labels `[n]` or `[n, 1]` of whole numbers.
//!
//! Images `[n, h, w]` have no axis for channels; their samples are given one: `[1, h, w]`. Images with the channels last are
//! turned round to `[c, h, w]`.

use super::npy::{self, Array, Dtype, NpyError};
use super::zip::Archive;
use super::{Labels, Samples, labels, part};
use crate::data::{DataError, Files, Inputs, Layout, NpzPair, Part};

/// Reads the arrays of these names from a file.
pub(super) fn read(files: &Files, pair: &NpzPair, layout: Layout) -> Result<Part, DataError> {
    let NpzPair { file, inputs, labels } = pair;
    let mut archive = Archive::open(files, file)?;
    let labels = classes(file, labels, array(&mut archive, file, labels)?)?;
    let inputs = samples(file, inputs, array(&mut archive, file, inputs)?, layout)?;
    part(inputs, labels)
}

/// The names of the arrays in a file.
pub(super) fn names(files: &Files, file: &str) -> Result<Vec<String>, DataError> {
    let archive = Archive::open(files, file)?;
    Ok(archive.names().filter_map(|name| name.strip_suffix(".npy")).map(String::from).collect())
}

fn array(archive: &mut Archive, file: &str, name: &str) -> Result<Array, DataError> {
    if let Some(mut member) = archive.member(&format!("{name}.npy"))? {
        return npy::read(&mut member).map_err(|error| error.of(file, name));
    }
    let known: Vec<&str> = archive.names().map(|name| name.trim_end_matches(".npy")).take(10).collect();
    let problem = format!("it has no array '{name}'; it has {}", known.join(", "));
    Err(DataError::Format { file: file.to_string(), problem })
}

fn samples(file: &str, name: &str, array: Array, layout: Layout) -> Result<Samples, DataError> {
    let bad = |problem: String| NpyError::Format(problem).of(file, name);
    let last = match (layout, &array.shape[..]) {
        (Layout::Detected, [_, second, _, last]) => matches!(last, 1 | 3 | 4) && !matches!(second, 1 | 3 | 4),
        (Layout::Detected, _) | (Layout::ChannelsFirst, _) => false,
        (Layout::ChannelsLast, [_, _, _, _]) => true,
        (Layout::ChannelsLast, shape) => {
            return Err(bad(format!("has shape {shape:?}; images with their channels last have four axes")));
        }
    };
    let (count, sample_shape) = match *array.shape {
        [n, h, w] => (n, vec![1, h, w]),
        [n, h, w, c] if last => (n, vec![c, h, w]),
        [n, ref sample @ ..] if !sample.is_empty() => (n, sample.to_vec()),
        ref shape => return Err(bad(format!("has shape {shape:?}; inputs are [samples, ...]"))),
    };
    let mut values = match array.dtype {
        Dtype::Bool | Dtype::U8 => Inputs::U8(array.bytes.into()),
        _ => Inputs::F32(array.to_f32().map_err(|error| error.of(file, name))?),
    };
    if last {
        values = match values {
            Inputs::U8(bytes) => Inputs::U8(channels_first(&bytes, &sample_shape).into()),
            Inputs::F32(numbers) => Inputs::F32(channels_first(&numbers, &sample_shape)),
        };
    }
    Ok(Samples { file: file.to_string(), count, sample_shape, values })
}

/// `[n, h, w, c]` to `[n, c, h, w]`, where `sample` is `[c, h, w]`.
fn channels_first<T: Copy>(values: &[T], sample: &[usize]) -> Vec<T> {
    let mut turned = Vec::with_capacity(values.len());
    // Without values there may be axes of any size beside those of 0.
    for image in values.chunks_exact(sample.iter().product::<usize>().max(1)) {
        (0..sample[0]).for_each(|channel| turned.extend(image[channel..].iter().step_by(sample[0])));
    }
    turned
}

fn classes(file: &str, name: &str, array: Array) -> Result<Labels, DataError> {
    let bad = |problem: String| NpyError::Format(problem).of(file, name);
    if !matches!(*array.shape, [_] | [_, 1]) {
        return Err(bad(format!("has shape {:?}; labels are [samples]", array.shape)));
    }
    let whole = array.integers().ok_or_else(|| bad("has floating point numbers; labels are integers".to_string()))?;
    labels(file, whole)
}

#[cfg(test)]
mod tests;
