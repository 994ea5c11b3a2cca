//! What differs between training and evaluation: statistics, frozen parameters, dropout; and rounding, which does not.

use std::collections::HashSet;

use super::*;
use crate::graph::ParamId;

#[test]
fn running_statistics_follow_the_batches_moments() {
    let graph = resnet();
    let (mut session, batch) = (Session::new(&graph).unwrap(), 4);
    let (bn1, conv1) = (graph.param_id("bn1.running_mean").unwrap(), value(&graph, "conv1"));
    let range = |session: &Session, id: ParamId| session.views()[id.index()].range.clone();
    let variance = graph.param_id("bn1.running_var").unwrap();
    let (mut mean, mut var) = (vec![], vec![]);
    for (pass, momentum) in [(0, None), (1, None), (2, Some(0.25))] {
        let x = numbers(batch * 60, 50 + pass);
        if pass == 0 {
            mean = wide(&session.params()[range(&session, bn1)]);
            var = wide(&session.params()[range(&session, variance)]);
        }
        session.set_momentum(momentum);
        let values = session.forward(&x, batch, Mode::Train, &[conv1]).unwrap().taps.remove(0);
        let m = momentum.unwrap_or(0.1);
        for c in 0..3 {
            // 4 samples of 3 channels of 30 pixels.
            let of_channel: Vec<f64> = wide(&values).chunks(30).skip(c).step_by(3).flatten().copied().collect();
            let batch_mean = of_channel.iter().sum::<f64>() / 120.0;
            let unbiased = of_channel.iter().map(|v| (v - batch_mean).powi(2)).sum::<f64>() / 119.0;
            mean[c] = (1.0 - m) * mean[c] + m * batch_mean;
            var[c] = (1.0 - m) * var[c] + m * unbiased;
        }
        assert_close(&session.params()[range(&session, bn1)], &mean, 1e-5, "mean");
        assert_close(&session.params()[range(&session, variance)], &var, 1e-5, "variance");
        // Evaluation measures nothing.
        let before = session.params().to_vec();
        session.forward(&x, batch, Mode::Eval, &[]).unwrap();
        assert_eq!(session.params(), before);
    }
}

#[test]
fn one_value_a_channel_is_normalised_by_the_running_statistics() {
    let graph = filled(GraphBuilder::new("bn", &[3]).batch_norm("bn").build().unwrap(), 9);
    let mut session = Session::new(&graph).unwrap();
    let before = session.params().to_vec();
    let x = numbers(3, 1);
    let train = session.forward(&x, 1, Mode::Train, &[]).unwrap();
    assert_eq!(session.params(), before);
    assert_eq!(session.forward(&x, 1, Mode::Eval, &[]).unwrap(), train);
}

#[test]
fn frozen_parameters_come_last_and_have_no_gradient() {
    let graph = resnet();
    let frozen: HashSet<ParamId> =
        ["conv1.weight", "bn3.weight", "fc1.bias"].iter().map(|name| graph.param_id(name).unwrap()).collect();
    let (mut all, mut some) = (Session::new(&graph).unwrap(), Session::for_training(&graph, &frozen).unwrap());
    let x = inputs(&graph, 4);
    let out = all.forward(&x, 4, Mode::Train, &[]).unwrap();
    assert_eq!(some.forward(&x, 4, Mode::Train, &[]).unwrap(), out);
    all.backward(&out.outputs, &[]).unwrap();
    some.backward(&out.outputs, &[]).unwrap();
    let statistics = graph.statistics();
    let mut trained = 0;
    for (a, b) in all.views().iter().zip(some.views()) {
        assert_eq!(all.params()[a.range.clone()], some.params()[b.range.clone()], "{}", a.name);
        if statistics.contains(&a.id) || frozen.contains(&b.id) {
            assert!(b.range.start >= some.trained(), "{}", b.name);
        } else {
            trained += b.range.len();
            assert_eq!(all.gradients()[a.range.clone()], some.gradients()[b.range.clone()], "{}", a.name);
        }
    }
    let lengths = (some.gradients().len(), some.buffers_mut().0.len(), some.buffers_mut().1.len());
    assert_eq!((some.trained(), lengths), (trained, (trained, trained, trained)));
}

