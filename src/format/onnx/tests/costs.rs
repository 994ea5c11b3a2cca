//! Number 28, and what a small file could ask a reader to do: chains without end, and work without end.

use super::*;

fn names(what: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{what}{i}")).collect()
}

/// Nodes of this operator, each reading what the one before wrote and `more`; the last writes `y`.
fn chain(n: usize, op: &str, more: &[&str]) -> Vec<NodeProto> {
    let name = |i: usize| match i {
        0 => "x".to_string(),
        i if i == n => "y".to_string(),
        i => format!("v{i}"),
    };
    (0..n).map(|i| node(op, &[&[name(i).as_str()], more].concat(), &[&name(i + 1)], vec![])).collect()
}

#[test]
fn n28_a_chain_is_walked_and_not_recursed_into() {
    let (kind, reason, told) = refused(&model(graph(&[-1, 4], vec![], chain(20_001, "Relu", &[]))));
    assert_eq!((kind, reason), (Kind::ResourceExhausted, "GRAPH_SIZE"));
    assert!(told.contains("20001"), "{told}");
    assert_eq!(read(&model(graph(&[-1, 4], vec![], chain(20_000, "Relu", &[])))).unwrap().nodes().len(), 20_000);
    let (kind, reason, told) = refused(&model(graph(&[-1, 4], vec![], chain(60_001, "Relu", &[]))));
    assert_eq!((kind, reason), (Kind::ResourceExhausted, "FIELD_COUNT"));
    assert!(told.starts_with("node 'y': the file has more than 60000 operators that run"), "{told}");
    // What is known goes away, whatever it is.
    let known = chain(30_000, "Identity", &[]);
    read(&model(graph(&[-1, 4], vec![], [known, vec![node("Relu", &["y"], &["z"], vec![])]].concat()))).unwrap();
}

#[test]
fn n28_products_of_20000_numbers_are_looked_at_once_each() {
    let mut all = graph(&[-1, 4], vec![filled("c", &[], 0.5), filled("w", &[1 << 16, 4], 0.5)], vec![]);
    all.node = chain(19_999, "Mul", &["c"]);
    read(&model(all.clone())).unwrap();
    // A large tensor that everybody reads is not looked through by everybody.
    all.input[0] = value("x", DType::F32, &[1 << 16, 4]);
    all.node = chain(19_999, "Mul", &["w"]);
    read(&model(all)).unwrap();
}

#[test]
fn n28_tensors_and_names_in_great_numbers() {
    let unused = names("w", 50_000).iter().map(|name| filled(name, &[1], 0.5)).collect();
    read(&model(graph(&[-1, 4], unused, chain(1, "Relu", &[])))).unwrap();
    let wide = vec![NodeProto { input: vec!["x".into(); 50_000], ..node("Concat", &[], &["y"], vec![int("axis", 1)]) }];
    read(&model(graph(&[-1, 4], vec![], wide))).unwrap();
    let parts = names("p", 50_000);
    let mut split = node("Split", &["x"], &[], vec![int("axis", 1)]);
    split.output = parts.clone();
    let ends = node("Relu", &["p49999"], &["y"], vec![]);
    read(&model(graph(&[-1, 50_000], vec![], vec![split, ends]))).unwrap();
    let sum = NodeProto { input: vec!["x".into(); 10_000], ..node("Sum", &[], &["y"], vec![]) };
    assert_eq!(read(&model(graph(&[-1, 4], vec![], vec![sum]))).unwrap().nodes().len(), 9_999);
}

/// A constant of that shape, `c`, from two numbers, then these nodes, of which the last writes `d`; then a sum.
fn folding(shape: &[i64], nodes: Vec<NodeProto>) -> (Kind, &'static str, String) {
    let mut all = vec![node("ConstantOfShape", &["s"], &["c"], vec![])];
    all.extend(nodes);
    all.push(node("Size", &["d"], &["e"], vec![]));
    all.push(node("Cast", &["e"], &["f"], vec![int("to", 1)]));
    all.push(node("Add", &["x", "f"], &["y"], vec![]));
    refused(&model(graph(&[-1, 1], vec![numbers("s", &[shape.len()], shape)], all)))
}

