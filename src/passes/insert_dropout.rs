//! Puts dropouts in (Srivastava et al. 2014): while training, each element behind a node is left out with some probability.
//!
//! The network's function stays the same; only its training changes. [`super::fold`] takes dropouts out again.

use std::collections::HashSet;

use super::{Pass, PassError, select};
use crate::graph::op::Dropout;
use crate::graph::{Graph, GraphEdit, NewNode, Node, Op, ValueId};

/// Puts a dropout behind nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertDropout {
    /// The nodes, by name or glob.
    pub after: Vec<String>,
    /// The probability that an element is left out, in `[0, 1)`.
    pub rate: f64,
}

impl InsertDropout {
    /// The places among the graph's nodes of those that get a dropout: a dropout gets none, nor does a node that has one
    /// already.
    pub fn places(&self, graph: &Graph) -> Result<Vec<usize>, PassError> {
        let mut places = select::named(graph, "after", &self.after, "node", |_| true)?;
        let dropped: HashSet<ValueId> = graph.nodes().iter().filter(is_dropout).map(|node| node.inputs[0]).collect();
        places.retain(|place| {
            let node = &graph.nodes()[*place];
            !is_dropout(&node) && !dropped.contains(&node.output())
        });
        Ok(places)
    }
}

impl Pass for InsertDropout {
    fn name(&self) -> &'static str {
        "insert-dropout"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let graph = edit.graph();
        let nodes: Vec<_> = self.places(graph)?.into_iter().map(|place| graph.nodes()[place].clone()).collect();
        for node in nodes {
            let [name] = select::unused_names(edit.graph(), &node.name, ["dropout"]);
            let op = Op::Dropout(Dropout { rate: self.rate });
            edit.insert_after(node.output(), NewNode { name, op, params: Vec::new() })?;
        }
        Ok(())
    }
}

fn is_dropout(node: &&Node) -> bool {
    matches!(node.op, Op::Dropout(_))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;
    use crate::passes::apply;

    fn network() -> Graph {
        let builder = GraphBuilder::new("test", &[4]).linear("fc1", 3).activation("relu1", Activation::Relu);
        builder.linear("fc2", 3).activation("relu2", Activation::Relu).linear("fc3", 2).build().unwrap()
    }

    #[test]
    fn what_has_a_dropout_gets_no_other() {
        let mut graph = network();
        apply(&dropout("*"), &mut graph).unwrap();
        let once = graph.nodes().len();
        apply(&dropout("*"), &mut graph).unwrap();
        assert_eq!((once, graph.nodes().len()), (10, 10));
    }

    fn dropout(after: &str) -> InsertDropout {
        InsertDropout { after: vec![after.into()], rate: 0.25 }
    }

    #[test]
    fn whoever_read_a_node_reads_its_dropout() {
        let mut graph = network();
        apply(&dropout("relu?"), &mut graph).unwrap();
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input) [fc1.weight F32[3, 4], fc1.bias F32[3]]
            relu1 : [N, 3] = Relu(fc1)
            relu1.dropout : [N, 3] = Dropout{rate 0.25}(relu1)
            fc2 : [N, 3] = Linear(relu1.dropout) [fc2.weight F32[3, 3], fc2.bias F32[3]]
            relu2 : [N, 3] = Relu(fc2)
            relu2.dropout : [N, 3] = Dropout{rate 0.25}(relu2)
            fc3 : [N, 2] = Linear(relu2.dropout) [fc3.weight F32[2, 3], fc3.bias F32[2]]
            return fc3
        "#]]
        .assert_eq(&graph.to_string());
    }

    #[test]
    fn a_name_that_fits_no_node_is_the_clients_mistake() {
        let error = apply(&dropout("gelu*"), &mut network()).unwrap_err();
        assert_eq!(error.to_string(), "'gelu*' in `after` fits no node of the model");
        assert_eq!(error.field(), Some("after"));
    }
}
