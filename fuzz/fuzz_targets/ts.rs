//! A file of time series, alone and as the test split of one that is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, DataSource};

const RIGHT: &[u8] = b"@classLabel true low high\n@data\n1,2:3,4:low\n5:6:high\n";

fuzz_target!(|bytes: &[u8]| {
    let alone = BySplit::train("a.ts".to_string());
    niwaki_fuzz::open(&[("a.ts", bytes)], Some(&DataSource::Ts(alone)));
    let beside = BySplit { test: Some("a.ts".to_string()), ..BySplit::train("b.ts".to_string()) };
    niwaki_fuzz::open(&[("a.ts", bytes), ("b.ts", RIGHT)], Some(&DataSource::Ts(beside)));
});
