//! An ONNX model: any bytes, with a file beside it. Its tensors are no more than what was sent, but for numbers of a byte
//! that become eight, and for bytes of the other file that are shared.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::format::onnx::{self, External};

const BESIDE: &[u8] = &[7; 64];

fuzz_target!(|bytes: &[u8]| {
    let mut files = External::new([("w".to_string(), BESIDE.into())].into());
    match onnx::initializers(bytes.to_vec().into(), &mut files) {
        Ok(tensors) => {
            let total: usize = tensors.values().map(|tensor| tensor.bytes().len()).sum();
            assert!(total <= 8 * bytes.len() + 16 * BESIDE.len());
        }
        Err(error) => niwaki_fuzz::refused(&error),
    }
});
