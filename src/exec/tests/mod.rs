//! Tests of the session on whole small graphs.

mod cases;
mod inputs;
mod operators;
mod random;
mod training;

use rand::Rng;

use super::*;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d, Pad, Slice, Window};
use crate::graph::{Graph, ValueId, preset};
use crate::passes::apply;
use crate::passes::prune::{Amount, PruneWeights, Scope};
use crate::reference;
use crate::seed;
use crate::tensor::{DType, TensorData};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = seed::stream(seed, "exec-test");
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Random values for every parameter, biases too.
fn filled(mut graph: Graph, seed: u64) -> Graph {
    let mut edit = graph.edit();
    for (i, id) in edit.graph().param_ids().enumerate() {
        let shape = edit.graph().param(id).data.shape().to_vec();
        let mut values = numbers(shape.iter().product(), seed + i as u64);
        if edit.graph().param(id).name.ends_with("running_var") {
            values.iter_mut().for_each(|v| *v = v.abs() + 0.5);
        }
        edit.set_param(id, TensorData::from_f32(shape, &values).unwrap());
    }
    edit.commit().unwrap();
    graph
}

fn mlp() -> Graph {
    let graph = GraphBuilder::new("mlp", &[3, 2])
        .flatten("flatten")
        .linear("fc1", 7)
        .activation("sigmoid", Activation::Sigmoid)
        .linear("fc2", 5)
        .activation("tanh", Activation::Tanh)
        .linear("fc3", 6)
        .activation("relu", Activation::Relu)
        .linear("fc4", 3)
        .build();
    filled(graph.unwrap(), 1)
}

fn lenet() -> Graph {
    let strided = Conv2d { stride: [2, 1], padding: [1, 0, 2, 1], ..Conv2d::default() };
    let grouped = Conv2d { groups: 2, dilation: [1, 2], ..Conv2d::default() };
    let graph = GraphBuilder::new("lenet", &[2, 12, 9])
        .conv("conv1", 4, 3, strided)
        .activation("tanh1", Activation::Tanh)
        .max_pool("pool1", Window { padding: [1, 0, 0, 1], ..Window::sliding(2, 0) })
        .conv("conv2", 6, 2, grouped)
        .activation("relu2", Activation::Relu)
        .avg_pool("pool2", Window::tiles(2))
        .flatten("flatten")
        .linear("fc1", 3)
        .build();
    filled(graph.unwrap(), 2)
}

/// A residual network with a shortcut of each kind, and a batch normalisation of vectors.
fn resnet() -> Graph {
    let padded = Conv2d { padding: [1; 4], ..Conv2d::default() };
    let builder = GraphBuilder::new("resnet", &[2, 6, 5]).conv_without_bias("conv1", 3, 3, padded).batch_norm("bn1");
    let input = builder.top();
    let builder = builder.activation("tanh1", Activation::Tanh).conv_without_bias("conv2", 3, 3, padded);
    let builder = builder.add("add1", input);
    let input = builder.top();
    let builder = builder.conv_without_bias("conv3", 5, 3, Conv2d { stride: [2; 2], ..padded }).batch_norm("bn3");
    let end = builder.top();
    let builder = builder
        .on(input)
        .slice("rows", Slice::places(2, 0, 6, 2))
        .slice("columns", Slice::places(3, 0, 5, 2))
        .pad("channels", Pad::zeros(1, 1, 1));
    let beside = builder.top();
    let builder = builder.on(end).add("add2", beside).activation("relu2", Activation::Relu);
    let builder = builder.global_avg_pool("pool").flatten("flatten").linear("fc1", 6);
    let builder = builder.activation("sigmoid", Activation::Sigmoid).batch_norm("bn4").linear("fc2", 3);
    filled(builder.build().unwrap(), 3)
}

fn inputs(graph: &Graph, batch: usize) -> Vec<f32> {
    numbers(batch * graph.input_shape().iter().product::<usize>(), 77)
}

