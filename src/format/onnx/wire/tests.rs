//! Files that lie in their protobuf, built byte by byte, and models that are right, which the walk must let through.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::error::{Classify, Kind as Failure};
use crate::format::onnx::proto::{self, attribute_proto::AttributeType, type_proto};
use crate::format::onnx::tally::MAX_EXPANSION;

/// A number as a file has it.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that is a message, a text, bytes or a packed list.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2)[..], &varint(content.len() as u64), content].concat()
}

/// Content within fields, the outermost first.
fn within(numbers: &[u64], content: &[u8]) -> Vec<u8> {
    numbers.iter().rev().fold(content.to_vec(), |content, number| field(*number, &content))
}

fn refused(file: &[u8]) -> (Failure, &'static str, String) {
    let error = scan(file).unwrap_err();
    assert!(error.to_string().len() < 2000, "{error}");
    (error.kind(), error.reason(), error.to_string())
}

/// A model with something in every kind of place.
fn model() -> proto::ModelProto {
    let entry = || proto::StringStringEntryProto { key: "k".into(), value: "v".into() };
    let tensor = || proto::TensorProto {
        dims: vec![2, 1],
        data_type: 1,
        float_data: vec![1.0, -1.0],
        int32_data: vec![-1],
        int64_data: vec![i64::MIN, 300],
        double_data: vec![0.5],
        uint64_data: vec![u64::MAX],
        string_data: vec![vec![0xff].into()],
        raw_data: vec![1, 2, 3].into(),
        name: "w".into(),
        segment: Some(proto::tensor_proto::Segment { begin: 1, end: 2 }),
        external_data: vec![entry()],
        ..Default::default()
    };
    let shape = || proto::TensorShapeProto {
        dim: vec![proto::tensor_shape_proto::Dimension {
            denotation: "d".into(),
            value: Some(proto::tensor_shape_proto::dimension::Value::DimParam("batch".into())),
        }],
    };
    let plain = type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape: Some(shape()) });
    let of = |value| proto::TypeProto { denotation: String::new(), value: Some(value) };
    let list = type_proto::Value::SequenceType(Box::new(type_proto::Sequence { elem_type: Some(Box::new(of(plain))) }));
    let info = || proto::ValueInfoProto { name: "x".into(), r#type: Some(of(list.clone())), ..Default::default() };
    let sparse = || proto::SparseTensorProto { values: Some(tensor()), indices: None, dims: vec![4] };
    let attribute = || proto::AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Graph as i32,
        f: 0.5,
        i: -1,
        s: vec![0xfe].into(),
        t: Some(Box::new(tensor())),
        sparse_tensor: Some(Box::new(sparse())),
        tp: Some(Box::new(info().r#type.unwrap())),
        floats: vec![0.5; 3],
        ints: vec![1, -1],
        strings: vec![vec![0xff].into()],
        ..Default::default()
    };
    let node = |graph: Option<proto::GraphProto>| proto::NodeProto {
        input: vec!["x".into(), String::new()],
        output: vec!["ü".into()],
        op_type: "If".into(),
        attribute: vec![attribute(), proto::AttributeProto { g: graph.map(Box::new), ..attribute() }],
        metadata_props: vec![entry()],
        ..Default::default()
    };
    let graph = |inner: Option<proto::GraphProto>| proto::GraphProto {
        node: vec![node(inner)],
        name: "g".into(),
        initializer: vec![tensor(), tensor()],
        sparse_initializer: vec![sparse()],
        input: vec![info()],
        value_info: vec![info()],
        ..Default::default()
    };
    proto::ModelProto {
        ir_version: 10,
        opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: 18 }],
        producer_name: "test".into(),
        graph: Some(graph(Some(graph(None)))),
        metadata_props: vec![entry()],
        training_info: vec![proto::TrainingInfoProto { algorithm: Some(graph(None)), ..Default::default() }],
        functions: vec![proto::FunctionProto {
            node: vec![node(None)],
            attribute: vec!["a".into()],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn what_prost_writes_is_let_through_and_refused_cut_anywhere() {
    let file = model().encode_to_vec();
    scan(&file).unwrap();
    for length in 0..file.len() {
        // Between two fields of the model a file that is cut is a shorter one; prost says where that is.
        let decoded = proto::ModelProto::decode(&file[..length]);
        match scan(&file[..length]) {
            Ok(()) => assert!(decoded.is_ok(), "cut to {length}"),
            Err(error) => assert_eq!((error.reason(), decoded.is_err()), ("TRUNCATED", true), "cut to {length}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_let_through_is_decoded(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut file = model().encode_to_vec();
        for (place, byte) in changes {
            let place = place.index(file.len());
            file[place] = byte;
        }
        if scan(&file).is_ok() {
            prop_assert!(proto::ModelProto::decode(&file[..]).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_decoded(file in prop::collection::vec(any::<u8>(), 0..60)) {
        if scan(&file).is_ok() {
            prop_assert!(proto::ModelProto::decode(&file[..]).is_ok());
        }
    }
}

#[test]
fn the_largest_graph_has_room() {
    let ints = |name: &str, values: usize| proto::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![1; values],
        ..Default::default()
    };
    // Every fourth node is a convolution, the others have an attribute; every value has a shape.
    let attributes = [("dilations", 2), ("group", 1), ("kernel_shape", 2), ("pads", 4), ("strides", 2)];
    let node = |i: usize| proto::NodeProto {
        input: [i, 1000 + i, 2000 + i].map(|i| format!("value_{i}")).to_vec(),
        output: vec![format!("value_{}", i + 1)],
        name: format!("node_Conv_{i}"),
        op_type: "Conv".into(),
        attribute: attributes[..if i.is_multiple_of(4) { 5 } else { 1 }]
            .iter()
            .map(|(name, n)| ints(name, *n))
            .collect(),
        ..Default::default()
    };
    let dim = proto::tensor_shape_proto::Dimension {
        value: Some(proto::tensor_shape_proto::dimension::Value::DimValue(64)),
        ..Default::default()
    };
    let shape = proto::TensorShapeProto { dim: vec![dim; 4] };
    let tensor = type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape: Some(shape) });
    let info = |i: usize| proto::ValueInfoProto {
        name: format!("value_{i}"),
        r#type: Some(proto::TypeProto { value: Some(tensor.clone()), ..Default::default() }),
        ..Default::default()
    };
    let nodes = crate::graph::MAX_NODES;
    let graph = proto::GraphProto {
        node: (0..nodes).map(node).collect(),
        value_info: (0..nodes).map(info).collect(),
        ..Default::default()
    };
    let file = proto::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
    let mut walk = Walk::new(&file);
    while walk.step().unwrap() {}
    let (taken, bytes) = (walk.tally.taken(), file.len() as u64);
    assert!(taken > 10 * bytes && taken < MAX_EXPANSION + 2 * bytes, "{taken} of {bytes}");
}

#[test]
fn n17_two_megabytes_of_empty_things_are_refused_before_they_are_decoded() {
    const GRAPH: u64 = 7;
    let empty = |number: u64| [number as u8 * 8 + 2, 0].repeat(1 << 20);
    // Nodes, their inputs, attributes and metadata; tensors, values, annotations; what lies in attributes.
    let places: [(&[u64], u64); 12] = [
        (&[GRAPH], 1),
        (&[GRAPH, 1], 1),
        (&[GRAPH, 1], 5),
        (&[GRAPH, 1], 9),
        (&[GRAPH], 5),
        (&[GRAPH], 15),
        (&[GRAPH], 13),
        (&[GRAPH], 14),
        (&[GRAPH, 1, 5], 10),
        (&[GRAPH, 1, 5], 11),
        (&[GRAPH, 1, 5], 15),
        (&[], 14),
    ];
    for (path, number) in places {
        let file = within(path, &empty(number));
        let (kind, reason, message) = refused(&file);
        assert_eq!((kind, reason), (Failure::ResourceExhausted, "FIELD_COUNT"), "{path:?} {number}: {message}");
    }
    let attributes = refused(&within(&[7, 1], &empty(5))).2;
    assert!(attributes.starts_with("graph.node[0].attribute["), "{attributes}");
    // A list of axes, packed and not.
    for dims in [field(1, &[1; 2 << 20]), [8, 1].repeat(1 << 20)] {
        assert_eq!(refused(&within(&[GRAPH, 5], &dims)).1, "FIELD_COUNT");
    }
    // Numbers of a byte each become eight times as large, and a list has up to twice that.
    let numbers = within(&[GRAPH, 5, 7], &vec![1; (MAX_EXPANSION / 6) as usize]);
    assert_eq!(refused(&numbers).1, "FIELD_COUNT");
    // Of 32-bit floats each byte becomes one: they are no more than the file, and have another wire type than numbers.
    scan(&within(&[GRAPH, 5, 4], &vec![0; 4 << 20])).unwrap();
    assert_eq!(refused(&within(&[GRAPH, 5], &[4 << 3, 1])).1, "PROTOBUF");
}

#[test]
fn n18_what_lies_within_itself_without_end_is_refused() {
    let graphs = |depth: usize| within(&[7], &(1..depth).fold(Vec::new(), |inner, _| within(&[1, 5, 6], &inner)));
    // A list of lists, a map of maps, an optional of optionals: the types of a graph's input.
    let types = |depth: usize, kind: u64, element: u64| {
        within(&[7, 11, 2], &(1..depth).fold(Vec::new(), |inner, _| within(&[kind, element], &inner)))
    };
    for depth in [MAX_NESTED + 1, 21, 100, 1000, 4000] {
        for file in [graphs(depth), types(depth, 4, 1), types(depth, 5, 2), types(depth, 9, 1)] {
            assert_eq!((refused(&file).0, refused(&file).1), (Failure::InvalidArgument, "DEPTH"), "{depth}");
        }
    }
    // The deepest that is let through: graphs in the algorithm of a training, types in the deepest of them. prost takes it.
    let dim = within(&[1, 2, 1], &field(2, b"n"));
    let types = (1..MAX_NESTED).fold(dim, |inner, _| within(&[4, 1], &inner));
    let graphs = (1..MAX_NESTED).fold(within(&[1, 5, 14], &types), |inner, _| within(&[1, 5, 6], &inner));
    let file = within(&[20, 2], &graphs);
    scan(&file).unwrap();
    proto::ModelProto::decode(&file[..]).unwrap();
}

#[test]
fn n19_what_is_no_protobuf_is_refused_by_field_and_byte() {
    let long = [&[0xff; 9][..], &[2]].concat();
    let cases: [(&[u8], &str, &str); 20] = [
        (b"\x0b\x0c", "PROTOBUF", "wire type 3, which is a group"),
        (b"\x0b", "PROTOBUF", "a group"),
        (b"\x0c", "PROTOBUF", "wire type 4, which is a group"),
        (&[0xfb; 3000], "PROTOBUF", "64 bits"),
        (&[0xf3, 0x3e].repeat(1000), "PROTOBUF", "field 1006 has wire type 3"),
        (b"\x0e\x00", "PROTOBUF", "wire type 6, which is nothing"),
        (b"\x0f\x00", "PROTOBUF", "wire type 7"),
        (b"\x00\x00", "PROTOBUF", "0 is no number of a field"),
        (b"\xf8\xff\xff\xff\x1f\x00", "PROTOBUF", "1073741823 is no number of a field"),
        (&[&[0x08][..], &long].concat(), "PROTOBUF", "in ir_version: a number has more than 64 bits"),
        (&[&[0x08][..], &[0x80; 11]].concat(), "PROTOBUF", "a number has more than 64 bits"),
        (b"\x08\x80", "TRUNCATED", "ir_version"),
        (b"\x3a\x05\x0a", "TRUNCATED", "graph needs 5 bytes, 1 are there"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "TRUNCATED", "graph"),
        (b"\x3a\x02\x0a\x05\x08\x01\x08\x01\x08\x01", "PROTOBUF", "reach beyond the message that it is in"),
        (b"\x3a\x02\x0a\x80\x00\x00", "PROTOBUF", "reach beyond"),
        (b"\x38\x01", "PROTOBUF", "in graph: it is written as Varint, not as Length"),
        (b"\x3a\x06\x2a\x04\x22\x02\x00\x00", "PROTOBUF", "graph.initializer[0].float_data: 2 bytes are no list"),
        (b"\x3a\x03\x12\x01\xff", "PROTOBUF", "in graph.name: it is not UTF-8 at its byte 0"),
        (b"\x08\x01\x08\x02", "PROTOBUF", "in ir_version: it stands twice"),
    ];
    for (file, expected, words) in cases {
        let (kind, reason, message) = refused(file);
        assert_eq!((kind, reason), (Failure::InvalidArgument, expected), "{file:?}: {message}");
        assert!(message.contains(words), "{file:?}: {message}");
    }
}

#[test]
fn n24_a_name_of_a_mebibyte_is_refused_and_a_description_is_not() {
    let text = vec![b'n'; 1 << 20];
    // The name of an axis of an input; a description.
    let (_, reason, message) = refused(&within(&[7, 11, 2, 1, 2, 1, 2], &text));
    assert_eq!(reason, "TEXT_LENGTH");
    assert!(
        message.starts_with("graph.input[0].type.tensor_type.shape.dim[0].dim_param has 1048576 bytes"),
        "{message}"
    );
    scan(&within(&[7, 10], &text)).unwrap();
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    let later =
        [&field(1000, b"x")[..], &varint(1001 << 3), &varint(u64::MAX), &varint(1002 << 3 | 5), &[0; 4]].concat();
    let later = [&later[..], &varint(1003 << 3 | 1), &[0; 8]].concat();
    let file = [&later[..], &field(7, &later)].concat();
    scan(&file).unwrap();
    assert!(proto::ModelProto::decode(&file[..]).is_ok());
}

#[test]
fn files_of_two_gibibytes_are_refused_by_their_size() {
    check_size(MAX_FILE).unwrap();
    let error = check_size(1 << 31).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Failure::ResourceExhausted, "FILE_TOO_LARGE"));
}
