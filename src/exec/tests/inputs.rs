//! Graphs of several inputs and outputs, of other number formats, with open sequences.

use super::*;
use crate::graph::op::{self, Concat, Op, Softmax, Split, ValueType};
use crate::graph::{Dim, GraphEdit, ParamId};

fn whole(shape: &[usize], values: &[i64]) -> TensorData {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorData::new(DType::I64, shape.to_vec(), bytes).unwrap()
}

fn param(edit: &mut GraphEdit<'_>, name: &str, shape: &[usize]) -> ParamId {
    let values = numbers(shape.iter().product(), name.len() as u64);
    edit.add_param(name, TensorData::from_f32(shape.to_vec(), &values).unwrap())
}

/// One head of attention over embedded words: numbers of words and of sentences come in, classes and weights come out.
fn attention() -> Graph {
    let mut graph = Graph::new("attention");
    let mut edit = graph.edit();
    let (n, s) = (Dim::Batch, Dim::SEQUENCE);
    let words = edit.add_input_of("words", ValueType::new(DType::I64, vec![n, s]));
    let mask = edit.add_input_of("mask", ValueType::new(DType::I64, vec![n, s]));
    let table = param(&mut edit, "table", &[7, 4]);
    let x = edit.add_node("embedding", Op::Embedding, &[words], &[table]).unwrap();
    let all = param(&mut edit, "qkv.weight", &[12, 4]);
    let x = edit.add_node("qkv", Op::Linear, &[x], &[all]).unwrap();
    let split = Op::Split(Split { axis: 2, sizes: vec![4.into(); 3] });
    let names = ["q", "k", "v"].map(String::from);
    let [q, k, v] = edit.add_node_with_outputs("split", split, &[x], &[], &names).unwrap()[..] else { panic!() };
    let k = edit.add_node("kt", Op::Transpose(op::Transpose { axes: vec![0, 2, 1] }), &[k], &[]).unwrap();
    let scores = edit.add_node("scores", Op::MatMul, &[q, k], &[]).unwrap();
    // As frameworks write it: what is masked gets minus infinity.
    let row = edit.add_node("row", Op::Reshape(op::Reshape { shape: vec![n, 1.into(), s] }), &[mask], &[]).unwrap();
    let zero = edit.add_fixed_param("zero", whole(&[], &[0]));
    let zero = edit.add_node("none", Op::Constant(op::Constant { dtype: DType::I64 }), &[], &[zero]).unwrap();
    let masked = edit.add_node("masked", Op::Compare(op::Compare::Equal), &[row, zero], &[]).unwrap();
    let least = TensorData::from_f64(DType::F64, vec![1], &[f64::NEG_INFINITY]).unwrap();
    let least = edit.add_fixed_param("least", least);
    let least = edit.add_node("fill", Op::Constant(op::Constant { dtype: DType::F32 }), &[], &[least]).unwrap();
    let scores = edit.add_node("where", Op::Where, &[masked, least, scores], &[]).unwrap();
    let weights = edit.add_node("weights", Op::Softmax(Softmax { axis: 2 }), &[scores], &[]).unwrap();
    let y = edit.add_node("mix", Op::MatMul, &[weights, v], &[]).unwrap();
    let mean = op::Reduce { of: op::Reduction::Mean, axes: vec![1], keep: false };
    let y = edit.add_node("mean", Op::Reduce(mean), &[y], &[]).unwrap();
    edit.set_outputs(&[y, masked]);
    edit.commit().unwrap();
    graph
}