#[test]
fn frozen_statistics_stay_and_normalise_while_training_too() {
    let graph = resnet();
    let frozen = graph.statistics();
    let mut session = Session::for_training(&graph, &frozen).unwrap();
    let (x, before) = (inputs(&graph, 4), session.params().to_vec());
    let train = session.forward(&x, 4, Mode::Train, &[]).unwrap();
    assert_eq!(session.params(), before);
    // Outside of training the statistics are part of the weights.
    let eval = session.forward(&x, 4, Mode::Eval, &[]).unwrap();
    assert_close(&eval.outputs[0], &wide(&train.outputs[0]), 1e-5, "output");
}

#[test]
fn all_parameters_together_are_the_whole_model() {
    let graph = resnet();
    let (x, mut session) = (inputs(&graph, 4), Session::new(&graph).unwrap());
    let (saved, expected) = (session.params().to_vec(), session.forward(&x, 4, Mode::Eval, &[]).unwrap());
    session.forward(&x, 4, Mode::Train, &[]).unwrap();
    assert_ne!(session.forward(&x, 4, Mode::Eval, &[]).unwrap(), expected);
    session.params_mut().copy_from_slice(&saved);
    assert_eq!(session.forward(&x, 4, Mode::Eval, &[]).unwrap(), expected);
    let mut copy = graph.clone();
    session.write_back(&mut copy).unwrap();
    assert_eq!(copy, graph);
}

#[test]
fn what_a_dropout_leaves_out_follows_from_the_seed_and_its_name() {
    let graph = GraphBuilder::new("drops", &[400]).dropout("a", 0.5).dropout("b", 0.5).build().unwrap();
    let mut session = Session::new(&graph).unwrap();
    let a = value(&graph, "a");
    let mut run = |seed: u64, mode: Mode| {
        session.set_randomness(seed);
        let found = session.forward(&[1.0; 800], 2, mode, &[a]).unwrap();
        (found.taps[0].clone(), found.outputs[0].clone())
    };
    let (first, both) = run(1, Mode::Train);
    assert_eq!(run(1, Mode::Train), (first.clone(), both.clone()));
    assert_ne!(run(2, Mode::Train).0, first);
    // The second dropout does not leave out what the first one does, nor one sample what the other does.
    assert_ne!(both.iter().map(|v| v / 2.0).collect::<Vec<_>>(), first);
    assert_ne!(first[..400], first[400..]);
    assert_eq!(run(1, Mode::Eval), (vec![1.0; 800], vec![1.0; 800]));
}

#[test]
fn values_are_rounded_after_each_node_and_overflow_is_infinite() {
    for dtype in [DType::F16, DType::BF16] {
        let mut graph = resnet();
        let exact = Session::new(&graph).unwrap().forward(&inputs(&graph, 2), 2, Mode::Eval, &[]).unwrap();
        let mut edit = graph.edit();
        edit.set_activations(dtype);
        edit.commit().unwrap();
        let taps: Vec<ValueId> = graph.nodes().iter().map(|n| n.output()).collect();
        let mut session = Session::new(&graph).unwrap();
        for mode in [Mode::Eval, Mode::Train] {
            let found = session.forward(&inputs(&graph, 2), 2, mode, &taps).unwrap();
            for values in &found.taps {
                let rounded = TensorData::from_f32(vec![values.len()], values).and_then(|t| t.to_float(dtype)).unwrap();
                assert_eq!(&rounded.to_f32().unwrap(), values);
            }
        }
        let found = session.forward(&inputs(&graph, 2), 2, Mode::Eval, &[]).unwrap();
        assert_ne!(found, exact);
        // Eight bits of precision and a network of some ten nodes.
        assert_close(&found.outputs[0], &wide(&exact.outputs[0]), 0.2, "output");
    }
    let mut graph = filled(GraphBuilder::new("large", &[1]).linear("fc", 1).build().unwrap(), 1);
    let mut edit = graph.edit();
    edit.set_activations(DType::F16);
    edit.commit().unwrap();
    let found = Session::new(&graph).unwrap().forward(&[1e6], 1, Mode::Eval, &[]).unwrap();
    assert!(found.outputs[0][0].is_infinite());
}
