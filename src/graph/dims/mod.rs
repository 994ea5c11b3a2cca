//! Which slices of which parameters go together: what must be cut so that a channel, a unit or a head is gone from a network.
//!
//! Every axis of every value and parameter is written as sums of products of *leaves* (`leaves`), and each operator says
//! which axes are the same (`rules`). A leaf that no operator freezes is a [`Group`]; one of its coordinates is a channel,
//! and the slices that lie at that coordinate, in whatever parameters and however often, go together. Residual sums,
//! concatenation, splitting, shuffled and grouped channels, gates of recurrent layers, heads and their widths need no case
//! of their own.
//!
//! ```text
//! conv1.weight [ 16a, 3, 3, 3]   conv2.weight [ 16b, 16a, 3, 3]   y1 + y2: a = b       cutting one of a takes its slices in
//! qkv.weight [3 x 4h x 8d, 32]   out.weight [32, 4h x 8d]         heads h, widths d    both, and in all else that is a
//! ```
//!
//! What is cut may as well have been zero: the network gives the same numbers as one whose slices are zero in place
//! ([`Dims::silence`]). Groups for which that does not hold, since a normalisation takes a mean over them, are said to be
//! inexact.
//!
//! Compare the dependency graph of Fang et al. 2023 ("DepGraph"), which couples pairs of modules; here axes are typed, and
//! the numbering of coordinates comes with it.

mod leaves;
mod resize;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::op::Op;
use super::{Graph, GraphEdit, GraphError, ParamId};
use crate::tensor::{self, TensorError};
use leaves::{Axis, LeafId, Leaves};

/// Why something cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The node, value or parameter that says so.
    pub node: String,
    /// What it says.
    pub why: &'static str,
}

/// `'fc3': it is an output of the network`.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node.is_empty() { f.write_str(self.why) } else { write!(f, "'{}': {}", self.node, self.why) }
    }
}

/// Channels, units or heads that can be cut one by one, with all that must go with each.
#[derive(Debug, Clone)]
pub struct Group {
    /// The first layer whose outputs it is, with a number where that has several groups.
    pub name: String,
    /// Its coordinates.
    pub size: usize,
    /// The axes of parameters that it runs along, in the order of the parameters.
    pub slices: Vec<(ParamId, usize)>,
    /// The layers whose outputs it is, by their places among the nodes.
    pub layers: Vec<usize>,
    /// Why nothing can be cut; `None`: it can.
    pub frozen: Option<Frozen>,
    /// Why the network without a coordinate is another one than the network where it is zero; `None`: it is the same.
    pub inexact: Option<Frozen>,
    leaf: LeafId,
}

impl Group {
    /// Whether it can be cut so that the network gives the same as with zeros in place.
    pub fn is_exact(&self) -> bool {
        self.obstacle().is_none()
    }

    /// What keeps it from being cut so.
    pub fn obstacle(&self) -> Option<&Frozen> {
        self.frozen.as_ref().or(self.inexact.as_ref())
    }

    /// The names of its layers.
    pub fn layer_names(&self, graph: &Graph) -> Vec<String> {
        self.layers.iter().map(|layer| graph.nodes()[*layer].name.clone()).collect()
    }
}

/// The coordinates that stay of every group, in the order of [`Dims::groups`], each list ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Of each group.
    pub keep: Vec<Vec<usize>>,
}

/// The axes of a graph and the groups that they are made of. Good for the graph that it was made of, whatever its
/// parameters hold.
#[derive(Debug, Clone)]
pub struct Dims {
    leaves: Leaves,
    /// Of each value.
    values: Vec<Vec<Axis>>,
    params: Vec<Vec<Axis>>,
    /// Of each node, what only its operator's configuration has.
    own: Vec<Vec<Axis>>,
    groups: Vec<Group>,
}

