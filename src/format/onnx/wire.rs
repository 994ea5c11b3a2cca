//! A walk over an ONNX file before it is decoded: nothing is stored but the way to where it stands.
//!
//! ```text
//!   tag           what follows
//!   ───────────── ────────────────────────────────────────────────────
//!   number │ 000  varint: 7 bits a byte, the lowest first
//!   number │ 001  8 bytes
//!   number │ 010  a length, then as many bytes: a text, bytes, a message
//!   number │ 101  4 bytes                      or a list of numbers
//! ```
//!
//! The format is Protocol Buffers' (<https://protobuf.dev/programming-guides/encoding/>). prost decodes it without limits
//! on what comes out, and two bytes may come out as hundreds. So this walk comes first, guided by the [`schema`]: it
//! refuses what is no protobuf, what nests too deep, what there is too many of, and what would become too large, each by
//! the path of the field. It also refuses a field that is no list and stands twice, which writers do not write.
//!
//! Fields that the schema does not know are passed over, as every reader of protobuf does: later versions add some.

use super::error::OnnxError;
use super::schema::{self, Field, Kind, Message, Wire};
use super::tally::{Excess, Lengths, Tally};

/// The largest file: a protobuf must be smaller than 2 GiB. Larger models keep their tensors in other files.
pub(super) const MAX_FILE: u64 = (1 << 31) - 1;
/// So often a message may lie within its own kind: graphs in the attributes of nodes, types of lists of types.
pub(super) const MAX_NESTED: usize = 16;
/// The deepest message. prost stops at 100.
const MAX_DEPTH: usize = 96;
/// The longest text but for what is written for people, in bytes.
pub(super) const MAX_TEXT: usize = 4096;
/// Texts for people, which may have any length: `value` is that of an entry of metadata.
const FREE_TEXTS: [&str; 2] = ["doc_string", "value"];

/// Whether prost would decode these bytes to a model, and to one that memory has room for.
pub(super) fn scan(bytes: &[u8]) -> Result<(), OnnxError> {
    check_size(bytes.len() as u64)?;
    let mut walk = Walk::new(bytes);
    while walk.step()? {}
    Ok(())
}

fn check_size(bytes: u64) -> Result<(), OnnxError> {
    if bytes <= MAX_FILE { Ok(()) } else { Err(OnnxError::FileSize { bytes }) }
}

/// A message that the walk is in.
struct Frame {
    message: &'static Message,
    /// The first byte after it.
    end: usize,
    /// How often each of its fields stood so far.
    lengths: Lengths,
    /// The field that is being read; none between fields, and while a tag is read.
    field: Option<usize>,
}

impl Frame {
    fn new(message: &'static Message, end: usize) -> Self {
        Self { message, end, lengths: Lengths::default(), field: None }
    }
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    /// From the model to where the walk is. There is one always, until the end.
    frames: Vec<Frame>,
    tally: Tally,
}

