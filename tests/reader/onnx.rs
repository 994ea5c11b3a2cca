//! Numbers 17 to 33: ONNX models, the whole way through the process. What is wrong within a graph is told in all its ways
//! beside the reader, in `src/format/onnx`.

use super::*;

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
fn field(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [&varint(number << 3 | 2)[..], &varint(content.len() as u64), content].concat()
}

/// A field that is a number.
fn number(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value as u64)].concat()
}

/// A model with this graph, version 18 of the operators.
fn file(graph: &[u8]) -> Vec<u8> {
    [number(1, 8), field(8, number(2, 18)), field(7, graph)].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, more: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
    field(1, [&inputs[..], &field(2, output), &field(4, op), more].concat())
}

/// A value of 32-bit floating point numbers; an axis of -1 is open.
fn value(place: u64, name: &str, axes: &[i64]) -> Vec<u8> {
    let axis = |n: &i64| field(1, if *n == -1 { field(2, "batch") } else { number(1, *n) });
    let axes: Vec<u8> = axes.iter().flat_map(axis).collect();
    let ty = field(1, [number(1, 1), field(2, axes)].concat());
    field(place, [field(1, name), field(2, ty)].concat())
}

/// A tensor of whole numbers.
fn numbers(name: &str, axes: &[i64], all: &[i64]) -> Vec<u8> {
    let axes: Vec<u8> = axes.iter().flat_map(|n| number(1, *n)).collect();
    let all: Vec<u8> = all.iter().flat_map(|n| n.to_le_bytes()).collect();
    field(5, [axes, number(2, 7), field(8, name), field(9, all)].concat())
}

/// A tensor of 4 numbers that lies beside the model.
fn outside(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(k, v)| field(13, [field(1, k), field(2, v)].concat())).collect();
    field(5, [number(1, 4), number(2, 1), field(8, "w"), entries, number(14, 1)].concat())
}

/// A graph with the input `x`, the output `y` and this between them.
fn graph(x: &[i64], between: &[Vec<u8>]) -> Vec<u8> {
    file(&[value(11, "x", x), field(12, field(1, "y")), between.concat()].concat())
}

#[track_caller]
fn refused(file: &[u8], reason: &str) -> Failure {
    let refused = refused_model(file);
    refused.is(reason, file.len());
    refused.failure
}

#[track_caller]
fn beside(model: &[u8], files: &[(&str, &[u8])]) -> Result<Answer, String> {
    model_files(&[&[("model.onnx", model)], files].concat())
}

fn accepted(answer: &Result<Answer, String>) -> bool {
    matches!(answer, Ok(Answer { verdict: Verdict::Model(_), .. }))
}

#[test]
fn n17_two_megabytes_of_empty_things_cost_no_gibibyte() {
    let many = |of: &[u8]| of.repeat((2 << 20) / of.len());
    let cases: [(&str, Vec<u8>); 6] = [
        ("attributes", field(1, many(&[0x2a, 0]))),
        ("nodes", many(&[0x0a, 0])),
        ("tensors", many(&[0x2a, 0])),
        ("values", many(&[0x6a, 0])),
        ("axes of a tensor", field(5, field(1, many(&[1])))),
        ("entries", field(1, many(&[0x4a, 0]))),
    ];
    for (what, content) in cases {
        let file = file(&content);
        let refused = refused_model(&file);
        refused.is("FIELD_COUNT", file.len());
        assert_eq!(refused.failure.kind, Kind::ResourceExhausted, "{what}");
    }
}

#[test]
fn n18_graphs_within_graphs_overflow_no_stack() {
    for depth in [21, 4_000] {
        let nested = (0..depth).fold(Vec::new(), |inner, _| field(1, field(5, field(6, inner))));
        refused(&file(&nested), "DEPTH");
    }
}

#[test]
fn n19_what_is_no_protobuf_is_refused() {
    let cases: [(&[u8], &str); 6] = [
        (&[0x3b, 0x3c], "PROTOBUF"),
        (&[0x3e, 0], "PROTOBUF"),
        (&[0x00, 0], "PROTOBUF"),
        (&[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "PROTOBUF"),
        (&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f], "TRUNCATED"),
        (&[0x3a, 0x05, 0x0a], "TRUNCATED"),
    ];
    for (bytes, reason) in cases {
        refused(&[&number(1, 8)[..], bytes].concat(), reason);
    }
}

