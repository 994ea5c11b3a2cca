//! A network as PyTorch: a Python file that people read, run and train on.
//!
//! The file needs PyTorch and safetensors, nothing of niwaki. It has one module whose `state_dict()` has the names of the
//! `.safetensors` file that goes with it, a `forward` with one line a node, and `load(path)`:
//!
//! ```text
//!   graph ──▶ names: values as Python names ──▶ layers, pools, elements, moves: a node as an expression ─┐
//!                                                                                                        ▼
//!   model.safetensors ◀── load(path) ◀── Network ◀── the file's text ◀── parts: what PyTorch has no function for
//! ```
//!
//! Numbers that the file stores in fewer bits are widened to 32 when it is loaded, so that training goes on in them.

mod elements;
mod error;
mod layers;
mod moves;
mod names;
mod parts;
mod pools;
mod text;

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::graph::op::Op;
use crate::graph::{Graph, Node};
use crate::tensor::DType;

pub use error::TorchError;
use names::Names;
use parts::Part;
use text::{dtype, quoted, shape, tuple};

/// The Python file of a graph.
pub fn loader(graph: &Graph) -> Result<String, TorchError> {
    let names = Names::of(graph);
    let mut writer = Writer { graph, names: &names, parts: BTreeSet::new(), sizes: BTreeSet::new() };
    let mut lines = Vec::new();
    for node in graph.nodes() {
        lines.push(writer.line(node)?);
    }
    let opened = writer.opened()?;
    let Writer { parts, .. } = writer;
    let mut file = header(graph);
    parameters(graph, &mut file);
    for part in &parts {
        let _ = write!(file, "\n\n{}", part.text());
    }
    file.push_str(MODULE);
    let inputs: Vec<&str> = graph.inputs().iter().map(|id| names.value(*id)).collect();
    let _ = writeln!(file, "\n    def forward(self, {}):", inputs.join(", "));
    let _ = writeln!(file, "        p = self.tensors()");
    for line in opened.iter().chain(&lines) {
        let _ = writeln!(file, "        {line}");
    }
    let outputs: Vec<&str> = graph.outputs().iter().map(|id| names.value(*id)).collect();
    let _ = writeln!(file, "        return {}", outputs.join(", "));
    file.push_str(LOAD);
    Ok(file)
}

fn header(graph: &Graph) -> String {
    let name: String = graph.name().chars().filter(|c| !c.is_control() && !matches!(c, '\\' | '"')).collect();
    format!(
        "\"\"\"{name}: a network that niwaki wrote, in PyTorch.\n\n    model = load(\"model.safetensors\")\n\n`Network` is an \
         ordinary module: its state_dict() has the names of the file, and it can be trained on.\n\"\"\"\n\nimport torch\n\
         import torch.nn.functional as F\nfrom safetensors.torch import load_file\nfrom torch import nn\n\n"
    )
}

/// The table of parameters: what each is called, its shape, its format, and whether it is learned.
fn parameters(graph: &Graph, file: &mut String) {
    let fixed = graph.statistics();
    file.push_str(
        "# What each tensor of the file is called, its shape and format, and whether it is learned.\nPARAMETERS = {\n",
    );
    for id in graph.param_ids() {
        let param = graph.param(id);
        let learned = if fixed.contains(&id) { "False" } else { "True" };
        let (name, format) = (quoted(&param.name), dtype(widened(graph, id)));
        let _ = writeln!(file, "    {name}: ({}, {format}, {learned}),", tuple(param.data.shape()));
    }
    file.push_str("}\n");
}

/// The format that a parameter has in the module.
fn widened(graph: &Graph, id: crate::graph::ParamId) -> DType {
    let own = graph.param(id).data.dtype();
    let in_64 = graph
        .nodes()
        .iter()
        .any(|node| node.params.contains(&id) && matches!(&node.op, Op::Constant(c) if c.dtype == DType::F64));
    match own.is_float() {
        true if in_64 => DType::F64,
        true => DType::F32,
        false => own,
    }
}

const MODULE: &str = r#"

