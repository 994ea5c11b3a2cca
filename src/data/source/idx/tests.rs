//! IDX files that are right, and files that lie.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::data::{self, BySplit, DataError, DataSource, Dataset, Files, IdxPair, Inputs};
use crate::error::Classify;

/// An IDX file of that type and these sizes.
fn idx(dtype: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, dtype, dims.len() as u8];
    file.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    file.extend(values);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Files of these names and contents; they live as long as the folder.
fn files(contents: &[(&str, &[u8])]) -> (TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in contents {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let files = Files::from_path(folder.path()).unwrap();
    (folder, files)
}

fn open(contents: &[(&str, &[u8])]) -> Result<Dataset, DataError> {
    let (_folder, files) = files(contents);
    data::open(&files, None)
}

/// Two images of 2 x 3 pixels.
fn images() -> Vec<u8> {
    idx(8, &[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
}

/// The error for these inputs, which go by the name `inputs`, with two right labels.
fn refused(inputs: &[u8]) -> DataError {
    let (_folder, files) = files(&[("inputs", inputs), ("labels", &idx(8, &[2], &[0, 1]))]);
    let train = IdxPair { inputs: "inputs".into(), labels: "labels".into() };
    data::open(&files, Some(&DataSource::Idx(BySplit::train(train)))).unwrap_err()
}

/// The error for these labels of two right images.
fn refused_labels(labels: &[u8]) -> DataError {
    let (_folder, files) = files(&[("inputs", &images()), ("labels", labels)]);
    let train = IdxPair { inputs: "inputs".into(), labels: "labels".into() };
    data::open(&files, Some(&DataSource::Idx(BySplit::train(train)))).unwrap_err()
}

#[test]
fn four_files_are_told_apart_by_content_and_name() {
    let dataset = open(&[
        ("train-images-idx3-ubyte", &images()),
        ("train-labels-idx1-ubyte.gz", &gzip(&idx(8, &[2], &[3, 0]))),
        ("t10k-images-idx3-ubyte.gz", &gzip(&idx(8, &[1, 2, 3], &[9; 6]))),
        ("t10k-labels-idx1-ubyte", &idx(8, &[1], &[7])),
        ("README", b"about these digits"),
    ])
    .unwrap();
    assert_eq!((dataset.source, dataset.classes), ("idx", 8));
    assert_eq!(dataset.train.sample_shape, [1, 2, 3]);
    assert_eq!(dataset.train.labels, [3, 0]);
    assert_eq!(dataset.train.inputs, Inputs::U8((0..12).collect::<Vec<u8>>().into()));
    let test = dataset.test.unwrap();
    assert_eq!((test.labels.as_slice(), &test.inputs), (&[7][..], &Inputs::U8(vec![9; 6].into())));
}

#[test]
fn numbers_of_32_bits_are_big_endian() {
    let values: Vec<u8> = [0.5f32, -1.0, 2.0, 4.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    let labels: Vec<u8> = [2i32, 300].iter().flat_map(|v| v.to_be_bytes()).collect();
    let dataset = open(&[("x", &idx(13, &[2, 2], &values)), ("y", &idx(12, &[2], &labels))]).unwrap();
    assert_eq!(dataset.train.sample_shape, [2]);
    assert_eq!(dataset.train.inputs, Inputs::F32(vec![0.5, -1.0, 2.0, 4.0]));
    assert_eq!((dataset.train.labels.as_slice(), dataset.classes), (&[2, 300][..], 301));
}

#[test]
fn files_that_cannot_be_told_apart_are_asked_about() {
    let (images, labels) = (images(), idx(8, &[2], &[0, 1]));
    let unclear = |contents: &[(&str, &[u8])]| {
        let error = open(contents).unwrap_err();
        assert_eq!((error.reason(), error.violations()[0].field.as_str()), ("DATASET_FORMAT", "data.source"));
        error.to_string()
    };
    assert!(unclear(&[("a", &images), ("b", &images), ("c", &labels)]).contains("'a' and 'b' may both be meant"));
    assert!(unclear(&[("a", &images)]).contains("no file has the labels of 'a'"));
    assert!(unclear(&[("a", &labels)]).contains("no file has the inputs of 'a'"));
    assert!(unclear(&[("test-a", &images), ("test-b", &labels)]).contains("no IDX files are for training"));
    let error = open(&[("a.txt", b"1,2,3"), ("b.zip", b"PK\x03\x04")]).unwrap_err();
    assert_eq!(error.reason(), "DATASET_EMPTY");
    assert!(error.to_string().ends_with("among these: a.txt, b.zip (a zip archive)"), "{error}");
}

#[test]
fn a_file_that_should_be_idx_and_is_not_is_named() {
    let (images, labels) = (images(), idx(8, &[2], &[0, 1]));
    let told = |inputs: &[u8]| {
        let train = [("train-images", inputs), ("train-labels", labels.as_slice())];
        let test = [("t10k-images", images.as_slice()), ("t10k-labels", labels.as_slice())];
        open(&[train, test].concat()).unwrap_err().to_string()
    };
    assert!(told(b"").contains("the inputs of 'train-labels'; 'train-images' is no IDX file, it is empty"));
    assert!(told(b"<!DOCTYPE html>").contains("'train-images' is no IDX file, it looks like HTML"));
    assert!(told(b"\x01\x02\x08\x03..").contains("'train-images' is no IDX file, it begins with [01, 02, 08, 03]"));
}

#[test]
fn a_named_file_that_is_not_there_is_told_with_those_that_are() {
    let (_folder, files) = files(&[("a", b"x")]);
    let train = IdxPair { inputs: "../a".into(), labels: "a".into() };
    let error = data::open(&files, Some(&DataSource::Idx(BySplit::train(train)))).unwrap_err();
    assert_eq!(error.to_string(), "there is no file '../a' in the data set; its files are a");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (whole, packed) = (images(), gzip(&images()));
    for length in 0..whole.len() {
        assert_eq!(refused(&whole[..length]).reason(), "TRUNCATED", "cut to {length} bytes");
    }
    // From 2 bytes on it is seen to be gzip; the last 8 bytes are the checksum and the length.
    for length in 2..packed.len() {
        assert_eq!(refused(&packed[..length]).reason(), "TRUNCATED", "packed, cut to {length} bytes");
    }
}

#[test]
fn nothing_may_follow_the_last_sample() {
    let more = [images(), vec![0]].concat();
    assert!(refused(&more).to_string().contains("bytes follow the 12 that shape [2, 2, 3] needs"));
    assert!(refused(&gzip(&more)).to_string().contains("bytes follow the 12"));
    let second = [gzip(&images()), gzip(b"x")].concat();
    assert!(refused(&second).to_string().contains("bytes follow the 12"));
    let junk = [gzip(&images()), b"not gzip, and long enough".to_vec()].concat();
    assert!(refused(&junk).to_string().contains("the gzip stream is damaged"), "{}", refused(&junk));
}

#[test]
fn a_gzip_file_may_have_several_streams() {
    let (start, end) = (images()[..7].to_vec(), images()[7..].to_vec());
    let packed = [gzip(b""), gzip(&start), gzip(&end), gzip(b"")].concat();
    let dataset = open(&[("x", &packed), ("y", &idx(8, &[2], &[0, 1]))]).unwrap();
    assert_eq!(dataset.train.inputs, Inputs::U8((0..12).collect::<Vec<u8>>().into()));
}

#[test]
fn a_damaged_gzip_stream_is_refused() {
    let mut packed = gzip(&images());
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    let error = refused(&packed);
    assert_eq!(error.reason(), "DATASET_FORMAT");
    assert!(error.to_string().contains("the gzip stream is damaged"), "{error}");
}

#[test]
fn sizes_that_the_file_cannot_hold_are_refused_before_memory_is_taken() {
    let sizes: [&[u32]; 4] = [&[u32::MAX, 2, 3], &[u32::MAX; 4], &[1 << 31, 1 << 31, 4], &[3, 2, 3]];
    for dims in sizes {
        let file = idx(8, dims, &[0; 12]);
        assert_eq!(refused(&file).reason(), "TRUNCATED", "{dims:?}");
        assert_eq!(refused(&gzip(&file)).reason(), "TRUNCATED", "packed, {dims:?}");
    }
    assert_eq!(refused(&idx(8, &[0, u32::MAX, u32::MAX, u32::MAX], &[])).reason(), "TRUNCATED");
}

#[test]
fn a_bomb_unpacks_to_what_its_header_says_and_no_further() {
    let bomb = gzip(&[images(), vec![0; 16 << 20]].concat());
    assert!(bomb.len() < 20_000);
    assert!(refused(&bomb).to_string().contains("bytes follow the 12"));
}

#[test]
fn headers_that_are_not_idx_are_refused() {
    for (dtype, dims) in [(7, &[2][..]), (10, &[2]), (0xff, &[2]), (8, &[]), (8, &[1, 1, 1, 1, 2]), (8, &[1; 255])] {
        assert_eq!(refused(&idx(dtype, dims, &[0; 2])).reason(), "DATASET_FORMAT", "{dtype} {dims:?}");
    }
    let error = refused(b"PK\x03\x04aaaaaaaa");
    assert!(error.to_string().contains("file 'inputs': it is no IDX file"), "{error}");
}

#[test]
fn types_that_are_not_supported_are_named() {
    let error = refused(&idx(14, &[2, 1], &[0; 16]));
    assert_eq!(error.to_string(), "file 'inputs': inputs of type f64 are not supported; u8 and f32 are");
    let error = refused_labels(&idx(13, &[2], &[0; 8]));
    assert_eq!(error.to_string(), "file 'labels': labels of type f32 are not supported; u8 and i32 are");
    assert!(refused(&idx(8, &[2], &[0; 2])).to_string().contains("are these labels?"));
    assert!(refused_labels(&images()).to_string().contains("are these inputs?"));
}

#[test]
fn there_is_one_label_a_sample() {
    for count in [0, 1, 3] {
        let error = refused_labels(&idx(8, &[count], &vec![0; count as usize]));
        assert_eq!(error.reason(), "LABELS");
        assert_eq!(error.to_string(), format!("2 samples in 'inputs', but {count} labels in 'labels'"));
    }
}

#[test]
fn labels_are_small_and_not_negative() {
    for value in [-1i32, 1 << 20, i32::MIN] {
        let bytes = [0i32.to_be_bytes(), value.to_be_bytes()].concat();
        let error = refused_labels(&idx(12, &[2], &bytes));
        assert_eq!(error.to_string(), format!("file 'labels': label {value} of sample 1 is not between 0 and 1048575"));
    }
}

#[test]
fn samples_have_values_and_they_are_numbers() {
    assert_eq!(refused(&idx(8, &[2, 0, 3], &[])).reason(), "DATASET_EMPTY");
    let error = open(&[("x", &idx(8, &[0, 2, 3], &[])), ("y", &idx(8, &[0], &[]))]).unwrap_err();
    assert_eq!(error.reason(), "DATASET_EMPTY");
    let values: Vec<u8> = [0.0, 1.0, 2.0, f32::NAN].iter().flat_map(|v: &f32| v.to_be_bytes()).collect();
    let error = refused(&idx(13, &[2, 2], &values));
    assert_eq!(error.to_string(), "file 'inputs': sample 1 holds a value that is NaN or infinite");
}

#[test]
fn training_and_test_samples_have_one_shape() {
    let labels = idx(8, &[2], &[0, 1]);
    let other = idx(8, &[2, 3, 2], &[0; 12]);
    let error =
        open(&[("a", &images()), ("b", &labels), ("test-a", &other), ("test-b", &labels)]).unwrap_err().to_string();
    assert!(error.contains("training samples have shape [1, 2, 3], test samples [1, 3, 2]"), "{error}");
}

/// The real MNIST, where `NIWAKI_TEST_DATA` names a folder that has it under `mnist`.
#[test]
fn mnist_is_read() {
    let Some(folder) = std::env::var_os("NIWAKI_TEST_DATA") else {
        eprintln!("skipped: NIWAKI_TEST_DATA is not set");
        return;
    };
    let files = Files::from_path(&Path::new(&folder).join("mnist")).unwrap();
    let dataset = data::open(&files, None).unwrap();
    let test = dataset.test.unwrap();
    assert_eq!((dataset.train.labels.len(), test.labels.len(), dataset.classes), (60_000, 10_000, 10));
    assert_eq!(
        (dataset.train.sample_shape.as_slice(), test.sample_shape.as_slice()),
        (&[1, 28, 28][..], &[1, 28, 28][..])
    );
    let mut counts = BTreeMap::new();
    for label in &test.labels {
        *counts.entry(*label).or_insert(0) += 1;
    }
    // The counts that are published for the test set.
    let published = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009];
    assert_eq!(counts.into_values().collect::<Vec<_>>(), published);
}
