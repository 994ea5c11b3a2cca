//! The `.npy` format, versions 1 to 3 (NumPy Enhancement Proposal 1 and `numpy.lib.format`).
//!
//! ```text
//!   93 "NUMPY" │ major minor │ header length, u16 or (from version 2 on) u32 │ header │ values
//!   header: a Python dict, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and spaces and a line end
//! ```
//!
//! The header is read by a grammar of its own that knows this dict and nothing else. Integers, floating point numbers and
//! booleans in little-endian order are supported; objects (which are pickled code), structures, texts, dates, complex
//! numbers, big-endian order and Fortran order are refused. Sizes are compared with the bytes that can be there before
//! memory is taken.

use std::io::Read;

use half::f16;

use super::{MAX_BYTES, zip::Unpacked};
use crate::data::DataError;

const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// NumPy's own headers have 118 bytes; a structure's may be longer.
const MAX_HEADER: usize = 1 << 16;
/// Bytes that are turned into numbers at a time; whole numbers of any type.
const PIECE: u64 = 1 << 16;
/// More axes than NumPy has.
const MAX_RANK: usize = 32;

/// The types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

/// An array as it was read.
#[derive(Debug, PartialEq)]
pub(super) struct Array {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

/// Why bytes are no array.
#[derive(Debug)]
pub(super) enum NpyError {
    Io(std::io::Error),
    Format(String),
    Truncated(String),
    TooLarge(u64),
}

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

impl NpyError {
    /// The error for the array `name` of `file`.
    pub fn of(self, file: &str, name: &str) -> DataError {
        let file = file.to_string();
        match self {
            NpyError::Io(source) => match source.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    DataError::Truncated { file, problem: format!("array '{name}' ends in the middle") }
                }
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                    DataError::Format { file, problem: format!("array '{name}' is damaged: {source}") }
                }
                _ => DataError::Unreadable { file, source },
            },
            NpyError::Format(problem) => DataError::Format { file, problem: format!("array '{name}' {problem}") },
            NpyError::Truncated(problem) => DataError::Truncated { file, problem: format!("array '{name}' {problem}") },
            NpyError::TooLarge(bytes) => DataError::TooLarge { file, bytes, limit: MAX_BYTES },
        }
    }
}

/// What an array's header says, found to be right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The bytes of its values.
    bytes: u64,
}

/// Reads the header of the array that a member of an archive is.
pub(super) fn head(member: &mut Unpacked<'_>) -> Result<Head, NpyError> {
    let available = member.size;
    parse_head(member, available)
}

/// Reads the array that a member of an archive is.
pub(super) fn read(member: &mut Unpacked<'_>) -> Result<Array, NpyError> {
    let head = head(member)?;
    let array = parse_values(member, head)?;
    to_the_end(member)?;
    Ok(array)
}

/// Reads the array that a member of an archive is, rounded to f32 as it comes: it is in memory once, and not twice.
pub(super) fn read_f32(member: &mut Unpacked<'_>) -> Result<Vec<f32>, NpyError> {
    let Head { dtype, shape, bytes } = head(member)?;
    let size = bytes / u64::from(dtype.bytes()) * 4;
    if size > MAX_BYTES {
        return Err(NpyError::TooLarge(size));
    }
    let (mut values, mut left) = (Vec::new(), bytes);
    while left > 0 {
        let piece = left.min(PIECE);
        let array = parse_values(member, Head { dtype, shape: shape.clone(), bytes: piece })?;
        values.extend(array.to_f32()?);
        left -= piece;
    }
    to_the_end(member)?;
    Ok(values)
}

fn to_the_end(member: &mut Unpacked<'_>) -> Result<(), NpyError> {
    match member.is_whole() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NpyError::Format("has bytes behind its values, or others than were packed".to_string())),
        Err(error) => Err(NpyError::Io(error)),
    }
}

/// Reads an array from `reader`, which has at most `available` bytes.
#[cfg(test)]
fn parse(reader: &mut impl Read, available: u64) -> Result<Array, NpyError> {
    let head = parse_head(reader, available)?;
    parse_values(reader, head)
}

