//! Works batch normalisations into the layers beside them and takes dropouts out: for inference. The network's function
//! stays the same, up to rounding; its arithmetic is less.
//!
//! With the running statistics, a normalisation multiplies each channel by a number and adds one:
//!
//! ```text
//!   norm(x) = scale * x + shift        scale = weight / sqrt(running_var + epsilon), shift = bias - running_mean * scale
//!   norm(W x + b) = (scale W) x + (scale b + shift)                          each row of W and b by its own scale
//!   W norm(x) + b = (W scale) x + (b + W shift)                              each column of W by its own scale
//! ```
//!
//! The first form is taken where a linear layer or convolution is in front of the normalisation, the second where one is
//! behind it; not behind it with padding, whose zeros are no values that were shifted. A normalisation stays where the
//! value between the two is read by others as well, where the layer shares its parameters with another, or where the
//! folded numbers would not be finite. Masks stay true: scaling keeps zeros.

use std::collections::HashSet;

use super::{Pass, PassError, select};
use crate::graph::op::Conv2d;
use crate::graph::{Graph, GraphEdit, GraphError, Node, Op, ParamId};
use crate::tensor::{DType, TensorData, TensorError};

/// Folds batch normalisations into layers and takes dropouts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        // First, so that no dropout stands between a layer and its normalisation.
        for name in names(edit.graph(), |op| matches!(op, Op::Dropout(_))) {
            edit.replace_node(&name, Vec::new())?;
        }
        let shared = select::shared_params(edit.graph());
        // From the front to the back: of two normalisations in a row the second folds into what the first did.
        for name in names(edit.graph(), |op| matches!(op, Op::BatchNorm(_))) {
            let graph = edit.graph();
            let Some(norm) = graph.nodes().iter().find(|node| node.name == name) else { continue };
            let folded = match into_layer_in_front(graph, norm, &shared)? {
                Some(folded) => Some(folded),
                None => into_layer_behind(graph, norm, &shared)?,
            };
            if let Some(folded) = folded {
                folded.put(edit)?;
                edit.replace_node(&name, Vec::new())?;
            }
        }
        Ok(())
    }
}

fn names(graph: &Graph, is: impl Fn(&Op) -> bool) -> Vec<String> {
    graph.nodes().iter().filter(|node| is(&node.op)).map(|node| node.name.clone()).collect()
}

/// What a batch normalisation multiplies each channel by, and what it adds.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
    /// The format that the shift was stored in: that of a bias that takes it.
    dtype: DType,
}

impl Affine {
    fn of(graph: &Graph, norm: &Node) -> Result<Option<Self>, TensorError> {
        let (Op::BatchNorm(config), &[weight, bias, mean, variance]) = (&norm.op, &norm.params[..]) else {
            return Ok(None);
        };
        let read = |id: ParamId| graph.param(id).data.to_f64();
        let (weight, mean, variance) = (read(weight)?, read(mean)?, read(variance)?);
        let scale: Vec<f64> = weight.iter().zip(&variance).map(|(w, v)| w / (v + config.epsilon).sqrt()).collect();
        let shift = read(bias)?.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        Ok(Some(Self { scale, shift, dtype: graph.param(bias).data.dtype() }))
    }
}

/// The normalisation worked into the layer whose result it reads.
fn into_layer_in_front(graph: &Graph, norm: &Node, shared: &HashSet<ParamId>) -> Result<Option<Folded>, TensorError> {
    let Some(node) = graph.producer(norm.inputs[0]) else { return Ok(None) };
    if !select::is_read_once(graph, norm.inputs[0]) || !is_foldable(node, shared) {
        return Ok(None);
    }
    let Some(Affine { scale, shift, dtype }) = Affine::of(graph, norm)? else { return Ok(None) };
    let (mut weight, mut bias) = numbers(graph, node)?;
    let row = weight.len() / scale.len().max(1);
    for (channel, (scale, shift)) in scale.iter().zip(&shift).enumerate() {
        weight[channel * row..][..row].iter_mut().for_each(|w| *w *= scale);
        bias[channel] = bias[channel] * scale + shift;
    }
    Folded::new(graph, node, &weight, &bias, dtype)
}

