//! An archive of arrays: any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, DataSource, Layout, NpzPair};

fuzz_target!(|bytes: &[u8]| {
    let pair = NpzPair { file: "a.npz".into(), inputs: "x".into(), labels: "y".into() };
    let source = DataSource::Npz { arrays: BySplit::train(pair), layout: Layout::Detected };
    niwaki_fuzz::open(&[("a.npz", bytes)], Some(&source));
    niwaki_fuzz::open(&[("a.npz", bytes)], None);
});
