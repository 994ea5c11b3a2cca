//! Archives, right and wrong. The right ones are written by another implementation of the format.

use std::io::{Cursor, Write};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};
use proptest::prelude::*;

use crate::data::source::fixture::{open, refused};
use crate::data::{BySplit, DataSource, Inputs, Layout, NpzPair};

/// An array of that type and shape, as NumPy writes it.
fn npy(descr: &str, shape: &[usize], values: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00", &118u16.to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn archive(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn stored(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    archive(members, CompressionMethod::Stored)
}

/// Two samples of two bytes with the labels 0 and 4.
fn digits() -> Vec<(&'static str, Vec<u8>)> {
    vec![("inputs.npy", npy("|u1", &[2, 2], &[0, 1, 2, 3])), ("labels.npy", npy("|u1", &[2], &[0, 4]))]
}

fn source(inputs: &str, labels: &str, layout: Layout) -> DataSource {
    let pair = NpzPair { file: "a.npz".into(), inputs: inputs.into(), labels: labels.into() };
    DataSource::Npz { arrays: BySplit::train(pair), layout }
}

/// The reason and the message for this file, whose arrays are told by name.
#[track_caller]
fn told(bytes: &[u8]) -> (&'static str, String) {
    refused(&[("a.npz", bytes)], Some(&source("inputs", "labels", Layout::Detected)))
}

#[test]
fn stored_and_deflated_arrays_are_read() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let dataset = open(&[("digits.npz", &archive(&digits(), method))], None).unwrap();
        assert_eq!((dataset.source, dataset.classes, dataset.train.sample_shape.as_slice()), ("npz", 5, &[2][..]));
        assert_eq!(dataset.train.inputs, Inputs::U8(vec![0, 1, 2, 3].into()));
        assert_eq!(dataset.train.labels, [0, 4]);
    }
}

#[test]
fn one_file_may_have_the_arrays_of_all_splits() {
    let images = |n: usize| npy("|u1", &[n, 2, 3], &vec![n as u8; n * 6]);
    let labels = |n: usize| npy("<i8", &[n, 1], &vec![0; n * 8]);
    let file = stored(&[
        ("train_images.npy", images(3)),
        ("train_labels.npy", labels(3)),
        ("val_images.npy", images(2)),
        ("val_labels.npy", labels(2)),
        ("test_images.npy", images(1)),
        ("test_labels.npy", labels(1)),
    ]);
    let dataset = open(&[("a.npz", &file)], None).unwrap();
    assert_eq!(dataset.train.sample_shape, [1, 2, 3]);
    let count = |part: Option<std::sync::Arc<crate::data::Part>>| part.map(|part| part.labels.len());
    assert_eq!((dataset.train.labels.len(), count(dataset.validation), count(dataset.test)), (3, Some(2), Some(1)));
}

#[test]
fn files_for_each_split_are_told_apart_by_name() {
    let file = stored(&digits());
    let dataset = open(&[("test.npz", &file), ("train.npz", &file)], None).unwrap();
    assert_eq!(dataset.test.unwrap().labels, [0, 4]);
    let unknown = stored(&[("a.npy", npy("|u1", &[1], &[0])), ("b.npy", npy("|u1", &[1], &[0]))]);
    let (reason, message) = refused(&[("x.npz", &unknown)], None);
    assert_eq!(reason, "DATASET_FORMAT");
    assert!(message.contains("which arrays of 'x.npz' are inputs and labels? It has a, b"), "{message}");
}

