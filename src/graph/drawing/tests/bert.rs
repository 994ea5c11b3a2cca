//! A BERT to be drawn: open sequence, an attention mask that every layer reads, whole numbers as input, two outputs.

use crate::graph::op::{Activation, Binary, Cast, Constant, LayerNorm, Reshape, Select, Softmax, Transpose};
use crate::graph::{Dim, Graph, GraphEdit, Op, ValueId, ValueType};
use crate::tensor::{DType, TensorData};

/// The width, and that between the two linear layers.
const WIDTH: usize = 32;
const INNER: usize = 64;
const HEADS: usize = 4;

/// So many layers as exporters write them, the weights zeros.
pub fn bert(layers: usize) -> Graph {
    let mut graph = Graph::new(format!("bert-{layers}"));
    let mut edit = graph.edit();
    let tokens = vec![Dim::Batch, Dim::SEQUENCE];
    let ids = edit.add_input_of("input_ids", ValueType::new(DType::I64, tokens.clone()));
    let mask = edit.add_input_of("attention_mask", ValueType::new(DType::I64, tokens));
    let mask = add(&mut edit, "mask/Cast", Op::Cast(Cast { to: DType::F32 }), &[mask], &[]);
    let shape = vec![Dim::Batch, Dim::Fixed(1), Dim::Fixed(1), Dim::SEQUENCE];
    let mask = add(&mut edit, "mask/Unsqueeze", Op::Reshape(Reshape { shape }), &[mask], &[]);
    let low = constant(&mut edit, "mask/min", vec![1]);
    let mask = add(&mut edit, "mask/Mul", Op::Binary(Binary::Mul), &[mask, low], &[]);
    let top = add(&mut edit, "embeddings/word", Op::Embedding, &[ids], &[vec![100, WIDTH]]);
    let mut top = norm(&mut edit, "embeddings/LayerNorm", top);
    for i in 0..layers {
        top = layer(&mut edit, &format!("encoder/layer.{i}"), top, mask);
    }
    let first = add(&mut edit, "pooler/first", Op::Select(Select { axis: 1, index: 0 }), &[top], &[]);
    let pooled = linear(&mut edit, "pooler/dense", first, [WIDTH, WIDTH]);
    let pooled = add(&mut edit, "pooler/Tanh", Op::Activation(Activation::Tanh), &[pooled], &[]);
    edit.set_outputs(&[top, pooled]);
    edit.commit().unwrap();
    graph
}

fn layer(edit: &mut GraphEdit<'_>, name: &str, x: ValueId, mask: ValueId) -> ValueId {
    let head = |edit: &mut GraphEdit<'_>, part: &str, axes: [usize; 4]| {
        let y = linear(edit, &format!("{name}/attention/self/{part}/MatMul"), x, [WIDTH, WIDTH]);
        let shape = vec![Dim::Batch, Dim::SEQUENCE, Dim::Fixed(HEADS), Dim::Fixed(WIDTH / HEADS)];
        let op = Op::Reshape(Reshape { shape });
        let y = add(edit, &format!("{name}/attention/self/{part}/Reshape"), op, &[y], &[]);
        let op = Op::Transpose(Transpose { axes: axes.to_vec() });
        add(edit, &format!("{name}/attention/self/{part}/Transpose"), op, &[y], &[])
    };
    let query = head(edit, "query", [0, 2, 1, 3]);
    let key = head(edit, "key", [0, 2, 3, 1]);
    let value = head(edit, "value", [0, 2, 1, 3]);
    let scores = add(edit, &format!("{name}/attention/self/MatMul"), Op::MatMul, &[query, key], &[]);
    let scale = constant(edit, &format!("{name}/attention/self/scale"), vec![]);
    let scores = add(edit, &format!("{name}/attention/self/Div"), Op::Binary(Binary::Div), &[scores, scale], &[]);
    let scores = add(edit, &format!("{name}/attention/self/Add"), Op::ADD, &[scores, mask], &[]);
    let op = Op::Softmax(Softmax { axis: 3 });
    let shares = add(edit, &format!("{name}/attention/self/Softmax"), op, &[scores], &[]);
    let y = add(edit, &format!("{name}/attention/self/MatMul_1"), Op::MatMul, &[shares, value], &[]);
    let op = Op::Transpose(Transpose { axes: vec![0, 2, 1, 3] });
    let y = add(edit, &format!("{name}/attention/self/Transpose"), op, &[y], &[]);
    let op = Op::Reshape(Reshape { shape: vec![Dim::Batch, Dim::SEQUENCE, Dim::Fixed(WIDTH)] });
    let y = add(edit, &format!("{name}/attention/self/Reshape"), op, &[y], &[]);
    let y = linear(edit, &format!("{name}/attention/output/dense"), y, [WIDTH, WIDTH]);
    let y = add(edit, &format!("{name}/attention/output/Add"), Op::ADD, &[y, x], &[]);
    let x = norm(edit, &format!("{name}/attention/output/LayerNorm"), y);
    let y = linear(edit, &format!("{name}/intermediate/dense"), x, [INNER, WIDTH]);
    let y = add(edit, &format!("{name}/intermediate/Gelu"), Op::Activation(Activation::Gelu), &[y], &[]);
    let y = linear(edit, &format!("{name}/output/dense"), y, [WIDTH, INNER]);
    let y = add(edit, &format!("{name}/output/Add"), Op::ADD, &[y, x], &[]);
    norm(edit, &format!("{name}/output/LayerNorm"), y)
}

fn linear(edit: &mut GraphEdit<'_>, name: &str, x: ValueId, [out, inner]: [usize; 2]) -> ValueId {
    add(edit, name, Op::Linear, &[x], &[vec![out, inner], vec![out]])
}

fn norm(edit: &mut GraphEdit<'_>, name: &str, x: ValueId) -> ValueId {
    let op = Op::LayerNorm(LayerNorm { axis: 2, epsilon: 1e-12 });
    add(edit, name, op, &[x], &[vec![WIDTH], vec![WIDTH]])
}

fn constant(edit: &mut GraphEdit<'_>, name: &str, shape: Vec<usize>) -> ValueId {
    add(edit, name, Op::Constant(Constant { dtype: DType::F32 }), &[], &[shape])
}

/// Adds a node with parameters of these shapes.
pub fn add(edit: &mut GraphEdit<'_>, name: &str, op: Op, inputs: &[ValueId], params: &[Vec<usize>]) -> ValueId {
    let roles = op.roles().0;
    let params: Vec<_> = params
        .iter()
        .zip(roles)
        .map(|(shape, role)| edit.add_param(&format!("{name}.{role}"), TensorData::zeros(shape.clone()).unwrap()))
        .collect();
    edit.add_node(name, op, inputs, &params).unwrap()
}
