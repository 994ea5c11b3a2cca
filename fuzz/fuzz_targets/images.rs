//! A picture beside one that is right.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, Color, DataSource};

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| niwaki_fuzz::seeds::of("images").remove(0));

fuzz_target!(|bytes: &[u8]| {
    let source =
        DataSource::Images { folders: BySplit::train(String::new()), size: Some((4, 4)), color: Color::Detected };
    niwaki_fuzz::open(&[("a/1", &GOOD), ("b/1", bytes)], Some(&source));
});
