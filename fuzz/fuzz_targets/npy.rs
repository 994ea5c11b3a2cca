//! One array, as the inputs and as the labels of an archive that is right otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, DataSource, Layout, NpzPair};

const LABELS: &[u8] =
    b"\x93NUMPY\x01\x00\x3c\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }   \n\x00\x01";

fuzz_target!(|bytes: &[u8]| {
    let pair = NpzPair { file: "a.npz".into(), inputs: "x".into(), labels: "y".into() };
    let source = DataSource::Npz { arrays: BySplit::train(pair), layout: Layout::Detected };
    for members in [[("x.npy", bytes), ("y.npy", LABELS)], [("x.npy", LABELS), ("y.npy", bytes)]] {
        niwaki_fuzz::open(&[("a.npz", &niwaki_fuzz::stored(&members))], Some(&source));
    }
});
