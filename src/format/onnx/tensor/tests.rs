//! Tensors that are what they were, and tensors that are none.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::{Classify, Kind};
use crate::format::onnx::proto::tensor_proto::{DataType, Segment};

fn refused(tensor: &TensorProto) -> OnnxError {
    let error = read("w", tensor, &mut External::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert!(error.to_string().starts_with("tensor 'w'"), "{error}");
    error
}

fn reason(tensor: &TensorProto) -> &'static str {
    refused(tensor).reason()
}

/// A tensor with these axes and bytes.
fn raw(dtype: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    let raw_data = Bytes::copy_from_slice(bytes);
    TensorProto { data_type: dtype as i32, dims: dims.to_vec(), raw_data, ..TensorProto::default() }
}

/// The tensor with its values as numbers.
fn typed(tensor: &TensorData) -> TensorProto {
    fn chunks<const N: usize, T>(tensor: &TensorData, value: impl Fn([u8; N]) -> T) -> Vec<T> {
        tensor.bytes().as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
    }
    let mut proto = TensorProto { raw_data: Bytes::new(), ..write("w", tensor) };
    match tensor.dtype() {
        DType::F32 => proto.float_data = chunks(tensor, f32::from_le_bytes),
        DType::F64 => proto.double_data = chunks(tensor, f64::from_le_bytes),
        DType::I64 => proto.int64_data = chunks(tensor, i64::from_le_bytes),
        DType::U64 => proto.uint64_data = chunks(tensor, u64::from_le_bytes),
        DType::U32 => proto.uint64_data = chunks(tensor, |bytes| u32::from_le_bytes(bytes).into()),
        DType::I32 => proto.int32_data = chunks(tensor, i32::from_le_bytes),
        DType::I16 => proto.int32_data = chunks(tensor, |bytes| i16::from_le_bytes(bytes).into()),
        DType::I8 => proto.int32_data = chunks(tensor, |bytes| i8::from_le_bytes(bytes).into()),
        DType::U16 | DType::F16 | DType::BF16 => {
            proto.int32_data = chunks(tensor, |bytes| u16::from_le_bytes(bytes).into());
        }
        DType::U8 | DType::Bool => proto.int32_data = chunks(tensor, |bytes| u8::from_le_bytes(bytes).into()),
    }
    proto
}

