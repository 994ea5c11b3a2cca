//! The only way to change a graph: a draft that is committed whole or dropped.

use std::collections::HashSet;
use std::sync::Arc;

use super::op::ValueType;
use super::{Dim, Graph, GraphError, Node, Op, Param, ParamId, Value, ValueId};
use crate::tensor::{DType, TensorData};

/// One change, for logs and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A node came in.
    AddNode(String),
    /// A node went out.
    RemoveNode(String),
    /// A parameter came in.
    AddParam(String),
    /// A parameter got other values.
    SetParam(String),
    /// A parameter got another mask.
    SetMask(String),
    /// Values pass through another number format.
    SetActivations(DType),
}

/// A draft of a changed graph. Dropped without [`GraphEdit::commit`], it leaves the graph as it was.
pub struct GraphEdit<'g> {
    target: &'g mut Graph,
    draft: Graph,
    changes: Vec<Change>,
    /// Parameters of nodes that went out; those that nobody else reads go out with the commit.
    released: Vec<ParamId>,
}

/// A node to be put into a graph; see [`GraphEdit::insert_after`] and [`GraphEdit::replace_node`].
#[derive(Debug, Clone, PartialEq)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// What it does; an operator with one input.
    pub op: Op,
    /// The parameters it reads.
    pub params: Vec<ParamId>,
}

impl<'g> GraphEdit<'g> {
    pub(super) fn new(target: &'g mut Graph) -> Self {
        let draft = target.clone();
        Self { target, draft, changes: Vec::new(), released: Vec::new() }
    }

    /// A draft that takes the graph over instead of copying it: for a builder, which lets go of what it cannot finish.
    pub(super) fn taking(target: &'g mut Graph) -> Self {
        let draft = std::mem::replace(target, Graph::new(""));
        Self { target, draft, changes: Vec::new(), released: Vec::new() }
    }

    /// The draft as it stands.
    pub fn graph(&self) -> &Graph {
        &self.draft
    }

    /// Adds an input of that shape (without the batch axis).
    pub fn add_input(&mut self, name: &str, sample_shape: &[usize]) -> ValueId {
        let shape = std::iter::once(Dim::Batch).chain(sample_shape.iter().map(|&n| Dim::Fixed(n))).collect();
        self.add_input_of(name, ValueType::new(DType::F32, shape))
    }

    /// Adds an input of any type.
    pub fn add_input_of(&mut self, name: &str, ty: ValueType) -> ValueId {
        let id = self.add_value(name, ty);
        self.draft.inputs.push(id);
        id
    }

    /// Adds a parameter.
    pub fn add_param(&mut self, name: &str, data: TensorData) -> ParamId {
        let id = ParamId(self.draft.params.len() as u32);
        self.draft.params.push(Param { name: name.to_string(), data, fixed: false, mask: None });
        self.changes.push(Change::AddParam(name.to_string()));
        id
    }

    /// Adds a parameter that is part of the structure: see [`Param::fixed`].
    pub fn add_fixed_param(&mut self, name: &str, data: TensorData) -> ParamId {
        let id = self.add_param(name, data);
        self.draft.params[id.index()].fixed = true;
        id
    }

    /// Adds a node at the end; its output value has the node's name and the inferred type.
    pub fn add_node(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        params: &[ParamId],
    ) -> Result<ValueId, GraphError> {
        self.place_node(self.draft.nodes.len(), name, op, inputs, params)
    }

    /// Adds a node at the end, with names for its outputs.
    pub fn add_node_with_outputs(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        params: &[ParamId],
        outputs: &[String],
    ) -> Result<Vec<ValueId>, GraphError> {
        let types = self.infer(name, &op, inputs, params)?;
        if types.len() != outputs.len() {
            let (stated, inferred) = (outputs.len(), types.len());
            return Err(GraphError::Outputs { node: name.to_string(), stated, inferred });
        }
        let outputs: Vec<ValueId> = outputs.iter().zip(types).map(|(name, ty)| self.add_value(name, ty)).collect();
        self.insert_node(self.draft.nodes.len(), name, op, inputs, params, outputs.clone());
        Ok(outputs)
    }

    /// Puts a node behind a value: whoever read the value, the graph's outputs among them, reads the node's output
    /// instead.
    pub fn insert_after(&mut self, value: ValueId, node: NewNode) -> Result<ValueId, GraphError> {
        let place = self.place_of_producer(value).map_or(0, |place| place + 1);
        let output = self.place_node(place, &node.name, node.op, &[value], &node.params)?;
        self.redirect(value, output, place + 1);
        Ok(output)
    }

    /// Puts a node behind a value for those of its readers that are named; all others read the value as before.
    pub fn insert_between(&mut self, value: ValueId, node: NewNode, readers: &[String]) -> Result<ValueId, GraphError> {
        let place = self.place_of_producer(value).map_or(0, |place| place + 1);
        let output = self.place_node(place, &node.name, node.op, &[value], &node.params)?;
        for name in readers {
            let reader = self.node_mut(name)?;
            reader.inputs.iter_mut().filter(|input| **input == value).for_each(|input| *input = output);
        }
        Ok(output)
    }

