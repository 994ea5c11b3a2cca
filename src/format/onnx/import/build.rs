//! From a program to a graph: names, parameters, and nothing that nobody needs.

use std::collections::{HashMap, HashSet};

use super::super::error::OnnxError;
use super::merge::Program;
use super::source::{Source, wrong};
use super::trace::{Constant, Handle};
use crate::graph::op::{self, Op};
use crate::graph::{Graph, GraphEdit, GraphError, MAX_NODES, ParamId, ValueId, check_size};

/// The graph of a program with these inputs and outputs.
pub(super) fn build(
    source: &Source,
    program: Program,
    inputs: &[Handle],
    outputs: &[(String, Handle)],
) -> Result<Graph, OnnxError> {
    let live = live(&program, outputs);
    let count = live.iter().filter(|live| **live).count();
    if count > MAX_NODES {
        return Err(built(GraphError::TooMany { what: "node", count, limit: MAX_NODES }));
    }
    let tensors = source.initializers.values().map(|tensor| tensor.bytes().len() as u64).sum::<u64>();
    let limit = MAX_SHARED.saturating_add(tensors.saturating_mul(4));
    let mut graph = Graph::new(clean(&source.name, "onnx"));
    let mut builder = Builder {
        source,
        program: &program,
        edit: graph.edit(),
        values: HashMap::new(),
        params: HashMap::new(),
        output_names: outputs.iter().map(|(name, handle)| (*handle, name.as_str())).collect(),
        node_names: Names::default(),
        value_names: Names::default(),
        param_names: Names::default(),
        limit,
        left: limit,
    };
    builder.reserve(inputs, outputs);
    for input in inputs {
        builder.input(*input)?;
    }
    for (place, _) in live.iter().enumerate().filter(|(_, live)| **live) {
        builder.step(place)?;
    }
    let outputs = outputs.iter().map(|(_, handle)| builder.read(*handle)).collect::<Result<Vec<_>, _>>()?;
    let Builder { mut edit, .. } = builder;
    edit.set_outputs(&outputs);
    edit.commit().map_err(built)?;
    Ok(graph)
}

/// So many bytes a graph's parameters may have beside four times the file's tensors: each layer's own copies of what the
/// file has once.
const MAX_SHARED: u64 = 64 << 20;

/// Which steps an output depends on.
fn live(program: &Program, outputs: &[(String, Handle)]) -> Vec<bool> {
    let mut needed: HashSet<Handle> = outputs.iter().map(|(_, handle)| *handle).collect();
    let mut live = vec![false; program.steps.len()];
    for (place, step) in program.steps.iter().enumerate().rev() {
        if step.outputs.iter().any(|output| needed.contains(output)) {
            live[place] = true;
            needed.extend(step.inputs.iter().chain(&step.params));
        }
    }
    live
}

struct Builder<'p, 'g> {
    source: &'p Source,
    program: &'p Program,
    edit: GraphEdit<'g>,
    values: HashMap<Handle, ValueId>,
    params: HashMap<Handle, ParamId>,
    /// What the file calls the graph's outputs.
    output_names: HashMap<Handle, &'p str>,
    node_names: Names,
    value_names: Names,
    param_names: Names,
    /// Bytes that all parameters may have, and those that more of them may have.
    limit: u64,
    left: u64,
}

impl Builder<'_, '_> {
    /// Keeps the names of inputs and outputs for them.
    fn reserve(&mut self, inputs: &[Handle], outputs: &[(String, Handle)]) {
        for handle in inputs.iter().chain(outputs.iter().map(|(_, handle)| handle)) {
            if let Some(name) = self.wished(*handle) {
                self.value_names.reserve(*handle, &clean(&name, "value"));
            }
        }
    }

    fn wished(&self, handle: Handle) -> Option<String> {
        let own = self.program.value(handle).name.clone();
        self.output_names.get(&handle).map(|name| name.to_string()).or(own)
    }

    fn value_name(&mut self, handle: Handle, otherwise: &str) -> String {
        let wished = self.wished(handle).map_or_else(|| otherwise.to_string(), |name| clean(&name, otherwise));
        self.value_names.take(handle, &wished)
    }

    fn input(&mut self, handle: Handle) -> Result<(), OnnxError> {
        let name = self.value_name(handle, "input");
        let id = self.edit.add_input_of(&name, self.program.value(handle).ty.clone());
        check_size(&name, &self.edit.graph().value(id).sample_shape()).map_err(built)?;
        self.values.insert(handle, id);
        Ok(())
    }

    /// The value that a step reads; a constant becomes one by a node of its own.
    fn read(&mut self, handle: Handle) -> Result<ValueId, OnnxError> {
        if let Some(id) = self.values.get(&handle) {
            return Ok(*id);
        }
        let value = self.program.value(handle);
        let Some(constant) = value.constant.clone() else {
            let name = value.name.clone().unwrap_or_default();
            return Err(wrong(format!(
                "value '{name}' depends on the number of samples or steps in a way that has no form"
            )));
        };
        let name = self.value_name(handle, "constant");
        let node = self.node_names.fresh(&name);
        let param = self.param(handle, &constant, &node, "value", false)?;
        let op = Op::Constant(op::Constant { dtype: value.ty.dtype });
        let ids = self.edit.add_node_with_outputs(&node, op, &[], &[param], &[name]).map_err(built)?;
        self.values.insert(handle, ids[0]);
        Ok(ids[0])
    }

