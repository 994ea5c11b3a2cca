//! Values as Python names.

use std::collections::HashSet;

use crate::graph::{Graph, ValueId};

/// Names that the file has other uses for, and Python's own words.
const TAKEN: &str = "torch nn F p self N S load load_file Network PARAMETERS shape dtype name path passed padded average_pool \
                     around gather_nd recurrent lstm gru False None True and as assert async await break class continue def \
                     del elif else except finally for from global if import in is lambda nonlocal not or pass raise return \
                     try while with yield match case type print dict tuple list range reversed zip int float bool max min";

/// The Python name of each value.
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut taken: HashSet<String> = TAKEN.split_whitespace().map(String::from).collect();
        let mut all = vec![String::new(); graph.values().len()];
        let written = graph.nodes().iter().flat_map(|node| &node.outputs);
        for id in graph.inputs().iter().chain(written) {
            let wished = identifier(&graph.value(*id).name);
            let mut unique = wished.clone();
            let mut number = 1;
            while !taken.insert(unique.clone()) {
                unique = format!("{wished}_{number}");
                number += 1;
            }
            all[id.index()] = unique;
        }
        Self(all)
    }

    /// The name of a value.
    pub(super) fn value(&self, id: ValueId) -> &str {
        &self.0[id.index()]
    }
}

/// A name with letters, digits and underscores alone: `layer1/conv1/Conv` becomes `layer1_conv1_Conv`.
fn identifier(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = plain.trim_matches('_');
    match plain.chars().next() {
        Some(c) if c.is_ascii_alphabetic() => plain.to_string(),
        _ => format!("v{plain}"),
    }
}
