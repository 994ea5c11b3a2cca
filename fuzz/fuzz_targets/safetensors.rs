//! The container: any bytes. What is read covers the file, and is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::format::safetensors;

fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = safetensors::read(bytes.to_vec().into()) else { return };
    let total: usize = found.tensors.values().map(|tensor| tensor.bytes().len()).sum();
    assert!(total < bytes.len());
    if let Ok(written) = safetensors::write(&found.tensors, &found.metadata) {
        assert_eq!(safetensors::read(written.into()).unwrap(), found);
    }
});
