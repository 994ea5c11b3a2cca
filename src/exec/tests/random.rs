//! Random graphs against the naive evaluator.

use proptest::prelude::*;

use super::*;
use crate::graph::{Op, arbitrary};

/// The graph with all dropouts taken out.
fn without_dropout(mut graph: Graph) -> Graph {
    let dropouts = graph.nodes().iter().filter(|n| matches!(n.op, Op::Dropout(_))).map(|n| n.name.clone());
    let dropouts: Vec<String> = dropouts.collect();
    let mut edit = graph.edit();
    for name in dropouts {
        edit.replace_node(&name, vec![]).unwrap();
    }
    edit.commit().unwrap();
    graph
}

/// Whether no batch normalisation divides by next to nothing, which would make much of small errors.
fn is_well_conditioned(graph: &Graph, values: &[Vec<f64>]) -> bool {
    let normalised = graph.nodes().iter().filter(|n| matches!(n.op, Op::BatchNorm(_))).map(|n| n.inputs[0]);
    normalised.into_iter().all(|value| {
        let shape = graph.value(value).sample_shape();
        let (plane, x) = (shape[1..].iter().product::<usize>(), &values[value.index()]);
        (0..shape[0]).all(|c| {
            let x: Vec<f64> = (0..x.len()).filter(|i| i / plane % shape[0] == c).map(|i| x[i]).collect();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            // None at all is sound again: the normalised values are zero.
            variance == 0.0 || variance > 1e-3 * mean.powi(2).max(1.0)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_give_the_values_of_the_definitions(graph in arbitrary::graphs()) {
        let (x, mut session) = (inputs(&graph, 5), Session::new(&graph).unwrap());
        let taps: Vec<ValueId> = graph.nodes().iter().map(|n| n.output()).collect();
        let found = session.forward(&x, 5, Mode::Eval, &taps).unwrap();
        let expected = exact_numbers(&graph, session.views(), &wide(session.params()), &wide(&x), 5, Mode::Eval);
        for (value, found) in taps.iter().zip(&found.taps) {
            assert_close(found, &expected[value.index()], 1e-4, &graph.value(*value).name);
        }
    }

    #[test]
    fn random_graphs_train_by_the_values_and_gradients_of_the_definitions(
        graph in arbitrary::graphs().prop_map(without_dropout), seed in any::<u64>(),
    ) {
        const BATCH: usize = 7;
        let (x, mut session) = (inputs(&graph, BATCH), Session::new(&graph).unwrap());
        let (views, before) = (session.views().to_vec(), wide(session.params()));
        let values = |params: &[f64]| exact_numbers(&graph, &views, params, &wide(&x), BATCH, Mode::Train);
        let expected = values(&before);
        prop_assume!(is_well_conditioned(&graph, &expected));
        let found = session.forward(&x, BATCH, Mode::Train, &[]).unwrap().outputs.remove(0);
        let output = graph.outputs()[0];
        assert_close(&found, &expected[output.index()], 1e-3, "output");

        // The slope along one random direction, by the gradient and by central differences.
        let d = numbers(found.len(), seed);
        session.backward(std::slice::from_ref(&d), &[]).unwrap();
        let direction = wide(&numbers(session.trained(), seed ^ 1));
        let loss = |step: f64| -> f64 {
            let mut params = before.clone();
            params.iter_mut().zip(&direction).for_each(|(p, d)| *p += step * d);
            values(&params)[output.index()].iter().zip(&d).map(|(y, d)| y * f64::from(*d)).sum()
        };
        let terms = || session.gradients().iter().zip(&direction).map(|(g, d)| f64::from(*g) * d);
        let (found, expected) = (terms().sum::<f64>(), (loss(1e-7) - loss(-1e-7)) / 2e-7);
        let scale = terms().map(f64::abs).sum::<f64>().max(1.0);
        prop_assert!((found - expected).abs() <= 1e-3 * scale, "{found} {expected}, terms of {scale}");
    }
}