fn value(graph: &Graph, name: &str) -> ValueId {
    graph.nodes().iter().find(|n| n.name == name).unwrap().output()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// All values of the graph by the definitions, in `f64`, for these numbers in the session's buffers.
fn exact(graph: &Graph, fed: &[TensorData], views: &[ParamView], params: &[f64], mode: Mode) -> Vec<TensorData> {
    let shapes: Vec<&[usize]> = fed.iter().map(TensorData::shape).collect();
    let context = reference::Context { sizes: graph.sizes(&shapes).unwrap(), train: mode == Mode::Train, exact: true };
    let own = graph.params().iter().zip(views).map(|(param, view)| match param.data.dtype().is_float() {
        true => TensorData::from_f64(DType::F64, param.data.shape().to_vec(), &params[view.range.clone()]).unwrap(),
        false => param.data.clone(),
    });
    reference::values(graph, fed, Some(&own.collect::<Vec<_>>()), &context).unwrap()
}

/// The same for a graph of one input of samples, as numbers.
fn exact_numbers(
    graph: &Graph,
    views: &[ParamView],
    params: &[f64],
    x: &[f64],
    batch: usize,
    mode: Mode,
) -> Vec<Vec<f64>> {
    let shape = std::iter::once(batch).chain(graph.input_shape()).collect();
    let x = TensorData::from_f64(DType::F64, shape, x).unwrap();
    exact(graph, &[x], views, params, mode).iter().map(|value| value.to_f64().unwrap()).collect()
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{what} {i}: {found}, expected {expected}");
    }
}

/// Compares outputs and taps with the naive evaluator in `f64`, and every parameter's gradient of `sum(output * d) +
/// sum(tap * d)` with its central differences.
fn check_gradients(graph: &Graph, taps: &[ValueId]) {
    // In f64 the step may be so small that it crosses no kink of ReLU or maximum and its error is below 1e-8.
    const STEP: f64 = 1e-6;
    // Sums of up to some hundred numbers in f32.
    const TOLERANCE: f64 = 2e-5;
    let batch = 3;
    let (x, mut session) = (inputs(graph, batch), Session::new(graph).unwrap());
    let found = session.forward(&x, batch, Mode::Train, taps).unwrap();
    let found: Vec<Vec<f32>> = found.outputs.into_iter().chain(found.taps).collect();
    let d: Vec<Vec<f32>> = (100..).zip(&found).map(|(seed, v)| numbers(v.len(), seed)).collect();
    session.backward(&d[..1], &d[1..]).unwrap();

    let observed: Vec<ValueId> = graph.outputs().iter().chain(taps).copied().collect();
    let (x, mut params) = (wide(&x), wide(session.params()));
    let expected = exact_numbers(graph, session.views(), &params, &x, batch, Mode::Train);
    for (value, found) in observed.iter().zip(&found) {
        assert_close(found, &expected[value.index()], TOLERANCE, &graph.value(*value).name);
    }
    let loss = |params: &[f64]| -> f64 {
        let values = exact_numbers(graph, session.views(), params, &x, batch, Mode::Train);
        observed.iter().zip(&d).flat_map(|(v, d)| values[v.index()].iter().zip(d).map(|(v, d)| v * f64::from(*d))).sum()
    };
    for view in session.views().iter().filter(|view| view.range.end <= session.trained()) {
        let expected = central_differences(&mut params, view.range.clone(), STEP, loss);
        assert!(expected.iter().any(|g| g.abs() > 1e-3), "{} has no gradient to compare", view.name);
        assert_close(&session.gradients()[view.range.clone()], &expected, TOLERANCE, &view.name);
    }
}

#[test]
fn gradients_of_a_perceptron_are_the_central_differences() {
    check_gradients(&mlp(), &[]);
}

#[test]
fn gradients_of_a_convolutional_network_are_the_central_differences() {
    check_gradients(&lenet(), &[]);
}

#[test]
fn gradients_of_a_residual_network_with_batch_norm_are_the_central_differences() {
    check_gradients(&resnet(), &[]);
    let graph = resnet();
    check_gradients(&graph, &[value(&graph, "add1"), value(&graph, "bn3")]);
}

#[test]
fn gradients_that_come_in_at_taps_are_added() {
    let graph = mlp();
    check_gradients(&graph, &[value(&graph, "sigmoid"), value(&graph, "fc3"), value(&graph, "fc4")]);
    let graph = lenet();
    check_gradients(&graph, &[value(&graph, "pool1"), graph.inputs()[0]]);
}