class Network(nn.Module):
    """The network: a line a node in forward, and its tensors by their names in PARAMETERS."""

    def __init__(self):
        super().__init__()
        for name, (shape, dtype, learned) in PARAMETERS.items():
            *path, last = name.split(".")
            place = self
            for part in path:
                place = place._modules.setdefault(part, nn.Module())
            tensor = torch.zeros(shape, dtype=dtype)
            if learned:
                place._parameters[last] = nn.Parameter(tensor)
            else:
                place._buffers[last] = tensor

    def tensors(self):
        """All tensors by their names."""
        shared = {"remove_duplicate": False}
        return dict(self.named_parameters(**shared)) | dict(self.named_buffers(**shared))
"#;

const LOAD: &str = r#"

def load(path, device="cpu"):
    """The network with the tensors of a .safetensors file, as it is used; call train() on it to train it."""
    model = Network()
    model.load_state_dict(load_file(path))
    return model.to(device).eval()
"#;

/// A file in the making.
struct Writer<'g> {
    graph: &'g Graph,
    names: &'g Names,
    /// Functions that the file needs.
    parts: BTreeSet<Part>,
    /// Open sizes that it needs, by their names.
    sizes: BTreeSet<&'static str>,
}

impl Writer<'_> {
    /// A node's line.
    fn line(&mut self, node: &Node) -> Result<String, TorchError> {
        let inexpressible = || TorchError::Inexpressible { node: node.name.clone(), op: node.op.name() };
        let mut expression = self.expression(node).ok_or_else(inexpressible)?;
        let outputs: Vec<&str> = node.outputs.iter().map(|id| self.names.value(*id)).collect();
        let is_float = |id: &crate::graph::ValueId| self.graph.value(*id).ty.dtype.is_float();
        if self.graph.activations() != DType::F32 && node.outputs.iter().any(is_float) {
            self.parts.insert(Part::Passed);
            let star = if outputs.len() > 1 { "*" } else { "" };
            expression = format!("passed({}, {star}{expression})", dtype(self.graph.activations()));
        }
        // An operator of several outputs may have but one here.
        let comma = if outputs.len() == 1 && matches!(node.op, Op::Split(_)) { "," } else { "" };
        Ok(format!("{}{comma} = {expression}", outputs.join(", ")))
    }

    fn expression(&mut self, node: &Node) -> Option<String> {
        layers::write(self, node)
            .or_else(|| pools::write(self, node))
            .or_else(|| elements::write(self, node))
            .or_else(|| moves::write(self, node))
    }

    /// The node's input at `index`.
    fn input(&self, node: &Node, index: usize) -> String {
        self.names.value(node.inputs[index]).to_string()
    }

    /// The number format of the node's input at `index`.
    fn dtype(&self, node: &Node, index: usize) -> DType {
        self.graph.value(node.inputs[index]).ty.dtype
    }

    /// The number of axes of the node's first input.
    fn rank(&self, node: &Node) -> usize {
        self.graph.value(node.inputs[0]).shape().len()
    }

    /// The node's parameter at `index`, where it has one.
    fn param(&self, node: &Node, index: usize) -> Option<String> {
        let param = self.graph.param(*node.params.get(index)?);
        let formats = node.inputs.iter().chain(&node.outputs).map(|id| self.graph.value(*id).ty.dtype);
        let own = formats.into_iter().find(|dtype| dtype.is_float()).unwrap_or(DType::F32);
        let is_own = own == DType::F32 || !param.data.dtype().is_float() || matches!(node.op, Op::Constant(_));
        let brought = if is_own { String::new() } else { format!(".to({})", dtype(own)) };
        Some(format!("p[{}]{brought}", quoted(&param.name)))
    }

    /// The same, or `None`.
    fn param_or_none(&self, node: &Node, index: usize) -> String {
        self.param(node, index).unwrap_or_else(|| "None".into())
    }

    /// Sizes of axes in brackets.
    fn shape(&mut self, dims: &[crate::graph::Dim]) -> String {
        shape(dims, &mut self.sizes)
    }

    /// The lines that say what the open sizes are.
    fn opened(&self) -> Result<Vec<String>, TorchError> {
        let size =
            |name: &&'static str| text::size_of(self.graph, self.names, name).ok_or(TorchError::Size { size: name });
        self.sizes.iter().map(size).collect()
    }
}

#[cfg(test)]
mod tests;
