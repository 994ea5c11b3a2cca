//! What is done to the layers that read channels which are gone: they are fitted anew to their outputs before the cut, or
//! get in their bias what the channels brought on average ([`super::super::reconstruct`]).

use std::collections::HashMap;

use crate::graph::dims::{Cut, Dims};
use crate::graph::{Graph, GraphEdit, Node, Op};
use crate::passes::prune::reconstruct::{self, Gram};
use crate::passes::{Pass, PassError};
use crate::tensor::TensorData;

/// How a layer makes up for what it does not read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// By its bias.
    Compensate,
    /// By its weights and its bias.
    Reconstruct,
}

/// Takes channels out and repairs the layers that read them.
#[derive(Debug, Clone)]
pub struct CutAndRepair<'a> {
    /// The groups of the graph.
    pub dims: &'a Dims,
    /// What stays of each.
    pub cut: &'a Cut,
    /// What those of the [`readers`] read before the cut that may be repaired, or would by a deeper cut.
    pub grams: &'a [Gram],
    /// How.
    pub how: Repair,
}

/// The layers that read less after a cut, by their places among the nodes, and what keeps each from being repaired.
pub fn readers(graph: &Graph, dims: &Dims, cut: &Cut) -> Vec<(usize, Option<&'static str>)> {
    let mut counts = HashMap::new();
    graph.nodes().iter().flat_map(|node| &node.params).for_each(|id| *counts.entry(*id).or_insert(0) += 1);
    let obstacle = |node: &Node| {
        if !node.op.is_dense() {
            Some("it is neither a linear layer nor a convolution of one group")
        } else if node.params.iter().any(|id| counts[id] > 1) {
            Some("others share its weights")
        } else if node.params.iter().any(|id| graph.param(*id).mask.is_some()) {
            Some("some of its weights are pruned, which a fit would undo")
        } else {
            None
        }
    };
    // The weights `[out, in, ..]`; those of the other layers are turned or read no channels.
    let nodes = graph.nodes().iter().enumerate().filter(|(_, node)| {
        matches!(node.op, Op::Linear | Op::Conv2d(_) | Op::Conv1d(_) | Op::Lstm(_) | Op::Gru(_))
            && dims.kept(node.params[0], 1, cut).len() < graph.param(node.params[0]).data.shape()[1]
    });
    nodes.map(|(place, node)| (place, obstacle(node))).collect()
}

impl Pass for CutAndRepair<'_> {
    fn name(&self) -> &'static str {
        "prune-channels"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let dense = edit.graph().clone();
        self.dims.cut(edit, self.cut)?;
        for gram in self.grams {
            let Some(node) = dense.nodes().iter().find(|node| node.name == gram.node) else { continue };
            let (weight, bias) = (node.params[0], node.params.get(1).copied());
            let shape = dense.param(weight).data.shape();
            let (rows, inputs) = (self.dims.kept(weight, 0, self.cut), self.dims.kept(weight, 1, self.cut));
            if inputs.len() == shape[1] {
                continue;
            }
            let kernel: usize = shape[2..].iter().product();
            let columns: Vec<usize> =
                inputs.iter().flat_map(|input| (0..kernel).map(move |k| input * kernel + k)).collect();
            let values = dense.param(weight).data.to_f32()?;
            let values: Vec<f32> =
                rows.iter().flat_map(|row| &values[row * gram.columns..][..gram.columns]).copied().collect();
            let biases = bias.map(|bias| dense.param(bias).data.to_f32()).transpose()?;
            let biases: Option<Vec<f32>> = biases.map(|biases| rows.iter().map(|row| biases[*row]).collect());
            let repaired = match (self.how, gram.means()) {
                (Repair::Reconstruct, _) => reconstruct::refit(&values, biases.as_deref(), gram, &columns),
                (Repair::Compensate, Some(means)) => {
                    reconstruct::compensate(&values, biases.as_deref(), &means, &columns)
                }
                // A layer without a bias has nothing to compensate with.
                (Repair::Compensate, None) => continue,
            };
            let name = || dense.param(weight).name.clone();
            let (weights, biases) = repaired.map_err(|source| PassError::Linalg { name: name(), source })?;
            let mut put = |id, values: &[f32]| -> Result<(), PassError> {
                let old = &edit.graph().param(id).data;
                let data = TensorData::from_f32(old.shape().to_vec(), values)?.to_float(old.dtype())?;
                edit.set_param(id, data);
                Ok(())
            };
            put(weight, &weights)?;
            if let (Some(id), Some(biases)) = (bias, biases) {
                put(id, &biases)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::prune::channels::networks::two_convolutions;

    #[test]
    fn layers_that_a_fit_would_harm_are_told_apart() {
        let mut graph = two_convolutions();
        let dims = Dims::of(&graph);
        let mut cut = dims.whole();
        cut.keep.iter_mut().for_each(|keep| keep.truncate(2));
        let told = |graph: &Graph| {
            let all = readers(graph, &dims, &cut).into_iter();
            all.map(|(place, obstacle)| (graph.nodes()[place].name.clone(), obstacle.is_some())).collect::<Vec<_>>()
        };
        let [conv2, fc] = ["conv2", "fc"].map(String::from);
        assert_eq!(told(&graph), [(conv2.clone(), false), (fc.clone(), false)]);
        let mut edit = graph.edit();
        let weight = edit.graph().param_id("fc.weight").unwrap();
        let elements = edit.graph().param(weight).data.elements();
        edit.set_mask(weight, Some(vec![true; elements].into()));
        edit.commit().unwrap();
        assert_eq!(told(&graph), [(conv2, false), (fc, true)]);
    }
}
