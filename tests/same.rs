//! Whether two graphs are the same: nodes in their order with all names, and parameters bit by bit.

use std::collections::BTreeMap;

use niwaki::graph::{Graph, Node, ValueId};
use niwaki::tensor::TensorData;

/// In what they differ.
pub fn differences(own: &Graph, other: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    let inputs = |graph: &Graph| graph.inputs().iter().map(|id| format!("{:?}", graph.value(*id))).collect::<Vec<_>>();
    let outputs =
        |graph: &Graph| graph.outputs().iter().map(|id| format!("{:?}", graph.value(*id))).collect::<Vec<_>>();
    for (what, a, b) in [("inputs", inputs(own), inputs(other)), ("outputs", outputs(own), outputs(other))] {
        if a != b {
            found.push(format!("{what} are {b:?}, not {a:?}"));
        }
    }
    let text = |graph: &Graph, node: &Node| {
        let values = |ids: &[ValueId]| -> Vec<String> {
            ids.iter().map(|id| format!("{} {}", graph.value(*id).name, graph.value(*id).ty)).collect()
        };
        let params: Vec<&str> = node.params.iter().map(|id| graph.param(*id).name.as_str()).collect();
        format!("{} {:?} {:?} {params:?} {:?}", node.name, node.op, values(&node.inputs), values(&node.outputs))
    };
    let texts = |graph: &Graph| graph.nodes().iter().map(|node| text(graph, node)).collect::<Vec<_>>();
    let (a, b) = (texts(own), texts(other));
    if a.len() != b.len() {
        found.push(format!("{} nodes, not {}", b.len(), a.len()));
    }
    if let Some(place) = (0..a.len().min(b.len())).find(|i| a[*i] != b[*i]) {
        found.push(format!("node {place} is\n    {}\nnot {}", b[place], a[place]));
    }
    let params = |graph: &Graph| -> BTreeMap<String, (bool, TensorData)> {
        graph.params().iter().map(|p| (p.name.clone(), (p.fixed, p.data.clone()))).collect()
    };
    let (a, b) = (params(own), params(other));
    let changed: Vec<&str> = a.iter().filter(|(name, p)| b.get(*name) != Some(*p)).map(|(n, _)| n.as_str()).collect();
    if !changed.is_empty() {
        found.push(format!(
            "{} of {} parameters are others: {:?}",
            changed.len(),
            a.len(),
            &changed[..changed.len().min(5)]
        ));
    }
    found
}