    /// Lets the node `name` read one parameter more, behind those that it reads: a bias, say.
    pub fn push_param(&mut self, name: &str, param: ParamId) -> Result<(), GraphError> {
        self.node_mut(name)?.params.push(param);
        Ok(())
    }

    /// Puts a chain of nodes in the place of the node `name`, which has one input: the first reads that, and whoever read
    /// the old node's output reads the last's. An empty chain takes the node out. Parameters that no node reads any more
    /// go out too.
    pub fn replace_node(&mut self, name: &str, chain: Vec<NewNode>) -> Result<ValueId, GraphError> {
        let place = self.draft.nodes.iter().position(|node| node.name == name);
        let place = place.ok_or_else(|| GraphError::NoSuchNode { name: name.to_string() })?;
        let old = self.draft.nodes.remove(place);
        self.released.extend(&old.params);
        self.changes.push(Change::RemoveNode(old.name.clone()));
        let mut top = old.inputs[0];
        let mut next = place;
        for node in chain {
            top = self.place_node(next, &node.name, node.op, &[top], &node.params)?;
            next += 1;
        }
        self.redirect(old.output(), top, next);
        Ok(top)
    }

    /// Says which number format values pass through between nodes; see [`Graph::activations`].
    pub fn set_activations(&mut self, dtype: DType) {
        if self.draft.activations != dtype {
            self.draft.activations = dtype;
            self.changes.push(Change::SetActivations(dtype));
        }
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

    /// Gives every node the operator of its place and infers what all values are anew, after parameters have got other
    /// sizes.
    pub fn resize(&mut self, ops: Vec<Op>) -> Result<(), GraphError> {
        for (place, op) in ops.into_iter().enumerate() {
            let node = &self.draft.nodes[place];
            let types = self.infer(&node.name, &op, &node.inputs, &node.params)?;
            let outputs = node.outputs.clone();
            self.draft.nodes[place].op = op;
            for (output, ty) in outputs.into_iter().zip(types) {
                self.draft.values[output.index()].ty = ty;
            }
        }
        Ok(())
    }

    /// Verifies the draft and puts it in the graph's place; on an error the graph is as it was.
    pub fn commit(mut self) -> Result<Vec<Change>, GraphError> {
        self.sweep();
        self.draft.verify()?;
        *self.target = self.draft;
        Ok(self.changes)
    }

    /// Puts an unfinished draft in the graph's place: for a builder that goes on and verifies at the end.
    pub(super) fn keep_unverified(self) {
        *self.target = self.draft;
    }

    /// Adds a node at `place` of the execution order.
    fn place_node(
        &mut self,
        place: usize,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        params: &[ParamId],
    ) -> Result<ValueId, GraphError> {
        let types = self.infer(name, &op, inputs, params)?;
        let named = |i: usize| if i == 0 { name.to_string() } else { format!("{name}.{i}") };
        let outputs: Vec<ValueId> =
            types.into_iter().enumerate().map(|(i, ty)| self.add_value(&named(i), ty)).collect();
        let output = outputs[0];
        self.insert_node(place, name, op, inputs, params, outputs);
        Ok(output)
    }

    fn insert_node(
        &mut self,
        place: usize,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        params: &[ParamId],
        outputs: Vec<ValueId>,
    ) {
        let (inputs, params) = (inputs.to_vec(), params.to_vec());
        self.draft.nodes.insert(place, Node { name: name.to_string(), op, inputs, params, outputs });
        self.changes.push(Change::AddNode(name.to_string()));
    }

    fn infer(&self, name: &str, op: &Op, inputs: &[ValueId], params: &[ParamId]) -> Result<Vec<ValueType>, GraphError> {
        let inputs: Vec<&ValueType> = inputs.iter().map(|v| &self.draft.value(*v).ty).collect();
        let params: Vec<&[usize]> = params.iter().map(|p| self.draft.param(*p).data.shape()).collect();
        op.infer(&inputs, &params).map_err(|source| GraphError::Op { node: name.to_string(), source: Box::new(source) })
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node, GraphError> {
        let node = self.draft.nodes.iter_mut().find(|node| node.name == name);
        node.ok_or_else(|| GraphError::NoSuchNode { name: name.to_string() })
    }

    fn place_of_producer(&self, value: ValueId) -> Option<usize> {
        self.draft.nodes.iter().position(|node| node.outputs.contains(&value))
    }

    /// Whoever reads `old` from node `from` on reads `new`.
    fn redirect(&mut self, old: ValueId, new: ValueId, from: usize) {
        let inputs = self.draft.nodes[from..].iter_mut().flat_map(|node| &mut node.inputs);
        for value in inputs.chain(&mut self.draft.outputs).filter(|value| **value == old) {
            *value = new;
        }
    }

    /// Takes out the values that nodes which went out wrote, and the parameters that only they read; what is left is
    /// numbered anew.
    fn sweep(&mut self) {
        if !self.changes.iter().any(|change| matches!(change, Change::RemoveNode(_))) {
            return;
        }
        let draft = &mut self.draft;
        let read: HashSet<ParamId> = draft.nodes.iter().flat_map(|node| node.params.iter().copied()).collect();
        let gone: HashSet<ParamId> = self.released.iter().copied().filter(|id| !read.contains(id)).collect();
        let params = renumbered(draft.params.len(), |i| !gone.contains(&ParamId(i)));
        let written: HashSet<ValueId> =
            draft.nodes.iter().flat_map(|node| &node.outputs).chain(&draft.inputs).copied().collect();
        let values = renumbered(draft.values.len(), |i| written.contains(&ValueId(i)));
        keep_numbered(&mut draft.params, &params);
        keep_numbered(&mut draft.values, &values);
        for node in &mut draft.nodes {
            node.params.iter_mut().for_each(|id| id.0 = params[id.index()].unwrap_or(u32::MAX));
            node.inputs.iter_mut().for_each(|id| id.0 = values[id.index()].unwrap_or(u32::MAX));
            node.outputs.iter_mut().for_each(|id| id.0 = values[id.index()].unwrap_or(u32::MAX));
        }
        for id in draft.inputs.iter_mut().chain(&mut draft.outputs) {
            id.0 = values[id.index()].unwrap_or(u32::MAX);
        }
    }

    fn add_value(&mut self, name: &str, ty: ValueType) -> ValueId {
        let id = ValueId(self.draft.values.len() as u32);
        self.draft.values.push(Value { name: name.to_string(), ty });
        id
    }
}

/// The new number of each of `count` things, `None` for those that do not stay.
fn renumbered(count: usize, stays: impl Fn(u32) -> bool) -> Vec<Option<u32>> {
    let mut next = 0..;
    (0..count as u32).map(|i| if stays(i) { next.next() } else { None }).collect()
}

fn keep_numbered<T>(things: &mut Vec<T>, numbers: &[Option<u32>]) {
    let mut numbers = numbers.iter();
    things.retain(|_| numbers.next().is_some_and(Option::is_some));
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
    fn a_node_that_is_replaced_takes_its_values_and_parameters_with_it() {
        let mut graph = network();
        let mut edit = graph.edit();
        let down = edit.add_param("fc1.down", TensorData::zeros(vec![2, 4]).unwrap());
        let up = edit.add_param("fc1.up", TensorData::zeros(vec![3, 2]).unwrap());
        let bias = edit.graph().param_id("fc1.bias").unwrap();
        let node = |name: &str, params| NewNode { name: name.into(), op: Op::Linear, params };
        edit.replace_node("fc1", vec![node("fc1.0", vec![down]), node("fc1.1", vec![up, bias])]).unwrap();
        edit.replace_node("relu", vec![]).unwrap();
        edit.commit().unwrap();
        expect![[r#"
            input : [N, 4]
            fc1.0 : [N, 2] = Linear(input) [fc1.down F32[2, 4]]
            fc1.1 : [N, 3] = Linear(fc1.0) [fc1.up F32[3, 2], fc1.bias F32[3]]
            return fc1.1
        "#]]
        .assert_eq(&graph.to_string());
        assert_eq!((graph.params().len(), graph.values().len()), (3, 3));
    }

    #[test]
    fn a_node_is_inserted_behind_a_value_for_all_its_readers() {
        let mut graph = network();
        let mut edit = graph.edit();
        let value = edit.graph().nodes()[0].output();
        edit.add_node("sum", Op::ADD, &[value, value], &[]).unwrap();
        let op = Op::Activation(Activation::Tanh);
        edit.insert_after(value, NewNode { name: "tanh".into(), op, params: vec![] }).unwrap();
        edit.commit().unwrap();
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input) [fc1.weight F32[3, 4], fc1.bias F32[3]]
            tanh : [N, 3] = Tanh(fc1)
            relu : [N, 3] = Relu(tanh)
            sum : [N, 3] = Add(tanh, tanh)
            return relu
        "#]]
        .assert_eq(&graph.to_string());
    }

    #[test]
    fn a_node_is_inserted_for_the_named_readers_alone() {
        let mut graph = network();
        let mut edit = graph.edit();
        let value = edit.graph().nodes()[0].output();
        edit.add_node("sum", Op::ADD, &[value, value], &[]).unwrap();
        let node = NewNode { name: "tanh".into(), op: Op::Activation(Activation::Tanh), params: vec![] };
        edit.insert_between(value, node, &["sum".into()]).unwrap();
        edit.commit().unwrap();
        expect![[r#"
            input : [N, 4]
            fc1 : [N, 3] = Linear(input) [fc1.weight F32[3, 4], fc1.bias F32[3]]
            tanh : [N, 3] = Tanh(fc1)
            relu : [N, 3] = Relu(fc1)
            sum : [N, 3] = Add(tanh, tanh)
            return relu
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
