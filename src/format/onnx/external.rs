//! Tensors whose bytes lie in files beside the model.
//!
//! A model says of such a tensor in which file its bytes lie, and where in it. The name is a key to the files that came
//! with the model and nothing else: it is compared, byte by byte, and never reaches the file system. Every reader that
//! opened such names has had to be mended again and again (CVE-2022-25882, -2024-27318, -2024-5187, -2026-34446 and so on).
//!
//! Two tensors may lie in the same bytes, as exporters write weights that are shared. They may not overlap otherwise, and
//! all together they have at most [`MAX_SHARING`] times the bytes of the files: whoever looks at each has as much to do.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::{OnnxError, shown};
use super::proto::StringStringEntryProto;

/// What ONNX Runtime writes in the place of a name where the bytes lie in its own memory.
const MEMORY_MARKER: &str = "_ORT_MEM_ADDR_";
/// So many times the files' bytes the tensors may have together.
const MAX_SHARING: u64 = 16;
/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;
/// So many names of files are told.
const MAX_TOLD: usize = 5;

/// The files that came with a model, by their names, and which of their bytes are read.
#[derive(Debug, Clone, Default)]
pub struct External {
    files: BTreeMap<String, Bytes>,
    /// For each file, the ranges that tensors lie in: the first byte, and the first after it. None overlap.
    read: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Bytes of all files.
    size: u64,
    /// Bytes of all tensors that were read, those that are shared as often as they are.
    total: u64,
}

impl External {
    /// These files.
    pub fn new(files: BTreeMap<String, Bytes>) -> Self {
        let size = files.values().map(|file| file.len() as u64).sum();
        Self { files, size, ..Self::default() }
    }

    /// The files that no tensor was read from.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.files.keys().filter(|name| !self.read.contains_key(*name)).map(String::as_str)
    }

    /// The bytes of a tensor that has `expected` of them and lies where `entries` say. They are shared with the file.
    pub(super) fn bytes(
        &mut self,
        tensor: &str,
        entries: &[StringStringEntryProto],
        expected: u64,
    ) -> Result<Bytes, OnnxError> {
        let Place { location, offset, length } = place(tensor, entries)?;
        if !is_plain(location) {
            return Err(OnnxError::ExternalName { tensor: shown(tensor), location: shown(location) });
        }
        let Some(file) = self.files.get(location) else {
            let (tensor, location) = (shown(tensor), shown(location));
            return Err(OnnxError::ExternalMissing { tensor, location, files: self.told() });
        };
        let refused = |problem: String| {
            Err(OnnxError::ExternalRange { tensor: shown(tensor), location: shown(location), problem })
        };
        let size = file.len() as u64;
        let Some(rest) = size.checked_sub(offset) else {
            return refused(format!("from byte {offset} on, but that has {size} bytes"));
        };
        let length = length.unwrap_or(rest);
        if length > rest {
            return refused(format!("from byte {offset} on in {length} bytes, but that has {size} bytes"));
        }
        if length != expected {
            return refused(format!("in {length} bytes, but its shape takes {expected}"));
        }
        let end = offset + length;
        self.total += length;
        if self.total > self.size * MAX_SHARING {
            let together = format!("{MAX_SHARING} times the {} bytes of all files", self.size);
            return refused(format!("in bytes that others share, and all have more than {together}"));
        }
        let read = self.read.entry(location.to_string()).or_default();
        if length > 0 {
            if let Some((begin, other)) = overlapping(read, offset, end) {
                return refused(format!(
                    "in bytes {offset} to {end}, of which some are another tensor's, {begin} to {other}"
                ));
            }
            read.insert(offset, end);
        }
        Ok(file.slice(offset as usize..end as usize))
    }

    /// The names of the files, or of some.
    fn told(&self) -> String {
        let mut told: Vec<String> = self.files.keys().take(MAX_TOLD).map(|name| format!("'{}'", shown(name))).collect();
        if self.files.len() > MAX_TOLD {
            told.push(format!("{} more", self.files.len() - MAX_TOLD));
        }
        told.join(", ")
    }
}

/// A range that shares bytes with this one and is not the same.
fn overlapping(ranges: &BTreeMap<u64, u64>, begin: u64, end: u64) -> Option<(u64, u64)> {
    // As none of them overlap, the last that begins before the end reaches the furthest.
    let (first, last) = ranges.range(..end).next_back()?;
    (*last > begin && (*first, *last) != (begin, end)).then_some((*first, *last))
}

/// Where a tensor lies, as a model says it.
struct Place<'e> {
    location: &'e str,
    offset: u64,
    /// To the end of the file, where it is not said.
    length: Option<u64>,
}

/// Reads what a model says. Keys that are not known are refused: what they mean to other programs is not known either.
fn place<'e>(tensor: &str, entries: &'e [StringStringEntryProto]) -> Result<Place<'e>, OnnxError> {
    let refused = |key: &str, problem| OnnxError::ExternalKey { tensor: shown(tensor), key: shown(key), problem };
    let (mut location, mut offset, mut length, mut checksum) = (None, None, None, None);
    for StringStringEntryProto { key, value } in entries {
        let slot = match key.as_str() {
            "location" => &mut location,
            "offset" => &mut offset,
            "length" => &mut length,
            // A SHA-1 of the file, which protects from nothing: what came in has a SHA-256 of its own.
            "checksum" => &mut checksum,
            _ => return Err(refused(key, "which is not known; location, offset, length and checksum are")),
        };
        if slot.replace(value.as_str()).is_some() {
            return Err(refused(key, "which stands twice"));
        }
    }
    let decimal = |key: &str, text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            // `parse` takes a plus sign, too.
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
            _ => Err(refused(key, "which is no number of bytes")),
        },
    };
    let Some(location) = location else { return Err(refused("location", "which is missing")) };
    Ok(Place { location, offset: decimal("offset", offset)?.unwrap_or(0), length: decimal("length", length)? })
}

/// Whether a name could be that of a file that came with a model: nothing in it leads to a folder, a device or a memory.
pub(super) fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('.')
        && !name.contains(MEMORY_MARKER)
        && !is_device(name)
}

/// Whether Windows takes a name for a device, whatever follows the first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || numbered.is_some_and(|number| number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
