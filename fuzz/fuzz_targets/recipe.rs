//! A recipe's JSON. What is read is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::api::recipe::{from_json, to_json};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(recipe) = from_json(text) else { return };
    let written = to_json(&recipe);
    let again = from_json(&written).expect("what was read can be written and read again");
    assert_eq!(to_json(&again), written);
});
