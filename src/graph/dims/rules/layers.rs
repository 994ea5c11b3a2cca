//! The rules of what multiplies: linear layers, products, convolutions, recurrent layers.

use super::{Rules, SPATIAL};
use crate::graph::{Dim, Node};

/// Whether a convolution is a transposed one.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Turned {
    Yes,
    No,
}

impl Rules<'_> {
    pub(super) fn linear(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        let last = self.rank(x) - 1;
        for axis in 0..last {
            self.pass(x, y, axis);
            self.silent[y.index()][axis] &= node.params.len() == 1;
        }
        self.param(node.params[0], 1, x, last);
        node.params.iter().for_each(|param| self.param(*param, 0, y, last));
        self.silent[y.index()][last] = true;
    }

    pub(super) fn matmul(&mut self, node: &Node) {
        let [a, b] = node.inputs[..] else { return };
        let y = node.output();
        let (ra, rb, ry) = (self.rank(a), self.rank(b), self.rank(y));
        let inner = (ra - 1, rb.saturating_sub(2));
        let (left, right) = (self.value(a, inner.0), self.value(b, inner.1));
        self.same(&left, &right);
        if !self.silent[a.index()][inner.0] && !self.silent[b.index()][inner.1] {
            self.leaves.freeze(&left, "it is summed over, and zero does not stay zero before");
        }
        if ra > 1 {
            self.join(a, ra - 2, y, if rb > 1 { ry - 2 } else { ry - 1 });
        }
        if rb > 1 {
            self.join(b, rb - 1, y, ry - 1);
        }
        let before = ry - usize::from(ra > 1) - usize::from(rb > 1);
        for (z, rank) in [(a, ra), (b, rb)] {
            let own = rank.saturating_sub(2);
            for axis in 0..own {
                let to = axis + before - own;
                let (from, into) = (self.value(z, axis), self.value(y, to));
                if self.leaves.term_size(&from[0]) != 1 || from.len() > 1 {
                    self.same(&from, &into);
                    // A factor that is zero is enough.
                    self.silent[y.index()][to] |= self.silent[z.index()][axis];
                }
            }
        }
    }

    pub(super) fn bilinear(&mut self, node: &Node) {
        let [a, b] = node.inputs[..] else { return };
        let y = node.output();
        self.pass(a, y, 0);
        self.pass(b, y, 0);
        let (left, right, product) = (self.value(a, 1), self.value(b, 1), self.value(y, 1));
        match (self.leaves.resolved(&left).as_deref(), self.leaves.resolved(&right).as_deref()) {
            (Some([left]), Some([right])) => self.same(&[[&left[..], right].concat()], &product),
            _ => [left, right, product].iter().for_each(|axis| self.leaves.freeze(axis, "it has several parts")),
        }
        self.freeze_from(a, 2, SPATIAL);
        self.freeze_from(b, 2, SPATIAL);
    }

    pub(super) fn embedding(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.output());
        (0..self.rank(x)).for_each(|axis| self.pass(x, y, axis));
        let last = self.rank(y) - 1;
        let rows = self.params[node.params[0].index()][0].clone();
        self.leaves.freeze(&rows, "its places are looked up by number");
        self.param(node.params[0], 1, y, last);
        self.silent[y.index()][last] = true;
    }

    /// `x[1] = groups x in`, `y[1] = groups x out`, `W [groups x out, in, ..]`, or transposed `W [groups x in, out, ..]`.
    pub(super) fn conv(&mut self, place: usize, node: &Node, groups: usize, turned: Turned) {
        let (x, y, w) = (node.inputs[0], node.output(), node.params[0]);
        self.pass(x, y, 0);
        let [first, second] = [0, 1].map(|axis| self.params[w.index()][axis].clone());
        let (from, to) = (self.value(x, 1), self.value(y, 1));
        let (outer, inner) = if turned == Turned::Yes { (&from, &to) } else { (&to, &from) };
        if groups == 1 {
            self.same(&first, outer);
            self.same(&second, inner);
        } else {
            let shape = self.graph.param(w).data.shape();
            let group = self.leaves.leaf(Dim::Fixed(groups));
            let a = self.leaves.leaf(Dim::Fixed(shape[0] / groups));
            let b = self.leaves.leaf(Dim::Fixed(shape[1]));
            self.own[place] = vec![vec![vec![group]]];
            self.same(&first, &[vec![group, a]]);
            self.same(&second, &[vec![b]]);
            self.same(outer, &[vec![group, a]]);
            self.same(inner, &[vec![group, b]]);
        }
        if let Some(bias) = node.params.get(1) {
            self.param(*bias, 0, y, 1);
        }
        self.silent[y.index()][1] = true;
        self.freeze_param(w, 2, SPATIAL);
        self.freeze_from(x, 2, SPATIAL);
        self.freeze_from(y, 2, SPATIAL);
    }

    /// `x [steps, n, in]`, `W [d, gates x h, in]`, `R [d, gates x h, h]`, `b [d, 2 gates x h]`, peepholes `[d, 3 x h]`,
    /// `y [steps, d, n, h]`, states `[d, n, h]`.
    pub(super) fn recurrent(&mut self, place: usize, node: &Node, gates: usize, hidden: usize, lengths: usize) {
        let (x, y) = (node.inputs[0], node.output());
        let units = self.leaves.leaf(Dim::Fixed(hidden));
        let units = vec![vec![units]];
        self.own[place] = vec![units.clone()];
        self.pass(x, y, 0);
        self.freeze_value_axis(x, 0, SPATIAL);
        self.join(x, 1, y, 2);
        self.freeze_value_axis(y, 1, "its places are directions");
        let states = &node.inputs[1 + lengths..];
        for state in node.outputs[1..].iter().chain(states) {
            self.freeze_value_axis(*state, 0, "its places are directions");
            let (a, b) = (self.value(*state, 1), self.value(y, 2));
            self.same(&a, &b);
            let own = self.value(*state, 2);
            self.same(&own, &units);
        }
        let own = self.value(y, 3);
        self.same(&own, &units);
        let silent = states.iter().all(|state| self.silent[state.index()][2]);
        self.silent[y.index()][3] = silent;
        node.outputs[1..].iter().for_each(|state| self.silent[state.index()][2] = silent);
        for (role, param) in node.params.iter().enumerate() {
            let copies = [gates, gates, 2 * gates, 3][role.min(3)];
            let copies = self.leaves.leaf(Dim::Fixed(copies));
            self.leaves.freeze(&[vec![copies]], "its places are gates");
            let axes = self.params[param.index()].clone();
            self.leaves.freeze(&axes[0], "its places are directions");
            self.same(&axes[1], &[vec![copies, units[0][0]]]);
            match role {
                0 => self.param(*param, 2, x, 2),
                1 => self.same(&axes[2], &units),
                _ => {}
            }
        }
    }
}
