use std::sync::Arc;

use rand::Rng;

use super::*;
use crate::data::{Affine, Inputs, Part};
use crate::passes::prune::channels::networks::two_convolutions;
use crate::tensor::TensorData;
use crate::train::objective::{CrossEntropy, Objective};
const SAMPLES: usize = 6;
const ALL: Batches = Batches { batches: 1, batch_size: SAMPLES as u32 };

fn samples() -> Subset {
    let mut rng = crate::seed::stream(3, "samples");
    let inputs = (0..SAMPLES * 3 * 8 * 8).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels = (0..SAMPLES as u32).map(|i| i % 4).collect();
    let part = Part { sample_shape: vec![3, 8, 8], inputs: Inputs::F32(inputs), labels };
    let unchanged = Affine { channels: vec![(1.0, 0.0); 3] };
    Subset::new(Arc::new(part), (0..SAMPLES as u32).collect(), unchanged)
}

/// The mean cross entropy when the columns of `fc` that read channel `channel` of conv2 are scaled.
fn loss(graph: &Graph, channel: usize, scale: f32) -> f64 {
    let mut graph = graph.clone();
    let mut edit = graph.edit();
    let id = edit.graph().param_id("fc.weight").unwrap();
    let shape = edit.graph().param(id).data.shape().to_vec();
    let pixels = shape[1] / 6;
    let mut values = edit.graph().param(id).data.to_f32().unwrap();
    let own = |place: usize| place % shape[1] / pixels == channel;
    values.iter_mut().enumerate().filter(|(place, _)| own(*place)).for_each(|(_, v)| *v *= scale);
    edit.set_param(id, TensorData::from_f32(shape.clone(), &values).unwrap());
    edit.commit().unwrap();
    let train = samples();
    let batch = train.batch(0..SAMPLES);
    let found = Session::new(&graph).unwrap().forward(&batch.inputs, SAMPLES, Mode::Eval, &[]).unwrap();
    CrossEntropy::default().loss(&found, &batch).unwrap().value
}

#[test]
fn taylor_is_the_slope_of_the_loss_as_a_channel_fades() {
    let graph = two_convolutions();
    let dims = Dims::of(&graph);
    let found = scores(&graph, &dims, Importance::Taylor, &samples(), ALL, 1, &|| false).unwrap();
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [8, 6, 0]);
    for (channel, score) in found[1].iter().enumerate() {
        let step = 1e-2;
        let slope = (loss(&graph, channel, 1.0 + step) - loss(&graph, channel, 1.0 - step)) / (2.0 * f64::from(step));
        assert!((score.sqrt() - slope.abs()).abs() < 2e-3, "channel {channel}: {} and {slope}", score.sqrt());
    }
}

#[test]
fn a_channel_that_never_acts_has_no_energy_and_is_always_zero() {
    let mut graph = two_convolutions();
    let mut edit = graph.edit();
    let id = edit.graph().param_id("conv1.bias").unwrap();
    let mut bias = edit.graph().param(id).data.to_f32().unwrap();
    bias[5] = -1e3;
    edit.set_param(id, TensorData::from_f32(vec![8], &bias).unwrap());
    edit.commit().unwrap();
    let dims = Dims::of(&graph);
    for by in [Importance::ActivationEnergy, Importance::Apoz, Importance::Taylor, Importance::Obd] {
        let found = scores(&graph, &dims, by, &samples(), ALL, 1, &|| false).unwrap();
        let silent: Vec<usize> = (0..8).filter(|channel| found[0][*channel] == 0.0).collect();
        assert_eq!(silent, [5], "{}", by.name());
    }
    let apoz = scores(&graph, &dims, Importance::Apoz, &samples(), ALL, 1, &|| false).unwrap();
    assert!(apoz.iter().flatten().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn every_importance_scores_every_channel_of_every_preset_or_says_why_not() {
    let graph = two_convolutions();
    let dims = Dims::of(&graph);
    for (name, by) in Importance::ALL {
        match scores(&graph, &dims, by, &samples(), ALL, 1, &|| false) {
            Ok(found) => assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [8, 6, 0], "{name}"),
            Err(error) => assert!(by == Importance::BatchNormScale, "{name}: {error}"),
        }
    }
}
