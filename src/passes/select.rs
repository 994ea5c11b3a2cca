//! Which nodes a pass is about, and names for those that it makes.

use std::collections::{BTreeSet, HashSet};

use super::PassError;
use crate::graph::{Graph, Node, ParamId, ValueId, glob};

/// The places of the nodes that `patterns` name and that `fits` is true of, in the graph's order. A pattern without any is
/// the client's mistake: `what` says in words what it should have named, `field` where it stands.
pub(super) fn named(
    graph: &Graph,
    field: &'static str,
    patterns: &[String],
    what: &'static str,
    fits: impl Fn(&Node) -> bool,
) -> Result<Vec<usize>, PassError> {
    let mut places = BTreeSet::new();
    for pattern in patterns {
        let of_pattern: Vec<usize> = (0..)
            .zip(graph.nodes())
            .filter(|(_, node)| glob::matches(pattern, &node.name) && fits(node))
            .map(|(place, _)| place)
            .collect();
        if of_pattern.is_empty() {
            return Err(PassError::NoSuchNode { field, pattern: pattern.clone(), what });
        }
        places.extend(of_pattern);
    }
    Ok(places.into_iter().collect())
}

/// As [`named`], but no patterns at all name every node that fits.
pub(super) fn named_or_all(
    graph: &Graph,
    field: &'static str,
    patterns: &[String],
    what: &'static str,
    fits: impl Fn(&Node) -> bool,
) -> Result<Vec<usize>, PassError> {
    if patterns.is_empty() {
        return Ok((0..graph.nodes().len()).filter(|place| fits(&graph.nodes()[*place])).collect());
    }
    named(graph, field, patterns, what, fits)
}

/// Whether exactly one node reads the value, once, and the graph does not return it.
pub(super) fn is_read_once(graph: &Graph, value: ValueId) -> bool {
    let reads = graph.nodes().iter().flat_map(|node| &node.inputs).chain(graph.outputs());
    reads.filter(|read| **read == value).count() == 1
}

/// The parameters that more than one node reads, or one node in two roles.
pub(super) fn shared_params(graph: &Graph) -> HashSet<ParamId> {
    let mut read = HashSet::new();
    graph.nodes().iter().flat_map(|node| &node.params).copied().filter(|id| !read.insert(*id)).collect()
}

/// Names `STEM.PART` for new nodes and parameters, one a part; with `_2`, `_3`, ... behind each of them where one is in
/// use already.
pub(super) fn unused_names<const N: usize>(graph: &Graph, stem: &str, parts: [&str; N]) -> [String; N] {
    let in_use = |name: &String| {
        let behind =
            |other: &str| other.strip_prefix(name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        graph.nodes().iter().any(|node| node.name == *name)
            || graph.values().iter().any(|value| value.name == *name)
            || graph.params().iter().any(|param| behind(&param.name))
    };
    let mut names = parts.map(|part| format!("{stem}.{part}"));
    let mut number = 2;
    while names.iter().any(in_use) {
        names = parts.map(|part| format!("{stem}.{part}_{number}"));
        number += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;

    fn network() -> Graph {
        let builder = GraphBuilder::new("test", &[4]).linear("fc1", 3).activation("fc1.norm", Activation::Relu);
        builder.linear("fc1.norm_2.x", 3).build().unwrap()
    }

    #[test]
    fn a_pattern_must_name_something_of_the_right_kind() {
        let graph = network();
        let linear = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
            named(&graph, "layers", &patterns, "linear layer", |node| node.op == crate::graph::Op::Linear)
        };
        assert_eq!(linear(&["*", "fc1"]).unwrap(), [0, 2]);
        assert!(linear(&[]).unwrap().is_empty());
        let error = linear(&["fc1", "fc1.norm"]).unwrap_err();
        assert_eq!(error.to_string(), "'fc1.norm' in `layers` fits no linear layer of the model");
    }

    #[test]
    fn names_in_use_get_a_number() {
        let graph = network();
        assert_eq!(unused_names(&graph, "fc1", ["0", "1"]), ["fc1.0", "fc1.1"]);
        // `fc1.norm` is a node, and `fc1.norm_2.x.weight` a parameter.
        assert_eq!(unused_names(&graph, "fc1", ["0", "norm"]), ["fc1.0_3", "fc1.norm_3"]);
    }
}
