//! What each message may hold: a table that `build.rs` writes from `proto/onnx/onnx.proto3`, as prost writes the messages,
//! so that the walk over a file and its decoding cannot differ in what they take a byte for.

use super::proto;

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Its place among all messages.
    pub(super) id: usize,
    /// Its name.
    pub(super) name: &'static str,
    /// Bytes of the Rust value.
    pub(super) size: usize,
    /// What it holds.
    pub(super) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its number in a file.
    pub(super) number: u32,
    /// Its name.
    pub(super) name: &'static str,
    /// How it is written.
    pub(super) kind: Kind,
    /// Bytes of the Rust value, one of them where it is repeated. A message knows its own.
    pub(super) size: usize,
    /// Whether it is a list.
    pub(super) repeated: bool,
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A number of one to ten bytes.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// A text, which is copied out of the file.
    Text,
    /// Bytes, which stay in the file's buffer.
    Bytes,
    /// A message within.
    Message(&'static Message),
}

/// How a file says that a value is written: the lowest three bits in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// A number of one to ten bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length, then as many bytes.
    Length,
    /// Four bytes.
    Fixed32,
}

impl Wire {
    /// The wire type of that number. 3 and 4 are groups, which ONNX never had; 6 and 7 are nothing.
    pub(super) fn of(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Varint),
            1 => Some(Self::Fixed64),
            2 => Some(Self::Length),
            5 => Some(Self::Fixed32),
            _ => None,
        }
    }
}

impl Kind {
    /// How one such value is written.
    pub(super) fn wire(self) -> Wire {
        match self {
            Kind::Varint => Wire::Varint,
            Kind::Fixed32 => Wire::Fixed32,
            Kind::Fixed64 => Wire::Fixed64,
            Kind::Text | Kind::Bytes | Kind::Message(_) => Wire::Length,
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/onnx_schema.rs"));
