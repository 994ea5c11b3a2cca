//! Fresh weights. Biases are zero; a batch normalisation starts as one that changes nothing but by its epsilon: weight 1,
//! bias 0, running mean 0, running variance 1.

use std::collections::HashMap;

use rand::Rng;

use super::{Graph, GraphError, Op, ParamId};
use crate::seed;
use crate::tensor::TensorData;

/// How fresh weights are drawn. Biases are zero in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Init {
    /// Uniformly from `±sqrt(6 / fan_in)`: He et al. 2015, for what a ReLU follows.
    #[default]
    He,
    /// Uniformly from `±sqrt(6 / (fan_in + fan_out))`: Glorot and Bengio 2010, for sigmoid and tanh.
    Glorot,
    /// From a normal distribution around 0.
    Normal {
        /// Its standard deviation; above 0.
        std: f64,
    },
}

/// Draws every weight as `init` says and gives all other parameters the values they start from. Each parameter has its own
/// stream of random numbers, so a layer more or less does not change the others.
pub fn initialise(graph: &mut Graph, init: Init, seed: u64) -> Result<(), GraphError> {
    let starts = starts(graph);
    let recurrent = recurrent(graph);
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let param = edit.graph().param(id);
        if param.fixed {
            continue;
        }
        let shape = param.data.shape().to_vec();
        let values = match starts.get(&id) {
            Some(start) => vec![*start; param.data.elements()],
            None if recurrent.contains_key(&id) => {
                let bound = recurrent[&id];
                let mut rng = seed::stream(seed, &format!("init/{}", param.name));
                (0..param.data.elements()).map(|_| rng.random_range(-bound..bound)).collect()
            }
            None if param.is_weight() => init.draw(&shape, &mut seed::stream(seed, &format!("init/{}", param.name))),
            None => vec![0.0; param.data.elements()],
        };
        let data = TensorData::from_f32(shape, &values);
        let data = data.map_err(|source| GraphError::Param { name: param.name.clone(), source })?;
        edit.set_param(id, data);
        edit.set_mask(id, None);
    }
    edit.commit()?;
    Ok(())
}

/// What the parameter in this role starts from, for those roles that are not drawn and not zero.
pub(super) fn start(op: &Op, place: usize) -> Option<f32> {
    match (op, place) {
        (Op::BatchNorm(_), 0 | 3) => Some(1.0),
        (Op::LayerNorm(_) | Op::RmsNorm(_) | Op::GroupNorm(_) | Op::InstanceNorm(_), 0) => Some(1.0),
        (Op::PRelu, 0) => Some(0.25),
        _ => None,
    }
}

/// The bounds that parameters of recurrent layers are drawn from uniformly, whatever the others are drawn from: one by the
/// root of the number of units, as PyTorch does.
fn recurrent(graph: &Graph) -> HashMap<ParamId, f32> {
    let hidden = |op: &Op| match op {
        Op::Lstm(config) => Some(config.hidden),
        Op::Gru(config) => Some(config.hidden),
        _ => None,
    };
    let of_node = |node: &super::Node| hidden(&node.op).map(|hidden| (node.params.clone(), hidden));
    let bounds = graph.nodes().iter().filter_map(of_node);
    bounds.flat_map(|(ids, hidden)| ids.into_iter().map(move |id| (id, 1.0 / (hidden as f32).sqrt()))).collect()
}

fn starts(graph: &Graph) -> HashMap<ParamId, f32> {
    let of_node = |node: &super::Node| -> Vec<(ParamId, f32)> {
        node.params.iter().enumerate().filter_map(|(place, id)| Some((*id, start(&node.op, place)?))).collect()
    };
    graph.nodes().iter().flat_map(of_node).collect()
}

impl Init {
    /// Values for a weight of that shape, `[out, in, ...]`.
    fn draw(self, shape: &[usize], rng: &mut impl Rng) -> Vec<f32> {
        let elements: usize = shape.iter().product();
        let taps: usize = shape[2..].iter().product();
        let (fan_out, fan_in) = (shape[0] * taps, shape[1] * taps);
        let uniform = |rng: &mut _, fans: usize| {
            let bound = (6.0 / fans.max(1) as f32).sqrt();
            (0..elements).map(|_| Rng::random_range(rng, -bound..bound)).collect()
        };
        match self {
            Init::He => uniform(rng, fan_in),
            Init::Glorot => uniform(rng, fan_in + fan_out),
            Init::Normal { std } => (0..elements).map(|_| (std * standard_normal(rng)) as f32).collect(),
        }
    }
}

/// A number from the standard normal distribution (Box and Muller 1958).
fn standard_normal(rng: &mut impl Rng) -> f64 {
    // In (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::preset;

    fn values(init: Init, param: &str) -> Vec<f64> {
        let mut graph = preset::build("resnet-cifar-8").unwrap();
        initialise(&mut graph, init, 1).unwrap();
        let id = graph.param_id(param).unwrap();
        graph.param(id).data.to_f32().unwrap().into_iter().map(f64::from).collect()
    }

    fn spread(values: &[f64]) -> f64 {
        (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn weights_spread_as_the_layer_is_wide() {
        // 9216 numbers: their spread is within about one in a hundred of its expectation, 1 / sqrt(3) of the bound.
        for (init, expected) in [
            (Init::He, (2.0f64 / (32.0 * 9.0)).sqrt()),
            (Init::Glorot, (2.0f64 / (64.0 * 9.0)).sqrt()),
            (Init::Normal { std: 0.3 }, 0.3),
        ] {
            let found = spread(&values(init, "layer2.0.conv2.weight"));
            assert!((found / expected - 1.0).abs() < 0.03, "{init:?}: {found}, expected {expected}");
        }
    }

    #[test]
    fn a_batch_normalisation_starts_as_one_that_changes_nothing() {
        for (role, expected) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            assert_eq!(values(Init::Glorot, &format!("bn1.{role}")), [expected; 16], "{role}");
        }
        assert_eq!(values(Init::He, "linear.bias"), [0.0; 10]);
    }
}