impl<'b> Walk<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        let model = Frame::new(&schema::MODEL_PROTO, bytes.len());
        Self { bytes, at: 0, frames: vec![model], tally: Tally::new(bytes.len()) }
    }

    /// Reads a field, or its beginning where it is a message, or leaves a message. Whether there is more.
    fn step(&mut self) -> Result<bool, OnnxError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(false) };
        frame.field = None;
        let (message, end) = (frame.message, frame.end);
        if self.at == end {
            self.frames.pop();
            return Ok(true);
        }
        let tag = self.varint(end)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let Some(number) = number else {
            return Err(self.malformed(format!("{} is no number of a field", tag >> 3)));
        };
        let place = message.fields.iter().position(|field| field.number == number);
        if let Some(frame) = self.frames.last_mut() {
            frame.field = place;
        }
        let Some(wire) = Wire::of(tag & 7) else {
            let what = if matches!(tag & 7, 3 | 4) { "a group, which ONNX has none of" } else { "nothing" };
            return Err(self.malformed(format!("field {number} has wire type {}, which is {what}", tag & 7)));
        };
        match place {
            Some(place) => self.field(place, &message.fields[place], wire, end)?,
            None => self.skip(wire, end)?,
        }
        Ok(true)
    }

    /// Reads a field that the schema knows.
    fn field(&mut self, place: usize, field: &'static Field, wire: Wire, end: usize) -> Result<(), OnnxError> {
        let kind = field.kind;
        if field.repeated && wire == Wire::Length && kind.wire() != Wire::Length {
            return self.packed(place, field, end);
        }
        // Counted first, so that the path of an error has the right place in a list.
        let size = if let Kind::Message(within) = kind { within.size } else { field.size };
        self.grow(place, field, 1, size)?;
        if wire != kind.wire() {
            return Err(self.malformed(format!("it is written as {wire:?}, not as {:?}", kind.wire())));
        }
        let length = match wire {
            Wire::Length => self.length(end)?,
            _ => 0,
        };
        match kind {
            Kind::Message(within) => self.enter(within, self.at + length, field.repeated),
            Kind::Text => self.text(field, length),
            Kind::Bytes => {
                self.at += length;
                Ok(())
            }
            Kind::Varint | Kind::Fixed32 | Kind::Fixed64 => self.skip(wire, end),
        }
    }

    /// One or more values of a field.
    fn grow(&mut self, place: usize, field: &Field, more: u32, size: usize) -> Result<(), OnnxError> {
        let frame = self.frames.last_mut().expect("the walk has not ended");
        let length = &mut frame.lengths[place];
        let counted = if field.repeated {
            self.tally.list(length, more, size)
        } else if *length > 0 {
            return Err(self.malformed("it stands twice".to_string()));
        } else {
            *length = 1;
            Ok(())
        };
        let axes = if field.name == "dims" { self.tally.dims(*length) } else { Ok(()) };
        counted.and(axes).map_err(|excess| self.excess(excess))
    }

    /// Goes into a message that ends at `end`.
    fn enter(&mut self, message: &'static Message, end: usize, listed: bool) -> Result<(), OnnxError> {
        let counted = self.tally.message(message);
        let taken = counted.and_then(|()| if listed { Ok(()) } else { self.tally.single(message) });
        taken.map_err(|excess| self.excess(excess))?;
        let nested = self.frames.iter().filter(|frame| frame.message.id == message.id).count();
        if nested >= MAX_NESTED || self.frames.len() >= MAX_DEPTH {
            return Err(OnnxError::Depth { field: self.path(), message: message.name });
        }
        self.frames.push(Frame::new(message, end));
        Ok(())
    }

    /// Reads a text.
    fn text(&mut self, field: &Field, length: usize) -> Result<(), OnnxError> {
        if length > MAX_TEXT && !FREE_TEXTS.contains(&field.name) {
            return Err(OnnxError::Text { field: self.path(), bytes: length });
        }
        let listed = if field.repeated { self.tally.listed_text() } else { Ok(()) };
        listed.and_then(|()| self.tally.text(length)).map_err(|excess| self.excess(excess))?;
        if let Err(error) = std::str::from_utf8(&self.bytes[self.at..self.at + length]) {
            return Err(self.malformed(format!("it is not UTF-8 at its byte {}", error.valid_up_to())));
        }
        self.at += length;
        Ok(())
    }

    /// Reads a list of numbers that are written one behind the other.
    fn packed(&mut self, place: usize, field: &'static Field, end: usize) -> Result<(), OnnxError> {
        let length = self.length(end)?;
        let end = self.at + length;
        let width = match field.kind {
            Kind::Fixed32 => 4,
            Kind::Fixed64 => 8,
            _ => {
                // As many numbers as there are bytes that end one.
                let numbers = self.bytes[self.at..end].iter().filter(|byte| **byte < 0x80).count();
                self.grow(place, field, numbers as u32, field.size)?;
                while self.at < end {
                    self.varint(end)?;
                }
                return Ok(());
            }
        };
        if length % width != 0 {
            return Err(self.malformed(format!("{length} bytes are no list of numbers of {width} bytes")));
        }
        self.grow(place, field, (length / width) as u32, field.size)?;
        self.at = end;
        Ok(())
    }

    /// Passes over a value.
    fn skip(&mut self, wire: Wire, end: usize) -> Result<(), OnnxError> {
        let bytes = match wire {
            Wire::Varint => return self.varint(end).map(drop),
            Wire::Fixed32 => 4,
            Wire::Fixed64 => 8,
            Wire::Length => self.varint(end)?,
        };
        self.check_room(bytes, end)?;
        self.at += bytes as usize;
        Ok(())
    }

    /// Reads a length, which is known to be within the message that ends at `end`.
    fn length(&mut self, end: usize) -> Result<usize, OnnxError> {
        let length = self.varint(end)?;
        self.check_room(length, end)?;
        Ok(length as usize)
    }

    fn check_room(&self, bytes: u64, end: usize) -> Result<(), OnnxError> {
        let left = end - self.at;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= left => Ok(()),
            _ => Err(self.short(bytes, left)),
        }
    }

    /// Something ends before it should: the file, or else the message that it is in.
    fn short(&self, expected: u64, actual: usize) -> OnnxError {
        let left = self.bytes.len() - self.at;
        if expected > left as u64 {
            return OnnxError::Truncated { field: self.path(), expected, actual: left as u64 };
        }
        self.malformed(format!("{expected} bytes reach beyond the message that it is in, which has {actual} left"))
    }

    /// Reads a number of up to 64 bits.
    fn varint(&mut self, end: usize) -> Result<u64, OnnxError> {
        let mut value = 0;
        for (i, byte) in self.bytes[self.at..end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            // Nine bytes have 63 bits, so the tenth may have one.
            if i == 9 && *byte > 1 {
                break;
            }
            if *byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        let left = end - self.at;
        if left < 10 {
            Err(self.short(left as u64 + 1, left))
        } else {
            Err(self.malformed("a number has more than 64 bits".into()))
        }
    }

    fn excess(&self, excess: Excess) -> OnnxError {
        match excess {
            Excess::Count { what, limit } => OnnxError::Count { field: self.path(), what, limit },
            Excess::Memory { limit } => OnnxError::Memory { field: self.path(), limit },
        }
    }

    fn malformed(&self, problem: String) -> OnnxError {
        OnnxError::Protobuf { field: self.path(), at: self.at as u64, problem }
    }

    /// The field that is being read, from the model on: `graph.node[3].attribute[0].t`.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            let Some(place) = frame.field else { continue };
            let field = &frame.message.fields[place];
            let dot = if path.is_empty() { "" } else { "." };
            path.push_str(dot);
            path.push_str(field.name);
            if field.repeated && matches!(field.kind.wire(), Wire::Length) {
                path.push_str(&format!("[{}]", frame.lengths[place].saturating_sub(1)));
            }
        }
        path
    }
}

#[cfg(test)]
mod tests;