fn tensors() -> impl Strategy<Value = TensorData> {
    let shape = prop::collection::vec(0usize..5, 0..4);
    (0..DType::ALL.len(), shape, prop::collection::vec(any::<u8>(), 8 * 64)).prop_map(|(dtype, shape, mut bytes)| {
        let dtype = DType::ALL[dtype];
        bytes.truncate(shape.iter().product::<usize>() * dtype.size());
        if dtype == DType::Bool {
            bytes.iter_mut().for_each(|byte| *byte &= 1);
        }
        TensorData::new(dtype, shape, bytes).unwrap()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_shared(tensor in tensors()) {
        let read = read("w", &write("w", &tensor), &mut External::default()).unwrap();
        prop_assert_eq!(&read, &tensor);
        prop_assert!(tensor.bytes().is_empty() || read.bytes().as_ptr() == tensor.bytes().as_ptr());
    }

    #[test]
    fn values_that_are_written_as_numbers_are_the_same(tensor in tensors()) {
        prop_assert_eq!(read("w", &typed(&tensor), &mut External::default()).unwrap(), tensor);
    }

    #[test]
    fn values_in_another_file_are_the_same(tensor in tensors(), before in 0usize..9) {
        let file = [&vec![9; before][..], tensor.bytes(), &[9]].concat();
        let mut files = External::new([("w.bin".to_string(), file.into())].into());
        let proto = write_external("w", &tensor, "w.bin", before as u64);
        prop_assert_eq!(read("w", &proto, &mut files).unwrap(), tensor);
    }
}

#[test]
fn number_formats_that_are_not_known_are_named() {
    let others = [
        (DataType::Undefined, "UNDEFINED"),
        (DataType::String, "STRING"),
        (DataType::Complex64, "COMPLEX64"),
        (DataType::Float8e4m3fn, "FLOAT8E4M3FN"),
        (DataType::Uint4, "UINT4"),
        (DataType::Int4, "INT4"),
        (DataType::Float4e2m1, "FLOAT4E2M1"),
    ];
    for (dtype, name) in others {
        let error = refused(&raw(dtype, &[3], &[0; 2]));
        assert_eq!(error.reason(), "DTYPE_UNSUPPORTED");
        assert!(error.to_string().starts_with(&format!("tensor 'w' has type {name}; supported are BOOL")), "{error}");
    }
    assert_eq!(reason(&TensorProto { data_type: 99, ..TensorProto::default() }), "DTYPE_UNSUPPORTED");
}

#[test]
fn n23_bytes_that_are_not_those_of_the_shape_are_refused() {
    for (dims, bytes) in [(&[2][..], 7), (&[2], 9), (&[2], 0), (&[], 0), (&[], 8), (&[0, 2], 4), (&[2, 2], 15)] {
        assert_eq!(reason(&raw(DataType::Float, dims, &vec![0; bytes])), "TENSOR_DATA", "{dims:?} {bytes}");
    }
    let floats = |values: usize| TensorProto { float_data: vec![0.0; values], ..raw(DataType::Float, &[2], &[]) };
    for values in [1, 3] {
        assert_eq!(reason(&floats(values)), "TENSOR_DATA");
    }
    read("w", &floats(2), &mut External::default()).unwrap();
}

#[test]
fn n23_values_in_two_places_are_refused() {
    let floats = TensorProto { float_data: vec![0.0], ..raw(DataType::Float, &[1], &[0; 4]) };
    let strings = TensorProto { string_data: vec![Bytes::new()], ..raw(DataType::Float, &[1], &[0; 4]) };
    let wrong = TensorProto { int32_data: vec![0], ..raw(DataType::Float, &[1], &[]) };
    let two = TensorProto { float_data: vec![0.0], int64_data: vec![0], ..raw(DataType::Float, &[1], &[]) };
    let beside = TensorProto { data_location: 1, ..raw(DataType::Float, &[1], &[0; 4]) };
    let typed = TensorProto { data_location: 1, float_data: vec![0.0], ..raw(DataType::Float, &[1], &[]) };
    let entry = StringStringEntryProto { key: "location".into(), value: "w".into() };
    let named = TensorProto { external_data: vec![entry], ..raw(DataType::Float, &[1], &[0; 4]) };
    let nowhere = TensorProto { data_location: 2, ..raw(DataType::Float, &[1], &[0; 4]) };
    let segment = TensorProto { segment: Some(Segment { begin: 0, end: 1 }), ..raw(DataType::Float, &[1], &[0; 4]) };
    for tensor in [floats, strings, wrong, two, beside, typed, named, nowhere, segment] {
        assert_eq!(reason(&tensor), "TENSOR_DATA", "{tensor:?}");
    }
}

#[test]
fn n23_values_that_are_none_of_their_format_are_refused() {
    let wide = [
        (DataType::Uint8, 256),
        (DataType::Uint8, -1),
        (DataType::Int8, 128),
        (DataType::Int16, -32769),
        (DataType::Uint16, 65536),
        (DataType::Float16, -1),
        (DataType::Bfloat16, 65536),
        (DataType::Bool, 256),
    ];
    for (dtype, value) in wide {
        let error = refused(&TensorProto { int32_data: vec![0, value], ..raw(dtype, &[2], &[]) });
        assert_eq!(error.reason(), "TENSOR_DATA");
        assert!(error.to_string().contains(&format!("element 1 is {value}")), "{error}");
    }
    let wide = TensorProto { uint64_data: vec![1 << 32], ..raw(DataType::Uint32, &[1], &[]) };
    assert_eq!(reason(&wide), "TENSOR_DATA");
    for truth in
        [raw(DataType::Bool, &[2], &[1, 2]), TensorProto { int32_data: vec![0, 2], ..raw(DataType::Bool, &[2], &[]) }]
    {
        assert_eq!(refused(&truth), OnnxError::Bool { tensor: "w".into(), index: 1, value: 2 });
    }
}

#[test]
fn n24_shapes_of_no_tensor_are_refused() {
    let large = MAX_DIM;
    for dims in [
        &[-1][..],
        &[0, -1],
        &[i64::MIN],
        &[large + 1],
        &[0, i64::MAX, 2],
        &[large, large, 8],
        &[0, large, large, 2],
        &[1; 17],
    ] {
        assert_eq!(reason(&raw(DataType::Float, dims, &[])), "SHAPE", "{dims:?}");
    }
    read("w", &raw(DataType::Uint8, &[1; MAX_RANK], &[0]), &mut External::default()).unwrap();
    read("w", &raw(DataType::Uint8, &[0, large], &[]), &mut External::default()).unwrap();
}

#[test]
fn names_in_errors_are_short_and_plain() {
    let name = format!("\u{1b}[31m${{jndi:x}}\u{202e}{}", "n".repeat(10_000));
    let error = read(&name, &raw(DataType::String, &[], &[]), &mut External::default()).unwrap_err().to_string();
    assert!(error.len() < 500 && error.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{error}");
}
