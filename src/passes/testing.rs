//! What the tests of passes share: random numbers for networks, and whether two networks compute the same.

use proptest::prelude::*;
use rand::Rng;

use super::apply;
use super::insert_batch_norm::{InsertBatchNorm, Place};
use crate::exec::{Mode, Session};
use crate::graph::op::BatchNorm;
use crate::graph::{Graph, arbitrary};
use crate::seed;
use crate::tensor::TensorData;

pub(super) const BATCH: usize = 5;

pub(super) fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = seed::stream(seed, "passes-test");
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Random inputs of [`BATCH`] samples.
pub(super) fn inputs(graph: &Graph) -> Vec<f32> {
    numbers(BATCH * graph.input_shape().iter().product::<usize>(), 77)
}

pub(super) fn outputs(graph: &Graph) -> Vec<f32> {
    let mut session = Session::new(graph).unwrap();
    session.forward(&inputs(graph), BATCH, Mode::Eval, &[]).unwrap().outputs.concat()
}

/// The largest difference between what two networks make of the same inputs, as a share of the largest output.
pub(super) fn difference(a: &Graph, b: &Graph) -> f32 {
    let (a, b) = (outputs(a), outputs(b));
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

/// Random values for every parameter; variances between 0.5 and 1.5.
pub(super) fn filled(mut graph: Graph, seed: u64) -> Graph {
    let mut edit = graph.edit();
    for (i, id) in edit.graph().param_ids().enumerate() {
        let param = edit.graph().param(id);
        let mut values = numbers(param.data.elements(), seed.wrapping_add(i as u64));
        if param.name.ends_with("running_var") {
            values.iter_mut().for_each(|v| *v = 1.0 + *v / 2.0);
        }
        let data = TensorData::from_f32(param.data.shape().to_vec(), &values).unwrap();
        edit.set_param(id, data);
    }
    edit.commit().unwrap();
    graph
}

/// Random networks with batch normalisations before or behind all activations.
pub(super) fn normalised() -> impl Strategy<Value = Graph> {
    (arbitrary::graphs(), any::<bool>(), any::<u64>()).prop_map(|(mut graph, before, seed)| {
        let place = if before { Place::Before } else { Place::After };
        let config = BatchNorm { epsilon: 1e-3, ..BatchNorm::default() };
        apply(&InsertBatchNorm { place, activations: vec![], config, moments: vec![] }, &mut graph).unwrap();
        filled(graph, seed)
    })
}