/// The normalisation worked into the layer that reads its result.
fn into_layer_behind(graph: &Graph, norm: &Node, shared: &HashSet<ParamId>) -> Result<Option<Folded>, TensorError> {
    let Some(node) = graph.readers(norm.output()).next() else { return Ok(None) };
    let groups = match node.op {
        Op::Linear => 1,
        Op::Conv2d(Conv2d { padding: [0, 0, 0, 0], groups, .. }) => groups,
        _ => return Ok(None),
    };
    if !select::is_read_once(graph, norm.output()) || !is_foldable(node, shared) {
        return Ok(None);
    }
    let Some(Affine { scale, shift, dtype }) = Affine::of(graph, norm)? else { return Ok(None) };
    let (mut weight, mut bias) = numbers(graph, node)?;
    let (outputs, inputs) = (bias.len(), scale.len() / groups);
    let taps = weight.len() / (outputs * inputs).max(1);
    for (place, taps) in weight.chunks_exact_mut(taps.max(1)).enumerate() {
        let (output, input) = (place / inputs, place % inputs);
        let channel = output / (outputs / groups) * inputs + input;
        bias[output] += shift[channel] * taps.iter().sum::<f64>();
        taps.iter_mut().for_each(|w| *w *= scale[channel]);
    }
    Folded::new(graph, node, &weight, &bias, dtype)
}

/// Whether it is a layer that can take a normalisation without changing what other nodes compute.
fn is_foldable(node: &Node, shared: &HashSet<ParamId>) -> bool {
    matches!(node.op, Op::Linear | Op::Conv2d(_)) && !node.params.iter().any(|id| shared.contains(id))
}

/// Weight `[out, ...]` and bias `[out]` of a layer; the bias is zeros where there is none.
fn numbers(graph: &Graph, node: &Node) -> Result<(Vec<f64>, Vec<f64>), TensorError> {
    let weight = &graph.param(node.params[0]).data;
    let bias = match node.params.get(1) {
        Some(id) => graph.param(*id).data.to_f64()?,
        None => vec![0.0; weight.shape()[0]],
    };
    Ok((weight.to_f64()?, bias))
}

/// A layer's parameters with a normalisation in them.
struct Folded {
    layer: String,
    weight: (ParamId, TensorData),
    bias: (Option<ParamId>, TensorData),
}

impl Folded {
    /// Each parameter in the format that it has, a new bias in `dtype`; `None` if numbers would not be finite in it.
    fn new(
        graph: &Graph,
        node: &Node,
        weight: &[f64],
        bias: &[f64],
        dtype: DType,
    ) -> Result<Option<Self>, TensorError> {
        let (weight_id, bias_id) = (node.params[0], node.params.get(1).copied());
        let old = &graph.param(weight_id).data;
        let weight = TensorData::from_f64(old.dtype(), old.shape().to_vec(), weight)?;
        let dtype = bias_id.map_or(dtype, |id| graph.param(id).data.dtype());
        let bias = TensorData::from_f64(dtype, vec![bias.len()], bias)?;
        let is_finite = |data: &TensorData| Ok(data.to_f64()?.iter().all(|v| v.is_finite()));
        let fits = is_finite(&weight)? && is_finite(&bias)?;
        let folded = Self { layer: node.name.clone(), weight: (weight_id, weight), bias: (bias_id, bias) };
        Ok(fits.then_some(folded))
    }

