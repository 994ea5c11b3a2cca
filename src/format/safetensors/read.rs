//! Bytes to tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use super::header::{self, Entry};
use super::{Container, MAX_HEADER, check_name, check_shape};
use crate::format::FormatError;
use crate::format::error::shorten;
use crate::format::foreign;
use crate::format::pairs::Pairs;
use crate::tensor::{DType, TensorData};

/// So many bytes tell what a file is.
const START: u64 = 64;

/// Reads a safetensors file; the tensors share its bytes.
///
/// ```
/// use niwaki::format::safetensors;
/// let mut file = 60u64.to_le_bytes().to_vec();
/// file.extend(br#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      "#);
/// file.extend(0.5f32.to_le_bytes());
/// let container = safetensors::read(file.into())?;
/// assert_eq!(container.tensors["b"].to_f32().unwrap(), [0.5]);
/// # Ok::<(), niwaki::format::FormatError>(())
/// ```
pub fn read(file: Bytes) -> Result<Container, FormatError> {
    let header_len = header_len(&file, file.len() as u64)?;
    let data = file.slice(8 + header_len..);
    plan(&file[8..8 + header_len], data.len() as u64)?.container(&data)
}

/// Reads a safetensors file from the disk: its header first, and its data only once the header is found to be right and to
/// speak of just as many bytes, so that a file that is refused costs no more memory than its header.
///
/// The file is read and not mapped: if it becomes shorter meanwhile, that is an error and no signal.
pub fn open(path: &Path) -> io::Result<Result<Container, FormatError>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut start = Vec::new();
    (&mut file).take(START).read_to_end(&mut start)?;
    let header_len = match header_len(&start, size) {
        Ok(length) => length as u64,
        Err(error) => return Ok(Err(error)),
    };
    file.seek(SeekFrom::Start(8))?;
    let plan = match whole(&mut file, "the header", header_len)?.and_then(|header| plan(&header, size - 8 - header_len))
    {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error)),
    };
    let data = whole(&mut file, "the data", size - 8 - header_len)?;
    Ok(data.and_then(|data| plan.container(&data.into())))
}

/// The next `expected` bytes, which were there a moment ago. Memory that there is not is an error of the system.
fn whole(file: &mut File, what: &'static str, expected: u64) -> io::Result<Result<Vec<u8>, FormatError>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(expected).unwrap_or(usize::MAX))?;
    file.take(expected).read_to_end(&mut bytes)?;
    let actual = bytes.len() as u64;
    Ok(if actual < expected { Err(FormatError::Truncated { what, expected, actual }) } else { Ok(bytes) })
}

/// What a header says, found to be right but for the bytes of the tensors.
struct Plan {
    extents: BTreeMap<String, Extent>,
    metadata: BTreeMap<String, String>,
}

/// Reads a header, behind which `available` bytes of data follow.
fn plan(header: &[u8], available: u64) -> Result<Plan, FormatError> {
    let header = header::parse(header)?;
    let metadata = Pairs(header.metadata.unwrap_or_default()).unique();
    let metadata =
        metadata.map_err(|name| FormatError::DuplicateName { what: "metadata entries", name: shorten(&name) })?;
    let mut entries: BTreeMap<String, Extent> = BTreeMap::new();
    for (name, entry) in header.tensors {
        check_name(&name)?;
        let extent = extent(&name, entry)?;
        if entries.contains_key(&name) {
            return Err(FormatError::DuplicateName { what: "tensors", name });
        }
        entries.insert(name, extent);
    }
    check_coverage(&entries, available)?;
    Ok(Plan { extents: entries, metadata })
}

impl Plan {
    fn container(self, data: &Bytes) -> Result<Container, FormatError> {
        let mut tensors = BTreeMap::new();
        for (name, extent) in self.extents {
            let tensor = tensor(&name, extent, data)?;
            tensors.insert(name, tensor);
        }
        Ok(Container { tensors, metadata: self.metadata })
    }
}