impl Dims {
    /// Follows every axis of the graph.
    pub fn of(graph: &Graph) -> Self {
        let rules::Rules { mut leaves, values, params, own, .. } = rules::Rules::of(graph);
        // An axis that is too complicated is frozen, and stays as it was written: its size is the same.
        let mut resolve = |axes: Vec<Vec<Axis>>| -> Vec<Vec<Axis>> {
            let mut of_one =
                |axes: Vec<Axis>| axes.into_iter().map(|axis| leaves.resolved(&axis).unwrap_or(axis)).collect();
            axes.into_iter().map(&mut of_one).collect()
        };
        let (values, params, own) = (resolve(values), resolve(params), resolve(own));
        let groups = groups(graph, &leaves, &values, &params);
        Self { leaves, values, params, own, groups }
    }

    /// What can be cut, and what cannot and why, in the order of the layers.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The size of each group.
    pub fn sizes(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.size).collect()
    }

    /// Everything stays.
    pub fn whole(&self) -> Cut {
        Cut { keep: self.groups.iter().map(|group| (0..group.size).collect()).collect() }
    }

    /// The places along an axis of a parameter that stay.
    pub fn kept(&self, param: ParamId, axis: usize, cut: &Cut) -> Vec<usize> {
        self.kept_along(&self.params[param.index()][axis], &self.masks(cut))
    }

    fn kept_along(&self, axis: &Axis, masks: &HashMap<LeafId, Vec<bool>>) -> Vec<usize> {
        let mut kept = Vec::new();
        self.walk(axis, |place, term, coordinates| {
            let stays = term.iter().zip(coordinates).all(|(leaf, at)| masks.get(leaf).is_none_or(|mask| mask[*at]));
            if stays {
                kept.push(place);
            }
        });
        kept
    }

    /// The parameters that lose something, with the places along each of their axes that stay.
    fn losing(&self, graph: &Graph, cut: &Cut) -> Vec<(ParamId, Vec<Vec<usize>>)> {
        let masks = self.masks(cut);
        let kept = graph.param_ids().zip(&self.params).map(|(id, axes)| {
            let kept: Vec<Vec<usize>> = axes.iter().map(|axis| self.kept_along(axis, &masks)).collect();
            (id, kept)
        });
        let loses = |(id, kept): &(ParamId, Vec<Vec<usize>>)| {
            graph.param(*id).data.shape().iter().zip(kept).any(|(size, kept)| kept.len() < *size)
        };
        kept.filter(loses).collect()
    }

    /// Which places along an axis of a parameter lie at which coordinates of a group.
    pub fn coordinates(&self, param: ParamId, axis: usize, group: &Group) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        self.walk(&self.params[param.index()][axis], |place, term, coordinates| {
            let own = term.iter().zip(coordinates).filter(|(leaf, _)| **leaf == group.leaf);
            pairs.extend(own.map(|(_, at)| (place, *at)));
        });
        pairs
    }

    /// Calls `each` with every place of an axis: the term it lies in, and its coordinates there.
    fn walk(&self, axis: &Axis, mut each: impl FnMut(usize, &[LeafId], &[usize])) {
        let mut place = 0;
        for term in axis {
            let mut at = vec![0; term.len()];
            for _ in 0..self.leaves.term_size(term) {
                each(place, term, &at);
                place += 1;
                for (leaf, at) in term.iter().zip(&mut at).rev() {
                    *at += 1;
                    if *at < self.leaves.size(*leaf) {
                        break;
                    }
                    *at = 0;
                }
            }
        }
    }

    /// For each leaf that something is cut from, which coordinates stay.
    fn masks(&self, cut: &Cut) -> HashMap<LeafId, Vec<bool>> {
        let groups = self.groups.iter().zip(&cut.keep).filter(|(group, keep)| keep.len() < group.size);
        groups
            .map(|(group, keep)| {
                let mut mask = vec![false; group.size];
                keep.iter().for_each(|at| mask[*at] = true);
                (group.leaf, mask)
            })
            .collect()
    }

    /// Takes out of the draft what is not in the cut: slices of parameters and their masks, and sizes in operators.
    pub fn cut(&self, edit: &mut GraphEdit<'_>, cut: &Cut) -> Result<(), CutError> {
        let sizes = self.leaf_sizes(cut);
        for (id, kept) in self.losing(edit.graph(), cut) {
            let param = edit.graph().param(id);
            let places = tensor::places(param.data.shape(), &kept);
            let data = param.data.select(kept.iter().map(Vec::len).collect(), &places)?;
            let mask = param.mask.as_ref().map(|mask| places.iter().map(|place| mask[*place]).collect());
            edit.set_param(id, data);
            edit.set_mask(id, mask);
        }
        let nodes = edit.graph().nodes().iter().enumerate();
        let ops: Result<Vec<Op>, GraphError> = nodes.map(|(place, node)| self.resized(place, node, &sizes)).collect();
        Ok(edit.resize(ops?)?)
    }

    /// Sets to zero in the draft, in place, what is not in the cut.
    pub fn silence(&self, edit: &mut GraphEdit<'_>, cut: &Cut) -> Result<(), CutError> {
        for (id, kept) in self.losing(edit.graph(), cut) {
            let data = &edit.graph().param(id).data;
            let data = data.only(&tensor::places(data.shape(), &kept))?;
            edit.set_param(id, data);
        }
        Ok(())
    }

    /// How many coordinates each leaf has after a cut.
    fn leaf_sizes(&self, cut: &Cut) -> BTreeMap<LeafId, usize> {
        self.groups.iter().zip(&cut.keep).map(|(group, keep)| (group.leaf, keep.len())).collect()
    }
}

