//! Numbers 27, 31 and 32: graphs that do not hold together, what is not read, and words that are made to do something.

use super::*;
use crate::format::onnx::proto::{FunctionProto, SparseTensorProto, StringStringEntryProto, TrainingInfoProto};

fn relu(from: &str, to: &str) -> NodeProto {
    node("Relu", &[from], &[to], vec![])
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}

#[test]
fn n27_cycles_and_names_that_nobody_or_two_write_are_refused() {
    let cases: [(Vec<NodeProto>, &str); 6] = [
        (vec![relu("y", "y")], "'y' reads its own output 'y'"),
        (vec![relu("b", "a"), relu("a", "b"), relu("b", "y")], "node 'a' reads 'b', which node 'b' writes after it"),
        (vec![relu("nothing", "y")], "node 'y' reads 'nothing', which nothing writes"),
        (vec![relu("x", "z")], "its output 'y' is written by nothing"),
        (vec![], "its output 'y' is written by nothing"),
        (vec![relu("x", "y"), relu("x", "y")], "there are two values named 'y'"),
    ];
    for (nodes, words) in cases {
        let (reason, told) = refused_graph(graph(&[-1, 4], vec![], nodes));
        assert!(told.contains(words), "{told}");
        assert!(["GRAPH", "DUPLICATE_NAME"].contains(&reason), "{reason}");
    }
}

#[test]
fn n27_inputs_tensors_and_outputs_of_one_name() {
    let of = |change: fn(&mut GraphProto)| {
        let mut graph = graph(&[-1, 4], vec![filled("w", &[4], 2.0)], vec![node("Mul", &["x", "w"], &["y"], vec![])]);
        change(&mut graph);
        read(&model(graph))
    };
    let reason = |change| of(change).unwrap_err().reason();
    assert_eq!(reason(|g| g.input.push(value("x", DType::F32, &[-1, 4]))), "DUPLICATE_NAME");
    assert_eq!(reason(|g| g.output.push(g.output[0].clone())), "DUPLICATE_NAME");
    assert_eq!(reason(|g| g.initializer.push(filled("w", &[4], 2.0))), "DUPLICATE_NAME");
    assert_eq!(reason(|g| g.node[0].output[0] = "x".into()), "DUPLICATE_NAME");
    assert_eq!(reason(|g| g.node[0].output[0] = "w".into()), "DUPLICATE_NAME");
    assert_eq!(reason(|g| g.output.clear()), "GRAPH");
    assert_eq!(reason(|g| g.input.clear()), "GRAPH");
    assert_eq!(reason(|g| g.initializer[0].name.clear()), "GRAPH");
    // A tensor may stand among the inputs, as older files have it; an output may be an input or a tensor.
    of(|g| g.input.push(value("w", DType::F32, &[4]))).unwrap();
    of(|g| g.output.push(ValueInfoProto { name: "x".into(), ..Default::default() })).unwrap();
    of(|g| g.output.push(ValueInfoProto { name: "w".into(), ..Default::default() })).unwrap();
    // Names of nodes are for people; many outputs may come from one value.
    let same = of(|g| {
        g.node = (0..50).map(|i| NodeProto { name: "n".into(), ..relu("x", &format!("y{i}")) }).collect();
        g.output = (0..50).map(|i| ValueInfoProto { name: format!("y{i}"), ..Default::default() }).collect();
    });
    assert_eq!(same.unwrap().nodes().len(), 50);
}

#[test]
fn n27_inputs_of_any_rank_and_size() {
    for x in [&[][..], &[0], &[-1], &[0, 0], &[-1, 0, 4], &[1 << 31], &[-1, 1 << 20], &[7; 6], &[-1, -1]] {
        let _ = read(&model(graph(x, vec![], vec![relu("x", "y")])));
    }
    let (reason, told) = refused_graph(graph(&[-1, 1 << 20, 1 << 20], vec![], vec![relu("x", "y")]));
    assert_eq!(reason, "GRAPH_SIZE");
    assert!(told.contains("'x'"), "{told}");
    for size in [-2, (1 << 31) + 1, i64::MIN, i64::MAX] {
        let (reason, told) = refused_graph(graph(&[1, size], vec![], vec![relu("x", "y")]));
        assert_eq!((reason, told), ("GRAPH", format!("the graph: value 'x' has an axis of {size} places")));
    }
    let (_, told) = refused_graph(graph(&[1; 17], vec![], vec![relu("x", "y")]));
    assert_eq!(told, "the graph: value 'x' has 17 axes, at most 16 are allowed");
}

#[test]
fn n31_versions_that_are_not_read() {
    for version in [0, 5, 29, 9999, -1, i64::MIN, i64::MAX] {
        let mut model = model(graph(&[-1, 4], vec![], vec![relu("x", "y")]));
        model.opset_import[0].version = version;
        let (kind, reason, told) = refused(&model);
        assert_eq!((kind, reason), (Kind::InvalidArgument, "OPSET"), "{told}");
        assert!(told.contains("6 to 28 are read"), "{told}");
    }
    let mut none = model(graph(&[-1, 4], vec![], vec![relu("x", "y")]));
    none.opset_import.clear();
    assert_eq!(refused(&none).1, "OPSET");
}