/// Where a tensor lies in the data.
struct Extent {
    dtype: DType,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// The header's length, which is known to lie in the file of `size` bytes that begins like this, and below the limit.
fn header_len(file: &[u8], size: u64) -> Result<usize, FormatError> {
    let Some((prefix, rest)) = file.split_first_chunk::<8>() else {
        let truncated = FormatError::Truncated { what: "the header length", expected: 8, actual: size };
        return Err(foreign(file).unwrap_or(truncated));
    };
    let (bytes, available) = (u64::from_le_bytes(*prefix), size - 8);
    if bytes > available {
        let truncated = FormatError::Truncated { what: "the header", expected: bytes, actual: available };
        return Err(foreign(file).unwrap_or(truncated));
    }
    if bytes > MAX_HEADER {
        return Err(foreign(file).unwrap_or(FormatError::HeaderTooLarge { bytes }));
    }
    if rest.first() != Some(&b'{')
        && let Some(error) = foreign(file)
    {
        return Err(error);
    }
    Ok(bytes as usize)
}

/// What else a file may be, by its first bytes. Asked only where it cannot be safetensors.
fn foreign(file: &[u8]) -> Option<FormatError> {
    let looks_like = foreign::looks_like(file).or(match file {
        // ModelProto: ir_version (field 1, a small number), then producer_name, graph, opset_import or the like.
        [0x08, 1..=0x20, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => Some("an ONNX model"),
        _ => None,
    });
    looks_like.map(|looks_like| FormatError::Foreign { looks_like })
}

/// A header's entry, once its offsets are found to span exactly the bytes that its shape takes.
fn extent(name: &str, entry: Entry) -> Result<Extent, FormatError> {
    let Some(dtype) = DType::from_name(&entry.dtype) else {
        return Err(FormatError::DType { tensor: name.to_string(), dtype: shorten(&entry.dtype) });
    };
    let bytes = check_shape(name, dtype, &entry.shape)?;
    let [begin, end] = entry.offsets;
    let problem = match end.checked_sub(begin) {
        None => "which end before they begin".to_string(),
        Some(span) if span != bytes => format!("{span} bytes, but shape {:?} of {dtype} takes {bytes}", entry.shape),
        Some(_) => return Ok(Extent { dtype, shape: entry.shape, begin, end }),
    };
    Err(FormatError::Offsets { tensor: name.to_string(), begin, end, problem })
}

/// The tensors must cover the data exactly: no gap, no byte twice, nothing after the last.
fn check_coverage(entries: &BTreeMap<String, Extent>, available: u64) -> Result<(), FormatError> {
    let mut in_file_order: Vec<(u64, u64, &str)> = entries.iter().map(|(n, e)| (e.begin, e.end, n.as_str())).collect();
    in_file_order.sort_unstable();
    let mut cursor = 0;
    for (begin, end, name) in in_file_order {
        if begin != cursor {
            let what = if begin < cursor { "overlapping another tensor that ends" } else { "after a gap that begins" };
            let problem = format!("{what} at {cursor}");
            return Err(FormatError::Offsets { tensor: name.to_string(), begin, end, problem });
        }
        cursor = end;
    }
    if cursor > available {
        return Err(FormatError::Truncated { what: "the data", expected: cursor, actual: available });
    }
    if cursor < available {
        return Err(FormatError::Trailing { bytes: available - cursor });
    }
    Ok(())
}

/// The tensor at `extent`, which lies in `data`: [`check_coverage`] has seen to that.
fn tensor(name: &str, extent: Extent, data: &Bytes) -> Result<TensorData, FormatError> {
    let bytes = data.slice(extent.begin as usize..extent.end as usize);
    if extent.dtype == DType::Bool
        && let Some(index) = bytes.iter().position(|b| *b > 1)
    {
        return Err(FormatError::Bool { tensor: name.to_string(), index, value: bytes[index] });
    }
    let shape = extent.shape.iter().map(|d| *d as usize).collect();
    TensorData::new(extent.dtype, shape, bytes)
        .map_err(|e| FormatError::Shape { tensor: name.to_string(), problem: e.to_string() })
}

#[cfg(test)]
mod tests;