    fn step(&mut self, place: usize) -> Result<(), OnnxError> {
        let step = &self.program.steps[place];
        let inputs = step.inputs.iter().map(|v| self.read(*v)).collect::<Result<Vec<_>, _>>()?;
        let label = clean(self.source.label(step.node), step.op.name());
        // The step that ends a node of the file has its name; those before it are parts of it.
        let ends = step.outputs.iter().any(|output| self.program.value(*output).name.is_some());
        let name = self.node_names.fresh(&if ends { label } else { format!("{label}.{}", step.op.name()) });
        let (roles, _) = step.op.roles();
        let mut params = Vec::new();
        for (role_place, (handle, role)) in step.params.iter().zip(roles).enumerate() {
            let constant = self.program.value(*handle).constant.clone();
            let constant = constant.ok_or_else(|| wrong(format!("node '{name}': its {role} is not known")))?;
            let own = step.op.statistics().contains(&role_place);
            params.push(self.param(*handle, &constant, &name, role, own)?);
        }
        let many = step.outputs.len() > 1;
        let named = |i: usize| if many { format!("{name}.{i}") } else { name.clone() };
        let outputs: Vec<String> =
            step.outputs.iter().enumerate().map(|(i, output)| self.value_name(*output, &named(i))).collect();
        let ids = self.edit.add_node_with_outputs(&name, step.op.clone(), &inputs, &params, &outputs).map_err(built)?;
        self.values.extend(step.outputs.iter().copied().zip(ids));
        Ok(())
    }

    /// The parameter of a constant in that role. Exporters write equal tensors once; a vector, which belongs to one layer
    /// by nature, becomes each layer's own again. Matrices stay shared.
    fn param(
        &mut self,
        handle: Handle,
        constant: &Constant,
        node: &str,
        role: &str,
        own: bool,
    ) -> Result<ParamId, OnnxError> {
        let vector = self.program.value(handle).ty.shape.len() < 2;
        if let Some(id) = self.params.get(&handle).filter(|_| !own && !vector) {
            return Ok(*id);
        }
        let data = constant.data().ok_or_else(|| wrong(format!("node '{node}': its {role} cannot be computed")))?;
        let left = self.left.checked_sub(data.bytes().len() as u64);
        self.left = left.ok_or_else(|| OnnxError::Shared { node: node.to_string(), limit: self.limit })?;
        let of_node = if role == "value" { node.to_string() } else { format!("{node}.{role}") };
        let first = !self.params.contains_key(&handle);
        let wished = self.program.value(handle).name.as_ref().filter(|_| first);
        let wished = wished.map_or_else(|| of_node.clone(), |name| clean(name, &of_node));
        let name = self.param_names.fresh(&wished);
        // A mask holds infinities, which nobody learns.
        let finite = constant.is_finite();
        let learned = match role {
            "value" => constant.learned() && data.dtype().is_float() && finite,
            "scale" | "zero_point" => false,
            _ => true,
        };
        if learned && !finite {
            return Err(OnnxError::Data { tensor: name, problem: "it holds values that are NaN or infinite".into() });
        }
        let id = match learned {
            true => self.edit.add_param(&name, data.clone()),
            false => self.edit.add_fixed_param(&name, data.clone()),
        };
        self.params.entry(handle).or_insert(id);
        Ok(id)
    }
}

fn built(error: GraphError) -> OnnxError {
    OnnxError::Built(Box::new(error))
}

/// Names that are taken.
#[derive(Default)]
struct Names {
    /// With the number that was last put behind each.
    taken: HashMap<String, usize>,
    reserved: HashMap<Handle, String>,
}

impl Names {
    fn reserve(&mut self, handle: Handle, name: &str) {
        if !self.reserved.contains_key(&handle) {
            let name = self.fresh(name);
            self.reserved.insert(handle, name);
        }
    }

    /// The name that is kept for this, or a new one.
    fn take(&mut self, handle: Handle, name: &str) -> String {
        match self.reserved.get(&handle) {
            Some(name) => name.clone(),
            None => self.fresh(name),
        }
    }

    /// The name, or one like it that is not taken.
    fn fresh(&mut self, name: &str) -> String {
        let Some(last) = self.taken.get(name).copied() else {
            self.taken.insert(name.to_string(), 0);
            return name.to_string();
        };
        let mut number = last + 1;
        while self.taken.contains_key(&format!("{name}_{number}")) {
            number += 1;
        }
        self.taken.insert(name.to_string(), number);
        let unique = format!("{name}_{number}");
        self.taken.insert(unique.clone(), 0);
        unique
    }
}

/// The longest name that is kept.
const MAX_KEPT: usize = 200;

/// A name that may name a tensor in a file: exporters write `/layer1/conv1/Conv`.
fn clean(name: &str, otherwise: &str) -> String {
    let printable = name.chars().map(|c| if c.is_ascii_graphic() && c != '\\' { c } else { '_' }).collect::<String>();
    let parts: Vec<&str> = printable.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let mut joined = parts.join("/");
    joined.truncate(MAX_KEPT);
    let joined = joined.trim_end_matches('/');
    if joined.is_empty() { otherwise.to_string() } else { joined.to_string() }
}
