//! Puts batch normalisations in (Ioffe and Szegedy 2015), before or behind activations.
//!
//! With the mean `m` and the variance `v` of each channel of the value that is normalised, the network's function stays as
//! it was: the normalisation undoes itself until training changes it.
//!
//! ```text
//!   (x - m) / sqrt(v + epsilon) * weight + bias = x        weight = sqrt(v + epsilon), bias = m
//! ```
//!
//! Activations that read one value share one normalisation; whoever else reads that value reads it as before.

use std::collections::HashMap;

use super::{Pass, PassError, select};
use crate::graph::dim::shape_text;
use crate::graph::op::BatchNorm;
use crate::graph::{Dim, Graph, GraphEdit, NewNode, Node, Op, ParamId, ValueId};
use crate::tensor::{DType, TensorData};

/// Puts batch normalisations before or after activations.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertBatchNorm {
    /// Before or after.
    pub place: Place,
    /// The activations, by name or glob of their nodes; empty: all.
    pub activations: Vec<String>,
    /// The constants.
    pub config: BatchNorm,
    /// Mean and (unbiased) variance of each channel of the values that [`InsertBatchNorm::values`] names, in that order:
    /// with them the network's function stays as it was. Empty: the new layers have mean 0, variance 1, weight 1 and
    /// bias 0.
    pub moments: Vec<Moments>,
}

/// Where a batch normalisation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between a layer and its activation, as in the paper.
    Before,
    /// Behind the activation.
    After,
}

/// Mean and variance of a value's channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f64>,
    /// The unbiased variances.
    pub variance: Vec<f64>,
}

/// A value that gets a batch normalisation.
struct Spot {
    value: ValueId,
    /// Its channels.
    channels: usize,
    /// The activations that ask for it.
    activations: Vec<String>,
}

impl InsertBatchNorm {
    /// The values that will be normalised, whose moments keep the network's function as it is.
    pub fn values(&self, graph: &Graph) -> Result<Vec<ValueId>, PassError> {
        Ok(self.spots(graph)?.into_iter().map(|spot| spot.value).collect())
    }

    fn spots(&self, graph: &Graph) -> Result<Vec<Spot>, PassError> {
        let is_activation = |node: &Node| matches!(node.op, Op::Activation(_));
        let field = "activations";
        let places = select::named_or_all(graph, field, &self.activations, "activation", is_activation)?;
        let mut spots: Vec<Spot> = Vec::new();
        let mut spot_of: HashMap<ValueId, usize> = HashMap::new();
        for node in places.into_iter().map(|place| &graph.nodes()[place]) {
            let value = match self.place {
                Place::Before => node.inputs[0],
                Place::After => node.output(),
            };
            if let Some(&spot) = spot_of.get(&value) {
                spots[spot].activations.push(node.name.clone());
                continue;
            }
            spot_of.insert(value, spots.len());
            let shape = graph.value(value).shape();
            let channels = match shape[..] {
                [Dim::Batch, Dim::Fixed(channels)] | [Dim::Batch, Dim::Fixed(channels), _, _] => channels,
                _ => {
                    let (node, shape) = (node.name.clone(), shape_text(shape));
                    return Err(PassError::NotNormalisable { field, node, shape });
                }
            };
            spots.push(Spot { value, channels, activations: vec![node.name.clone()] });
        }
        Ok(spots)
    }

    /// The parameters of a new normalisation named `name`, in the order of [`Op::roles`].
    fn params(
        &self,
        edit: &mut GraphEdit<'_>,
        name: &str,
        channels: usize,
        moments: Option<&Moments>,
    ) -> Result<Vec<ParamId>, PassError> {
        let (mean, variance) = match moments {
            Some(moments) => (moments.mean.clone(), moments.variance.clone()),
            None => (vec![0.0; channels], vec![1.0; channels]),
        };
        let (weight, bias) = match moments {
            // Of the variance as it is stored, so that the two cancel.
            Some(_) => {
                let scale = |v: &f64| (f64::from(*v as f32) + self.config.epsilon).sqrt();
                (variance.iter().map(scale).collect(), mean.clone())
            }
            None => (vec![1.0; channels], vec![0.0; channels]),
        };
        let (roles, _) = Op::BatchNorm(self.config).roles();
        let mut params = Vec::new();
        for (role, values) in roles.iter().zip([weight, bias, mean, variance]) {
            let data = TensorData::from_f64(DType::F32, vec![channels], &values)?;
            params.push(edit.add_param(&format!("{name}.{role}"), data));
        }
        Ok(params)
    }
}

