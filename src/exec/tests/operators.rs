//! Every operator with its options: values against the evaluator by the definitions, gradients against its central
//! differences.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::cases::{Arg, Case, all, random};
use super::*;
use crate::graph::op::{self, Op, ValueType};
use crate::graph::{Dim, ParamId};

/// The graph of a case: each floating point input is a learned constant, or the sum of an open input and one.
fn graph(case: &Case) -> (Graph, Vec<TensorData>) {
    let mut graph = Graph::new("case");
    let mut edit = graph.edit();
    // A graph needs an input, which need not be read.
    edit.add_input("batch", &[]);
    let mut fed = vec![TensorData::from_f32(vec![2], &[0.0; 2]).unwrap()];
    let mut values = Vec::new();
    for (i, arg) in case.inputs.iter().enumerate() {
        let name = format!("x{i}");
        let constant = |dtype| Op::Constant(op::Constant { dtype });
        values.push(match arg {
            Arg::Plain(data) => {
                let param = edit.add_fixed_param(&format!("{name}.value"), data.clone());
                edit.add_node(&name, constant(data.dtype()), &[], &[param]).unwrap()
            }
            Arg::Numbers { .. } => {
                let param = edit.add_param(&format!("{name}.value"), arg.numbers(i as u64));
                edit.add_node(&name, constant(DType::F32), &[], &[param]).unwrap()
            }
            Arg::Open(dims) => {
                let dims: Vec<Dim> = dims.iter().map(|dim| dim.parse().unwrap()).collect();
                let sizes = crate::graph::dim::Sizes { batch: 2, sequence: 3 };
                let shape: Vec<usize> = dims.iter().map(|dim| dim.at(sizes).unwrap()).collect();
                let own: Vec<usize> = dims.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
                let open = edit.add_input_of(&format!("{name}.open"), ValueType::new(DType::F32, dims));
                fed.push(TensorData::from_f32(shape.clone(), &numbers(shape.iter().product(), 500)).unwrap());
                let count = own.iter().product();
                let data = TensorData::from_f32(own, &numbers(count, 501)).unwrap();
                let param = edit.add_param(&format!("{name}.value"), data);
                let constant = edit.add_node(&format!("{name}.learned"), constant(DType::F32), &[], &[param]).unwrap();
                edit.add_node(&name, Op::ADD, &[open, constant], &[]).unwrap()
            }
        });
    }
    let roles = case.op.roles().0;
    let params: Vec<_> = case
        .params
        .iter()
        .enumerate()
        .map(|(i, arg)| match arg {
            Arg::Plain(data) => edit.add_fixed_param(roles[i], data.clone()),
            arg => edit.add_param(roles[i], arg.numbers(40 + i as u64)),
        })
        .collect();
    let types: Vec<ValueType> = values.iter().map(|v| edit.graph().value(*v).ty.clone()).collect();
    let shapes: Vec<Vec<usize>> = params.iter().map(|p| edit.graph().param(*p).data.shape().to_vec()).collect();
    let inferred =
        case.op.infer(&types.iter().collect::<Vec<_>>(), &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let names: Vec<String> =
        (0..inferred.unwrap_or_else(|e| panic!("{case}: {e}")).len()).map(|i| format!("y{i}")).collect();
    let outputs = edit.add_node_with_outputs("node", case.op.clone(), &values, &params, &names).unwrap();
    edit.set_outputs(&outputs);
    edit.commit().unwrap_or_else(|e| panic!("{case}: {e}"));
    (graph, fed)
}

/// Compares all there is; says whether a learned number has a gradient.
fn check(case: &Case) -> bool {
    const STEP: f64 = 1e-6;
    let (graph, fed) = graph(case);
    let mut session = Session::new(&graph).unwrap();
    let mut params = wide(session.params());
    for mode in [Mode::Eval, Mode::Train] {
        let expected = exact(&graph, &fed, session.views(), &params, mode);
        let found = session.run(&fed, mode, &[]).unwrap_or_else(|e| panic!("{case}: {e}")).outputs;
        for (id, found) in graph.outputs().iter().zip(&found) {
            let (expected, ty) = (&expected[id.index()], &graph.value(*id).ty);
            assert_eq!((found.shape(), found.dtype()), (expected.shape(), ty.dtype), "{case}");
            match ty.dtype.is_float() {
                true => assert_close(&found.to_f32().unwrap(), &expected.to_f64().unwrap(), 2e-5, &format!("{case}")),
                false => assert_eq!(found.bytes(), expected.bytes(), "{case}"),
            }
        }
    }
    // The statistics have moved; the batch's own are the same.
    let found = session.run(&fed, Mode::Train, &[]).unwrap().outputs;
    let d: Vec<Vec<f32>> = (100..)
        .zip(&found)
        .map(|(seed, y)| numbers(if y.dtype().is_float() { y.elements() } else { 0 }, seed))
        .collect();
    session.backward(&d, &[]).unwrap_or_else(|e| panic!("{case}: {e}"));
    let loss = |params: &[f64]| -> f64 {
        let values = exact(&graph, &fed, session.views(), params, Mode::Train);
        let of = |(id, d): (&ValueId, &Vec<f32>)| -> f64 {
            if d.is_empty() {
                return 0.0;
            }
            values[id.index()].to_f64().unwrap().iter().zip(d).map(|(y, d)| y * f64::from(*d)).sum()
        };
        graph.outputs().iter().zip(&d).map(of).sum()
    };
    let mut has_gradient = false;
    for view in session.views().iter().filter(|view| view.range.end <= session.trained()) {
        let expected = central_differences(&mut params, view.range.clone(), STEP, loss);
        let what = format!("{case}: gradient of {}", view.name);
        assert_close(&session.gradients()[view.range.clone()], &expected, 1e-4, &what);
        has_gradient |= expected.iter().any(|d| d.abs() > 1e-6);
    }
    has_gradient
}

#[test]
fn values_and_gradients_of_every_operator_are_those_of_the_definitions() {
    for case in all() {
        assert_eq!(check(&case), case.has_gradient, "{case}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn values_and_gradients_of_random_sizes_are_those_of_the_definitions(case in random()) {
        check(&case);
    }
}

#[test]
fn what_is_frozen_changes_nothing_of_the_other_gradients() {
    for case in all() {
        let (graph, fed) = graph(&case);
        let gradients = |frozen: &HashSet<ParamId>| -> BTreeMap<String, Vec<f32>> {
            let mut session = Session::for_training(&graph, frozen).unwrap();
            let found = session.run(&fed, Mode::Train, &[]).unwrap().outputs;
            let d: Vec<Vec<f32>> = (100..)
                .zip(&found)
                .map(|(seed, y)| numbers(if y.dtype().is_float() { y.elements() } else { 0 }, seed))
                .collect();
            session.backward(&d, &[]).unwrap_or_else(|e| panic!("{case}: {e}"));
            let trained = session.views().iter().filter(|view| view.range.end <= session.trained());
            let trained = trained.filter(|view| !view.range.is_empty());
            trained.map(|view| (view.name.clone(), session.gradients()[view.range.clone()].to_vec())).collect()
        };
        let all = gradients(&HashSet::new());
        for id in graph.param_ids().filter(|id| all.contains_key(&graph.param(*id).name)) {
            let mut expected = all.clone();
            expected.remove(&graph.param(id).name);
            assert_eq!(gradients(&HashSet::from([id])), expected, "{case}: without {}", graph.param(id).name);
        }
    }
}

#[test]
fn every_operator_gives_the_same_bits_with_one_and_three_threads() {
    for case in all() {
        let (graph, fed) = graph(&case);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut session = Session::new(&graph).unwrap();
                let found = session.run(&fed, Mode::Train, &[]).unwrap().outputs;
                let d: Vec<Vec<f32>> = found.iter().map(|y| y.to_f32().unwrap_or_default()).collect();
                session.backward(&d, &[]).unwrap();
                (found, session.gradients().to_vec())
            })
        };
        let (one, three) = (run(1), run(3));
        assert!(one.0 == three.0 && one.1.iter().zip(&three.1).all(|(a, b)| a.to_bits() == b.to_bits()), "{case}");
    }
}

