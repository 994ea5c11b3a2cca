//! What is written is read back; what is forged is refused.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::error::Classify;
use crate::format::{Architecture, open_model};
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d, Pad, Slice, Window};
use crate::graph::{arbitrary, init};
use crate::tensor::DType;

/// A small convolutional network with weights.
fn network() -> Graph {
    let mut graph = GraphBuilder::new("small", &[1, 6, 6])
        .conv("conv", 2, 3, Conv2d::default())
        .activation("relu", Activation::Relu)
        .max_pool("pool", Window::tiles(2))
        .flatten("flatten")
        .linear("fc", 3)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    graph
}

/// The error for the network's weights with its JSON changed from `from` to `to`.
fn forged(from: &str, to: &str) -> FormatError {
    let json = graph_json(&network());
    assert!(json.contains(from), "{from} is not in {json}");
    open(&json.replacen(from, to, 1)).unwrap_err()
}

/// The network's weights with this as their graph.
fn open(json: &str) -> Result<Graph, FormatError> {
    let tensors = network().params().iter().map(|p| (p.name.clone(), p.data.clone())).collect();
    let metadata = [(GRAPH_KEY.to_string(), json.to_string())].into();
    let file = safetensors::write(&tensors, &metadata).unwrap();
    open_model(file.into(), None).map(|model| model.graph)
}

