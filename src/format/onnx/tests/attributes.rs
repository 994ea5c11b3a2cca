//! Numbers 25 and 26: nodes that lack inputs, have outputs too many, or attributes that are none.

use super::*;

/// Operators that need inputs, and the reason where there are none.
const NEEDY: [&str; 52] = [
    "Gemm",
    "MatMul",
    "Einsum",
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalMaxPool",
    "BatchNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "Relu",
    "Gelu",
    "PRelu",
    "Clip",
    "Abs",
    "Add",
    "Mod",
    "Equal",
    "Sum",
    "Mean",
    "Where",
    "Cast",
    "CastLike",
    "Dropout",
    "Identity",
    "ReduceSum",
    "ArgMax",
    "CumSum",
    "Softmax",
    "ConstantOfShape",
    "Shape",
    "Size",
    "Range",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Expand",
    "Tile",
    "DepthToSpace",
    "Trilu",
    "Concat",
    "Split",
    "Slice",
    "Pad",
    "Gather",
    "LSTM",
    "DequantizeLinear",
];

#[test]
fn n25_operators_without_inputs_are_refused_by_node_and_place() {
    for op in NEEDY {
        for inputs in [&[][..], &[""], &["", "", ""]] {
            let number = AttributeProto { name: "num_groups".into(), i: 1, ..Default::default() };
            let attributes = if op == "GroupNormalization" { vec![number] } else { Vec::new() };
            let (reason, told) = refused_node(&[-1, 4], vec![], node(op, inputs, &["y"], attributes));
            assert_eq!(reason, if op == "DepthToSpace" { reason } else { "ARITY" }, "{op}: {told}");
            assert!(told.starts_with(&format!("node 'y' ({op}) lacks its input 0")), "{told}");
        }
    }
    let (reason, told) = refused_node(&[-1, 4], vec![], node("Add", &["x", ""], &["y"], vec![]));
    assert_eq!((reason, told.as_str()), ("ARITY", "node 'y' (Add) lacks its input 1"));
    let of_parts = refused_node(&[-1, 4], vec![], node("SequenceAt", &["x", "x"], &["y"], vec![]));
    assert_eq!(of_parts.0, "NODE");
}

#[test]
fn n25_outputs_that_nobody_writes_are_refused() {
    for op in ["Relu", "Add", "Conv", "MaxPool", "Identity", "Softmax", "GRU"] {
        let mut graph = graph(&[-1, 4, 8], vec![filled("w", &[4, 4, 1], 0.5), filled("r", &[1, 3, 1], 0.5)], vec![]);
        graph.node = vec![
            node(op, &["x", "w", "r"], &["z", "", "", "more"], vec![ints("kernel_shape", &[1])]),
            node("Relu", &["more"], &["y"], vec![]),
        ];
        let (reason, told) = refused_graph(graph);
        assert!(["ARITY", "NODE", "GRAPH"].contains(&reason), "{op}: {told}");
    }
}

#[test]
fn n26_attributes_that_are_none_are_refused_by_name() {
    let softmax = |attributes| refused_node(&[-1, 4], vec![], node("Softmax", &["x"], &["y"], attributes));
    let twice = softmax(vec![int("axis", 1), int("axis", 1)]);
    assert_eq!(twice, ("NODE", "node 'y' (Softmax): it has two attributes 'axis'".to_string()));
    let other = softmax(vec![text("axis", "1")]);
    assert_eq!(other.1, "node 'y' (Softmax): attribute 'axis' has another type than INT");
    let reference = softmax(vec![AttributeProto { ref_attr_name: "outer".into(), ..int("axis", 1) }]);
    assert!(reference.1.contains("attribute 'axis' refers to one of a function"), "{}", reference.1);
    for axis in [2, -3, i64::MIN, i64::MAX] {
        let told = softmax(vec![int("axis", axis)]).1;
        assert_eq!(told, format!("node 'y' (Softmax): axis {axis} is none of 2"));
    }
    let absent = [("MaxPool", "kernel_shape"), ("DepthToSpace", "blocksize"), ("GroupNormalization", "num_groups")];
    for (op, name) in absent {
        let (reason, told) = refused_node(&[-1, 4, 4, 4], vec![], node(op, &["x"], &["y"], vec![]));
        assert_eq!(reason, "NODE");
        assert!(told.contains(&format!("{name} is missing")), "{told}");
    }
    let (_, told) = refused_node(&[-1, 4], vec![], node("Cast", &["x"], &["y"], vec![]));
    assert!(told.contains("to UNDEFINED is not read"), "{told}");
    // A text without end is told in part, and without signs that do something.
    let words = format!("\u{1b}[2J{}", "x".repeat(100_000));
    let equation = refused_node(&[-1, 4], vec![], node("Einsum", &["x"], &["y"], vec![text("equation", &words)]));
    assert_eq!(equation.1, "node 'y' (Einsum): the equation has 100004 letters");
    let direction = vec![text("mode", &words)];
    let (_, told) =
        refused_node(&[-1, 4], vec![numbers("p", &[4], &[0; 4])], node("Pad", &["x", "p"], &["y"], direction));
    assert!(told.contains("mode '\\u{1b}[2Jxx") && told.len() < 1100, "{told}");
}

#[test]
fn n26_a_constant_names_no_file() {
    let mut outside = numbers("c", &[4], &[0; 4]);
    outside.raw_data = Default::default();
    outside.data_location = 1;
    let entry =
        |key: &str, value: &str| super::super::proto::StringStringEntryProto { key: key.into(), value: value.into() };
    outside.external_data = vec![entry("location", "w")];
    let mut constant = node("Constant", &[], &["y"], vec![attribute("value", AttributeType::Tensor)]);
    constant.attribute[0].t = Some(Box::new(outside));
    let model = model(graph(&[-1, 4], vec![], vec![constant]));
    let mut files = External::new([("w".to_string(), vec![0; 32].into())].into());
    let error = import(model.encode_to_vec().into(), &mut files, &Given::default()).unwrap_err();
    assert_eq!(error.reason(), "EXTERNAL_DATA_MISSING", "{error}");
    assert_eq!(files.unread().collect::<Vec<_>>(), ["w"]);
}
