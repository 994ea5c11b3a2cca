//! JSON objects as they are written: pairs, in order, with a key that stands twice still there to be refused. serde's
//! maps keep the last of two equal keys without a word; another program may keep the first, and the two would read two
//! different things from one file.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::graph::MAX_NODES;

/// The entries of an object, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<V> Pairs<V> {
    /// The entries as a map, or the first key that stands twice.
    pub(super) fn unique(self) -> Result<BTreeMap<String, V>, String> {
        let mut map = BTreeMap::new();
        for (key, value) in self.0 {
            if map.contains_key(&key) {
                return Err(key);
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<V: Serialize> Serialize for Pairs<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// An array of as many things as a graph may have nodes: eight mebibytes of short ones would take fifty times as much in
/// memory before anybody counts them.
pub(super) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Bounded(PhantomData))
}

struct Bounded<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MAX_NODES}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut things = Vec::new();
        while let Some(thing) = seq.next_element()? {
            if things.len() == MAX_NODES {
                return Err(A::Error::invalid_length(MAX_NODES + 1, &self));
            }
            things.push(thing);
        }
        Ok(things)
    }
}

struct Entries<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Pairs(entries))
    }
}