/// Reads a header from `reader`, which has at most `available` bytes.
fn parse_head(reader: &mut impl Read, available: u64) -> Result<Head, NpyError> {
    let bad = |problem: String| NpyError::Format(problem);
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(NpyError::Io)?;
    let length = match start {
        [magic @ .., 1, _] if magic == MAGIC => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(NpyError::Io)?;
            usize::from(u16::from_le_bytes(length))
        }
        [magic @ .., 2 | 3, _] if magic == MAGIC => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(NpyError::Io)?;
            u32::from_le_bytes(length) as usize
        }
        [magic @ .., version, _] if magic == MAGIC => return Err(bad(format!("has version {version} of the format"))),
        _ => return Err(bad(format!("is none: it begins with {start:02x?}"))),
    };
    if length > MAX_HEADER {
        return Err(bad(format!("has a header of {length} bytes, at most {MAX_HEADER} are read")));
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header).map_err(NpyError::Io)?;
    let header = std::str::from_utf8(&header).map_err(|_| bad("has a header that is no text".to_string()))?;
    let header = Header::parse(header).map_err(|problem| bad(format!("has a header that {problem}")))?;
    let dtype = Dtype::of(&header.descr).map_err(bad)?;
    // Where at most one axis is longer than 1, both orders are the same.
    if header.fortran_order && header.shape.iter().filter(|dim| **dim > 1).count() > 1 {
        let problem = "is in Fortran order; np.ascontiguousarray brings it into the order that is read";
        return Err(bad(problem.to_string()));
    }
    let shape = &header.shape;
    // As if no axis were 0, so that no product of the others overflows later.
    let size = u64::from(dtype.bytes());
    let bytes = match shape.iter().try_fold(size, |n, dim| n.checked_mul((*dim).max(1))) {
        Some(_) if shape.contains(&0) => 0,
        Some(bytes) if bytes <= available => bytes,
        _ => return Err(NpyError::Truncated(format!("has shape {shape:?}, but {available} bytes at most"))),
    };
    if bytes > MAX_BYTES {
        return Err(NpyError::TooLarge(bytes));
    }
    Ok(Head { dtype, shape: shape.iter().map(|dim| *dim as usize).collect(), bytes })
}

fn parse_values(reader: &mut impl Read, head: Head) -> Result<Array, NpyError> {
    let Head { dtype, shape, bytes } = head;
    let mut values = Vec::new();
    reader.take(bytes).read_to_end(&mut values).map_err(NpyError::Io)?;
    if (values.len() as u64) < bytes {
        let problem = format!("has shape {shape:?}, which needs more bytes than the {} that are there", values.len());
        return Err(NpyError::Truncated(problem));
    }
    Ok(Array { dtype, shape, bytes: values })
}

impl Dtype {
    /// The type that a header's `descr` names.
    fn of(descr: &str) -> Result<Self, String> {
        Ok(match descr {
            "|b1" => Dtype::Bool,
            "|u1" | "<u1" => Dtype::U8,
            "|i1" | "<i1" => Dtype::I8,
            "<u2" => Dtype::U16,
            "<i2" => Dtype::I16,
            "<u4" => Dtype::U32,
            "<i4" => Dtype::I32,
            "<u8" => Dtype::U64,
            "<i8" => Dtype::I64,
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            "|O" => return Err("has objects, which are pickled code and never read".to_string()),
            big if big.starts_with('>') => {
                return Err(format!("has type '{big}', which is big-endian; .astype turns it around"));
            }
            other => return Err(format!("has type '{other}'; integers, floating point numbers and booleans are read")),
        })
    }

    fn bytes(self) -> u8 {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }
}

