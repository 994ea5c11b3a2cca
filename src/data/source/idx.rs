//! IDX, the format MNIST comes in (<http://yann.lecun.com/exdb/mnist>), gzip-compressed or not.
//!
//! ```text
//!   0 0 type rank │ rank sizes, u32 big-endian │ values, big-endian, row-major
//!   type: 8 u8 · 9 i8 · 11 i16 · 12 i32 · 13 f32 · 14 f64
//! ```
//!
//! Inputs are u8 or f32, labels u8 or i32. Images `[n, h, w]` have no axis for channels; their samples are given one:
//! `[1, h, w]`. Sizes are not believed: memory grows with the bytes that really come, up to what the sizes say.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use super::{Labels, MAX_BYTES, Samples, labels, part, unreadable};
use crate::data::{DataError, Files, IdxPair, Inputs, Part};

const U8: u8 = 8;
const I32: u8 = 12;
const F32: u8 = 13;

/// The most axes: samples, channels, height, width.
const MAX_RANK: u8 = 4;

/// Deflate encodes at most 258 bytes in 2 bits: no stream unpacks to more than 1032 times its length.
const MAX_RATIO: u64 = 1032;

/// An array as it was read.
struct Array {
    dtype: u8,
    dims: Vec<usize>,
    /// Big-endian.
    bytes: Vec<u8>,
}

/// Reads inputs and labels.
pub(super) fn read(files: &Files, pair: &IdxPair) -> Result<Part, DataError> {
    let inputs = samples(&pair.inputs, array(files, &pair.inputs)?)?;
    let labels = classes(&pair.labels, array(files, &pair.labels)?)?;
    part(inputs, labels)
}

fn samples(file: &str, array: Array) -> Result<Samples, DataError> {
    let bad = |problem: String| Err(DataError::Format { file: file.to_string(), problem });
    let sample_shape = match *array.dims {
        [_, h, w] => vec![1, h, w],
        [_, ref rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => return bad("inputs have two axes or more, this file has one: are these labels?".to_string()),
    };
    let values = match array.dtype {
        U8 => Inputs::U8(array.bytes.into()),
        F32 => Inputs::F32(words(&array.bytes).map(f32::from_be_bytes).collect()),
        other => return bad(format!("inputs of type {} are not supported; u8 and f32 are", type_name(other))),
    };
    Ok(Samples { file: file.to_string(), count: array.dims[0], sample_shape, values })
}

fn classes(file: &str, array: Array) -> Result<Labels, DataError> {
    let bad = |problem: String| Err(DataError::Format { file: file.to_string(), problem });
    if array.dims.len() != 1 {
        return bad(format!("labels have one axis, this file has {}: are these inputs?", array.dims.len()));
    }
    match array.dtype {
        U8 => labels(file, array.bytes.iter().map(|b| i128::from(*b))),
        I32 => labels(file, words(&array.bytes).map(|b| i128::from(i32::from_be_bytes(b)))),
        other => bad(format!("labels of type {} are not supported; u8 and i32 are", type_name(other))),
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.as_chunks::<4>().0.iter().copied()
}

/// Reads a file, unpacking it where its content is gzip.
fn array(files: &Files, name: &str) -> Result<Array, DataError> {
    let file = File::open(files.path(name)?).map_err(unreadable(name))?;
    let length = file.metadata().map_err(unreadable(name))?.len();
    let mut reader = BufReader::new(file);
    if !reader.fill_buf().map_err(unreadable(name))?.starts_with(&[0x1f, 0x8b]) {
        return parse(&mut reader, name, length);
    }
    // A gzip file may consist of several streams (RFC 1952, 2.2); what follows the last one is refused as a damaged one.
    parse(&mut MultiGzDecoder::new(reader), name, length.saturating_mul(MAX_RATIO))
}

/// Reads an array to the end of `reader`, which has at most `available` bytes.
fn parse(reader: &mut impl Read, name: &str, available: u64) -> Result<Array, DataError> {
    let bad = |problem: String| DataError::Format { file: name.to_string(), problem };
    let truncated = |problem: String| DataError::Truncated { file: name.to_string(), problem };
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => truncated("it ends in the middle".to_string()),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => bad(format!("the gzip stream is damaged: {error}")),
        _ => unreadable(name)(error),
    };
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(broken)?;
    let [0, 0, dtype, rank] = magic else {
        return Err(bad(format!("it is no IDX file: it begins with {magic:02x?} instead of 00 00")));
    };
    let size = match dtype {
        8 | 9 => 1,
        11 => 2,
        12 | 13 => 4,
        14 => 8,
        _ => return Err(bad(format!("type 0x{dtype:02x} is not one of IDX's"))),
    };
    if rank == 0 || rank > MAX_RANK {
        return Err(bad(format!("it has {rank} axes, between 1 and {MAX_RANK} are supported")));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut dim = [0; 4];
        reader.read_exact(&mut dim).map_err(broken)?;
        dims.push(u32::from_be_bytes(dim));
    }
    // As if no axis were 0, so that no product of the others overflows later.
    let product = dims.iter().try_fold(size, |n: u64, d| n.checked_mul(u64::from(*d).max(1)));
    let bytes = match product {
        Some(_) if dims.contains(&0) => 0,
        Some(bytes) if bytes <= available => bytes,
        _ => return Err(truncated(format!("shape {dims:?} needs more bytes than the {available} it can hold"))),
    };
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge { file: name.to_string(), bytes, limit: MAX_BYTES });
    }
    let mut values = Vec::new();
    reader.take(bytes).read_to_end(&mut values).map_err(broken)?;
    if (values.len() as u64) < bytes {
        return Err(truncated(format!("shape {dims:?} needs {bytes} bytes, {} are there", values.len())));
    }
    if reader.read(&mut [0]).map_err(broken)? > 0 {
        return Err(bad(format!("bytes follow the {bytes} that shape {dims:?} needs")));
    }
    Ok(Array { dtype, dims: dims.into_iter().map(|d| d as usize).collect(), bytes: values })
}

fn type_name(dtype: u8) -> &'static str {
    match dtype {
        8 => "u8",
        9 => "i8",
        11 => "i16",
        12 => "i32",
        13 => "f32",
        _ => "f64",
    }
}

#[cfg(test)]
mod tests;
