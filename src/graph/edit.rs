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
