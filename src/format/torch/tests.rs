//! The file as people read it, and what has no counterpart.

use expect_test::expect;

use super::*;
use crate::graph::ValueType;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d, Custom, Window};

#[test]
fn a_small_network() {
    let conv = Conv2d { padding: [1, 1, 2, 1], ..Conv2d::default() };
    let graph = GraphBuilder::new("small", &[1, 6, 6])
        .conv("conv", 2, 3, conv)
        .activation("relu", Activation::Relu)
        .max_pool("pool", Window::tiles(2))
        .flatten("flatten")
        .linear("fc", 3)
        .build()
        .unwrap();
    expect![[r#""#]].assert_eq(&loader(&graph).unwrap());
}

#[test]
fn an_operator_that_niwaki_does_not_know_is_told_with_its_node() {
    let mut graph = GraphBuilder::new("small", &[6]).linear("fc", 3).build().unwrap();
    let mut edit = graph.edit();
    let top = edit.graph().outputs()[0];
    let outputs = vec![ValueType::new(DType::F32, vec![crate::graph::Dim::Batch])];
    let op = Op::Custom(Custom { domain: "com.example".into(), name: "Fancy".into(), outputs });
    let out = edit.add_node("fancy", op, &[top], &[]).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    let error = loader(&graph).unwrap_err();
    assert_eq!(error.to_string(), "node 'fancy': Custom cannot be expressed in PyTorch");
}

#[test]
fn names_are_pythons_and_each_is_there_once() {
    let mut graph = GraphBuilder::new("odd", &[2]).linear("a/b", 2).linear("a.b", 2).linear("7", 2).build().unwrap();
    let mut edit = graph.edit();
    let top = edit.graph().outputs()[0];
    let out = edit.add_node("lambda", Op::ADD, &[top, top], &[]).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    let names = Names::of(&graph);
    let all: Vec<&str> = graph.nodes().iter().map(|node| names.value(node.output())).collect();
    assert_eq!(all, ["a_b", "a_b_1", "v7", "lambda_1"]);
}
