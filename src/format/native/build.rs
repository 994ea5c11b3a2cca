//! From a description and tensors to a graph. Nothing the description says is believed: its parameters must be the
//! tensors, and its nodes go through [`crate::graph::GraphEdit`], which infers every shape.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::error::{MAX_PROBLEMS, Origin, TensorProblem, shorten};
use super::super::safetensors;
use super::FormatError;
use super::text::{GraphText, NodeText};
use crate::graph::op::OpTextError;
use crate::graph::{Graph, GraphError, Op, ParamId, ValueId, check_name, check_size};
use crate::tensor::TensorData;

/// The graph that `text` describes, with these tensors as its parameters.
pub(in super::super) fn build(
    text: &GraphText,
    tensors: &BTreeMap<String, TensorData>,
    origin: &Origin,
) -> Result<Graph, FormatError> {
    let describe = |problem: String| FormatError::Description { origin: origin.clone(), problem };
    let broken = |source: GraphError| FormatError::Graph { origin: origin.clone(), source: Box::new(source) };
    check_names(text).map_err(broken)?;
    check_tensor_names(text).map_err(describe)?;
    let ops = ops(&text.nodes).map_err(describe)?;
    let activations = text.activations().map_err(describe)?;
    check_tensors(text, tensors, origin)?;

    if text.inputs.is_empty() {
        return Err(broken(GraphError::NoInput));
    }
    let mut graph = Graph::new(&text.name);
    let mut edit = graph.edit();
    let mut values: HashMap<&str, ValueId> = HashMap::new();
    let mut params: HashMap<&str, ParamId> = HashMap::new();
    for input in &text.inputs {
        let ty = input.ty().map_err(describe)?;
        let id = edit.add_input_of(&input.name, ty);
        check_size(&input.name, &edit.graph().value(id).sample_shape()).map_err(broken)?;
        values.insert(&input.name, id);
    }
    for param in &text.params {
        let data = tensors[&param.name].clone();
        let id = match param.fixed {
            true => edit.add_fixed_param(&param.name, data),
            false => edit.add_param(&param.name, data),
        };
        if params.insert(&param.name, id).is_some() {
            return Err(broken(GraphError::DuplicateName { what: "parameter", name: param.name.clone() }));
        }
    }
    for (node, op) in text.nodes.iter().zip(ops) {
        let inputs = look_up(&values, &node.inputs).map_err(|name| broken(dangling(node, "value", name)))?;
        let roles = by_role(node, &op).map_err(describe)?;
        let own = look_up(&params, &roles).map_err(|name| broken(dangling(node, "parameter", name)))?;
        let outputs = edit.add_node_with_outputs(&node.name, op, &inputs, &own, node.outputs()).map_err(broken)?;
        for (name, output) in node.outputs().iter().zip(outputs) {
            check_size(name, &edit.graph().value(output).sample_shape()).map_err(broken)?;
            values.insert(name, output);
        }
    }
    let outputs =
        look_up(&values, &text.outputs).map_err(|value| broken(GraphError::OutputMissing { value: shorten(value) }))?;
    edit.set_outputs(&outputs);
    edit.set_activations(activations);
    edit.commit().map_err(broken)?;
    Ok(graph)
}

/// Names go into error messages from here on, so they are checked before all else.
fn check_names(text: &GraphText) -> Result<(), GraphError> {
    let values = text.inputs.iter().map(|v| ("value", &v.name));
    let params = text.params.iter().map(|p| ("parameter", &p.name));
    let nodes = text.nodes.iter().map(|n| ("node", &n.name));
    let outputs = text.nodes.iter().flat_map(|n| n.outputs()).map(|name| ("value", name));
    values.chain(params).chain(nodes).chain(outputs).try_for_each(|(what, name)| check_name(what, name))
}

/// Passes name tensors after nodes, so what names a node must be able to name a tensor; a job that has run to its end is no
/// place to find out that its model cannot be written.
fn check_tensor_names(text: &GraphText) -> Result<(), String> {
    let names = text.nodes.iter().map(|n| &n.name).chain(text.inputs.iter().map(|v| &v.name));
    match names.map(|name| safetensors::check_name(name)).find_map(Result::err) {
        Some(FormatError::Name { name }) => Err(format!("{name:?} names a node, but could name no tensor")),
        Some(other) => Err(other.to_string()),
        None => Ok(()),
    }
}

