//! An IDX file, as inputs and as labels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, DataSource, IdxPair};

const INPUTS: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6];
const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1];

fuzz_target!(|bytes: &[u8]| {
    let pair = IdxPair { inputs: "x".into(), labels: "y".into() };
    let source = DataSource::Idx(BySplit::train(pair));
    niwaki_fuzz::open(&[("x", bytes), ("y", LABELS)], Some(&source));
    niwaki_fuzz::open(&[("x", INPUTS), ("y", bytes)], Some(&source));
});