#[test]
fn evaluation_gives_the_outputs_of_training() {
    for graph in [mlp(), lenet()] {
        let (x, mut session) = (inputs(&graph, 4), Session::new(&graph).unwrap());
        let taps = [graph.nodes()[1].output()];
        let train = session.forward(&x, 4, Mode::Train, &taps).unwrap();
        let eval = session.forward(&x, 4, Mode::Eval, &taps).unwrap();
        // Weights are laid out otherwise where they do not change, so sums are taken in another order.
        assert_close(&eval.outputs[0], &wide(&train.outputs[0]), 1e-5, "output");
        assert_close(&eval.taps[0], &wide(&train.taps[0]), 1e-5, "tap");
        assert_eq!(train.outputs[0].len(), 4 * 3);
        assert_eq!(train.taps[0].len(), 4 * graph.value(taps[0]).sample_shape().iter().product::<usize>());
    }
}

#[test]
fn a_batch_gives_what_its_samples_give_one_by_one() {
    let graph = lenet();
    let (x, mut session) = (inputs(&graph, 3), Session::new(&graph).unwrap());
    let all = session.forward(&x, 3, Mode::Eval, &[]).unwrap().outputs.remove(0);
    for (sample, expected) in x.chunks(x.len() / 3).zip(all.chunks(3)) {
        let one = session.forward(sample, 1, Mode::Eval, &[]).unwrap().outputs.remove(0);
        // Matrix products of other sizes may add in another order.
        assert!(one.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{one:?} {expected:?}");
    }
}

#[test]
fn changed_parameters_are_seen_by_the_next_evaluation() {
    let graph = mlp();
    let (x, mut session) = (inputs(&graph, 1), Session::new(&graph).unwrap());
    let before = session.forward(&x, 1, Mode::Eval, &[]).unwrap();
    session.params_mut().iter_mut().for_each(|p| *p *= 0.5);
    let after = session.forward(&x, 1, Mode::Eval, &[]).unwrap();
    assert_ne!(before, after);
    session.load(&graph).unwrap();
    assert_eq!(session.forward(&x, 1, Mode::Eval, &[]).unwrap(), before);
}

#[test]
fn write_back_keeps_each_parameters_number_format() {
    let mut graph = mlp();
    let mut edit = graph.edit();
    let half = edit.graph().param_id("fc1.weight").unwrap();
    let data = edit.graph().param(half).data.to_float(DType::F16).unwrap();
    edit.set_param(half, data);
    edit.commit().unwrap();

    let mut session = Session::new(&graph).unwrap();
    let before = graph.clone();
    session.write_back(&mut graph).unwrap();
    assert_eq!(graph, before);

    session.params_mut().iter_mut().for_each(|p| *p *= 1.0 + 1e-5);
    session.write_back(&mut graph).unwrap();
    for (view, param) in session.views().iter().zip(graph.params()) {
        let exact = TensorData::from_f32(param.data.shape().to_vec(), &session.params()[view.range.clone()]).unwrap();
        assert_eq!(param.data.dtype(), if view.id == half { DType::F16 } else { DType::F32 });
        assert_eq!(param.data, exact.to_float(param.data.dtype()).unwrap());
    }
}

#[test]
fn masked_weights_have_no_gradient_and_return_to_zero() {
    let mut graph = mlp();
    let prune = PruneWeights { amount: Amount::Sparsity(0.6), scope: Scope::Layer, ignored: vec![], scores: None };
    apply(&prune, &mut graph).unwrap();
    let mut session = Session::new(&graph).unwrap();
    let out = session.forward(&inputs(&graph, 2), 2, Mode::Train, &[]).unwrap().outputs;
    session.backward(&out, &[]).unwrap();
    session.params_mut().iter_mut().for_each(|p| *p += 1.0);
    session.apply_masks();
    for (view, param) in session.views().iter().zip(graph.params()) {
        let Some(mask) = &param.mask else { continue };
        for (place, keep) in view.range.clone().zip(mask.iter()) {
            assert_eq!(session.params()[place] != 0.0, *keep, "{} {place}", view.name);
            assert!(*keep || session.gradients()[place] == 0.0);
        }
    }
}

#[test]
fn gradients_at_masked_weights_are_let_through_on_request() {
    let dense = filled(mlp(), 3);
    let mut graph = dense.clone();
    let prune = PruneWeights { amount: Amount::Sparsity(0.6), scope: Scope::Layer, ignored: vec![], scores: None };
    apply(&prune, &mut graph).unwrap();
    // The same zeros without masks: all gradients are those that masks would hide.
    let mut zeros = graph.clone();
    let mut edit = zeros.edit();
    edit.graph().param_ids().collect::<Vec<_>>().into_iter().for_each(|id| edit.set_mask(id, None));
    edit.commit().unwrap();
    let gradients = |graph: &Graph, closed: Option<&Graph>| {
        let mut session = Session::new(graph).unwrap();
        session.let_through(closed.map(|graph| graph.params().iter().map(|p| p.mask.clone()).collect()));
        let out = session.forward(&inputs(graph, 2), 2, Mode::Train, &[]).unwrap().outputs;
        session.backward(&out, &[]).unwrap();
        session.gradients().to_vec()
    };
    assert_eq!(gradients(&graph, Some(&dense)), gradients(&zeros, None));
    assert_eq!(gradients(&graph, Some(&graph)), gradients(&graph, None));
}

#[test]
fn a_residual_network_gives_the_same_bits_with_one_and_two_threads() {
    let graph = filled(preset::build("resnet-cifar-8").unwrap(), 4);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut session = Session::new(&graph).unwrap();
            let out = session.forward(&inputs(&graph, 3), 3, Mode::Train, &[]).unwrap().outputs;
            session.backward(&out, &[]).unwrap();
            (out, session.gradients().to_vec(), session.params().to_vec())
        })
    };
    assert!(run(1) == run(2));
}

