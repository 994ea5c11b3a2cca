//! The header's JSON, read without trust: nothing recurses, and what is collected is bounded before it is stored.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error, MapAccess, SeqAccess, Visitor};

use super::{MAX_METADATA, MAX_RANK, MAX_TENSORS, METADATA};
use crate::format::FormatError;
use crate::format::error::shorten;

/// What a header says of one tensor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dtype: String,
    /// One axis beyond [`MAX_RANK`] at most: enough to see that there are too many.
    pub(super) shape: Vec<u64>,
    pub(super) offsets: [u64; 2],
}

/// A header as it is written: names may stand twice.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// One entry beyond [`MAX_METADATA`] at most.
    pub(super) metadata: Option<Vec<(String, String)>>,
    pub(super) tensors: Vec<(String, Entry)>,
    /// The key that is being read, for error messages.
    at: String,
}

/// Reads a header, which begins with `{`.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
    let malformed = |at: String, problem: String| FormatError::Header { at, problem };
    if bytes.first() != Some(&b'{') {
        return Err(malformed(String::new(), "it must begin with '{'".into()));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| malformed(String::new(), format!("it is not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut header = Header::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = json.deserialize_map(HeaderVisitor(&mut header)).and_then(|()| json.end());
    match outcome {
        Ok(()) => Ok(header),
        Err(_) if header.tensors.len() > MAX_TENSORS => Err(FormatError::TensorCount),
        Err(_) if header.metadata.is_some_and(|entries| entries.len() > MAX_METADATA) => {
            Err(FormatError::MetadataCount)
        }
        Err(error) => Err(malformed(shorten(&header.at), shorten(&error.to_string()))),
    }
}

struct HeaderVisitor<'h>(&'h mut Header);

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let header = self.0;
        while let Some(key) = map.next_key::<String>()? {
            header.at = key;
            if header.at == METADATA {
                if header.metadata.is_some() {
                    return Err(A::Error::custom("it stands twice"));
                }
                map.next_value_seed(Metadata(header.metadata.insert(Vec::new())))?;
                continue;
            }
            let entry = map.next_value_seed(EntrySeed)?;
            header.tensors.push((header.at.clone(), entry));
            if header.tensors.len() > MAX_TENSORS {
                return Err(A::Error::custom("too many tensors"));
            }
        }
        Ok(())
    }
}

/// The metadata: texts under names, which may stand twice.
struct Metadata<'h>(&'h mut Vec<(String, String)>);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(entry) = map.next_entry()? {
            self.0.push(entry);
            if self.0.len() > MAX_METADATA {
                return Err(A::Error::custom("too many entries"));
            }
        }
        Ok(())
    }
}

/// An entry by hand: serde's derived structs would also accept a JSON array of the fields.
struct EntrySeed;

impl<'de> DeserializeSeed<'de> for EntrySeed {
    type Value = Entry;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => dtype.replace(map.next_value()?).is_some(),
                "shape" => shape.replace(map.next_value_seed(Shape)?).is_some(),
                "data_offsets" => offsets.replace(map.next_value()?).is_some(),
                other => return Err(A::Error::unknown_field(other, &["dtype", "shape", "data_offsets"])),
            };
            if twice {
                return Err(A::Error::custom(format_args!("'{key}' stands twice")));
            }
        }
        Ok(Entry {
            dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            offsets: offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?,
        })
    }
}

struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Vec<u64>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of non-negative integers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(dim) = seq.next_element()? {
            if shape.len() <= MAX_RANK {
                shape.push(dim);
            }
        }
        Ok(shape)
    }
}
