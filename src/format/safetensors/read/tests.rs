//! One test for each way in which a file can lie.

use super::*;
use crate::error::{Classify, Kind};
use crate::format::safetensors::{MAX_NAME, MAX_TENSORS};

/// A file with this header and these data.
fn file(header: &[u8], data: &[u8]) -> Bytes {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file.into()
}

fn refused(header: impl AsRef<[u8]>, data: &[u8]) -> FormatError {
    read(file(header.as_ref(), data)).unwrap_err()
}

/// The reason a file with one tensor entry `t` is refused for.
fn refused_entry(entry: &str, data: &[u8]) -> &'static str {
    refused(format!(r#"{{"t":{entry}}}"#), data).reason()
}

#[test]
fn tensors_and_metadata_are_read_without_copying() {
    let header = br#"{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},
        "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"F64","shape":[0,5],"data_offsets":[7,7]}}  "#;
    let file = file(header, &[0, 0, 0, 63, 1, 2, 3]);
    let container = read(file.clone()).unwrap();
    assert_eq!(container.metadata["format"], "pt");
    assert_eq!(container.tensors["a"].to_f32().unwrap(), [0.5]);
    assert_eq!(container.tensors["none"].shape(), [0, 5]);
    let b = &container.tensors["b"];
    assert_eq!(b.bytes().as_ref(), [1, 2, 3]);
    assert_eq!(b.bytes().as_ptr(), file[file.len() - 3..].as_ptr());
}

#[test]
fn a_file_without_tensors_is_read() {
    assert_eq!(read(file(b"{}", b"")).unwrap(), Container::default());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = file(br#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 8]);
    for length in 0..whole.len() {
        let error = read(whole.slice(..length)).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::InvalidArgument, "TRUNCATED"), "cut to {length} bytes");
    }
}

#[test]
fn n16_a_file_on_disk_is_read_as_bytes_are_and_may_become_shorter_meanwhile() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let whole = file(br#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, &[1, 2, 3, 4]);
    for length in 0..=whole.len() {
        std::fs::write(path.path(), &whole[..length]).unwrap();
        assert_eq!(open(path.path()).unwrap(), read(whole.slice(..length)), "{length} bytes");
    }
    // Between the look at its size and the reading: an error and no signal, for it is not mapped.
    let mut shorter = File::open(path.path()).unwrap();
    let cut = super::whole(&mut shorter, "the data", 1 << 20).unwrap().unwrap_err();
    assert!(matches!(cut, FormatError::Truncated { what: "the data", .. }));
}

#[test]
fn a_header_length_past_the_end_is_refused_without_allocating_it() {
    for length in [u64::MAX, 1 << 62, 11] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}        ");
        let error = read(bytes.into()).unwrap_err();
        assert_eq!(error, FormatError::Truncated { what: "the header", expected: length, actual: 10 });
    }
}

#[test]
fn a_header_above_8_mib_is_refused_unread() {
    let error = refused(vec![b'{'; (MAX_HEADER + 1) as usize], b"");
    assert_eq!(error, FormatError::HeaderTooLarge { bytes: MAX_HEADER + 1 });
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    assert!(error.to_string().contains("8388608 (8 MiB)"));
}

#[test]
fn more_tensors_than_allowed_are_refused_while_they_are_counted() {
    let entry = |i| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let entries: Vec<String> = (0..=MAX_TENSORS).map(entry).collect();
    let error = refused(format!("{{{}}}", entries.join(",")), b"");
    assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "TENSOR_COUNT"));
    assert_eq!(
        read(file(format!("{{{}}}", entries[1..].join(",")).as_bytes(), b"")).unwrap().tensors.len(),
        MAX_TENSORS
    );
}

#[test]
fn a_header_must_be_an_object_from_its_first_byte() {
    for header in [&b" {}"[..], b"\xef\xbb\xbf{}", b"[]", b"\"{}\"", b"", b"null"] {
        assert_eq!(refused(header, b"").reason(), "HEADER", "{header:?}");
    }
}

#[test]
fn a_header_must_be_utf_8_and_json_and_nothing_more() {
    for header in [&b"{\"a\xff\":1}"[..], b"{", b"{}{}", b"{}x", b"{\"a\"}", b"{,}", b"{'a':1}", b"{}\0"] {
        assert_eq!(refused(header, b"").reason(), "HEADER", "{header:?}");
    }
}

