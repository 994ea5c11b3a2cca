//! The binary version of CIFAR-10 and CIFAR-100 (<https://www.cs.toronto.edu/~kriz/cifar.html>): records without a header.
//!
//! ```text
//!   CIFAR-10:  label                  │ 1024 red, 1024 green, 1024 blue bytes, each plane row by row, 32 x 32
//!   CIFAR-100: coarse label │ fine label │ the same
//! ```
//!
//! A file has whole records. The names of the classes stand in a text file beside them, one a line.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};

use super::{MAX_BYTES, Samples, labels, part, unreadable};
use crate::data::{CifarForm, DataError, Files, Inputs, Part};

/// Bytes of a picture.
const PIXELS: usize = 3 * 32 * 32;
/// Records that are looked at to tell what a file is.
const LOOKED_AT: usize = 64;
/// Text files of names are short.
const MAX_NAMES: u64 = 1 << 16;

/// Reads the records of these files, one file after the other.
pub(super) fn read(files: &Files, names: &[String], form: CifarForm) -> Result<Part, DataError> {
    let record = label_bytes(form) + PIXELS;
    let mut sizes = Vec::new();
    for name in names {
        let size = files.path(name)?.metadata().map_err(unreadable(name))?.len();
        if size % record as u64 != 0 {
            let problem = format!("it has {size} bytes, which are no whole records of {record}");
            return Err(DataError::Truncated { file: name.clone(), problem });
        }
        sizes.push(size);
        let bytes = sizes.iter().sum();
        if bytes > MAX_BYTES {
            return Err(DataError::TooLarge { file: name.clone(), bytes, limit: MAX_BYTES });
        }
    }
    let count = (sizes.iter().sum::<u64>() / record as u64) as usize;
    let mut values = Vec::with_capacity(count * PIXELS);
    let mut found = Vec::with_capacity(count);
    for (name, size) in names.iter().zip(sizes) {
        let mut reader = BufReader::new(File::open(files.path(name)?).map_err(unreadable(name))?);
        for sample in 0..size / record as u64 {
            let label = next(&mut reader, form, &mut values).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => DataError::Truncated {
                    file: name.clone(),
                    problem: "it has become shorter while it was read".to_string(),
                },
                _ => unreadable(name)(error),
            })?;
            let limit = classes(form);
            if u32::from(label) >= limit {
                let (sample, value) = (sample as usize, i128::from(label));
                return Err(DataError::Label { file: name.clone(), sample, value, limit });
            }
            found.push(label);
        }
    }
    let file = names.first().cloned().unwrap_or_default();
    let labels = labels(&file, found.into_iter().map(i128::from))?;
    part(Samples { file, count, sample_shape: vec![3, 32, 32], values: Inputs::U8(values.into()) }, labels)
}

/// The names of the classes, if their file is there and has as many lines.
pub(super) fn class_names(files: &Files, form: CifarForm) -> Vec<String> {
    let name = match form {
        CifarForm::Cifar10 => "batches.meta.txt",
        CifarForm::Cifar100Fine => "fine_label_names.txt",
        CifarForm::Cifar100Coarse => "coarse_label_names.txt",
    };
    let path = files.0.iter().find(|(file, _)| file.rsplit('/').next() == Some(name)).map(|(_, path)| path);
    let mut text = String::new();
    // Names are no more than a help: without them the data set is as good.
    let Some(Ok(file)) = path.map(File::open) else { return Vec::new() };
    if file.take(MAX_NAMES).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() == classes(form) as usize { names } else { Vec::new() }
}

/// What a file of that size is, if its first records may be CIFAR's; a CIFAR-100 file is taken for its fine labels.
pub(super) fn form_of(mut file: impl Read, size: u64) -> std::io::Result<Option<CifarForm>> {
    for form in [CifarForm::Cifar10, CifarForm::Cifar100Fine] {
        let record = (label_bytes(form) + PIXELS) as u64;
        if size == 0 || !size.is_multiple_of(record) {
            continue;
        }
        let mut values = Vec::new();
        for _ in 0..(size / record).min(LOOKED_AT as u64) {
            values.clear();
            if u32::from(next(&mut file, form, &mut values)?) >= classes(form) {
                return Ok(None);
            }
        }
        return Ok(Some(form));
    }
    Ok(None)
}

/// Reads a record: adds its pixels, and returns its label.
fn next(reader: &mut impl Read, form: CifarForm, values: &mut Vec<u8>) -> std::io::Result<u8> {
    let mut found = [0; 2];
    let found = &mut found[..label_bytes(form)];
    reader.read_exact(found)?;
    let start = values.len();
    values.resize(start + PIXELS, 0);
    reader.read_exact(&mut values[start..])?;
    Ok(match form {
        CifarForm::Cifar10 | CifarForm::Cifar100Coarse => found[0],
        CifarForm::Cifar100Fine => found[1],
    })
}

fn label_bytes(form: CifarForm) -> usize {
    match form {
        CifarForm::Cifar10 => 1,
        CifarForm::Cifar100Fine | CifarForm::Cifar100Coarse => 2,
    }
}

fn classes(form: CifarForm) -> u32 {
    match form {
        CifarForm::Cifar10 => 10,
        CifarForm::Cifar100Fine => 100,
        CifarForm::Cifar100Coarse => 20,
    }
}

#[cfg(test)]
mod tests;
