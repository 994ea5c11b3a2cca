//! Tests of measured moments and running statistics against naive ones.

use std::sync::Arc;

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::data::{Affine, Inputs, Part};
use crate::error::Classify;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{BatchNorm, Conv2d, Dropout};
use crate::graph::{NewNode, init, preset};
use crate::seed;
use crate::tensor::TensorData;

/// Samples of that shape around `offset`.
fn samples(n: usize, shape: &[usize], offset: f32, seed: u64) -> Subset {
    let mut rng = seed::stream(seed, "samples");
    let size = n * shape.iter().product::<usize>();
    let values = (0..size).map(|_| offset + rng.random_range(-1.0..1.0)).collect();
    let part = Part { sample_shape: shape.to_vec(), inputs: Inputs::F32(values), labels: vec![0; n] };
    let affine = Affine { channels: vec![(1.0, 0.0); shape[0]] };
    Subset::new(Arc::new(part), (0..n as u32).collect(), affine)
}

/// Mean and unbiased variance of each channel of values `[n, c, ...]`, in two passes.
fn naive(values: &[f64], channels: usize, per_channel: usize) -> Vec<(f64, f64)> {
    let of = |channel| {
        let own: Vec<f64> = values.chunks(per_channel).skip(channel).step_by(channels).flatten().copied().collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let squares: f64 = own.iter().map(|v| (v - mean).powi(2)).sum();
        (mean, squares / (own.len() as f64 - 1.0))
    };
    (0..channels).map(of).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9 * expected.abs().max(1.0)
}

proptest! {
    #[test]
    fn moments_are_those_of_all_samples_taken_together(
        batches in 1u32..5, batch_size in 2u32..6, offset in prop_oneof![Just(0f32), Just(3e4)], seed: u64,
    ) {
        let mut graph = GraphBuilder::new("net", &[2, 3, 4])
            .conv("conv", 3, 2, Conv2d::default())
            .flatten("flatten")
            .linear("fc", 5)
            .build()
            .unwrap();
        init::initialise(&mut graph, init::Init::He, seed).unwrap();
        let all = (batches * batch_size) as usize;
        let train = samples(all, &[2, 3, 4], offset, seed);
        let values = [graph.inputs()[0], graph.nodes()[0].output(), graph.outputs()[0]];
        let how = Batches { batches, batch_size };
        let found = moments(&graph, &values, &train, how, seed, &|| false).unwrap();

        let batch = train.batch(0..all);
        let taps = Session::new(&graph).unwrap().forward(&batch.inputs, all, Mode::Eval, &values).unwrap().taps;
        for (found, (tap, (channels, per_channel))) in found.iter().zip(taps.iter().zip([(2, 12), (3, 6), (5, 1)])) {
            prop_assert_eq!((found.mean.len(), found.variance.len()), (channels, channels));
            let naive = naive(&wide(tap), channels, per_channel);
            for ((mean, variance), expected) in found.mean.iter().zip(&found.variance).zip(naive) {
                // The same sample may come out a few last bits apart in batches of different sizes.
                let slack = 1e-6 * f64::from(offset).max(1.0);
                prop_assert!((mean - expected.0).abs() < slack, "{mean} {expected:?}");
                prop_assert!((variance - expected.1).abs() < slack * expected.1.max(1.0), "{variance} {expected:?}");
            }
        }
    }

    #[test]
    fn parts_merge_to_the_moments_of_the_whole(
        parts in prop::collection::vec(prop::collection::vec(-1f32..1.0, 1..9), 1..9), offset in -1e5f32..1e5,
    ) {
        let parts: Vec<Vec<f32>> = parts.into_iter().map(|p| p.into_iter().map(|v| v + offset).collect()).collect();
        let mut running = Running::default();
        parts.iter().for_each(|part| running.merge(Running::of(part.iter())));
        let whole = wide(&parts.concat());
        let (mean, variance) = naive(&whole, 1, whole.len())[0];
        prop_assert!(near(running.mean, mean));
        prop_assert!(whole.len() == 1 || near(running.variance(), variance), "{} {variance}", running.variance());
    }
}

#[test]
fn one_number_has_no_variance_and_what_is_not_finite_is_named() {
    let graph = GraphBuilder::new("net", &[2]).linear("fc", 1).build().unwrap();
    let one = Batches { batches: 3, batch_size: 8 };
    let input = graph.inputs()[0];
    let found = moments(&graph, &[input], &samples(1, &[2], 0.0, 1), one, 1, &|| false).unwrap();
    assert_eq!(found[0].variance, [0.0, 0.0]);
    let error = moments(&graph, &[input], &samples(9, &[2], f32::INFINITY, 1), one, 1, &|| false).unwrap_err();
    assert!(matches!(&error, TrainError::NotFinite { name } if name == "input"), "{error}");
}

#[test]
fn batches_are_full_and_no_more_than_there_are() {
    let sizes = |samples, batches, batch_size| {
        let subset = self::samples(samples, &[1], 0.0, 1);
        let found: Vec<Vec<usize>> = super::batches(&subset, Batches { batches, batch_size }, 1).unwrap().collect();
        let mut places = found.concat();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), found.iter().map(Vec::len).sum::<usize>());
        found.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(10, 2, 4), [4, 4]);
    assert_eq!(sizes(10, 9, 4), [4, 4]);
    assert_eq!(sizes(10, 1, 4), [4]);
    assert_eq!(sizes(3, 5, 4), [3]);
    let refused = |batches, batch_size| {
        super::batches(&samples(3, &[1], 0.0, 1), Batches { batches, batch_size }, 1).err().unwrap().to_string()
    };
    assert_eq!(refused(0, 1), "batches must be at least 1");
    assert_eq!(refused(1, 0), "batch_size must be at least 1");
}