#[test]
fn attention_over_words_of_any_number_trains_by_the_definitions() {
    const STEP: f64 = 1e-6;
    let graph = attention();
    let mut session = Session::new(&graph).unwrap();
    let weights = value(&graph, "weights");
    for sequence in [2, 3] {
        let words = whole(&[2, sequence], &[1, 2, 6, 0, 2, 5][..2 * sequence]);
        let mask = whole(&[2, sequence], &[1, 1, 1, 0, 1, 0][..2 * sequence]);
        let fed = [words, mask];
        let found = session.run(&fed, Mode::Train, &[weights]).unwrap();
        let expected = exact(&graph, &fed, session.views(), &wide(session.params()), Mode::Train);
        let of = |value: ValueId| expected[value.index()].to_f64().unwrap();
        assert_eq!((found.taps[0].shape(), found.outputs[1].dtype()), (&[2, sequence, sequence][..], DType::Bool));
        assert_close(&found.taps[0].to_f32().unwrap(), &of(weights), 1e-5, "weights");
        assert_close(&found.outputs[0].to_f32().unwrap(), &of(graph.outputs()[0]), 1e-5, "output");

        let d = numbers(8, 3);
        session.backward(&[d.clone(), vec![]], &[vec![0.0; 2 * sequence * sequence]]).unwrap();
        let mut params = wide(session.params());
        let mut slopes = Vec::new();
        for place in 0..session.trained() {
            let at = params[place];
            let mut loss = |step: f64| -> f64 {
                params[place] = at + step;
                let values = exact(&graph, &fed, session.views(), &params, Mode::Train);
                let y = values[graph.outputs()[0].index()].to_f64().unwrap();
                y.iter().zip(&d).map(|(y, d)| y * f64::from(*d)).sum()
            };
            slopes.push((loss(STEP) - loss(-STEP)) / (2.0 * STEP));
            params[place] = at;
        }
        assert_close(session.gradients(), &slopes, 1e-4, "gradient");
        assert!(session.gradients().iter().all(|g| g.is_finite()));
    }
}

#[test]
fn whole_numbers_that_are_fixed_are_no_part_of_the_buffers_and_stay() {
    let mut graph = attention();
    let before = graph.clone();
    let mut session = Session::new(&graph).unwrap();
    let floats: usize = graph.params().iter().filter(|p| p.data.dtype().is_float()).map(|p| p.data.elements()).sum();
    let view = |name: &str| session.views().iter().find(|view| view.name == name).unwrap().range.clone();
    assert_eq!((session.params().len(), view("zero").len(), session.trained()), (floats, 0, floats - 1));
    // What is fixed is no weight, even where it is a floating point number.
    assert!(view("least").start >= session.trained());
    session.write_back(&mut graph).unwrap();
    assert_eq!(graph, before);
    session.params_mut()[..4].fill(9.0);
    session.write_back(&mut graph).unwrap();
    assert_ne!(graph, before);
    session.load(&before).unwrap();
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut session = Session::new(&attention()).unwrap();
    let (words, mask) = (whole(&[2, 3], &[0; 6]), whole(&[2, 3], &[1; 6]));
    for (fed, problem) in [
        (vec![words.clone()], "the graph takes 2, got 1"),
        (vec![words.clone(), TensorData::zeros(vec![2, 3]).unwrap()], "input 'mask' is I64[N, S], got F32[2, 3]"),
        (vec![words.clone(), whole(&[6], &[1; 6])], "input 'mask' is I64[N, S], got I64[6]"),
        (
            vec![words.clone(), whole(&[3, 2], &[1; 6])],
            "input 'words' is I64[N, S], got I64[2, 3]; input 'mask' is I64[N, S], got I64[3, 2]",
        ),
    ] {
        let error = session.run(&fed, Mode::Eval, &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("the inputs do not fit: {problem}"));
    }
    let none = whole(&[0, 3], &[]);
    assert!(matches!(session.run(&[none.clone(), none], Mode::Eval, &[]), Err(ExecError::EmptyBatch)));
    // There is no such word.
    let error = session.run(&[whole(&[2, 3], &[7; 6]), mask.clone()], Mode::Eval, &[]).unwrap_err();
    assert!(matches!(error, ExecError::Node { .. }), "{error}");
    assert!(matches!(session.forward(&[0.0; 6], 2, Mode::Eval, &[]), Err(ExecError::Inputs { .. })));
    // Truth values have no gradient, whatever is given for one.
    let mut gradients = |of_truths: Vec<f32>| {
        session.run(&[words.clone(), mask.clone()], Mode::Train, &[]).unwrap();
        session.backward(&[vec![0.5; 8], of_truths], &[]).unwrap();
        session.gradients().to_vec()
    };
    assert_eq!(gradients(vec![1.0; 6]), gradients(Vec::new()));
}