#[test]
fn n20_names_of_other_files_open_nothing() {
    let names =
        ["../0", "/etc/passwd", "a/../../b", "..\\0", "%2e%2e", "", ".", "w\0", "NUL", "*/_ORT_MEM_ADDR_/*", "0"];
    for name in names {
        let model = graph(&[-1, 4], &[outside(&[("location", name)]), node("Mul", &["x", "w"], "y", &[])]);
        let refused = Refused::of(beside(&model, &[("w.bin", &[0; 16])]), name);
        let reason = if name == "0" { "EXTERNAL_DATA_MISSING" } else { "EXTERNAL_DATA_NAME" };
        refused.is(reason, model.len());
        assert!(refused.failure.message.contains("tensor 'w'"), "{}", refused.failure.message);
    }
    let model = graph(&[-1, 4], &[outside(&[("location", "w.bin")]), node("Mul", &["x", "w"], "y", &[])]);
    assert!(accepted(&beside(&model, &[("w.bin", &[0; 16])])));
    Refused::of(beside(&model, &[]), "without it").is("EXTERNAL_DATA_MISSING", model.len());
}

#[test]
fn n21_n22_places_and_keys_that_are_none_are_refused() {
    let of = |more: &[(&str, &str)], reason: &str| {
        let entries = [&[("location", "w.bin")], more].concat();
        let model = graph(&[-1, 4], &[outside(&entries), node("Mul", &["x", "w"], "y", &[])]);
        Refused::of(beside(&model, &[("w.bin", &[0; 20])]), reason).is(reason, model.len());
    };
    for (offset, length) in [("5", "16"), ("21", "0"), ("0", "20"), ("9223372036854775808", "16"), ("0", "0")] {
        of(&[("offset", offset), ("length", length)], "EXTERNAL_DATA_RANGE");
    }
    of(&[("offset", "-1")], "EXTERNAL_DATA_KEY");
    of(&[("__class__", "os")], "EXTERNAL_DATA_KEY");
    of(&[("offset", "0"), ("offset", "4")], "EXTERNAL_DATA_KEY");
}

#[test]
fn n23_n24_tensors_that_are_not_their_shape_are_refused() {
    let of =
        |axes: &[i64], all: &[i64]| graph(&[-1, 4], &[numbers("w", axes, all), node("Mul", &["x", "w"], "y", &[])]);
    refused(&of(&[3], &[0; 4]), "TENSOR_DATA");
    for axes in [&[-1][..], &[1 << 32], &[1 << 31, 1 << 31], &[0, 1 << 31, 1 << 31], &[1; 17]] {
        let told = refused(&of(axes, &[]), "SHAPE");
        assert!(told.message.contains("tensor 'w'"), "{}", told.message);
    }
    // A terabyte that is not there.
    refused(&of(&[1 << 30, 1 << 7], &[0; 4]), "TENSOR_DATA");
    refused(&of(&vec![1; 1_000_000], &[]), "FIELD_COUNT");
}

#[test]
fn n25_n26_nodes_without_what_they_need_are_refused() {
    for op in ["Concat", "Squeeze", "Gemm", "Reshape", "LSTM", "GRU"] {
        let told = refused(&graph(&[-1, 4], &[node(op, &[], "y", &[])]), "ARITY");
        assert_eq!(told.message, format!("node 'y' ({op}) lacks its input 0 or all of them"));
    }
    let axis = |ty: i64| field(5, [field(1, "axis"), number(3, 1), number(20, ty)].concat());
    let twice = [axis(2), axis(2)].concat();
    for more in [axis(1), twice, field(5, [field(1, "axis"), field(21, "outer")].concat())] {
        refused(&graph(&[-1, 4], &[node("Softmax", &["x"], "y", &more)]), "NODE");
    }
}

#[test]
fn n27_cycles_are_refused_by_the_nodes_in_them() {
    let told = refused(&graph(&[-1, 4], &[node("Relu", &["b"], "a", &[]), node("Relu", &["a"], "b", &[])]), "GRAPH");
    assert!(told.message.contains("node 'a' reads 'b', which node 'b' writes after it"), "{}", told.message);
}

#[test]
fn n28_a_chain_of_100000_nodes_is_refused() {
    let name = |i: usize| if i == 0 { "x".to_string() } else { format!("{i}") };
    let mut chain: Vec<Vec<u8>> = (0..99_999).map(|i| node("Relu", &[&name(i)], &name(i + 1), &[])).collect();
    chain.push(node("Relu", &[&name(99_999)], "y", &[]));
    let mut short: Vec<Vec<u8>> = chain[..20_000].to_vec();
    short.push(node("Relu", &[&name(20_000)], "y", &[]));
    for (nodes, reason) in [(chain, "FIELD_COUNT"), (short, "GRAPH_SIZE")] {
        let refused = refused_model(&graph(&[-1, 4], &nodes));
        assert_eq!((refused.failure.reason.as_str(), refused.failure.kind), (reason, Kind::ResourceExhausted));
        // That it is too much is not known before it is in memory.
        eprintln!("{} nodes: {} MiB", nodes.len(), refused.peak_bytes >> 20);
        assert!(refused.peak_bytes < 3 * BASE, "{} MiB", refused.peak_bytes >> 20);
    }
    // A million are not even counted to the end.
    let nodes: Vec<u8> = node("Relu", &["x"], "", &[]).repeat(1_000_000);
    refused(&file(&nodes), "FIELD_COUNT");
}