#[test]
fn channels_that_come_last_go_first() {
    // Two images of 1 x 2 pixels in three channels.
    let images = npy("<i2", &[2, 1, 2, 3], &(0..12u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let file = stored(&[("x.npy", images.clone()), ("y.npy", npy("|u1", &[2], &[0, 1]))]);
    let read = |layout| open(&[("a.npz", &file)], Some(&source("x", "y", layout))).unwrap();
    let last = read(Layout::ChannelsLast);
    assert_eq!(last.train.sample_shape, [3, 1, 2]);
    assert_eq!(last.train.inputs, Inputs::F32(vec![0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.]));
    assert_eq!(read(Layout::ChannelsFirst).train.sample_shape, [1, 2, 3]);
    // The second axis might be a single channel: nothing is turned round.
    assert_eq!(read(Layout::Detected).train.sample_shape, [1, 2, 3]);
    let tall = stored(&[("x.npy", npy("|u1", &[1, 2, 2, 3], &[0; 12])), ("y.npy", npy("|u1", &[1], &[0]))]);
    assert_eq!(open(&[("a.npz", &tall)], None).unwrap().train.sample_shape, [3, 2, 2]);
}

#[test]
fn arrays_of_no_use_are_named() {
    let with = |inputs: Vec<u8>, labels: Vec<u8>| told(&stored(&[("inputs.npy", inputs), ("labels.npy", labels)])).1;
    let (two, labels) = (npy("|u1", &[2, 1], &[0, 1]), npy("|u1", &[2], &[0, 1]));
    assert!(with(npy("|u1", &[2], &[0, 1]), labels.clone()).contains("array 'inputs' has shape [2]; inputs are"));
    assert!(with(npy("|u1", &[], &[0]), labels.clone()).contains("array 'inputs' has shape []; inputs are"));
    assert!(with(two.clone(), npy("|u1", &[1, 2], &[0, 1])).contains("array 'labels' has shape [1, 2]; labels are"));
    assert!(with(two.clone(), npy("<f4", &[2], &[0; 8])).contains("array 'labels' has floating point numbers"));
    assert!(with(two.clone(), npy("|i1", &[2], &[0, 255])).contains("label -1 of sample 1"));
    assert!(with(two.clone(), npy("|u1", &[3], &[0; 3])).contains("2 samples in 'a.npz', but 3 labels"));
    assert!(
        with(npy("<f8", &[2, 1], &[f64::MAX.to_le_bytes(); 2].concat()), labels.clone()).contains("NaN or infinite")
    );
    assert!(with(npy("|u1", &[0, 9], &[]), npy("|u1", &[0], &[])).contains("holds no values"));
    let (reason, message) = told(&stored(&[("x.npy", two)]));
    assert_eq!((reason, message.as_str()), ("DATASET_FORMAT", "file 'a.npz': it has no array 'labels'; it has x"));
}

/// An archive as Python writes one with `force_zip64`, which NumPy asks for: sizes of 64 bits in front of each member, of 32
/// in the directory.
fn wide(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let (crc, size, start) = (crc.sum().to_le_bytes(), bytes.len(), file.len() as u32);
        let name_length = (name.len() as u16).to_le_bytes();
        file.extend([&b"PK\x03\x04\x2d\x00\0\0\0\0\0\0\0\0"[..], &crc, &[0xff; 8], &name_length, &[20, 0]].concat());
        let sizes = (size as u64).to_le_bytes();
        file.extend([name.as_bytes(), &[1, 0, 16, 0], &sizes, &sizes, bytes].concat());
        let size = (size as u32).to_le_bytes();
        directory.extend(b"PK\x01\x02\x2d\x03\x2d\0\0\0\0\0\0\0\0\0");
        directory
            .extend([&crc[..], &size, &size, &name_length, &[0; 12], &start.to_le_bytes(), name.as_bytes()].concat());
    }
    let (start, length) = ((file.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = (members.len() as u16).to_le_bytes();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &length, &start, &[0, 0]].concat();
    [file, directory, end].concat()
}

#[test]
fn arrays_behind_headers_with_wide_sizes_are_read() {
    let (found, plain) = (open(&[("a.npz", &wide(&digits()))], None), open(&[("a.npz", &stored(&digits()))], None));
    let (found, plain) = (found.unwrap().train, plain.unwrap().train);
    assert_eq!((&found.inputs, &found.labels), (&plain.inputs, &plain.labels));
    // What stands twice must be the same twice.
    let mut lying = wide(&digits());
    let at = lying.windows(4).position(|bytes| bytes == [1, 0, 16, 0]).unwrap();
    lying[at + 4] ^= 1;
    assert!(told(&lying).1.contains("its directory says something else than the header"), "{}", told(&lying).1);
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let whole = stored(&digits());
    for length in 0..whole.len() {
        assert_eq!(told(&whole[..length]).0, "DATASET_FORMAT", "cut to {length} bytes");
    }
    assert!(told(&[whole, vec![0]].concat()).1.contains("does not end as a zip archive"));
}

#[test]
fn a_bomb_unpacks_to_what_its_header_says_and_no_further() {
    let bomb = [npy("|u1", &[2, 2], &[0; 4]), vec![0; 16 << 20]].concat();
    let file = archive(&[("inputs.npy", bomb), digits().remove(1)], CompressionMethod::Deflated);
    assert!(file.len() < 40_000);
    assert!(told(&file).1.contains("array 'inputs' has bytes behind its values"));
}

/// Where the directory's entry of the first member begins.
fn directory(file: &[u8]) -> usize {
    file.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap()
}

#[test]
fn sizes_that_lie_are_refused_before_memory_is_taken() {
    let whole = archive(&digits(), CompressionMethod::Deflated);
    let at = directory(&whole);
    let with = |offset: usize, value: u32| {
        let mut file = whole.clone();
        file[at + offset..][..4].copy_from_slice(&value.to_le_bytes());
        told(&file)
    };
    // The packed size, the unpacked size, and where the member is.
    assert_eq!(with(20, 1 << 30).0, "TRUNCATED");
    assert!(with(24, 1 << 31).1.contains("member 'inputs.npy' cannot have the 2147483648 bytes it claims"));
    assert_eq!(with(42, 1 << 30).0, "TRUNCATED");
    assert!(with(24, u32::MAX).1.contains("zip64"));
    assert!(with(42, 1).1.contains("its members 'inputs.npy' and 'labels.npy' overlap"));
    // A small lie is found out by the member's own header, or, where that tells the same, when the array needs the bytes.
    for (offset, value) in [(16, 0), (20, 3), (24, 2)] {
        assert!(with(offset, value).1.contains("its directory says something else than the header"), "{offset}");
    }
    let with_both = |offset: usize, value: u32| {
        let mut file = whole.clone();
        file[offset - 2..][..4].copy_from_slice(&value.to_le_bytes());
        file[at + offset..][..4].copy_from_slice(&value.to_le_bytes());
        told(&file)
    };
    assert_eq!(with_both(20, 3).0, "TRUNCATED");
    assert_eq!(with_both(24, 2).0, "TRUNCATED");
    assert!(with_both(24, 20).1.contains("others than were packed"));
    assert!(with_both(16, 0).1.contains("others than were packed"));
}

#[test]
fn a_directory_that_lies_is_refused() {
    let whole = stored(&digits());
    let end = whole.len() - 22;
    let with = |offset: usize, value: u16| {
        let mut file = whole.clone();
        file[end + offset..][..2].copy_from_slice(&value.to_le_bytes());
        told(&file).1
    };
    assert!(with(4, 1).contains("one of several volumes"));
    assert!(with(10, 7).contains("one of several volumes"));
    assert!(with(12, 7).contains("its directory is not where its end says"));
    assert!(with(14, 90).contains("its directory has 2 members in"));
    assert!(with(16, 7).contains("its directory is not where its end says"));
    assert!(with(20, 1).contains("without a comment"));
    for count in [1, 3, u16::MAX] {
        let mut file = whole.clone();
        file[end + 8..][..2].copy_from_slice(&u16::to_le_bytes(count));
        file[end + 10..][..2].copy_from_slice(&u16::to_le_bytes(count));
        assert!(told(&file).1.contains("its directory"), "{count}");
    }
}

#[test]
fn members_that_are_packed_otherwise_are_named() {
    let whole = stored(&digits());
    let at = directory(&whole);
    let with = |offset: usize, value: u8| {
        let mut file = whole.clone();
        file[at + offset] = value;
        told(&file).1
    };
    assert!(with(8, 1).contains("member 'inputs.npy' is encrypted"));
    assert!(with(10, 99).contains("member 'inputs.npy' is packed by method 99"));
    assert!(with(46, 0xff).contains("no UTF-8"));
    assert!(with(41, 0o240).contains("member 'inputs.npy' is a link"));
}

#[test]
fn two_members_of_one_name_are_refused() {
    let mut file = stored(&[("inputs.npy", npy("|u1", &[1, 1], &[0])), ("outputs.npy", npy("|u1", &[1, 1], &[1]))]);
    let both = stored(&[("inputs.npy", npy("|u1", &[1, 1], &[0])), ("inputs2.npy", npy("|u1", &[1, 1], &[1]))]);
    assert!(told(&both).1.contains("it has no array 'labels'"));
    while let Some(at) = file.windows(11).position(|bytes| bytes == b"outputs.npy") {
        file[at..at + 11].copy_from_slice(b"inputs.npy\0");
    }
    // The name of the second member is now longer by a zero.
    assert!(told(&file).1.contains("which is no plain one"));
    let mut twice = stored(&[("inputs.npy", npy("|u1", &[1, 1], &[0])), ("intputs.np", npy("|u1", &[1, 1], &[1]))]);
    while let Some(at) = twice.windows(10).position(|bytes| bytes == b"intputs.np") {
        twice[at..at + 10].copy_from_slice(b"inputs.npy");
    }
    assert!(told(&twice).1.contains("two members of the name 'inputs.npy'"));
}

#[test]
fn names_that_lead_elsewhere_or_differ_by_capitals_alone_are_refused() {
    for name in ["../x.npy", "/x.npy", "a//x.npy", "a\\x.npy", "./x.npy", ""] {
        let file = stored(&[("inputs.npy", npy("|u1", &[1, 1], &[0])), (name, vec![])]);
        assert!(told(&file).1.contains("which is no plain one"), "{name}");
    }
    let twins = stored(&[("inputs.npy", npy("|u1", &[1, 1], &[0])), ("Inputs.npy", npy("|u1", &[1, 1], &[1]))]);
    assert!(told(&twins).1.contains("in capitals alone"));
}

#[test]
fn what_headers_say_is_compared_before_values_are_read() {
    // The values of the inputs are damaged, which nobody gets to see.
    let mut file =
        stored(&[("inputs.npy", npy("<f4", &[2, 1], &[0; 8])), ("labels.npy", npy("|u1", &[3], &[0, 1, 1]))]);
    let values = file.windows(8).position(|bytes| bytes == [0; 8]).unwrap();
    file[values] = 1;
    assert_eq!(told(&file).0, "LABELS");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_changed_byte_makes_the_reader_panic(place: prop::sample::Index, value: u8, deflated: bool) {
        let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let mut file = archive(&digits(), method);
        let place = place.index(file.len());
        file[place] = value;
        let _ = open(&[("a.npz", &file)], Some(&source("inputs", "labels", Layout::Detected)));
    }
}
