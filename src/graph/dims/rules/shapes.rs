//! The rules of what only moves elements: reshaping, padding, slicing, joining, looking up.

use std::ops::Range;

use super::{Rules, SPATIAL};
use crate::graph::dims::leaves::{Axis, LeafId, Term};
use crate::graph::op::Fill;
use crate::graph::{Dim, Node, ValueId};

impl Rules<'_> {
    /// Both shapes in blocks of axes that hold the same number of places.
    pub(super) fn reshape(&mut self, x: ValueId, y: ValueId) {
        let sizes = |id: ValueId| -> Vec<usize> {
            let axes = self.values[id.index()].iter();
            axes.map(|axis| axis.iter().map(|term| self.leaves.term_size(term)).fold(0, usize::saturating_add))
                .collect()
        };
        let (old, new) = (sizes(x), sizes(y));
        let (mut i, mut j) = (0, 0);
        while i < old.len() || j < new.len() {
            let (from, to) = (i, j);
            let mut product = [1u128; 2];
            let mut take = |side: usize, place: &mut usize, sizes: &[usize]| {
                let size = sizes.get(*place).copied().unwrap_or(1);
                product[side] = product[side].saturating_mul(size as u128);
                *place += usize::from(*place < sizes.len());
                product
            };
            let mut reached = take(0, &mut i, &old);
            reached = if j < new.len() { take(1, &mut j, &new) } else { reached };
            while reached[0] != reached[1] && (i < old.len() || j < new.len()) {
                let behind = reached[0] < reached[1] && i < old.len() || j == new.len();
                reached = if behind { take(0, &mut i, &old) } else { take(1, &mut j, &new) };
            }
            self.block(x, from..i, y, to..j);
        }
    }

    pub(super) fn block(&mut self, x: ValueId, from: Range<usize>, y: ValueId, to: Range<usize>) {
        let (a, b) = (self.product(x, from.clone()), self.product(y, to.clone()));
        match (a, b) {
            (Some(a), Some(b)) => self.same(&a, &b),
            _ => {
                for (id, axes) in [(x, from.clone()), (y, to.clone())] {
                    for axis in axes {
                        self.freeze_value_axis(id, axis, "it is reshaped and has several parts");
                    }
                }
            }
        }
        // An axis is silent if those are that its leaves come from.
        let loud: Vec<usize> = from.filter(|axis| !self.silent[x.index()][*axis]).collect();
        let loud: Vec<LeafId> = loud.into_iter().flat_map(|axis| self.cuttable(x, axis)).collect();
        for axis in to {
            self.silent[y.index()][axis] = self.cuttable(y, axis).iter().all(|leaf| !loud.contains(leaf));
        }
    }

    /// The leaves of an axis that nothing has frozen yet.
    pub(super) fn cuttable(&mut self, id: ValueId, axis: usize) -> Vec<LeafId> {
        let axis = self.value(id, axis);
        let leaves = self.leaves.resolved(&axis).unwrap_or_default().into_iter().flatten();
        leaves.filter(|leaf| self.leaves.frozen(*leaf).is_none()).collect()
    }

    /// The axes as one, the last fastest; a sum among them must be the only one that is not 1, or the innermost.
    pub(super) fn product(&mut self, id: ValueId, axes: Range<usize>) -> Option<Axis> {
        let mut product: Axis = vec![Term::new()];
        for axis in axes {
            let axis = self.value(id, axis);
            let axis = self.leaves.resolved(&axis)?;
            match (&mut product[..], &axis[..]) {
                (terms, [inner]) => terms.iter_mut().for_each(|outer| outer.extend(inner)),
                ([outer], sum) if outer.iter().all(|leaf| self.leaves.size(*leaf) == 1) => product = sum.to_vec(),
                _ => return None,
            }
        }
        if product == [Term::new()] {
            product = self.leaves.axis(Dim::Fixed(1));
        }
        Some(product)
    }

    pub(super) fn expand(&mut self, x: ValueId, y: ValueId) {
        let axes = self.values[x.index()].clone();
        for (from, to) in self.aligned(&axes, y) {
            self.join(x, from, y, to);
        }
    }

    /// Axes whose size stays are the same, others frozen.
    pub(super) fn where_equal(&mut self, x: ValueId, y: ValueId) {
        for axis in 0..self.rank(y) {
            if self.graph.value(x).shape()[axis] == self.graph.value(y).shape()[axis] {
                self.pass(x, y, axis);
            } else {
                self.freeze_value_axis(x, axis, "its places are repeated");
                self.freeze_value_axis(y, axis, "its places are repeated");
            }
        }
    }

    /// `deep` has `block^2` channels for each of `flat`.
    pub(super) fn blocks(&mut self, flat: ValueId, deep: ValueId, block: usize, channel_first: bool) {
        self.pass(flat, deep, 0);
        let area = self.leaves.leaf(Dim::Fixed(block * block));
        self.leaves.freeze(&[vec![area]], "its places become neighbours");
        let (few, many) = (self.value(flat, 1), self.value(deep, 1));
        match self.leaves.resolved(&few).as_deref() {
            Some([few]) if channel_first => self.same(&[[&few[..], &[area]].concat()], &many),
            Some([few]) => self.same(&[[&[area], &few[..]].concat()], &many),
            _ => [few, many].iter().for_each(|axis| self.leaves.freeze(axis, "it has several parts")),
        }
        self.freeze_from(flat, 2, SPATIAL);
        self.freeze_from(deep, 2, SPATIAL);
    }

    pub(super) fn pad(&mut self, place: usize, node: &Node, (axis, before, after): (usize, usize, usize), fill: Fill) {
        let (x, y) = (node.inputs[0], node.output());
        for other in (0..self.rank(x)).filter(|other| *other != axis) {
            self.pass(x, y, other);
        }
        if !matches!(fill, Fill::Value(_)) {
            self.freeze_value_axis(x, axis, "its ends are repeated");
            return self.freeze_value_axis(y, axis, "its ends are repeated");
        }
        let ends = [before, after].map(|n| if n == 0 { Axis::new() } else { self.leaves.axis(Dim::Fixed(n)) });
        let padded = [ends[0].clone(), self.value(x, axis), ends[1].clone()].concat();
        let own = self.value(y, axis);
        self.same(&padded, &own);
        self.own[place] = ends.to_vec();
        self.silent[y.index()][axis] = self.silent[x.index()][axis] && fill == Fill::Value(0.0);
    }

    pub(super) fn slice(&mut self, place: usize, node: &Node, axis: usize, [start, end]: [Dim; 2], step: usize) {
        let (x, y) = (node.inputs[0], node.output());
        for other in (0..self.rank(x)).filter(|other| *other != axis) {
            self.pass(x, y, other);
        }
        let whole = self.graph.value(x).shape()[axis];
        let rest = whole.minus(end).filter(|_| step == 1);
        let Some(rest) = rest else {
            self.freeze_value_axis(x, axis, "some of its places are taken");
            return self.freeze_value_axis(y, axis, "some of its places are taken");
        };
        let ends = [start, rest].map(|n| if n == Dim::Fixed(0) { Axis::new() } else { self.leaves.axis(n) });
        let parts = [ends[0].clone(), self.value(y, axis), ends[1].clone()].concat();
        let own = self.value(x, axis);
        self.same(&parts, &own);
        self.own[place] = ends.to_vec();
        self.silent[y.index()][axis] = self.silent[x.index()][axis];
    }

    /// `parts` one behind the other are `whole` along an axis.
    pub(super) fn side_by_side(&mut self, parts: &[ValueId], whole: ValueId, axis: usize) {
        let joined: Axis = parts.iter().flat_map(|part| self.value(*part, axis)).collect();
        let own = self.value(whole, axis);
        self.same(&joined, &own);
        for other in (0..self.rank(whole)).filter(|other| *other != axis) {
            for part in parts {
                let (a, b) = (self.value(*part, other), self.value(whole, other));
                self.same(&a, &b);
            }
        }
        // Of a split the whole is there before, of a concatenation the parts.
        for any in 0..self.rank(whole) {
            let split = self.silent[whole.index()][any];
            let all = parts.iter().all(|part| self.silent[part.index()][any]);
            self.silent[whole.index()][any] |= all;
            parts.iter().for_each(|part| self.silent[part.index()][any] |= split);
        }
    }

    pub(super) fn gather(&mut self, node: &Node, axis: usize) {
        let [x, places] = node.inputs[..] else { return };
        let y = node.output();
        self.freeze_value_axis(x, axis, "its places are looked up by number");
        let count = self.rank(places);
        (0..axis).for_each(|before| self.pass(x, y, before));
        (0..count).for_each(|own| self.join(places, own, y, axis + own));
        (axis + 1..self.rank(x)).for_each(|behind| self.join(x, behind, y, behind - 1 + count));
    }
}
