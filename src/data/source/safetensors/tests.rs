//! Samples in tensors, right and wrong.

use std::collections::BTreeMap;

use crate::data::{self, BySplit, DataError, DataSource, Dataset, Files, Inputs};
use crate::error::Classify;
use crate::format::safetensors;
use crate::tensor::{DType, TensorData};

fn tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> TensorData {
    TensorData::new(dtype, shape.to_vec(), bytes.to_vec()).unwrap()
}

/// Two inputs of two bytes.
fn inputs() -> TensorData {
    tensor(DType::U8, &[2, 2], &[0, 1, 2, 3])
}

/// Two labels.
fn labels() -> TensorData {
    tensor(DType::U8, &[2], &[0, 4])
}

fn file(tensors: &[(&str, TensorData)]) -> Vec<u8> {
    let tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
    safetensors::write(&tensors, &BTreeMap::new()).unwrap()
}

fn open(contents: &[(&str, Vec<u8>)], source: Option<&DataSource>) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in contents {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    data::open(&Files::from_path(folder.path()).unwrap(), source)
}

fn open_one(inputs: TensorData, labels: TensorData) -> Result<Dataset, DataError> {
    open(&[("digits.safetensors", file(&[("inputs", inputs), ("labels", labels)]))], None)
}

/// The message for these tensors, and the reason.
fn refused(inputs: TensorData, labels: TensorData) -> (String, &'static str) {
    let error = open_one(inputs, labels).unwrap_err();
    (error.to_string(), error.reason())
}

#[test]
fn one_file_has_training_samples_alone() {
    let dataset = open_one(inputs(), labels()).unwrap();
    assert_eq!((dataset.source, dataset.classes, dataset.test), ("safetensors", 5, None));
    assert_eq!(dataset.train.sample_shape, [2]);
    assert_eq!(dataset.train.inputs, Inputs::U8(vec![0, 1, 2, 3].into()));
    assert_eq!(dataset.train.labels, [0, 4]);
}

#[test]
fn two_files_are_told_apart_by_name() {
    let two = file(&[("inputs", inputs()), ("labels", labels())]);
    let one = file(&[("inputs", tensor(DType::U8, &[1, 2], &[0; 2])), ("labels", tensor(DType::U8, &[1], &[9]))]);
    let dataset = open(&[("digits-test.safetensors", one), ("digits-train.safetensors", two.clone())], None).unwrap();
    assert_eq!((dataset.train.labels.as_slice(), dataset.classes), (&[0, 4][..], 10));
    assert_eq!(dataset.test.unwrap().labels, [9]);
    let error = open(&[("a.safetensors", two.clone()), ("b.safetensors", two)], None).unwrap_err();
    assert!(error.to_string().contains("'a.safetensors' and 'b.safetensors' may both be meant"), "{error}");
}

#[test]
fn a_source_names_files_and_tensors() {
    let contents = [("data", file(&[("x", inputs()), ("y", labels()), ("z", labels())]))];
    let source = |inputs: &str| DataSource::Safetensors {
        files: BySplit::train("data".into()),
        inputs: inputs.into(),
        labels: "z".into(),
    };
    assert_eq!(open(&contents, Some(&source("x"))).unwrap().train.labels, [0, 4]);
    let error = open(&contents, Some(&source("inputs"))).unwrap_err();
    assert_eq!(error.to_string(), "file 'data': it has no tensor 'inputs'; it has x, y, z");
}

#[test]
fn inputs_of_any_floating_point_type_become_f32() {
    let values = TensorData::from_f32(vec![2, 2], &[0.5, -1.0, 2.0, 0.0]).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let dataset = open_one(values.to_float(dtype).unwrap(), labels()).unwrap();
        assert_eq!(dataset.train.inputs, Inputs::F32(vec![0.5, -1.0, 2.0, 0.0]), "{dtype}");
    }
    let (message, reason) = refused(tensor(DType::I8, &[2, 2], &[0; 4]), labels());
    assert_eq!(reason, "DATASET_FORMAT");
    assert!(message.ends_with("tensor 'inputs' has dtype I8; inputs are U8, F32, F16, BF16 or F64"), "{message}");
}

#[test]
fn labels_of_any_integer_type_are_read() {
    for dtype in [DType::I8, DType::U16, DType::I16, DType::U32, DType::I32, DType::U64, DType::I64] {
        let mut bytes = vec![0; 2 * dtype.size()];
        bytes[dtype.size()] = 4;
        let dataset = open_one(inputs(), tensor(dtype, &[2], &bytes)).unwrap();
        assert_eq!(dataset.train.labels, [0, 4], "{dtype}");
    }
    for dtype in [DType::F32, DType::Bool] {
        let (message, _) = refused(inputs(), tensor(dtype, &[2], &vec![0; 2 * dtype.size()]));
        assert!(message.contains(&format!("'labels' has dtype {dtype}; labels are integers")), "{message}");
    }
}

#[test]
fn a_label_that_is_no_class_is_told_with_its_sample() {
    let below = [0i64.to_le_bytes(), (-1i64).to_le_bytes()].concat();
    let (message, reason) = refused(inputs(), tensor(DType::I64, &[2], &below));
    assert_eq!(reason, "LABELS");
    assert!(message.contains("label -1 of sample 1 is not between 0 and 1048575"), "{message}");
    let above = [0u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
    let (message, _) = refused(inputs(), tensor(DType::U64, &[2], &above));
    assert!(message.contains("label 18446744073709551615 of sample 1"), "{message}");
}

#[test]
fn there_is_one_label_a_sample_on_one_axis() {
    assert_eq!(refused(inputs(), tensor(DType::U8, &[3], &[0; 3])).1, "LABELS");
    assert_eq!(refused(inputs(), tensor(DType::U8, &[2, 1], &[0; 2])).1, "DATASET_FORMAT");
    assert_eq!(refused(tensor(DType::U8, &[2], &[0; 2]), labels()).1, "DATASET_FORMAT");
    assert_eq!(refused(tensor(DType::U8, &[], &[0]), labels()).1, "DATASET_FORMAT");
}

#[test]
fn samples_have_values() {
    assert_eq!(refused(tensor(DType::U8, &[0, 2], &[]), tensor(DType::U8, &[0], &[])).1, "DATASET_EMPTY");
    assert_eq!(refused(tensor(DType::F32, &[2, 0], &[]), labels()).1, "DATASET_EMPTY");
}

#[test]
fn a_value_that_is_no_number_is_told_with_its_sample() {
    for value in [f32::NAN, f32::INFINITY] {
        let values = TensorData::from_f32(vec![2, 2], &[0.0, 0.0, value, 0.0]).unwrap();
        let (message, reason) = refused(values, labels());
        assert_eq!(reason, "NON_FINITE");
        assert!(message.contains("sample 1 holds a value"), "{message}");
    }
    let too_large = [[0.0, 0.0].map(f64::to_le_bytes), [1e300, 0.0].map(f64::to_le_bytes)].concat().concat();
    assert_eq!(refused(tensor(DType::F64, &[2, 2], &too_large), labels()).1, "NON_FINITE");
}

#[test]
fn a_file_that_is_no_container_is_told_by_name_with_the_reason() {
    let mut bytes = file(&[("inputs", inputs()), ("labels", labels())]);
    bytes.pop();
    let error = open(&[("digits.safetensors", bytes)], None).unwrap_err();
    assert_eq!(error.reason(), "TRUNCATED");
    assert!(error.to_string().starts_with("file 'digits.safetensors': the file is cut short"), "{error}");
}