/// The operators of all nodes, or what is wrong with them: unknown ones all at once, so that their owner sees how far
/// the network is from being supported.
fn ops(nodes: &[NodeText]) -> Result<Vec<Op>, String> {
    let mut ops = Vec::with_capacity(nodes.len());
    let mut unknown = Vec::new();
    for node in nodes {
        match node.op() {
            Ok(op) => ops.push(op),
            Err(OpTextError::Unknown) => unknown.push(format!("{} (node '{}')", node.op_name(), node.name)),
            Err(OpTextError::Attributes(problem)) => {
                return Err(format!("node '{}' ({}): {}", node.name, node.op_name(), shorten(&problem)));
            }
        }
    }
    match unknown.len() {
        0 => Ok(ops),
        count => {
            unknown.truncate(MAX_PROBLEMS);
            let rest =
                if count > unknown.len() { format!(" and {} more", count - unknown.len()) } else { String::new() };
            Err(format!("unsupported operators: {}{rest}", unknown.join(", ")))
        }
    }
}

/// The described parameters must be the tensors, one for one; all that are not are told.
fn check_tensors(text: &GraphText, tensors: &BTreeMap<String, TensorData>, origin: &Origin) -> Result<(), FormatError> {
    let described: HashSet<&str> = text.params.iter().map(|p| p.name.as_str()).collect();
    let of_params = text.params.iter().filter_map(|param| {
        let (tensor, expected) = (param.name.clone(), param.shape.clone());
        let Some(data) = tensors.get(&tensor) else {
            return Some(TensorProblem::Missing { tensor, expected });
        };
        if data.shape() != expected {
            return Some(TensorProblem::Shape { tensor, expected, actual: data.shape().to_vec() });
        }
        (!param.fixed && !data.dtype().is_float()).then(|| TensorProblem::DType { tensor, dtype: data.dtype() })
    });
    let extra = tensors
        .iter()
        .filter(|(name, _)| !described.contains(name.as_str()))
        .map(|(name, data)| TensorProblem::Extra { tensor: name.clone(), actual: data.shape().to_vec() });
    let mut problems: Vec<TensorProblem> = of_params.chain(extra).collect();
    let total = problems.len();
    if total == 0 {
        return Ok(());
    }
    problems.truncate(MAX_PROBLEMS);
    Err(FormatError::Mismatch { origin: origin.clone(), problems, total })
}

/// A node's parameters in the order of its operator's roles.
fn by_role(node: &NodeText, op: &Op) -> Result<Vec<String>, String> {
    let twice = |role: String| format!("node '{}' has two parameters in the role '{}'", node.name, shorten(&role));
    let mut given = node.params.clone().unique().map_err(twice)?;
    let (roles, needed) = op.roles();
    // Optional roles come last, so that the first absent one ends the list; one given after it is left over.
    let params: Vec<String> = roles.iter().map_while(|role| given.remove(*role)).collect();
    if let Some(role) = roles[..needed].get(params.len()) {
        return Err(format!("node '{}' ({}) lacks the parameter '{role}'", node.name, op.name()));
    }
    match given.pop_first() {
        Some((role, _)) => {
            Err(format!("node '{}' ({}) has no use for a parameter '{}'", node.name, op.name(), shorten(&role)))
        }
        None => Ok(params),
    }
}

/// The ids of these names, or the first name there is none for.
fn look_up<'n, I: Copy>(ids: &HashMap<&str, I>, names: &'n [String]) -> Result<Vec<I>, &'n str> {
    names.iter().map(|name| ids.get(name.as_str()).copied().ok_or(name.as_str())).collect()
}

fn dangling(node: &NodeText, what: &'static str, name: &str) -> GraphError {
    let problem = if what == "value" { "is not written before" } else { "is not among the graph's params" };
    GraphError::Dangling { node: node.name.clone(), what, name: shorten(name), problem }
}
