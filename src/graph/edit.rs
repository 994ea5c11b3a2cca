//! The only way to change a graph: a draft that is committed whole or dropped.

use std::sync::Arc;

use super::{Dim, Graph, GraphError, Node, Op, Param, ParamId, Value, ValueId};
use crate::tensor::TensorData;

/// One change, for logs and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A node came in.
    AddNode(String),
    /// A parameter came in.
    AddParam(String),
    /// A parameter got other values.
    SetParam(String),
    /// A parameter got another mask.
    SetMask(String),
}

/// A draft of a changed graph. Dropped without [`GraphEdit::commit`], it leaves the graph as it was.
pub struct GraphEdit<'g> {
    target: &'g mut Graph,
    draft: Graph,
    changes: Vec<Change>,
}

impl<'g> GraphEdit<'g> {
    pub(super) fn new(target: &'g mut Graph) -> Self {
        let draft = target.clone();
        Self { target, draft, changes: Vec::new() }
    }

    /// The draft as it stands.
    pub fn graph(&self) -> &Graph {
        &self.draft
    }

    /// Adds an input of that shape (without the batch axis).
    pub fn add_input(&mut self, name: &str, sample_shape: &[usize]) -> ValueId {
        let shape = std::iter::once(Dim::Batch).chain(sample_shape.iter().map(|&n| Dim::Fixed(n))).collect();
        let id = self.add_value(name, shape);
        self.draft.inputs.push(id);
        id
    }

    /// Adds a parameter.
    pub fn add_param(&mut self, name: &str, data: TensorData) -> ParamId {
        let id = ParamId(self.draft.params.len() as u32);
        self.draft.params.push(Param { name: name.to_string(), data, mask: None });
        self.changes.push(Change::AddParam(name.to_string()));
        id
    }

    /// Adds a node at the end; its output value has the node's name and the inferred shape.
    pub fn add_node(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        params: &[ParamId],
    ) -> Result<ValueId, GraphError> {
        let input_shapes: Vec<&[Dim]> = inputs.iter().map(|v| self.draft.value(*v).shape.as_slice()).collect();
        let param_shapes: Vec<&[usize]> = params.iter().map(|p| self.draft.param(*p).data.shape()).collect();
        let shape = op
            .infer(&input_shapes, &param_shapes)
            .map_err(|source| GraphError::Op { node: name.to_string(), source })?;
        let output = self.add_value(name, shape);
        self.draft.nodes.push(Node {
            name: name.to_string(),
            op,
            inputs: inputs.to_vec(),
            params: params.to_vec(),
            output,
        });
        self.changes.push(Change::AddNode(name.to_string()));
        Ok(output)
    }

    /// Says which values are the result.
    pub fn set_outputs(&mut self, outputs: &[ValueId]) {
        self.draft.outputs = outputs.to_vec();
    }

    /// Gives a parameter other values. A mask stays if the number of elements does.
    pub fn set_param(&mut self, id: ParamId, data: TensorData) {
        let param = &mut self.draft.params[id.index()];
        if data.elements() != param.data.elements() {
            param.mask = None;
        }
        param.data = data;
        self.changes.push(Change::SetParam(param.name.clone()));
    }

    /// Says which elements of a parameter are to stay zero (`false`) while training.
    pub fn set_mask(&mut self, id: ParamId, mask: Option<Arc<[bool]>>) {
        let param = &mut self.draft.params[id.index()];
        param.mask = mask;
        self.changes.push(Change::SetMask(param.name.clone()));
    }

    /// Verifies the draft and puts it in the graph's place; on an error the graph is as it was.
    pub fn commit(self) -> Result<Vec<Change>, GraphError> {
        self.draft.verify()?;
        *self.target = self.draft;
        Ok(self.changes)
    }

    /// Puts an unfinished draft in the graph's place: for a builder that goes on and verifies at the end.
    pub(super) fn keep_unverified(self) {
        *self.target = self.draft;
    }

    fn add_value(&mut self, name: &str, shape: Vec<Dim>) -> ValueId {
        let id = ValueId(self.draft.values.len() as u32);
        self.draft.values.push(Value { name: name.to_string(), shape });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;
    use expect_test::expect;

    fn network() -> Graph {
        GraphBuilder::new("test", &[4]).linear("fc1", 3).activation("relu", Activation::Relu).build().unwrap()
    }

    #[test]
    fn a_draft_that_does_not_hold_together_leaves_the_graph_as_it_was() {
        let mut graph = network();
        let before = graph.clone();
        let mut edit = graph.edit();
        let weight = edit.graph().param_id("fc1.weight").unwrap();
        edit.set_param(weight, TensorData::zeros(vec![5, 4]).unwrap());
        let error = edit.commit().unwrap_err();
        assert_eq!(error.to_string(), "node 'fc1': Linear wants a bias of shape [5], got [3]");
        assert_eq!(graph, before);
    }

    #[test]
    fn a_dropped_draft_leaves_the_graph_as_it_was() {
        let mut graph = network();
        let before = graph.clone();
        let mut edit = graph.edit();
        edit.add_param("loose", TensorData::zeros(vec![1]).unwrap());
        drop(edit);
        assert_eq!(graph, before);
    }

    #[test]
    fn a_commit_says_what_changed() {
        let mut graph = network();
        let mut edit = graph.edit();
        let top = edit.graph().outputs()[0];
        let weight = edit.add_param("fc2.weight", TensorData::zeros(vec![2, 3]).unwrap());
        let out = edit.add_node("fc2", Op::Linear, &[top], &[weight]).unwrap();
        edit.set_outputs(&[out]);
        let changes = edit.commit().unwrap();
        assert_eq!(changes, [Change::AddParam("fc2.weight".into()), Change::AddNode("fc2".into())]);
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input) [fc1.weight F32[3, 4], fc1.bias F32[3]]
            relu : [N, 3] = Relu(fc1)
            fc2 : [N, 2] = Linear(relu) [fc2.weight F32[2, 3]]
            return fc2
        "#]]
        .assert_eq(&graph.to_string());
    }

    #[test]
    fn a_mask_of_another_length_is_refused() {
        let mut graph = network();
        let mut edit = graph.edit();
        let weight = edit.graph().param_id("fc1.weight").unwrap();
        edit.set_mask(weight, Some(vec![true; 11].into()));
        assert_eq!(edit.commit().unwrap_err(), GraphError::Mask { name: "fc1.weight".into(), mask: 11, elements: 12 });
    }
}
