//! A table, with the label found out and with it in the first column.
#![no_main]

use libfuzzer_sys::fuzz_target;
use niwaki::data::{BySplit, DataSource, Header, LabelColumn};

fuzz_target!(|bytes: &[u8]| {
    let files = BySplit::train("t.csv".to_string());
    for (header, label) in [(Header::Detected, LabelColumn::Detected), (Header::Absent, LabelColumn::Index(0))] {
        let source = DataSource::Csv { files: files.clone(), header, label, shape: vec![] };
        niwaki_fuzz::open(&[("t.csv", bytes)], Some(&source));
    }
});
