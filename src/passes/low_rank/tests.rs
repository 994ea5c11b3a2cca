//! Tests of the factorisation on whole layers and networks.

use std::sync::Arc;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d};
use crate::graph::{arbitrary, cost};
use crate::passes::{apply, testing};
use crate::tensor::{DType, TensorData};

fn low_rank(rank: Rank) -> LowRank {
    LowRank { layers: Vec::new(), ignored: Vec::new(), rank, round_to: 8 }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// One layer with random numbers: a linear one, or a convolution with any window that fits its image.
fn layers() -> impl Strategy<Value = Graph> {
    let sizes = (1usize..7, 1usize..7, [1usize..4, 1usize..4], [4usize..9, 4usize..9]);
    let window = ([1usize..4, 1usize..4], [0usize..3, 0usize..3, 0usize..3, 0usize..3], [1usize..3, 1usize..3]);
    (sizes, window, any::<bool>(), any::<u64>()).prop_map(|((i, o, kernel, image), window, linear, seed)| {
        let (stride, padding, dilation) = window;
        // The image is at least 4 wide; a kernel of 3 with dilation 2 reaches over 5.
        let dilation = [0, 1].map(|axis| if kernel[axis] == 3 { 1 } else { dilation[axis] });
        let mut graph = Graph::new("layer");
        let mut edit = graph.edit();
        let (op, input, shape) = match linear {
            // For each of some steps, or for one sample alone.
            true if seed % 2 > 0 => (Op::Linear, vec![image[0], i], vec![o, i]),
            true => (Op::Linear, vec![i], vec![o, i]),
            false => {
                let config = Conv2d { stride, padding, dilation, groups: 1 };
                (Op::Conv2d(config), vec![i, image[0], image[1]], vec![o, i, kernel[0], kernel[1]])
            }
        };
        let x = edit.add_input("input", &input);
        let weight = edit.add_param("layer.weight", TensorData::zeros(shape).unwrap());
        let mut params = vec![weight];
        if seed % 3 > 0 {
            params.push(edit.add_param("layer.bias", TensorData::zeros(vec![o]).unwrap()));
        }
        let y = edit.add_node("layer", op, &[x], &params).unwrap();
        edit.set_outputs(&[y]);
        edit.commit().unwrap();
        testing::filled(graph, seed)
    })
}

fn layer_of(graph: &Graph) -> Layer {
    Layer::of(graph, &graph.nodes()[0], &Default::default()).unwrap()
}

/// The layer of a network of one, factorised at `rank` whatever that costs.
fn at_rank(graph: &Graph, rank: usize) -> Graph {
    let node = &graph.nodes()[0];
    let spectrum = Spectrum::of(graph, 0, node, layer_of(graph)).unwrap();
    let factors = spectrum.factors(graph, rank).unwrap();
    let mut after = graph.clone();
    let mut edit = after.edit();
    layer::replace(&mut edit, &node.name, &factors).unwrap();
    edit.commit().unwrap();
    after
}

fn full_rank(graph: &Graph) -> usize {
    layer_of(graph).full_rank()
}

/// The product of the factors' weights, `first [r, i, kh, 1]` and `second [o, r, 1, kw]`, laid out as the layer's weight
/// `[o, i, kh, kw]`; by the definition, with nothing of the pass.
fn product(after: &Graph) -> Vec<f64> {
    let [first, second] = [0, 1].map(|place| &after.param(after.nodes()[place].params[0]).data);
    let (rank, columns) = (first.shape()[0], first.elements() / first.shape()[0]);
    let (o, kw) = (second.shape()[0], second.shape().get(3).copied().unwrap_or(1));
    let (first, second) = (first.to_f64().unwrap(), second.to_f64().unwrap());
    let mut weight = Vec::new();
    for o in 0..o {
        for column in 0..columns {
            for x in 0..kw {
                let terms = (0..rank).map(|r| second[(o * rank + r) * kw + x] * first[r * columns + column]);
                weight.push(terms.sum());
            }
        }
    }
    weight
}

proptest! {
    #[test]
    fn at_full_rank_a_layer_computes_the_same(before in layers()) {
        let after = at_rank(&before, full_rank(&before));
        prop_assert_eq!(before.output_shape(), after.output_shape());
        prop_assert!(testing::difference(&before, &after) < 1e-5);
    }

    #[test]
    fn the_error_is_the_root_of_the_share_of_the_spectrums_tail(before in layers(), rank in 1usize..20) {
        let rank = rank.min(full_rank(&before));
        let weight = before.params()[0].data.to_f64().unwrap();
        let node = &before.nodes()[0];
        let spectrum = Spectrum::of(&before, 0, node, layer_of(&before)).unwrap();
        let error: f64 = weight.iter().zip(product(&at_rank(&before, rank))).map(|(w, p)| (w - p).powi(2)).sum();
        let norm: f64 = weight.iter().map(|w| w * w).sum();
        prop_assert!(((error / norm).sqrt() - spectrum.lost[rank].sqrt()).abs() < 1e-6);
    }

    #[test]
    fn the_cost_that_is_reckoned_is_the_cost_that_there_is(before in layers(), rank in 1usize..20) {
        let rank = rank.min(full_rank(&before));
        let layer = layer_of(&before);
        let (before, after) = (of_graph(&before), of_graph(&at_rank(&before, rank)));
        prop_assert_eq!(before.macs, layer.cost.macs);
        prop_assert_eq!(after.macs, layer.cost_at(rank).macs);
        prop_assert_eq!(before.params - layer.cost.params, after.params - layer.cost_at(rank).params);
    }

    #[test]
    fn what_is_planned_is_what_is_done(before in arbitrary::graphs(), kind in 0..3, share in 0.2f64..0.95) {
        let rank = [Rank::Fixed(1 + (share * 4.0) as u32), Rank::Energy(share), Rank::MacRatio(share)][kind as usize];
        let pass = low_rank(rank);
        let mut after = before.clone();
        let (plans, applied) = (pass.plans(&before), apply(&pass, &mut after));
        let Ok(plans) = plans else {
            prop_assert_eq!(plans.unwrap_err(), applied.unwrap_err());
            prop_assert_eq!(pass.check(&before).is_err(), true);
            return Ok(());
        };
        let (cost, cost_after) = (of_graph(&before), of_graph(&after));
        prop_assert_eq!(cost.macs - cost_after.macs, plans.iter().map(|p| p.macs_before - p.macs_after).sum::<u64>());
        prop_assert_eq!(
            cost.params - cost_after.params,
            plans.iter().map(|p| p.params_before - p.params_after).sum::<u64>()
        );
        let is_layer = |node: &&Node| matches!(node.op, Op::Linear | Op::Conv2d(_));
        let looked_at: Vec<&str> = before.nodes().iter().filter(is_layer).map(|n| n.name.as_str()).collect();
        prop_assert_eq!(plans.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), looked_at);
        for plan in &plans {
            prop_assert_eq!(plan.rank > 0, plan.kept_because.is_empty());
            prop_assert_eq!(plan.rank > 0, plan.macs_after < plan.macs_before);
            prop_assert_eq!(plan.rank > 0, plan.params_after < plan.params_before);
            prop_assert_eq!(plan.rank > 0, after.nodes().iter().any(|n| n.name == format!("{}.1", plan.name)));
        }
        if let Rank::MacRatio(share) = rank {
            prop_assert!(cost_after.macs as f64 <= share * cost.macs as f64);
        }
    }
}