#[test]
fn every_operator_passes_on_rounded_values_where_the_graph_says_so() {
    for case in all() {
        let (mut graph, fed) = graph(&case);
        let mut edit = graph.edit();
        edit.set_activations(DType::BF16);
        edit.commit().unwrap();
        let found = Session::new(&graph).unwrap().run(&fed, Mode::Eval, &[]).unwrap().outputs;
        for y in found.iter().filter(|y| y.dtype().is_float()) {
            assert_eq!(&y.to_float(DType::BF16).unwrap().to_float(y.dtype()).unwrap(), y, "{case}");
        }
    }
}

/// The names that operators have, as their definition lists them.
fn names() -> Vec<String> {
    let source = include_str!("../../graph/op/mod.rs");
    let body = source.split("pub fn name(&self)").nth(1).unwrap().split("/// What the parameters are").next().unwrap();
    let listed = body.split('"').skip(1).step_by(2).map(str::to_string);
    let families = op::Activation::ALL.iter().map(|a| a.name());
    let families = families.chain(op::Unary::ALL.iter().map(|u| u.name()));
    let families = families.chain(op::Binary::ALL.iter().map(|b| b.name()));
    let families = families.chain(op::Compare::ALL.iter().map(|c| c.name()));
    let families = families.chain(op::Reduction::ALL.iter().map(|r| r.op_name())).chain(["ArgMax", "ArgMin"]);
    listed.chain(families.map(str::to_string)).collect()
}

#[test]
fn no_operator_is_forgotten() {
    let (cases, names) = (all(), names());
    assert!(names.len() > 110, "{} names", names.len());
    for name in names.iter().filter(|name| *name != "Custom") {
        assert!(cases.iter().any(|case| case.op.name() == name), "no case of {name}");
        let without = ["And", "ArgMax", "ArgMin", "Ceil", "Dequantize", "Equal", "Floor", "Greater", "GreaterOrEqual"];
        let others =
            ["IsNaN", "Less", "LessOrEqual", "Not", "Or", "Quantize", "Range", "Round", "Shape", "Sign", "Xor"];
        let expected = !without.iter().chain(&others).any(|own| own == name);
        let has = cases.iter().any(|case| case.op.name() == name && case.has_gradient);
        assert_eq!(has, expected, "{name} with a gradient");
    }
}

#[test]
fn an_operator_that_is_not_known_does_not_run() {
    let mut graph = Graph::new("custom");
    let mut edit = graph.edit();
    let x = edit.add_input("x", &[1]);
    let outputs = vec![ValueType::new(DType::F32, vec![Dim::Batch])];
    let custom = op::Custom { domain: "com.example".into(), name: "Fancy".into(), outputs };
    let y = edit.add_node("fancy", Op::Custom(custom), &[x], &[]).unwrap();
    edit.set_outputs(&[y]);
    edit.commit().unwrap();
    let error = Session::new(&graph).unwrap().forward(&[1.0], 1, Mode::Eval, &[]).unwrap_err();
    assert!(matches!(error, ExecError::Node { .. }), "{error}");
}
