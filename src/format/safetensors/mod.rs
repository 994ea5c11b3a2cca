//! The safetensors container, read strictly and written so that the same tensors always give the same bytes.
//!
//! ```text
//!   8 bytes        n bytes                        the rest
//!   n, u64 LE  │  header: a JSON object       │  the tensors' bytes, without gaps
//!              │  {"__metadata__": {"k": "v"},│
//!              │   "fc.bias": {"dtype": "F32",│  offsets count from the end of the header;
//!              │     "shape": [10],           │  row-major, little-endian
//!              │     "data_offsets": [0, 40]}}│
//! ```
//!
//! The format is Hugging Face's (<https://huggingface.co/docs/safetensors>). Its reference reader is safe but lenient; a
//! service that hands files on to other programs must not accept what they may read differently. So this reader also
//! refuses: a name or metadata key that stands twice, unknown fields, axes and products beyond any real tensor (even where
//! another axis is 0), more than [`MAX_TENSORS`] tensors or
//! [`MAX_METADATA`] entries of metadata, a header above [`MAX_HEADER`] bytes, bytes other than 0 and 1 in
//! `BOOL`, and names that look like paths out of a folder (niwaki never uses names as paths; others may).
//!
//! Reading copies no tensor: they are slices of the file's bytes. Whether weights are finite is not asked here; see
//! [`non_finite`].

mod header;
mod read;
mod write;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use half::{bf16, f16};

use super::FormatError;
use super::error::shorten;
use crate::tensor::{DType, TensorData};

pub use read::{open, read};
pub use write::write;

/// The longest header, in bytes: 8 MiB.
pub const MAX_HEADER: u64 = 8 << 20;
/// The most tensors in a file.
pub const MAX_TENSORS: usize = 100_000;
/// The most entries of the metadata.
pub const MAX_METADATA: usize = 10_000;
/// The most axes of a tensor.
pub const MAX_RANK: usize = 8;
/// The largest axis of a tensor.
pub const MAX_DIM: u64 = 1 << 31;
/// The longest name of a tensor, in bytes.
pub const MAX_NAME: usize = 512;

/// The key under which the header keeps what is no tensor.
const METADATA: &str = "__metadata__";

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// The tensors, by name.
    pub tensors: BTreeMap<String, TensorData>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// The first byte of each tensor in a file, by its name.
pub fn offsets(file: Bytes) -> Result<HashMap<String, u64>, FormatError> {
    let start = file.as_ptr() as usize;
    let tensors = read(file)?.tensors;
    // Tensors share the file's bytes.
    Ok(tensors.into_iter().map(|(name, data)| (name, (data.bytes().as_ptr() as usize - start) as u64)).collect())
}

/// How many values of a tensor are NaN, infinite or too large for f32, in which networks compute; 0 for integers.
pub fn non_finite(tensor: &TensorData) -> usize {
    fn count<const N: usize>(tensor: &TensorData, finite: impl Fn([u8; N]) -> bool) -> usize {
        let (values, _) = tensor.bytes().as_chunks::<N>();
        values.iter().filter(|v| !finite(**v)).count()
    }
    match tensor.dtype() {
        DType::F16 => count(tensor, |b| f16::from_le_bytes(b).is_finite()),
        DType::BF16 => count(tensor, |b| bf16::from_le_bytes(b).is_finite()),
        DType::F32 => count(tensor, |b| f32::from_le_bytes(b).is_finite()),
        DType::F64 => count(tensor, |b| (f64::from_le_bytes(b) as f32).is_finite()),
        _ => 0,
    }
}

/// The rules for names; see [`FormatError::Name`]. ASCII alone has no two names that look the same.
pub(super) fn check_name(name: &str) -> Result<(), FormatError> {
    let printable = name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\');
    let path_like = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if name.len() > MAX_NAME || !printable || path_like || name.trim() != name || name == METADATA {
        return Err(FormatError::Name { name: shorten(name) });
    }
    Ok(())
}

/// The bytes that a tensor takes. The product is checked as if no axis were 0: `[0, 2^31, 2^31, 2^31]` is no tensor.
fn check_shape(tensor: &str, dtype: DType, shape: &[u64]) -> Result<u64, FormatError> {
    let bad = |problem: String| Err(FormatError::Shape { tensor: tensor.to_string(), problem });
    if shape.len() > MAX_RANK {
        return bad(format!("more than {MAX_RANK} axes"));
    }
    if let Some(dim) = shape.iter().find(|d| **d > MAX_DIM) {
        return bad(format!("an axis of {dim}"));
    }
    let product = shape.iter().try_fold(dtype.size() as u64, |n, d| n.checked_mul((*d).max(1)));
    match product {
        None => bad(format!("shape {shape:?} of {dtype} needs more than 2^64 bytes")),
        Some(_) if shape.contains(&0) => Ok(0),
        Some(bytes) => Ok(bytes),
    }
}