#[test]
fn n31_operators_that_are_not_read_are_told_all_at_once() {
    let inner = || graph(&[4], vec![], vec![relu("x", "y")]);
    let mut nodes: Vec<NodeProto> =
        ["If", "Loop", "Scan", "NonMaxSuppression"].map(|op| node(op, &["x"], &[op], vec![])).into();
    for node in &mut nodes[..3] {
        let body = AttributeProto { g: Some(Box::new(inner())), ..attribute("body", AttributeType::Graph) };
        node.attribute = vec![body];
    }
    for (domain, op) in [("ai.onnx.ml", "TreeEnsemble"), ("org.evil\u{1b}[2J", "PythonOp"), ("", "TfLite_Detection")] {
        nodes.push(NodeProto { domain: domain.into(), ..node(op, &["x"], &[op], vec![]) });
    }
    nodes.push(node("Concat", &["If", "Loop", "Scan", "PythonOp"], &["y"], vec![int("axis", 0)]));
    let (reason, told) = refused_graph(graph(&[-1, 4], vec![], nodes));
    assert_eq!(reason, "UNSUPPORTED_OPERATORS");
    for word in ["If (node 'If')", "Loop", "Scan", "ai.onnx.ml.TreeEnsemble", "org.evil\\u{1b}[2J.PythonOp", "TfLite"] {
        assert!(told.contains(word), "{told}");
    }
    // An operator whose results are declared stays; one that is declared to be endless does not.
    let declared = |size: i64| {
        let mut graph = graph(&[-1, 4], vec![], vec![node("NonMaxSuppression", &["x"], &["y"], vec![])]);
        graph.output[0] = value("y", DType::F32, &[size, 1 << 31, 1 << 31]);
        read(&model(graph)).unwrap_err().reason()
    };
    assert_eq!(declared(1), "GRAPH_SIZE");
    assert_eq!(declared(0), "GRAPH_SIZE");
}

#[test]
fn n31_functions_and_trainings_are_not_run() {
    // Functions that call each other, and a training, change nothing: no node of the graph is one of them.
    let call = |name: &str, of: &str| FunctionProto {
        name: name.into(),
        domain: "own".into(),
        node: vec![NodeProto { domain: "own".into(), ..node(of, &["x"], &["y"], vec![]) }],
        ..Default::default()
    };
    let mut model = model(graph(&[-1, 4], vec![], vec![relu("x", "y")]));
    model.functions = vec![call("a", "b"), call("b", "a")];
    model.training_info =
        vec![TrainingInfoProto { algorithm: Some(graph(&[4], vec![], vec![relu("y", "y")])), ..Default::default() }];
    read(&model).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0] = NodeProto { domain: "own".into(), ..node("a", &["x"], &["y"], vec![]) };
    let (_, reason, told) = refused(&model);
    assert_eq!(reason, "UNSUPPORTED_OPERATORS");
    assert!(told.contains("own.a (node 'y')"), "{told}");
    let mut sparse = super::model(super::graph(&[-1, 4], vec![], vec![relu("x", "y")]));
    sparse.graph.as_mut().unwrap().sparse_initializer = vec![SparseTensorProto::default()];
    assert_eq!(refused(&sparse).1, "GRAPH");
}

#[test]
fn n32_words_do_nothing() {
    let words = "<script>alert(1)</script>\u{1b}[2J${jndi:ldap://x}\r\n\u{202e}\0";
    let mut model = model(graph(&[-1, 4], vec![filled(words, &[4], 2.0)], vec![]));
    model.doc_string = words.repeat(20_000);
    model.producer_name = words.into();
    model.metadata_props = vec![entry(words, &words.repeat(20_000))];
    let graph = model.graph.as_mut().unwrap();
    (graph.name, graph.doc_string) = (words.into(), words.into());
    graph.input[0].name = format!("{words}x");
    graph.node = vec![NodeProto {
        name: words.into(),
        doc_string: words.into(),
        ..node("Mul", &[&format!("{words}x"), words], &["y"], vec![])
    }];
    let read_one = read(&model).unwrap();
    let all = format!("{read_one} {:?}", read_one.nodes());
    assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}') && !all.contains('\0'), "{all}");
    // An operator that is not known stays under its name, where its result is declared.
    let graph = model.graph.as_mut().unwrap();
    (graph.node[0].op_type, graph.node[0].domain) = (words.into(), words.into());
    graph.output[0] = value("y", DType::F32, &[3, 4]);
    let custom = read(&model).unwrap();
    let drawings = [crate::graph::drawing::svg(&custom), crate::graph::drawing::dot(&custom), format!("{custom}")];
    for drawing in drawings {
        assert!(!drawing.contains(['\u{1b}', '\0', '\u{202e}']), "{drawing}");
    }
    assert!(!crate::graph::drawing::svg(&custom).contains("<script>"));
    let graph = model.graph.as_mut().unwrap();
    (graph.output[0].r#type, graph.node[0].domain) = (None, String::new());
    let (_, reason, told) = refused(&model);
    assert_eq!(reason, "UNSUPPORTED_OPERATORS");
    assert!(told.contains("\\u{1b}[2J${jndi"), "{told}");
    let graph = model.graph.as_mut().unwrap();
    graph.node = (0..300).map(|i| node(&words.repeat(20), &[], &[&format!("y{i}{words}")], vec![])).collect();
    graph.output[0].name = format!("y0{words}");
    let (_, _, told) = refused(&model);
    assert!(told.ends_with(" more") && told.len() < 1500, "{}: {told}", told.len());
}
