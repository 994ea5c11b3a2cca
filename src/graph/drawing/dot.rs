//! A drawing as text for Graphviz: every node, nothing folded.

use std::collections::HashMap;
use std::fmt::Write;

use super::family::Family;
use super::fold::constants;
use super::label::{amount, facts, gist, shape, share};
use crate::graph::cost::{self, Cost};
use crate::graph::{Graph, Node, ValueId};

/// The graph in Graphviz's language: `dot -Tsvg` draws it.
pub fn dot(graph: &Graph) -> String {
    let total = cost::of_graph(graph);
    let constant = constants(graph);
    // Writing to a text does not fail.
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quoted(graph.name()));
    out.push_str(
        "  rankdir=TB;\n  node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\", fontsize=11];\n",
    );
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=9, color=\"#7d8590\"];\n");
    let mut writers: HashMap<ValueId, String> = HashMap::new();
    for (i, id) in graph.inputs().iter().enumerate() {
        let value = graph.value(*id);
        let label = format!("input {}\n{}", value.name, value.ty);
        let _ = writeln!(out, "  in{i} [label={}, shape=oval, fillcolor=\"#eef1f4\"];", quoted(&label));
        writers.insert(*id, format!("in{i}"));
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let cost = cost::of_node(graph, node);
        let tooltip = quoted(&facts(graph, node, cost, total).join("\n"));
        let label = if constant[i] { node.name.clone() } else { label(graph, node, cost, total) };
        let look = match constant[i] {
            true => "shape=note, fontsize=7, margin=0.02, height=0.1, width=0.1, fillcolor=\"#f6f8fa\"".to_string(),
            // The colour at a third of its strength, so that black text can be read on it.
            false => format!("fillcolor=\"{}55\"", Family::of(&node.op).colour()),
        };
        let _ = writeln!(out, "  n{i} [label={}, {look}, tooltip={tooltip}];", quoted(&label));
        for id in &node.inputs {
            edge(&mut out, graph, &writers, *id, &format!("n{i}"));
        }
        writers.extend(node.outputs.iter().map(|id| (*id, format!("n{i}"))));
    }
    for (i, id) in graph.outputs().iter().enumerate() {
        let value = graph.value(*id);
        let label = format!("output {}\n{}", value.name, value.ty);
        let _ = writeln!(out, "  out{i} [label={}, shape=oval, fillcolor=\"#eef1f4\"];", quoted(&label));
        edge(&mut out, graph, &writers, *id, &format!("out{i}"));
    }
    out.push_str("}\n");
    out
}

fn edge(out: &mut String, graph: &Graph, writers: &HashMap<ValueId, String>, id: ValueId, to: &str) {
    if let Some(from) = writers.get(&id) {
        let _ = writeln!(out, "  {from} -> {to} [label={}];", quoted(&shape(graph.value(id))));
    }
}

fn label(graph: &Graph, node: &Node, cost: Cost, total: Cost) -> String {
    let outputs: Vec<String> = node.outputs.iter().map(|id| shape(graph.value(*id))).collect();
    let mut text = format!("{}\n{} {}", node.name, node.op.name(), gist(graph, node)).trim_end().to_string();
    let _ = write!(text, "\n{}", outputs.join(", "));
    if cost.params > 0 {
        let _ = write!(text, "\n{} parameters", amount(cost.params));
    }
    if cost.macs > 0 {
        let _ = write!(text, "\n{} of all MACs", share(cost.macs, total.macs));
    }
    text
}

/// A text between quotes. A backslash would begin one of Graphviz's own escapes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out + "\""
}
