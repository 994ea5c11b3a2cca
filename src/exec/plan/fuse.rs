//! Which nodes are computed together.
//!
//! ```text
//!   convolution ─ batch normalisation ─ sum with another value ─ ReLU          each but the first may be missing
//!   batch normalisation ─ sum with another value ─ ReLU
//!   linear layer ─ ReLU
//! ```
//!
//! A value between two of them is never written, so nobody else may read it: it has one reader and is neither an output
//! nor tapped. The group is computed where its last node stands.

use super::super::Session;
use crate::graph::op::{Activation, Binary};
use crate::graph::{Op, ValueId};

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
        // The only reader of what the group computes so far.
        let next = |group: &Group| match readers[nodes[group.last].output().index()] {
            Reader::Node(reader) => Some(reader),
            _ => None,
        };
        let mut take = |group: &mut Group, node: usize| {
            (taken[node], group.last) = (true, node);
        };
        let is_conv = matches!(node.op, Op::Conv2d(_) | Op::Conv1d(_));
        if is_conv && let Some(norm) = next(&group).filter(|n| matches!(nodes[*n].op, Op::BatchNorm(_))) {
            group.norm = Some(norm);
            take(&mut group, norm);
        }
        if (is_conv || matches!(node.op, Op::BatchNorm(_)))
            && let Some(sum) = next(&group).filter(|n| nodes[*n].op == Op::Binary(Binary::Add))
        {
            let own = nodes[group.last].output();
            let other = nodes[sum].inputs.iter().find(|value| **value != own);
            let same = |other: &&ValueId| session.types[other.index()] == session.types[own.index()];
            if let Some(other) = other.filter(same) {
                group.residual = Some(*other);
                take(&mut group, sum);
            }
        }
        if (is_conv || matches!(node.op, Op::BatchNorm(_) | Op::Linear))
            && let Some(relu) = next(&group).filter(|n| nodes[*n].op == Op::Activation(Activation::Relu))
        {
            group.relu = true;
            take(&mut group, relu);
        }
        groups.push(group);
    }
    groups.sort_by_key(|group| group.last);
    groups
}