/// Two batch normalisations, the second behind a dropout that leaves out nearly everything, with statistics of no use.
fn normalised() -> Graph {
    let mut graph = GraphBuilder::new("net", &[3]).linear("fc", 4).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    let mut edit = graph.edit();
    let batch_norm = |edit: &mut crate::graph::GraphEdit<'_>, value: ValueId, name: &str, channels: usize| {
        let params = [("weight", 0.5), ("bias", 0.25), ("running_mean", 7.0), ("running_var", 9.0)].map(|(role, v)| {
            edit.add_param(&format!("{name}.{role}"), TensorData::from_f32(vec![channels], &vec![v; channels]).unwrap())
        });
        let op = Op::BatchNorm(BatchNorm::default());
        edit.insert_after(value, NewNode { name: name.into(), op, params: params.to_vec() }).unwrap()
    };
    let (input, output) = (edit.graph().inputs()[0], edit.graph().outputs()[0]);
    batch_norm(&mut edit, input, "bn1", 3);
    let drop = NewNode { name: "drop".into(), op: Op::Dropout(Dropout { rate: 0.9 }), params: vec![] };
    let dropped = edit.insert_after(output, drop).unwrap();
    batch_norm(&mut edit, dropped, "bn2", 4);
    edit.commit().unwrap();
    graph
}

fn values(graph: &Graph, name: &str) -> Vec<f32> {
    graph.param(graph.param_id(name).unwrap()).data.to_f32().unwrap()
}

#[test]
fn recalibrated_statistics_are_the_means_over_batches_of_each_batchs_own() {
    let (train, how) = (samples(64, &[3], 2.0, 1), Batches { batches: 5, batch_size: 20 });
    let mut graph = normalised();
    let before = graph.clone();
    recalibrate(&mut graph, &train, how, 4, &|| false).unwrap();

    let (weight, mut expected) = (wide(&values(&graph, "fc.weight")), [vec![(0.0, 0.0); 3], vec![(0.0, 0.0); 4]]);
    let batches: Vec<Vec<usize>> = batches(&train, how, 4).unwrap().collect();
    assert_eq!(batches.len(), 3);
    for places in batches {
        let x = wide(&train.batch(places).inputs);
        let first = naive(&x, 3, 1);
        // Normalised by the batch's own variance divided by the count.
        let scaled = |(i, x): (usize, &f64)| {
            let (mean, variance) = first[i % 3];
            (x - mean) / (variance * 19.0 / 20.0 + 1e-5).sqrt() * 0.5 + 0.25
        };
        let x: Vec<f64> = x.iter().enumerate().map(scaled).collect();
        let product = |x: &[f64]| (0..4).map(|o| (0..3).map(|i| weight[3 * o + i] * x[i]).sum()).collect::<Vec<f64>>();
        let second = naive(&x.chunks(3).flat_map(product).collect::<Vec<f64>>(), 4, 1);
        for (sums, found) in expected.iter_mut().zip([first, second]) {
            sums.iter_mut().zip(found).for_each(|(sum, (m, v))| *sum = (sum.0 + m / 3.0, sum.1 + v / 3.0));
        }
    }
    for (name, expected) in ["bn1", "bn2"].iter().zip(expected) {
        let (mean, variance) =
            (values(&graph, &format!("{name}.running_mean")), values(&graph, &format!("{name}.running_var")));
        for ((m, v), expected) in mean.iter().zip(&variance).zip(expected) {
            assert!((f64::from(*m) - expected.0).abs() < 1e-5, "{name}: {m} {expected:?}");
            assert!((f64::from(*v) - expected.1).abs() < 1e-5, "{name}: {v} {expected:?}");
        }
    }
    let statistics = graph.statistics();
    for (id, (param, before)) in graph.param_ids().zip(graph.params().iter().zip(before.params())) {
        assert_eq!(param == before, !statistics.contains(&id), "{}", param.name);
    }
    assert_eq!(graph.nodes(), before.nodes());
}

#[test]
fn what_cannot_be_measured_leaves_the_statistics_as_they_were() {
    let how = Batches { batches: 2, batch_size: 4 };
    let mut graph = normalised();
    let cancelled = recalibrate(&mut graph, &samples(8, &[3], 0.0, 1), how, 1, &|| true);
    assert!(matches!(cancelled, Err(TrainError::Cancelled)));
    let single = Batches { batches: 2, batch_size: 1 };
    let error = recalibrate(&mut graph, &samples(8, &[3], 0.0, 1), single, 1, &|| false).unwrap_err();
    assert_eq!(error.violations()[0].field, "batch_size");
    let error = recalibrate(&mut graph, &samples(8, &[3], f32::INFINITY, 1), how, 1, &|| false).unwrap_err();
    assert!(matches!(&error, TrainError::NotFinite { .. }), "{error}");
    assert_eq!(graph, normalised());
}

#[test]
fn a_network_without_batch_norm_is_left_alone() {
    let mut graph = GraphBuilder::new("net", &[2]).linear("fc", 1).build().unwrap();
    let before = graph.clone();
    recalibrate(&mut graph, &samples(0, &[2], 0.0, 1), Batches { batches: 1, batch_size: 1 }, 1, &|| false).unwrap();
    assert_eq!(graph, before);
}

#[test]
fn numbers_of_the_structure_are_no_statistics() {
    // It finds the end of each sequence with whole numbers.
    let mut graph = preset::build("lstm:input=5x3,classes=2,hidden=4").unwrap();
    assert!(graph.params().iter().any(|param| !param.data.dtype().is_float()));
    let before = graph.clone();
    recalibrate(&mut graph, &samples(4, &[5, 3], 0.0, 1), Batches { batches: 1, batch_size: 4 }, 1, &|| false).unwrap();
    assert_eq!(graph, before);
}