impl Array {
    /// The values, rounded to f32.
    pub fn to_f32(&self) -> Result<Vec<f32>, NpyError> {
        fn each<const N: usize>(bytes: &[u8], to: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|value| to(*value)).collect()
        }
        let bytes = (self.bytes.len() / usize::from(self.dtype.bytes())) as u64 * 4;
        if bytes > MAX_BYTES {
            return Err(NpyError::TooLarge(bytes));
        }
        let values = &self.bytes;
        Ok(match self.dtype {
            Dtype::Bool | Dtype::U8 => each(values, |[v]| f32::from(v)),
            Dtype::I8 => each(values, |v| f32::from(i8::from_le_bytes(v))),
            Dtype::U16 => each(values, |v| f32::from(u16::from_le_bytes(v))),
            Dtype::I16 => each(values, |v| f32::from(i16::from_le_bytes(v))),
            Dtype::U32 => each(values, |v| u32::from_le_bytes(v) as f32),
            Dtype::I32 => each(values, |v| i32::from_le_bytes(v) as f32),
            Dtype::U64 => each(values, |v| u64::from_le_bytes(v) as f32),
            Dtype::I64 => each(values, |v| i64::from_le_bytes(v) as f32),
            Dtype::F16 => each(values, |v| f16::from_le_bytes(v).to_f32()),
            Dtype::F32 => each(values, f32::from_le_bytes),
            Dtype::F64 => each(values, |v| f64::from_le_bytes(v) as f32),
        })
    }

    /// The values, if their type is one of whole numbers.
    pub fn integers(&self) -> Option<Box<dyn Iterator<Item = i128> + '_>> {
        fn each<const N: usize, T: Into<i128> + 'static>(
            bytes: &[u8],
            to: fn([u8; N]) -> T,
        ) -> Option<Box<dyn Iterator<Item = i128> + '_>> {
            Some(Box::new(bytes.as_chunks::<N>().0.iter().map(move |value| to(*value).into())))
        }
        let values = &self.bytes;
        match self.dtype {
            Dtype::Bool | Dtype::U8 => each(values, u8::from_le_bytes),
            Dtype::I8 => each(values, i8::from_le_bytes),
            Dtype::U16 => each(values, u16::from_le_bytes),
            Dtype::I16 => each(values, i16::from_le_bytes),
            Dtype::U32 => each(values, u32::from_le_bytes),
            Dtype::I32 => each(values, i32::from_le_bytes),
            Dtype::U64 => each(values, u64::from_le_bytes),
            Dtype::I64 => each(values, i64::from_le_bytes),
            Dtype::F16 | Dtype::F32 | Dtype::F64 => None,
        }
    }
}

impl Header {
    /// Reads the dict: its three keys, each once, in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let mut text = Scanner(text.trim_end_matches([' ', '\n']));
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        text.expect('{')?;
        while !text.take('}') {
            let key = text.string()?;
            text.expect(':')?;
            let twice = match key {
                "descr" => descr.replace(text.string()?.to_string()).is_some(),
                "fortran_order" => fortran_order.replace(text.boolean()?).is_some(),
                "shape" => shape.replace(text.tuple()?).is_some(),
                other => return Err(format!("has an unknown key '{other}'")),
            };
            if twice {
                return Err(format!("has the key '{key}' twice"));
            }
            if !text.take(',') {
                text.expect('}')?;
                break;
            }
        }
        if !text.0.is_empty() {
            return Err("has something behind its dict".to_string());
        }
        let missing = |key: &str| format!("has no key '{key}'");
        Ok(Self {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }
}

/// What is left of a header's text.
struct Scanner<'t>(&'t str);

impl<'t> Scanner<'t> {
    /// Takes a sign, after any spaces, if it is next.
    fn take(&mut self, sign: char) -> bool {
        self.0 = self.0.trim_start_matches(' ');
        let rest = self.0.strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(format!("has no '{sign}' where one belongs")) }
    }

    /// A text without escapes.
    fn string(&mut self) -> Result<&'t str, String> {
        let quote = if self.take('"') { '"' } else { self.expect('\'').map(|()| '\'')? };
        let (text, rest) = self.0.split_once(quote).ok_or("has a text without an end")?;
        if text.contains(['\\', '\n']) {
            return Err("has a text with escapes".to_string());
        }
        self.0 = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.0 = self.0.trim_start_matches(' ');
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err("has neither True nor False where one belongs".to_string())
    }

    /// Whole numbers; one alone has a comma behind it.
    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(end);
            numbers.push(number.parse().map_err(|_| "has a shape that is no list of sizes".to_string())?);
            self.0 = rest;
            if numbers.len() > MAX_RANK {
                return Err(format!("has a shape of more than {MAX_RANK} axes"));
            }
            if !self.take(',') {
                self.expect(')')?;
                // `(3)` is a number to Python, and no tuple.
                if numbers.len() == 1 {
                    return Err("has a shape that is no list of sizes".to_string());
                }
                break;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