/// The message for a forged graph, whose reason must be `GRAPH_METADATA`.
fn message(from: &str, to: &str) -> String {
    let error = forged(from, to);
    assert_eq!(error.reason(), "GRAPH_METADATA");
    error.to_string()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(graph in arbitrary::graphs()) {
        let metadata: BTreeMap<String, String> = [("note".into(), "α \"quoted\"\n".into()), ("format".into(), "pt".into())].into();
        let file = write(&graph, &metadata).unwrap();
        prop_assert_eq!(&file, &write(&graph, &metadata).unwrap());
        let model = open_model(file.into(), None).unwrap();
        prop_assert_eq!(model.graph, graph);
        prop_assert_eq!(model.metadata, metadata);
    }

    #[test]
    fn damaged_bytes_are_read_or_refused_but_never_panic(
        graph in arbitrary::graphs(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = write(&graph, &BTreeMap::new()).unwrap();
        // The header is where damage is interesting: weights are only asked whether they are finite.
        let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        for (place, byte) in damage {
            file[place.index(header)] = byte;
        }
        if let Ok(model) = open_model(file.into(), None) {
            prop_assert_eq!(model.graph.verify(), Ok(()));
        }
    }
}

#[test]
fn the_json_has_a_line_for_each_thing() {
    expect![[r#"
        {"version":1,"name":"small",
        "inputs":[
        {"name":"input","shape":[1,6,6]}],
        "params":[
        {"name":"conv.weight","shape":[2,1,3,3]},
        {"name":"conv.bias","shape":[2]},
        {"name":"fc.weight","shape":[3,8]},
        {"name":"fc.bias","shape":[3]}],
        "nodes":[
        {"name":"conv","op":"Conv2d","attributes":{"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1],"groups":1},"inputs":["input"],"params":{"weight":"conv.weight","bias":"conv.bias"}},
        {"name":"relu","op":"Relu","inputs":["conv"]},
        {"name":"pool","op":"MaxPool2d","attributes":{"kernel":[2,2],"stride":[2,2],"padding":[0,0,0,0],"dilation":[1,1]},"inputs":["relu"]},
        {"name":"flatten","op":"Flatten","inputs":["pool"]},
        {"name":"fc","op":"Linear","inputs":["flatten"],"params":{"weight":"fc.weight","bias":"fc.bias"}}],
        "outputs":["fc"]}
    "#]]
    .assert_eq(&graph_json(&network()));
}

#[test]
fn tied_weights_stay_one_tensor() {
    let tied = graph_json(&network())
        .replace(
            "\n{\"name\":\"fc\",",
            "\n{\"name\":\"tie\",\"op\":\"Linear\",\"inputs\":[\"flatten\"],\"params\":{\"weight\":\"fc.weight\"}},\n{\"name\":\"fc\",",
        )
        .replace("\"outputs\":[\"fc\"]", "\"outputs\":[\"fc\",\"tie\"]");
    let graph = open(&tied).unwrap();
    assert_eq!((graph.params().len(), graph.outputs().len()), (4, 2));
    let file = write(&graph, &BTreeMap::new()).unwrap();
    assert_eq!(open_model(file.into(), None).unwrap().graph, graph);
}

#[test]
fn another_version_is_refused_before_its_fields_are_read() {
    assert!(message("\"version\":1,", "\"version\":2,\"new\":0,").contains("version 2 is not supported"));
}

#[test]
fn unknown_and_repeated_fields_are_refused() {
    assert!(message("\"version\":1,", "\"version\":1,\"x\":0,").contains("unknown field `x`"));
    assert!(message("\"op\":\"Relu\"", "\"op\":\"Relu\",\"op\":\"Tanh\"").contains("duplicate field `op`"));
    assert!(message("\"groups\":1", "\"groups\":1,\"bias\":true").contains("unknown field `bias`"));
    let twice = message("\"weight\":\"conv.weight\"", "\"weight\":\"conv.weight\",\"weight\":\"fc.weight\"");
    assert!(twice.contains("two parameters in the role 'weight'"), "{twice}");
}

#[test]
fn all_unknown_operators_are_told_with_their_nodes() {
    let json = graph_json(&network()).replace("\"Relu\"", "\"Maxout\"").replace("\"Flatten\"", "\"Unfold\"");
    let error = open(&json).unwrap_err().to_string();
    assert!(error.contains("unsupported operators: Maxout (node 'relu'), Unfold (node 'flatten')"), "{error}");
}

#[test]
fn an_operator_needs_all_its_attributes_and_no_others() {
    assert!(message(",\"groups\":1", "").contains("node 'conv' (Conv2d): missing field `groups`"));
    let other = message("\"groups\":1", "\"groups\":1,\"kernel\":[3,3]");
    assert!(other.contains("node 'conv' (Conv2d): unknown field `kernel`"), "{other}");
    let other = message("\"op\":\"Relu\"", "\"op\":\"Relu\",\"attributes\":{\"groups\":1}");
    assert!(other.contains("node 'relu' (Relu): unknown field `groups`"), "{other}");
}

#[test]
fn every_operator_is_read_back_with_its_attributes() {
    let builder = GraphBuilder::new("all", &[2, 4, 4]).conv_without_bias("conv", 2, 1, Conv2d::default());
    let input = builder.top();
    let graph = builder
        .batch_norm("bn")
        .add("add", input)
        .slice("slice", Slice::places(2, 1, 4, 2))
        .pad("pad", Pad::zeros(1, 0, 3))
        .dropout("drop", 0.25)
        .global_avg_pool("mean")
        .build()
        .unwrap();
    let lines: Vec<String> =
        graph_json(&graph).lines().filter(|line| line.contains("\"op\"")).map(str::to_string).collect();
    expect![[r#"
        {"name":"conv","op":"Conv2d","attributes":{"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1],"groups":1},"inputs":["input"],"params":{"weight":"conv.weight"}},
        {"name":"bn","op":"BatchNorm","attributes":{"epsilon":0.00001,"momentum":0.1},"inputs":["conv"],"params":{"weight":"bn.weight","bias":"bn.bias","running_mean":"bn.running_mean","running_var":"bn.running_var"}},
        {"name":"add","op":"Add","inputs":["bn","conv"]},
        {"name":"slice","op":"Slice","attributes":{"axis":2,"start":1,"end":4,"step":2},"inputs":["add"]},
        {"name":"pad","op":"Pad","attributes":{"axis":1,"before":0,"after":3},"inputs":["slice"]},
        {"name":"drop","op":"Dropout","attributes":{"rate":0.25},"inputs":["pad"]},
        {"name":"mean","op":"GlobalAvgPool","inputs":["drop"]}],
    "#]]
    .assert_eq(&(lines.join("\n") + "\n"));
    let file = write(&graph, &BTreeMap::new()).unwrap();
    assert_eq!(open_model(file.into(), None).unwrap().graph, graph);
}

#[test]
fn what_values_pass_through_is_read_back_and_is_a_format_that_runs() {
    assert!(!graph_json(&network()).contains("activations"));
    let mut graph = network();
    let mut edit = graph.edit();
    edit.set_activations(DType::BF16);
    edit.commit().unwrap();
    assert!(graph_json(&graph).starts_with("{\"version\":1,\"name\":\"small\",\"activations\":\"BF16\",\n"));
    let file = write(&graph, &BTreeMap::new()).unwrap();
    assert_eq!(open_model(file.into(), None).unwrap().graph, graph);
    for other in ["F32", "I8", "f16"] {
        let error = message("\"name\":\"small\",", &format!("\"name\":\"small\",\"activations\":\"{other}\","));
        assert!(error.contains("it is F16 or BF16, or left out for F32"), "{error}");
    }
    let whole = Architecture::GraphJson(graph_json(&network()));
    let error = open_model(write(&graph, &BTreeMap::new()).unwrap().into(), Some(&whole)).unwrap_err();
    assert!(error.to_string().contains("its values pass through BF16, not F32"), "{error}");
}

#[test]
fn parameters_are_the_tensors_one_for_one() {
    let missing = message("{\"name\":\"fc.bias\",", "{\"name\":\"fc.b\",");
    assert!(missing.contains("'fc.b' [3] is missing; 'fc.bias' [3] is not part of it"), "{missing}");
    let shape = message("\"fc.bias\",\"shape\":[3]", "\"fc.bias\",\"shape\":[4]");
    assert!(shape.contains("'fc.bias' should have shape [4], has [3]"), "{shape}");
    let twice = message(
        "{\"name\":\"fc.bias\",\"shape\":[3]}",
        "{\"name\":\"fc.bias\",\"shape\":[3]},{\"name\":\"fc.bias\",\"shape\":[3]}",
    );
    assert!(twice.contains("two parameters are named 'fc.bias'"), "{twice}");
}

#[test]
fn a_parameter_that_no_node_reads_is_refused() {
    let unused = message(",\"bias\":\"fc.bias\"", "");
    assert!(unused.contains("parameter 'fc.bias' is read by no node"), "{unused}");
}

#[test]
fn a_node_needs_its_required_roles_and_no_others() {
    let lacking = message("\"weight\":\"fc.weight\",", "");
    assert!(lacking.contains("node 'fc' (Linear) lacks the parameter 'weight'"), "{lacking}");
    let other = message("\"bias\":\"fc.bias\"", "\"scale\":\"fc.bias\"");
    assert!(other.contains("node 'fc' (Linear) has no use for a parameter 'scale'"), "{other}");
    let unlisted = message("\"bias\":\"fc.bias\"", "\"bias\":\"fc.b\"");
    assert!(unlisted.contains("node 'fc' reads parameter 'fc.b', which is not among"), "{unlisted}");
}

#[test]
fn nodes_read_only_what_is_written_before() {
    for (from, to) in
        [("\"inputs\":[\"relu\"]", "\"inputs\":[\"fc\"]"), ("\"inputs\":[\"relu\"]", "\"inputs\":[\"pool\"]")]
    {
        let error = message(from, to);
        assert!(error.contains("node 'pool' reads value") && error.contains("not written before"), "{error}");
    }
    assert!(message("\"outputs\":[\"fc\"]", "\"outputs\":[\"x\"]").contains("output 'x' is written by no node"));
    assert!(message("\"outputs\":[\"fc\"]", "\"outputs\":[]").contains("the graph has no output"));
    let relu = "{\"name\":\"relu\",";
    let second = format!("{{\"name\":\"conv\",\"op\":\"Tanh\",\"inputs\":[\"conv\"]}},\n{relu}");
    assert!(message(relu, &second).contains("two nodes are named 'conv'"));
    assert!(message("\"name\":\"relu\"", "\"name\":\"\"").contains("is not allowed"));
}

#[test]
fn shapes_are_inferred_anew_and_must_hold_together() {
    let error = message("\"shape\":[1,6,6]", "\"shape\":[1,8,6]");
    assert!(error.contains("node 'fc': Linear wants a weight of shape [out, 12]"), "{error}");
    assert!(message("\"groups\":1", "\"groups\":0").contains("groups must divide"));
    assert!(message("\"stride\":[1,1]", "\"stride\":[0,1]").contains("stride"));
    assert!(message("\"kernel\":[2,2]", "\"kernel\":[9,9]").contains("kernel reaches over 9 pixels"));
}

#[test]
fn sizes_that_would_overflow_later_are_refused() {
    let huge = "\"shape\":[1,4294967296,4294967296]";
    assert!(message("\"shape\":[1,6,6]", huge).contains("value 'input': it has"));
    let padded = message("\"padding\":[0,0,0,0]", "\"padding\":[1048576,1048576,1048576,1048576]");
    assert!(padded.contains("value 'conv': it has"), "{padded}");
}

#[test]
fn a_graph_that_is_no_json_object_is_refused() {
    for json in ["", "{", "null", "[]", "\u{feff}{}", &"[".repeat(1_000_000), &"{\"version\":1,\"x\":".repeat(1000)] {
        let error = open(json).unwrap_err();
        assert_eq!(error.reason(), "GRAPH_METADATA");
        assert!(error.to_string().len() < 400);
    }
}

#[test]
fn a_graph_may_also_come_as_a_file_of_its_own() {
    let json = graph_json(&network()).replace("\"Relu\"", "\"Maxout\"");
    let tensors = network().params().iter().map(|p| (p.name.clone(), p.data.clone())).collect();
    let file = safetensors::write(&tensors, &BTreeMap::new()).unwrap();
    let error = open_model(file.into(), Some(&Architecture::GraphJson(json))).unwrap_err();
    assert_eq!(error.reason(), "ARCHITECTURE_INVALID");
    assert!(error.to_string().starts_with("the given graph: unsupported operators: Maxout (node 'relu')"));
}