    fn put(self, edit: &mut GraphEdit<'_>) -> Result<(), GraphError> {
        edit.set_param(self.weight.0, self.weight.1);
        let (Some(id), bias) = self.bias else {
            let [name] = select::unused_names(edit.graph(), &self.layer, ["bias"]);
            let id = edit.add_param(&name, self.bias.1);
            return edit.push_param(&self.layer, id);
        };
        edit.set_param(id, bias);
        if edit.graph().param(id).mask.is_some() {
            // What is added to a bias is not zero where the bias was.
            edit.set_mask(id, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::graph::NewNode;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::{Activation, BatchNorm, Dropout};
    use crate::passes::insert_batch_norm::{InsertBatchNorm, Place};
    use crate::passes::{apply, testing};

    fn normalised(graph: Graph, place: Place, seed: u64) -> Graph {
        let mut graph = graph;
        let config = BatchNorm::default();
        apply(&InsertBatchNorm { place, activations: vec![], config, moments: vec![] }, &mut graph).unwrap();
        testing::filled(graph, seed)
    }

    fn norms(graph: &Graph) -> usize {
        names(graph, |op| matches!(op, Op::BatchNorm(_))).len()
    }

    /// A convolution without bias, its normalisation, a dropout between them; a linear layer behind.
    fn network() -> Graph {
        let builder = GraphBuilder::new("test", &[2, 6, 6]).conv("conv1", 3, 3, Conv2d::default());
        let builder = builder.activation("relu1", Activation::Relu).flatten("flatten");
        let graph = builder.linear("fc1", 4).activation("relu2", Activation::Relu).linear("fc2", 2).build().unwrap();
        let mut graph = normalised(graph, Place::Before, 3);
        let mut edit = graph.edit();
        let weight = edit.graph().nodes()[0].params[0];
        edit.replace_node(
            "conv1",
            vec![
                NewNode { name: "conv1".into(), op: Op::Conv2d(Conv2d::default()), params: vec![weight] },
                NewNode { name: "dropout".into(), op: Op::Dropout(Dropout { rate: 0.5 }), params: vec![] },
            ],
        )
        .unwrap();
        edit.commit().unwrap();
        graph
    }

    #[test]
    fn a_normalisation_goes_into_the_layer_in_front_of_it_which_gets_a_bias() {
        let before = network();
        let mut graph = before.clone();
        apply(&Fold, &mut graph).unwrap();
        expect![[r#"
            input : [N, 2, 6, 6]
            conv1 : [N, 3, 4, 4] = Conv2d{stride [1, 1], padding [0, 0, 0, 0], dilation [1, 1], groups 1}(input) [conv1.weight F32[3, 2, 3, 3], conv1.bias F32[3]]
            relu1 : [N, 3, 4, 4] = Relu(conv1)
            flatten : [N, 48] = Flatten(relu1)
            fc1 : [N, 4] = Linear(flatten) [fc1.weight F32[4, 48], fc1.bias F32[4]]
            relu2 : [N, 4] = Relu(fc1)
            fc2 : [N, 2] = Linear(relu2) [fc2.weight F32[2, 4], fc2.bias F32[2]]
            return fc2
        "#]]
        .assert_eq(&graph.to_string());
        assert!(testing::difference(&before, &graph) < 1e-5);
    }

    #[test]
    fn a_normalisation_goes_into_the_linear_layer_behind_it() {
        let builder = GraphBuilder::new("test", &[4]).linear("fc1", 5).activation("tanh", Activation::Tanh);
        let before = normalised(builder.linear("fc2", 3).build().unwrap(), Place::After, 5);
        let mut graph = before.clone();
        apply(&Fold, &mut graph).unwrap();
        assert_eq!(norms(&graph), 0);
        assert!(testing::difference(&before, &graph) < 1e-5);
    }

    #[test]
    fn padding_of_the_convolution_behind_keeps_a_normalisation_where_it_is() {
        for (padding, left) in [([0; 4], 0), ([0, 0, 0, 1], 1)] {
            let conv = Conv2d { groups: 2, padding, ..Conv2d::default() };
            let builder = GraphBuilder::new("test", &[4, 5, 5]).activation("tanh", Activation::Tanh);
            let before = normalised(builder.conv("conv", 6, 3, conv).build().unwrap(), Place::After, 5);
            let mut graph = before.clone();
            apply(&Fold, &mut graph).unwrap();
            assert_eq!(norms(&graph), left);
            assert!(testing::difference(&before, &graph) < 1e-5);
        }
    }

    #[test]
    fn a_normalisation_stays_where_others_read_the_value_too() {
        let builder = GraphBuilder::new("test", &[4]).linear("fc1", 3).activation("relu", Activation::Relu);
        let mut graph = normalised(builder.build().unwrap(), Place::Before, 7);
        let mut edit = graph.edit();
        let (fc1, relu) = (edit.graph().nodes()[0].output(), edit.graph().outputs()[0]);
        let sum = edit.add_node("sum", Op::ADD, &[fc1, relu], &[]).unwrap();
        edit.set_outputs(&[sum]);
        edit.commit().unwrap();
        let before = graph.clone();
        apply(&Fold, &mut graph).unwrap();
        assert_eq!(graph, before);
    }

    #[test]
    fn a_normalisation_stays_where_its_layer_shares_a_weight() {
        let mut graph = normalised(
            GraphBuilder::new("test", &[3]).linear("fc1", 3).activation("relu", Activation::Relu).build().unwrap(),
            Place::Before,
            9,
        );
        let mut edit = graph.edit();
        let (params, top) = (edit.graph().nodes()[0].params.clone(), edit.graph().outputs()[0]);
        let out = edit.add_node("fc2", Op::Linear, &[top], &params).unwrap();
        edit.set_outputs(&[out]);
        edit.commit().unwrap();
        let before = graph.clone();
        apply(&Fold, &mut graph).unwrap();
        assert_eq!(graph, before);
    }

    #[test]
    fn a_layer_whose_numbers_would_not_be_finite_keeps_its_normalisation() {
        let mut graph = network();
        let mut edit = graph.edit();
        let variance = edit.graph().param_id("relu2.norm.running_var").unwrap();
        edit.set_param(variance, TensorData::from_f32(vec![4], &[1.0, 1.0, -1.0, 1.0]).unwrap());
        edit.commit().unwrap();
        apply(&Fold, &mut graph).unwrap();
        assert_eq!(names(&graph, |op| matches!(op, Op::BatchNorm(_))), ["relu2.norm"]);
    }

    #[test]
    fn what_is_pruned_stays_zero() {
        let mut graph = network();
        let mut edit = graph.edit();
        let weight = edit.graph().param_id("fc1.weight").unwrap();
        let values = edit.graph().param(weight).data.to_f32().unwrap();
        let mask: Arc<[bool]> = (0..values.len()).map(|i| i % 3 > 0).collect();
        let kept: Vec<f32> = values.iter().zip(mask.iter()).map(|(v, keep)| if *keep { *v } else { 0.0 }).collect();
        edit.set_param(weight, TensorData::from_f32(vec![4, 48], &kept).unwrap());
        edit.set_mask(weight, Some(mask.clone()));
        edit.commit().unwrap();
        let before = graph.clone();
        apply(&Fold, &mut graph).unwrap();
        let param = graph.param(graph.param_id("fc1.weight").unwrap());
        assert!(param.data.to_f32().unwrap().iter().zip(mask.iter()).all(|(v, keep)| *keep || *v == 0.0));
        assert_eq!(param.mask, Some(mask));
        // The session sets to zero what a mask says: it has nothing left to do.
        assert!(testing::difference(&before, &graph) < 1e-5);
    }

    proptest! {
        #[test]
        fn the_network_computes_the_same(before in testing::normalised()) {
            let mut after = before.clone();
            apply(&Fold, &mut after).unwrap();
            prop_assert!(norms(&after) <= norms(&before));
            prop_assert!(testing::difference(&before, &after) < 2e-5);
        }
    }
}
