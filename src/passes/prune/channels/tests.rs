use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;

use super::PruneChannels;
use super::networks::{networks, presets};
use crate::exec::{Mode, Session};
use crate::graph::dims::{Cut, Dims};
use crate::graph::op::{Reshape, Split};
use crate::graph::{Dim, Graph, Op};
use crate::passes;
use crate::seed;
use crate::tensor::TensorData;

/// The largest difference that rounding makes, as a share of the largest output.
const ROUNDING: f32 = 2e-4;

fn outputs(graph: &Graph) -> Vec<f32> {
    let samples = 3;
    let mut rng = seed::stream(7, "inputs");
    let size = samples * graph.input_shape().iter().product::<usize>();
    let inputs: Vec<f32> = (0..size).map(|_| rng.random_range(-1.0..1.0)).collect();
    Session::new(graph).unwrap().forward(&inputs, samples, Mode::Eval, &[]).unwrap().outputs.concat()
}

/// A random half of every exact group goes.
fn half(dims: &Dims, seed: u64) -> Cut {
    let mut rng = seed::stream(seed, "half");
    let mut cut = dims.whole();
    for (group, keep) in dims.groups().iter().zip(&mut cut.keep) {
        if group.is_exact() {
            keep.shuffle(&mut rng);
            keep.truncate(group.size.div_ceil(2));
            keep.sort_unstable();
        }
    }
    cut
}

/// By how much the cut network differs from the one with zeros in place, as a share of the largest output.
fn difference(graph: &Graph, seed: u64) -> f32 {
    let dims = Dims::of(graph);
    let cut = half(&dims, seed);
    let mut smaller = graph.clone();
    passes::apply(&PruneChannels { dims: &dims, cut: &cut }, &mut smaller).unwrap();
    let mut silent = graph.clone();
    let mut edit = silent.edit();
    dims.silence(&mut edit, &cut).unwrap();
    edit.commit().unwrap();
    let (a, b) = (outputs(&smaller), outputs(&silent));
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
    a.iter().zip(&b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_network_without_channels_is_one_whose_channels_are_zero(graph in networks(), seed: u64) {
        let difference = difference(&graph, seed);
        prop_assert!(difference < ROUNDING, "{difference}\n{graph}");
    }

    #[test]
    fn any_graph_can_be_cut(graph in crate::graph::arbitrary::graphs(), seed: u64) {
        let difference = difference(&graph, seed);
        prop_assert!(difference < ROUNDING, "{difference}\n{graph}");
    }
}

#[test]
fn the_built_in_networks_can_be_cut() {
    for graph in presets() {
        for seed in 0..4 {
            let difference = difference(&graph, seed);
            assert!(difference < ROUNDING, "{}: {difference}", graph.name());
        }
    }
}

#[test]
fn an_axis_of_too_many_parts_is_left_whole_when_others_are_cut() {
    let mut graph = Graph::new("parts");
    let mut edit = graph.edit();
    let mut weight = |name: &str, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32 - 3.0).collect();
        edit.add_param(name, TensorData::from_f32(shape.to_vec(), &values).unwrap())
    };
    let [wide, before, narrow] = [weight("wide", &[1200, 8]), weight("before", &[8, 4]), weight("narrow", &[3, 600])];
    let x = edit.add_input("x", &[4]);
    let x = edit.add_node("before", Op::Linear, &[x], &[before]).unwrap();
    let x = edit.add_node("wide", Op::Linear, &[x], &[wide]).unwrap();
    // 600 times 1 + 1: written out, more parts than are followed.
    let shape = vec![Dim::Batch, 600.into(), 2.into()];
    let x = edit.add_node("pairs", Op::Reshape(Reshape { shape }), &[x], &[]).unwrap();
    let split = Op::Split(Split { axis: 2, sizes: vec![1.into(), 1.into()] });
    let names = ["left", "right"].map(String::from);
    let parts = edit.add_node_with_outputs("split", split, &[x], &[], &names).unwrap();
    let shape = vec![Dim::Batch, 600.into()];
    let x = edit.add_node("flat", Op::Reshape(Reshape { shape }), &[parts[0]], &[]).unwrap();
    let x = edit.add_node("narrow", Op::Linear, &[x], &[narrow]).unwrap();
    edit.set_outputs(&[x]);
    edit.commit().unwrap();
    assert!(Dims::of(&graph).groups().iter().any(|group| group.is_exact() && group.name == "before"));
    assert!(difference(&graph, 1) < ROUNDING);
}
