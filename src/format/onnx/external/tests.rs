//! Names that lead elsewhere, ranges that are none.

use super::*;
use crate::error::{Classify, Kind};

fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: key.to_string(), value: value.to_string() };
    pairs.iter().map(entry).collect()
}

/// A file of 100 bytes, 0 to 99.
fn files() -> External {
    External::new([("w.bin".to_string(), (0..100).collect::<Vec<u8>>().into())].into())
}

fn read(pairs: &[(&str, &str)], expected: u64) -> Result<Bytes, OnnxError> {
    files().bytes("w", &entries(pairs), expected)
}

fn reason(pairs: &[(&str, &str)], expected: u64) -> &'static str {
    let error = read(pairs, expected).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().starts_with("tensor 'w'"), "{error}");
    error.reason()
}

#[test]
fn bytes_are_those_of_the_file_and_shared_with_it() {
    let mut files = files();
    let bytes = files.bytes("w", &entries(&[("location", "w.bin"), ("offset", "4"), ("length", "8")]), 8).unwrap();
    assert_eq!(bytes.as_ref(), [4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(bytes.as_ptr(), files.files["w.bin"][4..].as_ptr());
    // To the end, and from the beginning.
    assert_eq!(read(&[("location", "w.bin"), ("offset", "98")], 2).unwrap().as_ref(), [98, 99]);
    assert_eq!(read(&[("location", "w.bin"), ("checksum", "da39a3ee")], 100).unwrap().len(), 100);
    assert_eq!(read(&[("location", "w.bin"), ("offset", "100"), ("length", "0")], 0).unwrap().len(), 0);
}

#[test]
fn n20_names_that_lead_elsewhere_are_refused_though_there_is_such_a_file() {
    for name in [
        "",
        ".",
        "..",
        "../w.bin",
        "/etc/passwd",
        "a/../../w.bin",
        "a/w.bin",
        "./w.bin",
        "..\\w.bin",
        "C:w.bin",
        "C:\\w.bin",
        "%2e%2e%2fw.bin",
        "w.bin\0",
        "w.bin\n",
        " w.bin",
        ".w.bin",
        "CON",
        "nul.bin",
        "com1",
        "Lpt9.data",
        "w.bin:stream",
        "*/_ORT_MEM_ADDR_/*",
        "_ORT_MEM_ADDR_",
        "https://example.org/w",
        "w\u{202e}nib",
        "ｗ.bin",
        &"w".repeat(256),
    ] {
        let mut files = External::new([(name.to_string(), Bytes::from_static(&[0; 4]))].into());
        let error = files.bytes("w", &entries(&[("location", name)]), 4).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::InvalidArgument, "EXTERNAL_DATA_NAME"), "{name:?}");
        assert!(error.to_string().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{error:?}");
    }
    for name in ["model.onnx.data", "weights_1-2", "console.bin", "com10"] {
        let mut files = External::new([(name.to_string(), Bytes::from_static(&[0; 4]))].into());
        files.bytes("w", &entries(&[("location", name)]), 4).unwrap();
    }
}

#[test]
fn n20_a_name_is_a_key_to_what_came_and_nothing_else() {
    // This file is there, in the folder that the test runs in.
    assert!(std::fs::exists("Cargo.toml").unwrap());
    let error = read(&[("location", "Cargo.toml")], 4).unwrap_err();
    assert_eq!(error.reason(), "EXTERNAL_DATA_MISSING");
    assert!(error.to_string().ends_with("did not come with the model; with it came 'w.bin'"), "{error}");
    assert_eq!(reason(&[("location", "W.BIN")], 4), "EXTERNAL_DATA_MISSING");
}

#[test]
fn n21_ranges_that_are_not_in_the_file_or_not_the_tensors_are_refused() {
    let at =
        |offset: &'static str, length: &'static str| [("location", "w.bin"), ("offset", offset), ("length", length)];
    for (offset, length) in [
        ("101", "0"),
        ("97", "4"),
        ("0", "5"),
        ("0", "3"),
        ("9223372036854775808", "4"),
        ("18446744073709551615", "4"),
        ("4", "18446744073709551615"),
        ("18446744073709551615", "18446744073709551615"),
    ] {
        assert_eq!(reason(&at(offset, length), 4), "EXTERNAL_DATA_RANGE", "{offset} {length}");
    }
    for text in ["-1", "+1", "", " 1", "0x4", "1e1", "1.0", "18446744073709551616", "１"] {
        assert_eq!(reason(&at(text, "4"), 4), "EXTERNAL_DATA_KEY", "{text}");
        assert_eq!(reason(&at("0", text), 4), "EXTERNAL_DATA_KEY", "{text}");
    }
    // Without a length, the rest of the file must be the tensor.
    assert_eq!(reason(&[("location", "w.bin"), ("offset", "90")], 4), "EXTERNAL_DATA_RANGE");
    assert_eq!(reason(&[("location", "w.bin")], 4), "EXTERNAL_DATA_RANGE");
}

#[test]
fn n21_tensors_share_bytes_or_lie_apart() {
    let mut files = files();
    let mut take = |offset: u64, length: u64| {
        let (offset, text) = (offset.to_string(), length.to_string());
        let pairs = [("location", "w.bin"), ("offset", offset.as_str()), ("length", text.as_str())];
        files.bytes("w", &entries(&pairs), length).map(|bytes| bytes.len())
    };
    for (offset, length) in [(20, 20), (60, 20), (20, 20), (40, 20), (0, 20), (50, 0)] {
        assert_eq!(take(offset, length), Ok(length as usize));
    }
    for (offset, length) in [(20, 19), (21, 19), (10, 20), (19, 2), (0, 100), (30, 5), (39, 1), (79, 2), (0, 21)] {
        assert_eq!(take(offset, length).unwrap_err().reason(), "EXTERNAL_DATA_RANGE", "{offset} {length}");
    }
    assert_eq!(take(80, 20), Ok(20));
}

#[test]
fn n21_bytes_are_shared_so_often_and_no_more() {
    let mut files = files();
    let mut take = || files.bytes("w", &entries(&[("location", "w.bin")]), 100);
    assert!((0..MAX_SHARING).all(|_| take().is_ok()));
    assert_eq!(take().unwrap_err().reason(), "EXTERNAL_DATA_RANGE");
}

#[test]
fn n22_keys_that_are_not_known_or_stand_twice_are_refused() {
    for key in ["basepath", "raw_data", "name", "__class__", "", "Location", "offset ", "\u{1b}[31m"] {
        assert_eq!(reason(&[("location", "w.bin"), (key, "1")], 100), "EXTERNAL_DATA_KEY", "{key}");
    }
    assert_eq!(reason(&[("location", "w.bin"), ("location", "w.bin")], 100), "EXTERNAL_DATA_KEY");
    assert_eq!(reason(&[("offset", "0")], 100), "EXTERNAL_DATA_KEY");
    assert_eq!(reason(&[], 100), "EXTERNAL_DATA_KEY");
}

#[test]
fn files_that_no_tensor_lies_in_are_told() {
    let mut files = External::new(["a", "b"].map(|name| (name.to_string(), Bytes::from_static(&[0; 4]))).into());
    files.bytes("w", &entries(&[("location", "a")]), 4).unwrap();
    assert_eq!(files.unread().collect::<Vec<_>>(), ["b"]);
}
