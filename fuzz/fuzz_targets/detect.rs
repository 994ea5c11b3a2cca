//! Any two files, of which nothing is said: what they are is found out.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for name in ["data.csv", "train/a/1.png", "train-images"] {
        niwaki_fuzz::open(&[(name, bytes), ("README", b"a description")], None);
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    niwaki_fuzz::open(&[("train", first), ("test", second)], None);
});