#[test]
fn deep_nesting_does_not_reach_the_stack() {
    let deep = "[".repeat(1_000_000);
    let headers = [
        format!(r#"{{"t":{deep}"#),
        format!(r#"{{"t":{{"dtype":{deep}"#),
        format!(r#"{{"t":{{"shape":{deep}"#),
        format!(r#"{{"t":{{"x":{deep}"#),
        format!(r#"{{"__metadata__":{{"x":{deep}"#),
    ];
    for header in headers {
        assert_eq!(refused(header, b"").reason(), "HEADER");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let one = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let two = r#"{"dtype":"I8","shape":[1],"data_offsets":[1,2]}"#;
    for (a, b) in [(one, one), (one, two)] {
        let error = refused(format!(r#"{{"w":{a},"\u0077":{b}}}"#), &[0, 0]);
        assert_eq!(error, FormatError::DuplicateName { what: "tensors", name: "w".into() });
    }
}

#[test]
fn a_metadata_key_that_stands_twice_is_refused() {
    let error = refused(r#"{"__metadata__":{"a":"1","b":"2","a":"1"}}"#, b"");
    assert_eq!(error, FormatError::DuplicateName { what: "metadata entries", name: "a".into() });
    assert_eq!(refused(r#"{"__metadata__":{},"__metadata__":{}}"#, b"").reason(), "HEADER");
}

#[test]
fn metadata_are_strings() {
    for metadata in ["null", "1", "[]", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{}}"#] {
        let error = refused(format!(r#"{{"__metadata__":{metadata}}}"#), b"");
        assert!(error.to_string().contains("at '__metadata__'"), "{error}");
    }
}

#[test]
fn an_entry_has_its_three_fields_and_no_other() {
    let entries = [
        r#"{"dtype":"U8","shape":[1]}"#,
        r#"{"dtype":"U8","data_offsets":[0,1]}"#,
        r#"{"shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}"#,
        r#"{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#,
        r#"["U8",[1],[0,1]]"#,
        "null",
    ];
    for entry in entries {
        assert_eq!(refused_entry(entry, &[0]), "HEADER", "{entry}");
    }
    let error = refused(r#"{"fc.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}"#, &[0]);
    assert!(error.to_string().contains("at 'fc.weight': unknown field `x`"), "{error}");
}

#[test]
fn numbers_are_non_negative_integers() {
    let digits = "9".repeat(1_000_000);
    for number in ["-1", "-0", "1.0", "1e0", "18446744073709551616", "\"1\"", "null", "true", "01", "NaN", &digits] {
        let shape = format!(r#"{{"dtype":"U8","shape":[{number}],"data_offsets":[0,1]}}"#);
        assert_eq!(refused_entry(&shape, &[0]), "HEADER", "shape");
        let offset = format!(r#"{{"dtype":"U8","shape":[1],"data_offsets":[{number},1]}}"#);
        assert_eq!(refused_entry(&offset, &[0]), "HEADER", "offset");
    }
}

#[test]
fn an_unknown_dtype_is_named_with_its_tensor() {
    for dtype in ["F4", "F6_E2M3", "F8_E4M3", "F8_E8M0", "C64", "f32", "", "Float"] {
        let error =
            refused(format!(r#"{{"fc1.weight":{{"dtype":"{dtype}","shape":[],"data_offsets":[0,8]}}}}"#), &[0; 8]);
        assert_eq!(error, FormatError::DType { tensor: "fc1.weight".into(), dtype: dtype.into() });
        assert_eq!(error.reason(), "DTYPE_UNSUPPORTED");
    }
}

#[test]
fn too_many_axes_are_refused() {
    for rank in [9, 1_000_000] {
        let shape = vec!["1"; rank].join(",");
        let entry = format!(r#"{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}"#);
        assert_eq!(refused_entry(&entry, &[0]), "SHAPE");
    }
}

#[test]
fn a_product_beyond_all_memory_is_refused_even_behind_a_zero() {
    let d = 1u64 << 31;
    let shapes = [vec![0, (1 << 63) - 1, 2], vec![d + 1], vec![d; 3], vec![d, d, 4], vec![0, d, d, d], vec![u64::MAX]];
    for shape in shapes {
        let entry = format!(r#"{{"dtype":"U8","shape":{shape:?},"data_offsets":[0,0]}}"#);
        assert_eq!(refused_entry(&entry, b""), "SHAPE", "{shape:?}");
    }
}

#[test]
fn offsets_must_span_the_shape() {
    for (begin, end) in [(1, 0), (0, 3), (0, 5), (4, 4), (u64::MAX, 3), (0, u64::MAX)] {
        let entry = format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{end}]}}"#);
        assert_eq!(refused_entry(&entry, &[0; 4]), "OFFSETS", "[{begin}, {end}]");
    }
}

/// The refusal of a file with 8 bytes of data and two tensors of 4 bytes, which begin there.
fn refused_at(a: usize, b: usize) -> String {
    let entry = |begin| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{}]}}"#, begin + 4);
    let error = refused(format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)), &[0; 8]);
    assert_eq!(error.reason(), "OFFSETS");
    error.to_string()
}

#[test]
fn tensors_may_not_overlap_or_leave_gaps() {
    assert!(refused_at(0, 3).contains("tensor 'b' has data_offsets [3, 7], overlapping another tensor that ends at 4"));
    assert!(refused_at(4, 4).contains("'a' has data_offsets [4, 8], after a gap that begins at 0"));
    assert!(refused_at(0, 5).contains("'b' has data_offsets [5, 9], after a gap that begins at 4"));
    assert!(refused_at(0, 0).contains("overlapping"));
}

#[test]
fn nothing_may_follow_the_last_tensor() {
    let header = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    assert_eq!(refused(header, b"\x01PK\x03\x04"), FormatError::Trailing { bytes: 4 });
    assert_eq!(refused("{}", b"\x7fELF").reason(), "OFFSETS");
}

#[test]
fn a_terabyte_that_is_only_declared_is_refused_by_the_length() {
    let bytes = 1u64 << 40;
    let header = format!(r#"{{"t":{{"dtype":"U8","shape":[1024,{}],"data_offsets":[0,{bytes}]}}}}"#, 1 << 30);
    assert_eq!(refused(header, b"x"), FormatError::Truncated { what: "the data", expected: bytes, actual: 1 });
}

#[test]
fn truth_values_are_0_or_1() {
    let header = r#"{"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#;
    assert!(read(file(header.as_bytes(), &[0, 1, 1])).is_ok());
    assert_eq!(refused(header, &[0, 1, 2]), FormatError::Bool { tensor: "mask".into(), index: 2, value: 2 });
}

#[test]
fn names_are_printable_ascii_and_lead_nowhere() {
    let named = |name: &str| {
        let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
        read(file(format!("{{{}:{entry}}}", serde_json::Value::from(name)).as_bytes(), b""))
    };
    for name in ["fc1.weight", "dense/kernel:0", "a b", "model.layers[0].w", "a..b", &"n".repeat(MAX_NAME)] {
        assert!(named(name).is_ok(), "{name:?}");
    }
    let long = "n".repeat(MAX_NAME + 1);
    for name in [
        "",
        " a",
        "a ",
        "a\0b",
        "a\nb",
        "../../etc/passwd",
        "/etc/passwd",
        "a//b",
        "a\\b",
        "w\u{e9}",
        "\u{202e}a",
        &long,
    ] {
        assert_eq!(named(name).unwrap_err().reason(), "TENSOR_NAME", "{name:?}");
    }
}

#[test]
fn other_formats_are_recognised_by_their_content() {
    let files: [(&[u8], &str); 8] = [
        (b"PK\x03\x04\x14\0\x08\x08\x08\0\0\0", "zip"),
        (b"\x80\x02}q\0.aaaaaaaaaa", "pickle"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03aaaa", "gzip"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.9.0", "ONNX"),
        (b"GGUF\x03\0\0\0aaaaaaaa", "GGUF"),
        (b"\x1c\0\0\0TFL3\0\0\0\0aaaa", "TensorFlow Lite"),
        (b"{\"version\":1,\"nodes\":[]}", "JSON"),
    ];
    for (bytes, name) in files {
        let error = read(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(error.reason(), "FORMAT");
        assert!(error.to_string().contains(name), "{error}");
    }
}