#[test]
fn values_have_the_number_format_that_the_graph_says() {
    let mut graph = Graph::new("halves");
    let mut edit = graph.edit();
    let x = edit.add_input_of("x", ValueType::new(DType::F16, vec![Dim::Batch, 2.into()]));
    let half = edit.add_node("half", Op::Unary(op::Unary::Exp), &[x], &[]).unwrap();
    let wide = edit.add_node("wide", Op::Cast(op::Cast { to: DType::F64 }), &[half], &[]).unwrap();
    let whole = edit.add_node("whole", Op::Cast(op::Cast { to: DType::I32 }), &[wide], &[]).unwrap();
    let both = edit.add_node("both", Op::Concat(Concat { axis: 1 }), &[half, half], &[]).unwrap();
    edit.set_outputs(&[half, wide, whole, both]);
    edit.commit().unwrap();
    let mut session = Session::new(&graph).unwrap();
    let x = TensorData::from_f32(vec![1, 2], &[1.0, 2.0]).unwrap().to_float(DType::F16).unwrap();
    let found = session.run(std::slice::from_ref(&x), Mode::Eval, &[]).unwrap().outputs;
    let context = reference::Context::eval(graph.sizes(&[x.shape()]).unwrap());
    let expected = reference::values(&graph, &[x], None, &context).unwrap();
    for (id, found) in graph.outputs().iter().zip(&found) {
        assert_eq!(found, &expected[id.index()], "{}", graph.value(*id).name);
        assert_eq!(found.bytes(), expected[id.index()].bytes());
    }
    // The simpler way gives all of them as numbers of 32 bits.
    let numbers = session.forward(&[1.0, 2.0], 1, Mode::Eval, &[]).unwrap().outputs;
    assert_eq!(numbers[2], [2.0, 7.0]);
    assert_eq!(found[1].to_f32().unwrap(), numbers[1]);
    // What comes in is rounded as well.
    assert_eq!(session.forward(&[1.0 + 1e-4, 2.0], 1, Mode::Eval, &[]).unwrap().outputs, numbers);
}

#[test]
fn an_output_that_is_not_used_has_no_gradient_to_wait_for() {
    let mut graph = Graph::new("parts");
    let mut edit = graph.edit();
    let x = edit.add_input("x", &[2]);
    let weight = param(&mut edit, "weight", &[4, 2]);
    let x = edit.add_node("fc", Op::Linear, &[x], &[weight]).unwrap();
    let split = Op::Split(Split { axis: 1, sizes: vec![1.into(), 3.into()] });
    let parts = edit.add_node_with_outputs("split", split, &[x], &[], &["a".into(), "b".into()]).unwrap();
    edit.set_outputs(&parts[1..]);
    edit.commit().unwrap();
    let mut session = Session::new(&graph).unwrap();
    session.forward(&[1.0, 2.0], 1, Mode::Train, &[]).unwrap();
    session.backward(&[vec![1.0, 2.0, 3.0]], &[]).unwrap();
    assert_eq!(session.gradients(), [0.0, 0.0, 1.0, 2.0, 2.0, 4.0, 3.0, 6.0]);
}

#[test]
fn a_long_chain_of_shapes_needs_no_large_stack() {
    let mut graph = Graph::new("shapes");
    let mut edit = graph.edit();
    let x = edit.add_input("x", &[2]);
    let weight = param(&mut edit, "weight", &[2, 2]);
    let mut y = edit.add_node("fc", Op::Linear, &[x], &[weight]).unwrap();
    for i in 0..9_000 {
        let shape = if i % 2 == 0 { vec![Dim::Batch, 1.into(), 2.into()] } else { vec![Dim::Batch, 2.into()] };
        y = edit.add_node(&format!("shape{i}"), Op::Reshape(op::Reshape { shape }), &[y], &[]).unwrap();
    }
    edit.set_outputs(&[y]);
    edit.commit().unwrap();
    let mut session = Session::new(&graph).unwrap();
    session.forward(&[1.0, 2.0], 1, Mode::Train, &[]).unwrap();
    session.backward(&[vec![1.0, 0.5]], &[]).unwrap();
    assert_eq!(session.gradients(), [1.0, 2.0, 0.5, 1.0]);
}