#[test]
fn n29_work_is_bounded_and_not_only_bytes() {
    let one = |op: &str, inputs: &[&str], attributes| vec![node(op, inputs, &["d"], attributes)];
    let cases = [
        folding(&[2048, 2048], one("MatMul", &["c", "c"], vec![])),
        folding(&[2048, 2048], one("Gemm", &["c", "c"], vec![])),
        folding(&[2048, 2048], one("Einsum", &["c", "c"], vec![text("equation", "ij,kj->ik")])),
        folding(&[1, 1, 2048, 2048], one("Conv", &["c", "c"], vec![ints("pads", &[1000; 4])])),
        folding(&[1, 1, 1000, 1000], one("ConvTranspose", &["c", "c"], vec![])),
        folding(&[1, 1, 2000, 2000], one("AveragePool", &["c"], vec![ints("kernel_shape", &[1000, 1000])])),
        folding(&[1, 1, 4_000_000], one("MaxPool", &["c"], vec![ints("kernel_shape", &[1000])])),
    ];
    for (kind, reason, told) in cases {
        assert_eq!((kind, reason), (Kind::ResourceExhausted, "WORK"), "{told}");
        assert!(told.starts_with("node 'd' ("), "{told}");
    }
    // A little result of much that is read, again and again.
    let many = names("r", 1000);
    let place =
        AttributeProto { t: Some(Box::new(numbers("", &[1], &[1]))), ..attribute("value", AttributeType::Tensor) };
    let mut reads = vec![node("Constant", &[], &["i"], vec![place])];
    reads.extend(many.iter().map(|name| node("Gather", &["c", "i"], &[name], vec![])));
    reads.push(NodeProto { input: many, ..node("Sum", &[], &["d"], vec![]) });
    let (kind, reason, told) = folding(&[4_000_000], reads);
    assert_eq!((kind, reason), (Kind::ResourceExhausted, "WORK"), "{told}");
    // Much that is written, again and again.
    let (kind, reason, _) = folding(&[4_000_000], chain_of("c", 10, "Neg"));
    assert_eq!((kind, reason), (Kind::ResourceExhausted, "TENSOR_SIZE"));
}

fn chain_of(first: &str, n: usize, op: &str) -> Vec<NodeProto> {
    let mut nodes = chain(n, op, &[]);
    nodes[0].input[0] = first.into();
    nodes[n - 1].output[0] = "d".into();
    nodes
}

#[test]
fn n29_what_layers_share_does_not_grow_without_end() {
    // Each layer of the chain gets its own copy of a vector of a mebibyte.
    let weights = vec![filled("w", &[1 << 18, 1], 0.5), filled("b", &[1 << 18], 0.5)];
    let layer = |i: usize| node("Gemm", &["x", "w", "b"], &[&format!("v{i}")], vec![int("transB", 1)]);
    let mut nodes: Vec<NodeProto> = (0..200).map(layer).collect();
    nodes.push(NodeProto { input: names("v", 200), ..node("Sum", &[], &["y"], vec![]) });
    let (kind, reason, told) = refused(&model(graph(&[-1, 1], weights.clone(), nodes)));
    assert_eq!((kind, reason), (Kind::ResourceExhausted, "TENSOR_SIZE"), "{told}");
    // The transpose of a matrix is one, however many layers read it.
    let mut nodes: Vec<NodeProto> =
        (0..200).map(|i| node("MatMul", &["x", "m"], &[&format!("v{i}")], vec![])).collect();
    nodes.push(NodeProto { input: names("v", 200), ..node("Sum", &[], &["y"], vec![]) });
    let shared = read(&model(graph(&[-1, 1], vec![filled("m", &[1, 1 << 18], 0.5)], nodes))).unwrap();
    assert_eq!(shared.params().len(), 1);
}
