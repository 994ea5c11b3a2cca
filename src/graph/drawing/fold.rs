//! What becomes one box: a layer with what follows it, such as convolution, normalisation and activation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::grid::{Link, layers, passed};
use crate::graph::{Graph, Node, Op, ValueId};

/// The most nodes of a box.
const MAX_STACK: usize = 8;
/// The most places where lines pass layers. Beyond it the longest lines are told in words.
const MAX_PASSED: usize = 10_000;

/// What a box stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What is fed.
    Input(ValueId),
    /// Nodes that follow each other: their places in the graph.
    Stack(Vec<usize>),
    /// A result.
    Output(ValueId),
}

/// A graph as boxes and lines.
#[derive(Debug)]
pub struct Folded {
    /// The boxes; each only reads from those before it.
    pub pieces: Vec<Piece>,
    /// The lines; their values are places in [`Graph::values`].
    pub links: Vec<Link>,
    /// For each box the values whose lines are too long to be drawn.
    pub words: Vec<Vec<ValueId>>,
    /// For each box the constants that it alone or it first reads: places of their nodes.
    pub constants: Vec<Vec<usize>>,
}

/// The nodes that give the same whatever is fed, and are no result: constants and numbers in a row. No box is drawn for
/// them.
pub fn constants(graph: &Graph) -> Vec<bool> {
    let is_constant = |node: &Node| matches!(node.op, Op::Constant(_) | Op::Range(_));
    let is_result = |node: &Node| node.outputs.iter().any(|value| graph.outputs().contains(value));
    graph.nodes().iter().map(|node| is_constant(node) && !is_result(node)).collect()
}

/// Whether an operator begins a box: what has the network's weights and work.
fn begins(op: &Op) -> bool {
    matches!(
        op,
        Op::Linear
            | Op::MatMul
            | Op::BilinearPool(_)
            | Op::Embedding
            | Op::Conv2d(_)
            | Op::Conv1d(_)
            | Op::ConvTranspose2d(_)
            | Op::ConvTranspose1d(_)
            | Op::Lstm(_)
            | Op::Gru(_)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Custom(_)
    )
}

/// Folds a graph.
pub fn fold(graph: &Graph) -> Folded {
    let constant = constants(graph);
    let mut readers = vec![0usize; graph.values().len()];
    for node in graph.nodes() {
        let values: BTreeSet<ValueId> = node.inputs.iter().copied().collect();
        values.into_iter().for_each(|value| readers[value.index()] += 1);
    }
    graph.outputs().iter().for_each(|value| readers[value.index()] += 2);

    let mut pieces: Vec<Piece> = graph.inputs().iter().map(|value| Piece::Input(*value)).collect();
    // The box that writes each value, and the constant that does.
    let mut written: HashMap<ValueId, usize> = graph.inputs().iter().copied().zip(0..).collect();
    let mut fixed: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut of_box: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut links = BTreeSet::new();
    for (place, node) in graph.nodes().iter().enumerate() {
        if constant[place] {
            fixed.extend(node.outputs.iter().map(|value| (*value, place)));
            continue;
        }
        let reads: BTreeSet<ValueId> = node.inputs.iter().copied().filter(|v| written.contains_key(v)).collect();
        let at = match above(graph, node, &reads, &readers, &written, &pieces) {
            Some(at) => at,
            None => {
                pieces.push(Piece::Stack(Vec::new()));
                let to = pieces.len() - 1;
                links.extend(reads.iter().map(|value| Link { from: written[value], value: value.index(), to }));
                to
            }
        };
        if let Piece::Stack(nodes) = &mut pieces[at] {
            nodes.push(place);
        }
        // Each constant is told, and counted, where it is read first.
        let first = node.inputs.iter().filter_map(|value| fixed.remove(value));
        of_box.entry(at).or_default().extend(first);
        written.extend(node.outputs.iter().map(|value| (*value, at)));
    }
    for value in graph.outputs() {
        pieces.push(Piece::Output(*value));
        let to = pieces.len() - 1;
        links.extend(written.get(value).map(|from| Link { from: *from, value: value.index(), to }));
    }
    let constants = (0..pieces.len()).map(|at| of_box.remove(&at).unwrap_or_default()).collect();
    let (links, words) = shorten(pieces.len(), links.into_iter().collect());
    Folded { pieces, links, words, constants }
}

/// The box that a node goes on with: that of the one value which it reads, if nobody else reads it.
fn above(
    graph: &Graph,
    node: &Node,
    reads: &BTreeSet<ValueId>,
    readers: &[usize],
    written: &HashMap<ValueId, usize>,
    pieces: &[Piece],
) -> Option<usize> {
    let [value] = reads.iter().copied().collect::<Vec<_>>()[..] else { return None };
    if begins(&node.op) || readers[value.index()] != 1 {
        return None;
    }
    let at = written[&value];
    let Piece::Stack(nodes) = &pieces[at] else { return None };
    let last = &graph.nodes()[*nodes.last()?];
    let alone = last.outputs.iter().all(|other| *other == value || readers[other.index()] == 0);
    (alone && last.outputs.contains(&value) && nodes.len() < MAX_STACK).then_some(at)
}

/// Takes the longest lines away, so that what remains can be drawn; what they brought is told in words.
fn shorten(boxes: usize, links: Vec<Link>) -> (Vec<Link>, Vec<Vec<ValueId>>) {
    let mut lines: Vec<(usize, usize)> = passed(&layers(boxes, &links), &links).into_iter().collect();
    lines.sort_by_key(|(value, layers)| (*layers, *value));
    let mut sum = 0;
    let told: BTreeSet<usize> = lines
        .into_iter()
        .filter_map(|(value, layers)| {
            sum += layers;
            (sum > MAX_PASSED).then_some(value)
        })
        .collect();
    let mut words = vec![Vec::new(); boxes];
    let mut drawn = Vec::new();
    for link in links {
        match u32::try_from(link.value) {
            Ok(value) if told.contains(&link.value) => words[link.to].push(ValueId(value)),
            _ => drawn.push(link),
        }
    }
    (drawn, words)
}