impl Pass for InsertBatchNorm {
    fn name(&self) -> &'static str {
        "insert-batch-norm"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let spots = self.spots(edit.graph())?;
        if !self.moments.is_empty() {
            check_moments(edit.graph(), &spots, &self.moments)?;
        }
        for (i, spot) in spots.iter().enumerate() {
            let [name] = select::unused_names(edit.graph(), &spot.activations[0], ["norm"]);
            let params = self.params(edit, &name, spot.channels, self.moments.get(i))?;
            let node = NewNode { name, op: Op::BatchNorm(self.config), params };
            match self.place {
                Place::Before => edit.insert_between(spot.value, node, &spot.activations)?,
                Place::After => edit.insert_after(spot.value, node)?,
            };
        }
        Ok(())
    }
}

/// There must be moments for every spot, of every channel, and they must be numbers.
fn check_moments(graph: &Graph, spots: &[Spot], moments: &[Moments]) -> Result<(), PassError> {
    for (i, spot) in spots.iter().enumerate() {
        let problem = match moments.get(i) {
            None => "are missing".to_string(),
            Some(m) if (m.mean.len(), m.variance.len()) != (spot.channels, spot.channels) => {
                format!("are those of {} channels, it has {}", m.mean.len(), spot.channels)
            }
            // Written so that NaN is refused as well.
            Some(m)
                if !m.variance.iter().all(|v| *v >= 0.0)
                    || m.mean.iter().chain(&m.variance).any(|v| !v.is_finite()) =>
            {
                "are no finite numbers".to_string()
            }
            Some(_) => continue,
        };
        return Err(PassError::Moments { value: graph.value(spot.value).name.clone(), problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::exec::{Mode, Session};
    use crate::graph::arbitrary;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;
    use crate::passes::{apply, testing};

    fn insert(place: Place, activations: &[&str]) -> InsertBatchNorm {
        let activations = activations.iter().map(|a| a.to_string()).collect();
        InsertBatchNorm { place, activations, config: BatchNorm::default(), moments: Vec::new() }
    }

    /// `fc1` is read by two activations and by a sum of both.
    fn network() -> Graph {
        let mut graph = GraphBuilder::new("test", &[4]).linear("fc1", 3).build().unwrap();
        let mut edit = graph.edit();
        let fc1 = edit.graph().outputs()[0];
        let relu = edit.add_node("relu", Op::Activation(Activation::Relu), &[fc1], &[]).unwrap();
        let tanh = edit.add_node("tanh", Op::Activation(Activation::Tanh), &[fc1], &[]).unwrap();
        let sum = edit.add_node("sum", Op::ADD, &[relu, tanh], &[]).unwrap();
        let out = edit.add_node("out", Op::ADD, &[sum, fc1], &[]).unwrap();
        edit.set_outputs(&[out]);
        edit.commit().unwrap();
        graph
    }

    fn nodes(graph: &Graph) -> String {
        let text = graph.to_string();
        let without_params =
            |line: &str| line.split(" [fc1.").next().and_then(|l| l.split(" [relu").next().map(String::from));
        text.lines().filter_map(without_params).map(|line| line + "\n").collect()
    }

    #[test]
    fn activations_of_one_value_share_a_normalisation_and_other_readers_are_left_alone() {
        let mut graph = network();
        apply(&insert(Place::Before, &[]), &mut graph).unwrap();
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input)
            relu.norm : [N, 3] = BatchNorm{epsilon 0.00001, momentum 0.1}(fc1)
            relu : [N, 3] = Relu(relu.norm)
            tanh : [N, 3] = Tanh(relu.norm)
            sum : [N, 3] = Add(relu, tanh)
            out : [N, 3] = Add(sum, fc1)
            return out
        "#]]
        .assert_eq(&nodes(&graph));
        let params: Vec<&str> = graph.params().iter().map(|p| p.name.as_str()).collect();
        let new = ["relu.norm.weight", "relu.norm.bias", "relu.norm.running_mean", "relu.norm.running_var"];
        assert_eq!(params[2..], new);
        let first = |name: &str| graph.param(graph.param_id(name).unwrap()).data.to_f32().unwrap()[0];
        assert_eq!(new.map(first), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn one_of_two_activations_can_be_named() {
        let mut graph = network();
        let pass = insert(Place::Before, &["relu"]);
        assert_eq!(pass.values(&graph).unwrap(), [graph.nodes()[0].output()]);
        apply(&pass, &mut graph).unwrap();
        let reads = |name: &str| {
            let node = graph.nodes().iter().find(|n| n.name == name).unwrap();
            graph.value(node.inputs[0]).name.clone()
        };
        assert_eq!((reads("relu"), reads("tanh")), ("relu.norm".to_string(), "fc1".to_string()));
    }

    #[test]
    fn behind_an_activation_all_its_readers_are_moved_and_names_stay_unique() {
        let mut graph = network();
        apply(&insert(Place::After, &["relu"]), &mut graph).unwrap();
        apply(&insert(Place::After, &["relu"]), &mut graph).unwrap();
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input)
            relu : [N, 3] = Relu(fc1)
            relu.norm_2 : [N, 3] = BatchNorm{epsilon 0.00001, momentum 0.1}(relu)
            relu.norm : [N, 3] = BatchNorm{epsilon 0.00001, momentum 0.1}(relu.norm_2)
            tanh : [N, 3] = Tanh(fc1)
            sum : [N, 3] = Add(relu.norm, tanh)
            out : [N, 3] = Add(sum, fc1)
            return out
        "#]]
        .assert_eq(&nodes(&graph));
    }

    #[test]
    fn what_cannot_be_normalised_is_named() {
        let mut graph = GraphBuilder::new("test", &[4, 5]).activation("relu", Activation::Relu).build().unwrap();
        let error = apply(&insert(Place::Before, &[]), &mut graph).unwrap_err();
        let text = "`activations`: node 'relu' works on [N, 4, 5], a batch normalisation on [N, c] or [N, c, h, w]";
        assert_eq!(error.to_string(), text);
        let error = insert(Place::Before, &["fc1"]).values(&network()).unwrap_err();
        assert_eq!(error.to_string(), "'fc1' in `activations` fits no activation of the model");
    }

    #[test]
    fn moments_must_be_numbers_of_every_channel() {
        for (moments, problem) in [
            (vec![Moments { mean: vec![0.0; 2], variance: vec![1.0; 2] }], "are those of 2 channels, it has 3"),
            (vec![Moments { mean: vec![f64::NAN; 3], variance: vec![1.0; 3] }], "are no finite numbers"),
            (vec![Moments { mean: vec![0.0; 3], variance: vec![-1.0; 3] }], "are no finite numbers"),
        ] {
            let error = apply(&InsertBatchNorm { moments, ..insert(Place::Before, &[]) }, &mut network()).unwrap_err();
            assert_eq!(error, PassError::Moments { value: "fc1".into(), problem: problem.into() });
        }
    }

    /// Mean and unbiased variance of each channel of a value `[batch, channels, ...]`.
    fn moments(values: &[f32], channels: usize) -> Moments {
        let plane = values.len() / testing::BATCH / channels;
        let of = |channel: usize| -> Vec<f64> {
            let planes = values.chunks(plane).skip(channel).step_by(channels);
            planes.flatten().map(|v| f64::from(*v)).collect()
        };
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let unbiased = |v: &[f64]| v.iter().map(|x| (x - mean(v)).powi(2)).sum::<f64>() / (v.len() - 1) as f64;
        let channels = 0..channels;
        Moments {
            mean: channels.clone().map(|c| mean(&of(c))).collect(),
            variance: channels.map(|c| unbiased(&of(c))).collect(),
        }
    }

    proptest! {
        #[test]
        fn with_the_moments_of_its_values_the_network_computes_the_same(graph in arbitrary::graphs(), before: bool) {
            let pass = insert(if before { Place::Before } else { Place::After }, &[]);
            let values = pass.values(&graph).unwrap();
            let mut session = Session::new(&graph).unwrap();
            let taps = session.forward(&testing::inputs(&graph), testing::BATCH, Mode::Eval, &values).unwrap().taps;
            let channels = values.iter().map(|v| graph.value(*v).sample_shape()[0]);
            let moments = taps.iter().zip(channels).map(|(tap, channels)| moments(tap, channels)).collect();
            let mut after = graph.clone();
            apply(&InsertBatchNorm { moments, ..pass }, &mut after).unwrap();
            prop_assert_eq!(after.nodes().len(), graph.nodes().len() + values.len());
            prop_assert!(testing::difference(&graph, &after) < 1e-5);
        }
    }
}
