//! Headers, right and wrong.

use proptest::prelude::*;

use super::*;

fn npy(version: u8, header: &[u8], values: &[u8]) -> Vec<u8> {
    let length = match version {
        1 => (header.len() as u16).to_le_bytes().to_vec(),
        _ => (header.len() as u32).to_le_bytes().to_vec(),
    };
    [&MAGIC, &[version, 0][..], &length, header, values].concat()
}

fn read_bytes(bytes: &[u8]) -> Result<Array, NpyError> {
    parse(&mut &*bytes, bytes.len() as u64)
}

/// The error for a file of version 1 with this header and eight bytes.
fn refused(header: &str) -> String {
    read_bytes(&npy(1, header.as_bytes(), &[0; 8])).unwrap_err().of("f", "x").to_string()
}

#[test]
fn arrays_of_all_three_versions_are_read() {
    for version in 1..=3 {
        let header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2), }          \n";
        let array = read_bytes(&npy(version, header, &[1, 0, 2, 0, 3, 0, 0, 1])).unwrap();
        assert_eq!((array.dtype, array.shape.as_slice()), (Dtype::U16, &[2, 2][..]));
        assert_eq!(array.to_f32().unwrap(), [1.0, 2.0, 3.0, 256.0]);
    }
    let terse = r#"{"shape":(8,),"fortran_order":False,"descr":"|b1"}"#;
    assert_eq!(read_bytes(&npy(1, terse.as_bytes(), &[1; 8])).unwrap().shape, [8]);
}

#[test]
fn every_type_has_its_values() {
    let read = |descr: &str, values: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}");
        let array = read_bytes(&npy(1, header.as_bytes(), values)).unwrap();
        (array.to_f32().unwrap()[0], array.integers().map(|mut all| all.next().unwrap()))
    };
    assert_eq!(read("|b1", &[1]), (1.0, Some(1)));
    assert_eq!(read("|u1", &[255]), (255.0, Some(255)));
    assert_eq!(read("|i1", &[255]), (-1.0, Some(-1)));
    assert_eq!(read("<u2", &60_000u16.to_le_bytes()), (60_000.0, Some(60_000)));
    assert_eq!(read("<i2", &(-2i16).to_le_bytes()), (-2.0, Some(-2)));
    assert_eq!(read("<u4", &u32::MAX.to_le_bytes()), (4_294_967_296.0, Some(u32::MAX.into())));
    assert_eq!(read("<i4", &(-3i32).to_le_bytes()), (-3.0, Some(-3)));
    assert_eq!(read("<u8", &u64::MAX.to_le_bytes()), (18_446_744_073_709_551_616.0, Some(u64::MAX.into())));
    assert_eq!(read("<i8", &(-4i64).to_le_bytes()), (-4.0, Some(-4)));
    assert_eq!(read("<f2", &half::f16::from_f32(0.5).to_le_bytes()), (0.5, None));
    assert_eq!(read("<f4", &1.25f32.to_le_bytes()), (1.25, None));
    assert_eq!(read("<f8", &0.1f64.to_le_bytes()), (0.1, None));
}

#[test]
fn a_header_length_is_not_believed() {
    let short = [&MAGIC[..], &[2, 0, 0xff, 0xff, 0xff, 0xff]].concat();
    let message = read_bytes(&short).unwrap_err().of("f", "x").to_string();
    assert_eq!(message, "file 'f': array 'x' has a header of 4294967295 bytes, at most 65536 are read");
    let cut = [&MAGIC[..], &[1, 0, 0xff, 0xff]].concat();
    assert!(read_bytes(&cut).unwrap_err().of("f", "x").to_string().contains("ends in the middle"));
}

#[test]
fn a_header_is_that_dict_and_nothing_else() {
    for (header, expected) in [
        ("", "has no '{'"),
        ("[1]", "has no '{'"),
        ("{}", "has no key 'descr'"),
        ("{'descr': '<f4'}", "has no key 'fortran_order'"),
        ("{'descr': '<f4', 'fortran_order': False}", "has no key 'shape'"),
        ("{'descr': '<f4', 'descr': '<f4'}", "has the key 'descr' twice"),
        ("{'descr': '<f4', 'x': 1}", "has an unknown key 'x'"),
        ("{'descr': '<f4', 'fortran_order': 0}", "neither True nor False"),
        ("{'descr': [('a', '<f4')]}", "has no ''' where one belongs"),
        ("{'descr': '<f4", "has a text without an end"),
        ("{'descr': '<\\x664'}", "has a text with escapes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "no list of sizes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "no list of sizes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}", "has no ')'"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': [2]}", "has no '('"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "no list of sizes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}; import os", "something behind its dict"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}", "has no '('"),
    ] {
        assert!(refused(header).contains(expected), "{header}: {}", refused(header));
    }
}

#[test]
fn types_that_are_not_read_are_named() {
    let message = |descr: &str| refused(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}"));
    assert!(message("|O").contains("pickled code and never read"));
    assert!(message(">f4").contains("'>f4', which is big-endian"));
    for descr in ["<U4", "|S3", "<M8[ns]", "<c8", "<f16", "f4", "=f4", "<f3", ""] {
        assert!(message(descr).contains(&format!("has type '{descr}'")), "{}", message(descr));
    }
}

#[test]
fn fortran_order_is_refused_where_it_differs() {
    let header = |shape: &str| format!("{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}, }}");
    assert!(refused(&header("(2, 4)")).contains("is in Fortran order"));
    assert_eq!(read_bytes(&npy(1, header("(8, 1)").as_bytes(), &[0; 8])).unwrap().shape, [8, 1]);
}

#[test]
fn shapes_that_the_file_cannot_hold_are_refused_before_memory_is_taken() {
    let big = u64::MAX;
    for shape in
        ["(1000000000000,)".to_string(), format!("({big}, {big})"), format!("(0, {big}, {big})"), "(3, 3)".to_string()]
    {
        let message = refused(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
        assert!(message.contains("is cut short: array 'x' has shape"), "{message}");
    }
    let axes = vec!["1"; 33].join(", ");
    assert!(refused(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({axes}), }}")).contains("32 axes"));
}

#[test]
fn other_bytes_are_no_array() {
    assert!(
        read_bytes(b"\x80\x04\x95 pickled").unwrap_err().of("f", "x").to_string().contains("is none: it begins with")
    );
    assert!(read_bytes(&npy(4, b"", &[])).unwrap_err().of("f", "x").to_string().contains("has version 4"));
}

proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(header in "[{}()',: a-zFT0-9<|\\\\]{0,80}", values in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = read_bytes(&npy(1, header.as_bytes(), &values));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(&[&MAGIC[..], &bytes].concat());
    }
}
