//! The options of a spec: `name=value`, with commas between.

use std::collections::BTreeMap;

use super::PresetError;

/// A preset's options as they were given; each is one that the preset has.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) preset: &'static str,
    /// What stands in the name in the place of a number.
    pub(super) layers: Option<String>,
    values: BTreeMap<String, String>,
}

impl Options {
    pub(super) fn read(preset: &'static str, known: &'static [&'static str], text: &str) -> Result<Self, PresetError> {
        let mut values = BTreeMap::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (option, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&option) {
                return Err(PresetError::UnknownOption { preset, option: shorten(option), known });
            }
            if values.insert(option.to_string(), value.to_string()).is_some() {
                return Err(PresetError::Repeated { preset, option: option.to_string() });
            }
        }
        Ok(Self { preset, layers: None, values })
    }

    /// What `read` makes of an option's value, or `None` where it is not given. Where it makes nothing of it, the value
    /// should be `wanted`.
    pub(super) fn take<T>(
        &self,
        option: &'static str,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, PresetError> {
        let Some(value) = self.values.get(option) else { return Ok(None) };
        let bad = || PresetError::Value { preset: self.preset, option, value: shorten(value), wanted };
        read(value).map(Some).ok_or_else(bad)
    }
}

/// A whole number as people write it: digits alone, no sign and no leading zero.
pub(super) fn whole(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

/// What a client sent, cut to a length that suits a message.
pub(super) fn shorten(text: &str) -> String {
    const LENGTH: usize = 60;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
