//! The sizes of a network after a cut: what operators have in their configuration, and what it costs.

use std::collections::BTreeMap;

use super::leaves::{Axis, LeafId};
use super::{Cut, Dims};
use crate::graph::op::{
    Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Expand, GroupNorm, Gru, Lstm, Pad, Reshape, ResizeNearest, Slice,
    Split, ValueType,
};
use crate::graph::{Dim, Graph, GraphError, Node, Op, OpError, ValueId, cost};

/// The sizes of leaves after a cut.
pub(super) type Sizes = BTreeMap<LeafId, usize>;

impl Dims {
    /// What a network costs of whose groups only so many coordinates are left, without the network being made.
    /// `params` counts like [`cost::of_graph`]; nothing is said about zeros.
    pub fn cost(&self, graph: &Graph, counts: &[usize]) -> cost::Cost {
        let sizes: Sizes = self.groups.iter().zip(counts).map(|(group, count)| (group.leaf, *count)).collect();
        let shapes: Vec<Vec<usize>> =
            self.params.iter().map(|axes| axes.iter().map(|axis| self.count(axis, &sizes)).collect()).collect();
        let values: Vec<ValueType> = (graph.values().iter().zip(&self.values))
            .map(|(value, axes)| {
                let dims = axes.iter().zip(value.shape());
                let dims = dims.map(|(axis, old)| self.dim(axis, *old, &sizes).unwrap_or(*old)).collect();
                ValueType::new(value.ty.dtype, dims)
            })
            .collect();
        let statistics = graph.statistics();
        let learned = graph.param_ids().filter(|id| !statistics.contains(id));
        let params = learned.map(|id| shapes[id.index()].iter().product::<usize>() as u64).sum();
        let macs = graph.nodes().iter().map(|node| {
            let own: Vec<&[usize]> = node.params.iter().map(|id| &shapes[id.index()][..]).collect();
            let inputs: Vec<&ValueType> = node.inputs.iter().map(|id| &values[id.index()]).collect();
            node.op.macs(&inputs, &own, values[node.output().index()].sample_elements())
        });
        cost::Cost { params, nonzero_params: params, macs: macs.fold(0, u64::saturating_add) }
    }

    /// How many coordinates of each group a cut leaves.
    pub fn counts(cut: &Cut) -> Vec<usize> {
        cut.keep.iter().map(Vec::len).collect()
    }

    /// A node's operator with the sizes that it has after a cut.
    pub(super) fn resized(&self, place: usize, node: &Node, sizes: &Sizes) -> Result<Op, GraphError> {
        let own = |index: usize| self.own[place].get(index).map(|axis| self.count(axis, sizes));
        let misfit = || GraphError::Op {
            node: node.name.clone(),
            source: Box::new(OpError::Config {
                op: node.op.name(),
                field: "shape",
                problem: "has no form after the cut".into(),
            }),
        };
        let axis = |value: ValueId, axis: usize, old: Dim| {
            self.dim(&self.values[value.index()][axis], old, sizes).ok_or_else(misfit)
        };
        let shape = |old: &[Dim]| -> Result<Vec<Dim>, GraphError> {
            old.iter().enumerate().map(|(place, old)| axis(node.output(), place, *old)).collect()
        };
        Ok(match &node.op {
            Op::Conv2d(c) => Op::Conv2d(Conv2d { groups: own(0).unwrap_or(c.groups), ..*c }),
            Op::Conv1d(c) => Op::Conv1d(Conv1d { groups: own(0).unwrap_or(c.groups), ..*c }),
            Op::ConvTranspose2d(c) => Op::ConvTranspose2d(ConvTranspose2d { groups: own(0).unwrap_or(c.groups), ..*c }),
            Op::ConvTranspose1d(c) => Op::ConvTranspose1d(ConvTranspose1d { groups: own(0).unwrap_or(c.groups), ..*c }),
            Op::GroupNorm(c) => Op::GroupNorm(GroupNorm { groups: own(0).unwrap_or(c.groups), ..*c }),
            Op::Lstm(c) => Op::Lstm(Lstm { hidden: own(0).unwrap_or(c.hidden), ..*c }),
            Op::Gru(c) => Op::Gru(Gru { hidden: own(0).unwrap_or(c.hidden), ..*c }),
            Op::Pad(c) => {
                let (before, after) = (own(0).unwrap_or(c.before), own(1).unwrap_or(c.after));
                Op::Pad(Pad { before, after, ..*c })
            }
            Op::Slice(c) => match own(0) {
                Some(before) => {
                    let count = axis(node.output(), c.axis, c.end.minus(c.start).ok_or_else(misfit)?)?;
                    // What is before an open place is open, too, and stays as it was.
                    let start = if c.start.fixed().is_some() { Dim::Fixed(before) } else { c.start };
                    Op::Slice(Slice { start, end: start.plus(count).ok_or_else(misfit)?, ..*c })
                }
                None => node.op.clone(),
            },
            Op::Split(c) => {
                let parts = node.outputs.iter().zip(&c.sizes);
                let parts: Result<Vec<Dim>, _> = parts.map(|(part, old)| axis(*part, c.axis, *old)).collect();
                Op::Split(Split { axis: c.axis, sizes: parts? })
            }
            Op::Reshape(c) => Op::Reshape(Reshape { shape: shape(&c.shape)? }),
            Op::Expand(c) => Op::Expand(Expand { shape: shape(&c.shape)? }),
            Op::ResizeNearest(c) => Op::ResizeNearest(ResizeNearest { shape: shape(&c.shape)?, ..c.clone() }),
            other => other.clone(),
        })
    }

    /// The number of places of an axis after a cut; an empty axis has none.
    fn count(&self, axis: &Axis, sizes: &Sizes) -> usize {
        let size = |leaf: &LeafId| sizes.get(leaf).copied().unwrap_or_else(|| self.leaves.size(*leaf));
        axis.iter().map(|term| term.iter().map(size).product::<usize>()).sum()
    }

    /// The size of an axis after a cut. Where nothing of it is cut, it is what it was.
    fn dim(&self, axis: &Axis, old: Dim, sizes: &Sizes) -> Option<Dim> {
        let cut = |leaf: &LeafId| sizes.get(leaf).is_some_and(|size| *size != self.leaves.size(*leaf));
        if !axis.iter().flatten().any(cut) {
            return Some(old);
        }
        let size = |leaf: &LeafId| sizes.get(leaf).map_or_else(|| self.leaves.dim(*leaf), |size| Dim::Fixed(*size));
        axis.iter().try_fold(Dim::Fixed(0), |sum, term| {
            let product = term.iter().try_fold(Dim::Fixed(1), |product, leaf| product.times(size(leaf)))?;
            sum.plus(product)
        })
    }
}