#[test]
fn inputs_and_gradients_of_the_wrong_length_are_refused() {
    let mut session = Session::new(&mlp()).unwrap();
    let error = session.forward(&[0.0; 13], 2, Mode::Eval, &[]).unwrap_err();
    assert!(matches!(error, ExecError::Input { batch: 2, sample: 6, actual: 13 }), "{error}");
    assert_eq!(error.to_string(), "a batch of 2 samples of 6 values takes 12, got 13");
    assert!(matches!(session.forward(&[], 0, Mode::Eval, &[]), Err(ExecError::EmptyBatch)));
    assert!(matches!(session.backward(&[], &[]), Err(ExecError::NoForward)));
    session.forward(&[0.0; 12], 2, Mode::Train, &[]).unwrap();
    let error = session.backward(&[vec![0.0; 5]], &[]).unwrap_err();
    assert!(matches!(error, ExecError::Gradient { what: "output", index: 0, expected: 6, actual: 5 }), "{error}");
    session.forward(&[0.0; 12], 2, Mode::Train, &[]).unwrap();
    assert!(matches!(session.backward(&[], &[]), Err(ExecError::Gradient { expected: 6, actual: 0, .. })));
}

#[test]
fn graphs_of_another_structure_and_unknown_taps_are_refused() {
    let mut session = Session::new(&mlp()).unwrap();
    assert!(matches!(session.load(&lenet()), Err(ExecError::OtherGraph { .. })));
    assert!(matches!(session.write_back(&mut lenet()), Err(ExecError::OtherGraph { .. })));
    let error = session.forward(&[0.0; 6], 1, Mode::Eval, &[ValueId(99)]).unwrap_err();
    assert!(matches!(error, ExecError::NoSuchValue { index: 99, .. }), "{error}");
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let graph = lenet();
            let (x, mut session) = (inputs(&graph, 19), Session::new(&graph).unwrap());
            let out = session.forward(&x, 19, Mode::Train, &[]).unwrap().outputs;
            session.backward(&out, &[]).unwrap();
            (out, session.gradients().to_vec())
        })
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn a_graph_of_thousands_of_nodes_needs_no_large_stack() {
    let mut builder = GraphBuilder::new("deep", &[2]).linear("fc", 2);
    for i in 0..9_000 {
        builder = builder.activation(&format!("relu{i}"), Activation::Relu).dropout(&format!("drop{i}"), 0.0);
    }
    let mut session = Session::new(&builder.build().unwrap()).unwrap();
    session.params_mut().fill(0.5);
    session.forward(&[1.0, 1.0], 1, Mode::Train, &[]).unwrap();
    session.backward(&[vec![1.0, 2.0]], &[]).unwrap();
    assert_eq!(session.gradients(), [1.0, 1.0, 2.0, 2.0, 1.0, 2.0]);
}

/// The derivatives of `loss` by the parameters at these places, which are as they were afterwards.
fn central_differences(
    params: &mut [f64],
    places: std::ops::Range<usize>,
    step: f64,
    loss: impl Fn(&[f64]) -> f64,
) -> Vec<f64> {
    let difference = |place: usize| {
        let at = params[place];
        params[place] = at + step;
        let above = loss(params);
        params[place] = at - step;
        let below = loss(params);
        params[place] = at;
        (above - below) / (2.0 * step)
    };
    places.map(difference).collect()
}