/// A cut that cannot be made; a defect of the rules.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum CutError {
    /// The graph does not hold together any more.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A parameter could not be cut.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The leaves that layers write, each with the slices of all parameters that lie along it.
fn groups(graph: &Graph, leaves: &Leaves, values: &[Vec<Axis>], params: &[Vec<Axis>]) -> Vec<Group> {
    let mut slices: BTreeMap<LeafId, Vec<(ParamId, usize)>> = BTreeMap::new();
    for (id, axes) in graph.param_ids().zip(params) {
        for (place, axis) in axes.iter().enumerate() {
            let mut own: Vec<LeafId> = axis.iter().flatten().copied().collect();
            own.sort_unstable();
            own.dedup();
            for leaf in own.into_iter().filter(|leaf| leaves.size(*leaf) > 1) {
                slices.entry(leaf).or_default().push((id, place));
            }
        }
    }
    // By the layers that write it with weights of their own: steps and pixels run through, and kernels stay inside.
    let mut layers: BTreeMap<LeafId, Vec<usize>> = BTreeMap::new();
    for (place, node) in graph.nodes().iter().enumerate().filter(|(_, node)| node.op.is_layer()) {
        let weight: HashSet<&LeafId> = params[node.params[0].index()].iter().flatten().flatten().collect();
        let written = values[node.output().index()].iter().flatten().flatten();
        let written: BTreeSet<&LeafId> = written.filter(|leaf| weight.contains(leaf)).collect();
        written.into_iter().for_each(|leaf| layers.entry(*leaf).or_default().push(place));
    }
    let group = |(leaf, layers): (LeafId, Vec<usize>)| {
        let (frozen, inexact) = (leaves.frozen(leaf), leaves.inexact(leaf).cloned());
        let slices = slices.remove(&leaf)?;
        Some(Group { name: String::new(), size: leaves.size(leaf), slices, layers, frozen, inexact, leaf })
    };
    let mut groups: Vec<Group> = layers.into_iter().filter_map(group).collect();
    groups.sort_by_key(|group| (group.layers[0], group.slices[0], group.leaf));
    let mut taken: HashMap<String, usize> = HashMap::new();
    for group in &mut groups {
        let name = &graph.nodes()[group.layers[0]].name;
        let count = taken.entry(name.clone()).or_default();
        *count += 1;
        group.name = if *count == 1 { name.clone() } else { format!("{name}#{count}") };
    }
    groups
}