/// A little of everything: `[8, 9, 9]` in, 3 classes out.
fn network() -> Graph {
    let strided = Conv2d { stride: [2, 1], padding: [1, 2, 1, 2], dilation: [1, 2], groups: 1 };
    let graph = GraphBuilder::new("test", &[8, 9, 9])
        .conv("conv1", 12, 3, strided)
        .activation("relu1", Activation::Relu)
        .conv("conv2", 10, 1, Conv2d { stride: [2, 2], ..Conv2d::default() })
        .conv("grouped", 10, 3, Conv2d { groups: 2, ..Conv2d::default() })
        .flatten("flatten")
        .linear("fc1", 20)
        .linear("fc2", 3);
    testing::filled(graph.build().unwrap(), 4)
}

#[test]
fn layers_become_two_thinner_ones_each() {
    let mut graph = network();
    apply(&low_rank(Rank::Fixed(3)), &mut graph).unwrap();
    expect![[r#"
        input : [N, 8, 9, 9]
        conv1.0 : [N, 3, 5, 9] = Conv2d{stride [2, 1], padding [1, 0, 1, 0], dilation [1, 1], groups 1}(input) [conv1.0.weight F32[3, 8, 3, 1]]
        conv1.1 : [N, 12, 5, 9] = Conv2d{stride [1, 1], padding [0, 2, 0, 2], dilation [1, 2], groups 1}(conv1.0) [conv1.1.weight F32[12, 3, 1, 3], conv1.1.bias F32[12]]
        relu1 : [N, 12, 5, 9] = Relu(conv1.1)
        conv2.0 : [N, 3, 3, 5] = Conv2d{stride [2, 2], padding [0, 0, 0, 0], dilation [1, 1], groups 1}(relu1) [conv2.0.weight F32[3, 12, 1, 1]]
        conv2.1 : [N, 10, 3, 5] = Conv2d{stride [1, 1], padding [0, 0, 0, 0], dilation [1, 1], groups 1}(conv2.0) [conv2.1.weight F32[10, 3, 1, 1], conv2.1.bias F32[10]]
        grouped : [N, 10, 1, 3] = Conv2d{stride [1, 1], padding [0, 0, 0, 0], dilation [1, 1], groups 2}(conv2.1) [grouped.weight F32[10, 5, 3, 3], grouped.bias F32[10]]
        flatten : [N, 30] = Flatten(grouped)
        fc1.0 : [N, 3] = Linear(flatten) [fc1.0.weight F32[3, 30]]
        fc1.1 : [N, 20] = Linear(fc1.0) [fc1.1.weight F32[20, 3], fc1.1.bias F32[20]]
        fc2 : [N, 3] = Linear(fc1.1) [fc2.weight F32[3, 20], fc2.bias F32[3]]
        return fc2
    "#]].assert_eq(&graph.to_string());
}

#[test]
fn what_stays_as_it_is_says_why() {
    let mut graph = network();
    let mut edit = graph.edit();
    let weight = edit.graph().param_id("fc2.weight").unwrap();
    let mask: Arc<[bool]> = vec![true; edit.graph().param(weight).data.elements()].into();
    edit.set_mask(weight, Some(mask));
    edit.commit().unwrap();
    let pass = LowRank { ignored: names(&["conv1"]), ..low_rank(Rank::Fixed(12)) };
    let why: Vec<(String, String)> =
        pass.plans(&graph).unwrap().into_iter().map(|plan| (plan.name, plan.kept_because)).collect();
    let why: Vec<(&str, &str)> = why.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    assert_eq!(
        why,
        [
            ("conv1", "named in ignored"),
            ("conv2", "rank 12 would take more multiplications than before"),
            ("grouped", "grouped convolution"),
            ("fc1", "rank 12 would take as many multiplications as before"),
            ("fc2", "its weight is pruned: the zeros of its mask would be lost"),
        ]
    );
}

#[test]
fn layers_that_share_a_weight_are_left_alone() {
    let mut graph = testing::filled(GraphBuilder::new("test", &[9]).linear("fc1", 9).build().unwrap(), 1);
    let mut edit = graph.edit();
    let (params, top) = (edit.graph().nodes()[0].params.clone(), edit.graph().outputs()[0]);
    let out = edit.add_node("fc2", Op::Linear, &[top], &params).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    for plan in low_rank(Rank::Fixed(1)).plans(&graph).unwrap() {
        assert_eq!(plan.kept_because, "shares its weight with another layer");
    }
}

#[test]
fn names_that_fit_nothing_and_weights_that_are_no_numbers_are_named() {
    let graph = network();
    let error = |pass: LowRank| pass.plans(&graph).unwrap_err().to_string();
    let layers = LowRank { layers: names(&["relu1"]), ..low_rank(Rank::Fixed(1)) };
    assert_eq!(error(layers), "'relu1' in `layers` fits no linear layer or convolution of the model");
    let ignored = LowRank { ignored: names(&["conv9"]), ..low_rank(Rank::Fixed(1)) };
    assert_eq!(error(ignored), "'conv9' in `ignored` fits no node of the model");
    let mut graph = network();
    let mut edit = graph.edit();
    let weight = edit.graph().param_id("fc2.weight").unwrap();
    edit.set_param(weight, TensorData::from_f32(vec![3, 20], &[f32::NAN; 60]).unwrap());
    edit.commit().unwrap();
    let error = low_rank(Rank::Energy(0.5)).plans(&graph).unwrap_err();
    assert_eq!(error, PassError::NonFinite { name: "fc2.weight".into(), count: 60 });
}

#[test]
fn a_budget_that_cannot_be_met_says_what_can() {
    let graph = network();
    let error = low_rank(Rank::MacRatio(0.05)).plans(&graph).unwrap_err();
    let PassError::OutOfReach { field: "mac_ratio", asked: 0.05, reachable } = error else { panic!("{error}") };
    assert_eq!(low_rank(Rank::MacRatio(0.05)).check(&graph).unwrap_err(), error);
    let mut smallest = graph.clone();
    apply(&low_rank(Rank::MacRatio(reachable)), &mut smallest).unwrap();
    assert!(low_rank(Rank::MacRatio(reachable - 2e-4)).plans(&graph).is_err());
}

#[test]
fn a_budget_is_used_where_it_helps_most() {
    // fc1 has rank 8, fc2 any: what is left after fc1's 8 goes to fc2.
    let builder = GraphBuilder::new("test", &[64]).linear("fc1", 64).linear("fc2", 64);
    let mut graph = testing::filled(builder.build().unwrap(), 2);
    let (thin, wide) = (testing::numbers(64 * 8, 5), testing::numbers(8 * 64, 6));
    let product = |row: usize, col: usize| (0..8).map(|k| thin[row * 8 + k] * wide[k * 64 + col]).sum::<f32>();
    let weight: Vec<f32> = (0..64 * 64).map(|place| product(place / 64, place % 64)).collect();
    let mut edit = graph.edit();
    let id = edit.graph().param_id("fc1.weight").unwrap();
    edit.set_param(id, TensorData::from_f32(vec![64, 64], &weight).unwrap());
    edit.commit().unwrap();
    let plans = low_rank(Rank::MacRatio(0.6)).plans(&graph).unwrap();
    // 0.6 * 8192 = 4915 operations are 38 ranks of 128 each.
    assert_eq!(plans.iter().map(|p| p.rank).collect::<Vec<_>>(), [8, 24]);
    let exact = LowRank { layers: names(&["fc1"]), ..low_rank(Rank::Energy(1.0 - 1e-9)) };
    let mut after = graph.clone();
    apply(&exact, &mut after).unwrap();
    assert_eq!(cost::of_graph(&graph).macs - cost::of_graph(&after).macs, 64 * 64 - 8 * 128);
    assert!(testing::difference(&graph, &after) < 1e-5);
}

#[test]
fn factors_have_the_number_format_of_the_weight() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let mut graph = network();
        let mut edit = graph.edit();
        let id = edit.graph().param_id("fc1.weight").unwrap();
        let data = edit.graph().param(id).data.to_float(dtype).unwrap();
        edit.set_param(id, data);
        edit.commit().unwrap();
        apply(&LowRank { layers: names(&["fc1"]), ..low_rank(Rank::Fixed(2)) }, &mut graph).unwrap();
        let of = |name: &str| graph.param(graph.param_id(name).unwrap()).data.dtype();
        assert_eq!((of("fc1.0.weight"), of("fc1.1.weight"), of("fc1.1.bias")), (dtype, dtype, DType::F32));
    }
}

#[test]
fn a_factor_can_be_factorised_again() {
    let mut graph = network();
    let pass = |layers: &str, rank| LowRank { layers: names(&[layers]), ..low_rank(Rank::Fixed(rank)) };
    apply(&pass("fc1", 6), &mut graph).unwrap();
    apply(&pass("fc1.0", 2), &mut graph).unwrap();
    let names: Vec<&str> = graph.nodes().iter().map(|n| n.name.as_str()).filter(|n| n.starts_with("fc1")).collect();
    assert_eq!(names, ["fc1.0.0", "fc1.0.1", "fc1.1"]);
}
