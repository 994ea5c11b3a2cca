//! How much a file would become in memory, counted while it is walked over.
//!
//! An empty attribute has two bytes in a file and some hundred in memory. So the walk adds up what prost would take: each
//! message by the size of its Rust value, lists with the room that they grow into, texts with their bytes. Bytes such as
//! `raw_data` cost nothing, as they stay where they are.

use super::schema::{FIELDS, MESSAGES, Message};

/// What a model may take in memory beyond twice the bytes of its file: 64 MiB. A graph of 20,000 nodes, which is the
/// largest that niwaki takes, has room even where every fourth is a convolution and every value's shape is written.
pub(super) const MAX_EXPANSION: u64 = 64 << 20;
/// The most texts in lists, such as the inputs of nodes.
pub(super) const MAX_TEXTS: u32 = 1_000_000;
/// The most axes of a tensor that are read at all. Few of them are taken; see [`super::tensor`].
pub(super) const MAX_DIMS: u32 = 64;
/// The most messages of the kinds that are named here. Exporters write graphs whose constants are yet to be folded, so
/// there may be more nodes in a file than in a graph.
const LIMITS: [(&str, u32); 5] = [
    ("NodeProto", 100_000),
    ("AttributeProto", 500_000),
    ("TensorProto", 200_000),
    ("ValueInfoProto", 200_000),
    ("StringStringEntryProto", 1_000_000),
];
/// The most messages of any other kind.
const MAX_OTHERS: u32 = 1_000_000;
/// What an allocator keeps beside each piece of memory.
const OVERHEAD: u64 = 16;
/// A text has room for so many bytes at least.
const MIN_TEXT: u64 = 8;
/// A list has room for so many things at least.
const MIN_LIST: u32 = 4;

/// Too much of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Excess {
    /// Too many things.
    Count {
        /// What they are.
        what: &'static str,
        /// How many are allowed.
        limit: u32,
    },
    /// Too many bytes in memory.
    Memory {
        /// How many are allowed.
        limit: u64,
    },
}

/// How long the lists of one message have become, by the places of its fields.
pub(super) type Lengths = [u32; FIELDS];

/// What was counted so far.
#[derive(Debug)]
pub(super) struct Tally {
    taken: u64,
    limit: u64,
    messages: [u32; MESSAGES],
    texts: u32,
}

impl Tally {
    /// Nothing, for a file of so many bytes.
    pub(super) fn new(file: usize) -> Self {
        Self { taken: 0, limit: MAX_EXPANSION + 2 * file as u64, messages: [0; MESSAGES], texts: 0 }
    }

    /// Bytes in memory so far.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// One more message.
    pub(super) fn message(&mut self, message: &'static Message) -> Result<(), Excess> {
        let named = LIMITS.iter().find(|(name, _)| *name == message.name);
        let limit = named.map_or(MAX_OTHERS, |(_, limit)| *limit);
        count(&mut self.messages[message.id], 1, message.name, limit)
    }

    /// A message that stands alone in another.
    pub(super) fn single(&mut self, message: &Message) -> Result<(), Excess> {
        self.take(message.size as u64 + OVERHEAD)
    }

    /// A text of so many bytes.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), Excess> {
        if bytes == 0 { Ok(()) } else { self.take((bytes as u64).max(MIN_TEXT) + OVERHEAD) }
    }

    /// One more text in a list.
    pub(super) fn listed_text(&mut self) -> Result<(), Excess> {
        count(&mut self.texts, 1, "texts in lists", MAX_TEXTS)
    }

    /// A list that has become longer: `more` things of `size` bytes each.
    pub(super) fn list(&mut self, length: &mut u32, more: u32, size: usize) -> Result<(), Excess> {
        let before = room(*length);
        *length = length.saturating_add(more);
        let overhead = if before == 0 { OVERHEAD } else { 0 };
        self.take((room(*length) - before) * size as u64 + overhead)
    }

    /// The axes of a tensor, of which there are `length` now.
    pub(super) fn dims(&self, length: u32) -> Result<(), Excess> {
        if length <= MAX_DIMS { Ok(()) } else { Err(Excess::Count { what: "axes of one tensor", limit: MAX_DIMS }) }
    }

    fn take(&mut self, bytes: u64) -> Result<(), Excess> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken <= self.limit { Ok(()) } else { Err(Excess::Memory { limit: self.limit }) }
    }
}

fn count(counter: &mut u32, more: u32, what: &'static str, limit: u32) -> Result<(), Excess> {
    *counter = counter.saturating_add(more);
    if *counter <= limit { Ok(()) } else { Err(Excess::Count { what, limit }) }
}

/// The things that a list of `length` has room for: a `Vec` doubles.
fn room(length: u32) -> u64 {
    if length == 0 { 0 } else { u64::from(length.max(MIN_LIST)).next_power_of_two() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::onnx::schema;

    #[test]
    fn lists_cost_what_a_vec_takes() {
        let mut tally = Tally::new(0);
        let (mut length, mut values) = (0, Vec::new());
        for i in 0..1000u64 {
            tally.list(&mut length, 1, size_of::<u64>()).unwrap();
            values.push(i);
            assert_eq!(tally.taken(), 8 * values.capacity() as u64 + OVERHEAD, "{i}");
        }
    }

    #[test]
    fn every_limit_names_a_message() {
        let mut names = vec![schema::MODEL_PROTO.name];
        let mut open = vec![&schema::MODEL_PROTO];
        while let Some(message) = open.pop() {
            for field in message.fields {
                if let schema::Kind::Message(within) = field.kind
                    && !names.contains(&within.name)
                {
                    names.push(within.name);
                    open.push(within);
                }
            }
        }
        assert!(LIMITS.iter().all(|(name, _)| names.contains(name)), "{names:?}");
        assert_eq!(names.len(), MESSAGES);
    }
}
