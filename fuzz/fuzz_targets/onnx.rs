//! An ONNX model: any bytes, with a file beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::format::onnx::{self, External, Given};

const BESIDE: &[u8] = &[7; 64];

fuzz_target!(|bytes: &[u8]| {
    let mut files = External::new([("w".to_string(), BESIDE.into())].into());
    match onnx::import(bytes.to_vec().into(), &mut files, &Given::default()) {
        Ok(graph) => assert_eq!(graph.verify(), Ok(())),
        Err(error) => niwaki_fuzz::refused(&error),
    }
});
