//! The rules of what takes many places together: normalisations and reductions.

use super::Rules;
use crate::graph::op::Reduction;
use crate::graph::{Dim, Node, ValueId};

impl Rules<'_> {
    pub(super) fn norm_channels(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        self.elementwise(x, y, false);
        node.params.iter().for_each(|param| self.param(*param, 0, y, 1));
        self.silent[y.index()][1] = true;
    }

    pub(super) fn norm_last(&mut self, node: &Node, first: usize) {
        let (x, y) = (node.inputs[0], node.output());
        self.elementwise(x, y, false);
        node.params.iter().for_each(|param| self.aligned_param(*param, y));
        for axis in first..self.rank(y) {
            let own = self.value(y, axis);
            self.leaves.blur(&own, "a normalisation takes the mean over it");
            self.silent[y.index()][axis] = true;
        }
    }

    pub(super) fn group_norm(&mut self, place: usize, node: &Node, groups: usize) {
        let (x, y) = (node.inputs[0], node.output());
        self.norm_channels(node);
        let Some(channels) = self.graph.value(x).shape()[1].fixed() else { return };
        let (group, inner) = (self.leaves.leaf(Dim::Fixed(groups)), self.leaves.leaf(Dim::Fixed(channels / groups)));
        self.own[place] = vec![vec![vec![group]]];
        let own = self.value(y, 1);
        self.same(&own, &[vec![group, inner]]);
        self.leaves.blur(&[vec![inner]], "a normalisation takes the mean over it");
    }

    pub(super) fn reduce(&mut self, x: ValueId, y: ValueId, of: Reduction, axes: &[usize], keep: bool) {
        use Reduction::{L1, L2, LogSum, LogSumExp, Sum, SumSquare};
        let sums = matches!(of, L1 | L2 | Sum | SumSquare);
        for axis in axes {
            if !sums || !self.silent[x.index()][*axis] {
                self.freeze_value_axis(x, *axis, "one number is made of its places");
            }
        }
        let rest: Vec<usize> = (0..self.rank(x)).filter(|axis| !axes.contains(axis)).collect();
        self.kept(x, y, &rest, keep);
        if matches!(of, LogSum | LogSumExp) {
            self.silent[y.index()].fill(false);
        }
    }
}