#[test]
fn n29_a_small_model_asks_for_terabytes_in_vain() {
    let constant = |shape: &[i64]| {
        let shape = numbers("s", &[shape.len() as i64], shape);
        [shape, node("ConstantOfShape", &["s"], "c", &[]), node("Add", &["x", "c"], "y", &[])]
    };
    refused(&graph(&[-1, 1], &constant(&[1000, 1_000_000, 1_000_000])), "GRAPH_SIZE");
    refused(&graph(&[-1, 1], &constant(&[1 << 30])), "WORK");
    refused(&graph(&[-1, 1], &constant(&[1 << 25])), "TENSOR_SIZE");
    refused(&graph(&[-1, 1 << 31], &[node("Relu", &["x"], "y", &[])]), "GRAPH_SIZE");
    let repeats = numbers("s", &[2], &[1, 1 << 31]);
    refused(&graph(&[-1, 1], &[repeats, node("Tile", &["x", "s"], "y", &[])]), "GRAPH_SIZE");
    // Products of matrices that are known: 8 billion steps for 200 bytes.
    let [shape, made, _] = constant(&[2000, 2000]);
    let known = [shape, made, node("MatMul", &["c", "c"], "d", &[]), node("Add", &["x", "d"], "y", &[])];
    let told = refused(&graph(&[-1, 1], &known), "WORK");
    assert!(told.message.starts_with("node 'd' (MatMul): "), "{}", told.message);
}

#[test]
fn n30_places_that_are_not_there_are_refused() {
    let known = [
        numbers("a", &[2], &[1, 2]),
        numbers("b", &[1], &[i64::MIN]),
        node("Gather", &["a", "b"], "c", &[]),
        node("Reshape", &["x", "c"], "y", &[]),
    ];
    refused(&graph(&[-1, 4], &known), "NODE");
}

#[test]
fn n31_operators_and_versions_that_are_not_read_are_told() {
    let own = |op: &str, domain: &str| node(op, &["x"], op, &field(7, domain));
    let nodes =
        [own("Loop", ""), own("PythonOp", "com.evil"), own("Trees", "ai.onnx.ml"), node("Relu", &["Loop"], "y", &[])];
    let told = refused(&graph(&[-1, 4], &nodes), "UNSUPPORTED_OPERATORS").message;
    assert!(told.ends_with("Loop (node 'Loop'), com.evil.PythonOp (node 'PythonOp'), ai.onnx.ml.Trees (node 'Trees')"));
    let mut old = graph(&[-1, 4], &[node("Relu", &["x"], "y", &[])]);
    let place = old.windows(2).position(|pair| pair == [0x10, 18]).unwrap();
    old[place + 1] = 99;
    refused(&old, "OPSET");
}

#[test]
fn n32_words_for_people_may_be_long_and_do_nothing() {
    let words = "<script>\u{1b}[2J${jndi:ldap://x}".repeat(1 << 20);
    let model = [graph(&[-1, 4], &[node("Relu", &["x"], "y", &[])]), field(6, &words)].concat();
    assert!(accepted(&model_files(&[("model.onnx", &model)])));
    let told = refused(&graph(&[-1, 4], &[node(&words[..300], &["x"], "y", &[])]), "UNSUPPORTED_OPERATORS");
    assert!(!told.message.contains('\u{1b}'), "{}", told.message);
    refused(&graph(&[-1, 4], &[node(&words, &["x"], "y", &[])]), "TEXT_LENGTH");
}

#[test]
fn n33_content_says_what_a_file_is_whatever_its_name() {
    let files: [&[u8]; 8] = [
        b"PK\x03\x04\x14\0\0\0\x08\0aaaaaaaa",
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n.",
        b"\x1f\x8b\x08\0aaaaaaaaaaa",
        b"\x89HDF\r\n\x1a\n\0\0aaaaaaaa",
        b"GGUF\x03\0\0\0aaaaaaaaaaa",
        b"\x1c\0\0\0TFL3\x14\0aaaaaaaa",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x08\x0a",
    ];
    for name in ["model.onnx", "model.safetensors"] {
        for file in files {
            Refused::of(model_files(&[(name, file)]), name).is("FORMAT", file.len());
        }
        Refused::of(model_files(&[(name, b"")]), name).is("TRUNCATED", 0);
    }
}
