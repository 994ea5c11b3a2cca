//! Which nodes are computed together.
//!
//! ```text
//!   convolution ─ batch normalisation ─ sum with another value ─ ReLU          each but the first may be missing
//!   batch normalisation ─ sum with another value ─ ReLU
//!   linear layer ─ ReLU
//! ```
//!
//! Where values are in half precision, only the ReLU is taken: the others would compute with numbers that are not rounded.
//!
//! A value between two of them is never written, so nobody else may read it: it has one reader and is neither an output
//! nor tapped. The group is computed where its last node stands.

use super::super::Session;
use crate::graph::op::{Activation, Binary};
use crate::graph::{Op, ValueId};
use crate::tensor::DType;

/// Nodes that are computed together.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// The first node.
    pub(super) node: usize,
    /// The batch normalisation behind a convolution.
    pub(super) norm: Option<usize>,
    /// What is added.
    pub(super) residual: Option<ValueId>,
    /// Whether negative numbers become zero at the end.
    pub(super) relu: bool,
    /// The last node.
    pub(super) last: usize,
}

/// Who reads a value.
#[derive(Clone, Copy)]
enum Reader {
    Nobody,
    Node(usize),
    /// Several, or somebody outside.
    Many,
}

/// The groups of a session's nodes, in the order in which they are computed.
pub(super) fn groups(session: &Session, taps: &[ValueId]) -> Vec<Group> {
    let nodes = &session.nodes;
    let mut readers = vec![Reader::Nobody; session.types.len()];
    for (i, node) in nodes.iter().enumerate() {
        for value in &node.inputs {
            let reader = &mut readers[value.index()];
            *reader = if let Reader::Nobody = reader { Reader::Node(i) } else { Reader::Many };
        }
    }
    session.outputs.iter().chain(taps).for_each(|value| readers[value.index()] = Reader::Many);
    let mut taken = vec![false; nodes.len()];
    let mut groups = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        if taken[i] {
            continue;
        }
        let mut group = Group { node: i, norm: None, residual: None, relu: false, last: i };
        // Takes the only reader of what the group computes so far, if it is such a node and in no other group.
        let mut take = |group: &mut Group, is_such: &dyn Fn(usize) -> bool| -> Option<usize> {
            let Reader::Node(reader) = readers[nodes[group.last].output().index()] else { return None };
            if taken[reader] || !is_such(reader) {
                return None;
            }
            (taken[reader], group.last) = (true, reader);
            Some(reader)
        };
        let is_conv = matches!(node.op, Op::Conv2d(_) | Op::Conv1d(_));
        let is_norm = matches!(node.op, Op::BatchNorm(_));
        let is_exact = session.activations == DType::F32;
        if is_conv && is_exact {
            group.norm = take(&mut group, &|n| matches!(nodes[n].op, Op::BatchNorm(_)));
        }
        if (is_conv || is_norm) && is_exact {
            let own = nodes[group.last].output();
            let other = |sum: usize| nodes[sum].inputs.iter().copied().find(|value| *value != own);
            let same = |other: ValueId| session.types[other.index()] == session.types[own.index()];
            let is_sum = |n: usize| nodes[n].op == Op::Binary(Binary::Add) && other(n).is_some_and(same);
            group.residual = take(&mut group, &is_sum).and_then(other);
        }
        if is_conv || is_norm || node.op == Op::Linear {
            group.relu = take(&mut group, &|n| nodes[n].op == Op::Activation(Activation::Relu)).is_some();
        }
        groups.push(group);
    }
    groups.sort_by_key(|group| group.last);
    groups
}
