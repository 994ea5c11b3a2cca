//! What the operators of all families are written with: nodes, tensors and names.

use std::collections::{HashMap, HashSet};

use super::super::dtype;
use super::super::error::OnnxError;
use super::super::operators;
use super::super::proto::attribute_proto::AttributeType;
use super::super::proto::{AttributeProto, NodeProto};
use super::super::tensor;
use super::half::{self, Precision};
use crate::graph::{Dim, Graph, Node, ParamId, Value, ValueId};
use crate::tensor::{DType, TensorData};

/// A file in the making.
pub(in super::super) struct Writer<'g> {
    pub(in super::super) graph: &'g Graph,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) tensors: Vec<Held>,
    /// What the file calls each value; nodes may read it in another precision.
    values: HashMap<ValueId, String>,
    /// The tensors of parameters, by precision and shape.
    params: HashMap<(ParamId, DType, Vec<usize>), String>,
    /// Vectors of whole numbers that are there.
    integers: HashMap<Vec<i64>, String>,
    /// Open sizes that were computed.
    sizes: HashMap<Dim, String>,
    taken: HashSet<String>,
    /// Names of nodes; those of the graph's own are kept for them.
    node_names: HashSet<String>,
    /// The node that is being written, with how it computes.
    node: String,
    precision: Precision,
    /// The format of its floating point values in the graph.
    own: DType,
    /// Nodes that were written for it.
    parts: usize,
    /// Whether one of them has its name.
    named: bool,
}

/// A tensor of the file.
pub(in super::super) struct Held {
    pub(in super::super) name: String,
    pub(in super::super) data: TensorData,
}

/// An attribute's value.
pub(in super::super) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f64),
    Text(&'static str),
    Tensor(TensorData),
}

impl From<i64> for Attribute {
    fn from(i: i64) -> Self {
        Attribute::Int(i)
    }
}

impl From<usize> for Attribute {
    fn from(i: usize) -> Self {
        Attribute::Int(i as i64)
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Self {
        Attribute::Int(i64::from(flag))
    }
}

impl From<f64> for Attribute {
    fn from(f: f64) -> Self {
        Attribute::Float(f)
    }
}

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Attribute::Text(text)
    }
}

impl From<&[usize]> for Attribute {
    fn from(all: &[usize]) -> Self {
        Attribute::Ints(all.iter().map(|n| *n as i64).collect())
    }
}

impl From<Vec<i64>> for Attribute {
    fn from(all: Vec<i64>) -> Self {
        Attribute::Ints(all)
    }
}

/// Attributes by their names.
pub(in super::super) type Attributes = Vec<(&'static str, Attribute)>;

impl<'g> Writer<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let values = graph.values().iter().map(|value| value.name.clone());
        Self {
            graph,
            nodes: Vec::new(),
            tensors: Vec::new(),
            values: HashMap::new(),
            params: HashMap::new(),
            integers: HashMap::new(),
            sizes: HashMap::new(),
            taken: values.collect(),
            node_names: graph.nodes().iter().map(|node| node.name.clone()).collect(),
            node: String::new(),
            precision: Precision::default(),
            own: DType::F32,
            parts: 0,
            named: false,
        }
    }

    /// Brings the inputs to the precision that values pass through.
    pub(super) fn inputs(&mut self) {
        for id in self.graph.inputs() {
            let value = self.graph.value(*id);
            let carried = super::carried(self.graph, value.ty.dtype);
            let name = value.name.clone();
            self.begin(&name, Precision::default());
            let own = if carried == value.ty.dtype { name } else { self.cast(&name, carried) };
            self.values.insert(*id, own);
        }
    }

    /// Writes a node.
    pub(super) fn write(&mut self, node: &'g Node) -> Result<(), OnnxError> {
        self.begin(&node.name, half::precision(self.graph, node));
        let formats = node.inputs.iter().chain(&node.outputs).map(|id| self.graph.value(*id).ty.dtype);
        self.own = formats.into_iter().find(|dtype| dtype.is_float()).unwrap_or(DType::F32);
        let outputs = operators::write(self, node)?;
        for (id, name) in node.outputs.iter().zip(outputs) {
            self.finish(*id, name);
        }
        Ok(())
    }

    /// Gives the graph's outputs their names and formats.
    pub(super) fn outputs(&mut self) {
        let outputs: Vec<ValueId> = self.graph.outputs().to_vec();
        for id in outputs {
            let value = self.graph.value(id);
            let (name, own) = (value.name.clone(), self.values.get(&id).cloned().unwrap_or_default());
            if own == name {
                continue;
            }
            self.begin(&name, Precision::default());
            let carried = super::carried(self.graph, value.ty.dtype);
            let (op, attributes) = match carried == value.ty.dtype {
                true => ("Identity", Vec::new()),
                false => ("Cast", vec![("to", Attribute::Int(i64::from(dtype::number(value.ty.dtype))))]),
            };
            self.emit(op, &[&own], &[name], attributes);
        }
    }

    fn begin(&mut self, node: &str, precision: Precision) {
        (self.node, self.precision, self.parts, self.named) = (node.to_string(), precision, 0, false);
    }

    /// Says which name a value has in the file, after the node that computed it: rounded to what values pass through.
    fn finish(&mut self, id: ValueId, name: String) {
        let value = self.graph.value(id);
        let carried = super::carried(self.graph, value.ty.dtype);
        let computed = self.precision.of(value.ty.dtype);
        let name = if computed == carried || !value.ty.dtype.is_float() { name } else { self.cast(&name, carried) };
        self.values.insert(id, name);
    }

    /// What the file calls the node's input at `index`, in the format that the node computes in.
    pub(in super::super) fn input(&mut self, node: &Node, index: usize) -> String {
        let id = node.inputs[index];
        let dtype = self.graph.value(id).ty.dtype;
        let name = self.values.get(&id).cloned().unwrap_or_default();
        let (carried, wanted) = (super::carried(self.graph, dtype), self.precision.of(dtype));
        if carried == wanted || !dtype.is_float() { name } else { self.cast(&name, wanted) }
    }

    /// The type of the node's input at `index`.
    pub(in super::super) fn value(&self, node: &Node, index: usize) -> &'g Value {
        self.graph.value(node.inputs[index])
    }

    /// The format that the node computes values of this one in.
    pub(in super::super) fn format(&self, dtype: DType) -> DType {
        self.precision.of(dtype)
    }

    /// The format that the node computes floating point numbers in.
    pub(in super::super) fn float(&self) -> DType {
        self.precision.of(self.own)
    }

    /// What the file calls the node's parameter at `index`, in the format that the node computes in.
    pub(in super::super) fn param(&mut self, node: &Node, index: usize) -> Option<String> {
        let shape = self.graph.param(*node.params.get(index)?).data.shape().to_vec();
        self.param_as(node, index, shape)
    }

    /// The same under another shape.
    pub(in super::super) fn param_as(&mut self, node: &Node, index: usize, shape: Vec<usize>) -> Option<String> {
        let id = *node.params.get(index)?;
        let param = self.graph.param(id);
        let dtype = if param.data.dtype().is_float() { self.float() } else { param.data.dtype() };
        let key = (id, dtype, shape);
        if let Some(name) = self.params.get(&key) {
            return Some(name.clone());
        }
        // The first use has the parameter's own name.
        let first = !self.params.keys().any(|(other, ..)| *other == id);
        let wished = if first { param.name.clone() } else { format!("{}.{}", param.name, dtype.name().to_lowercase()) };
        let name = self.fresh(&wished);
        let data = if param.data.dtype().is_float() { param.data.to_float(dtype).ok()? } else { param.data.clone() };
        let data = TensorData::new(data.dtype(), key.2.clone(), data.bytes().clone()).ok()?;
        self.tensors.push(Held { name: name.clone(), data });
        self.params.insert(key, name.clone());
        Some(name)
    }

    /// The name of a constant: a parameter that is a value. One that is learned needs no node.
    pub(in super::super) fn constant(&mut self, node: &Node, to: DType) -> Option<String> {
        let id = *node.params.first()?;
        let param = self.graph.param(id);
        let carried = super::carried(self.graph, to);
        let data = if to.is_float() { param.data.to_float(carried).ok()? } else { param.data.clone() };
        let name = self.graph.value(node.outputs[0]).name.clone();
        self.precision = Precision::All(carried);
        if param.fixed {
            // Readers tell what is learned from what is not by this.
            self.emit("Constant", &[], std::slice::from_ref(&name), vec![("value", Attribute::Tensor(data))]);
            return Some(name);
        }
        self.params.insert((id, data.dtype(), data.shape().to_vec()), name.clone());
        self.tensors.push(Held { name: name.clone(), data });
        Some(name)
    }

    /// A tensor of whole numbers.
    pub(in super::super) fn integers(&mut self, numbers: &[i64]) -> String {
        if let Some(name) = self.integers.get(numbers) {
            return name.clone();
        }
        let text: Vec<String> = numbers.iter().take(6).map(i64::to_string).collect();
        let name = self.fresh(&format!("[{}]", text.join(",")));
        self.tensors.push(Held { name: name.clone(), data: super::super::import::trace::integers(numbers) });
        self.integers.insert(numbers.to_vec(), name.clone());
        name
    }

    /// A tensor of one whole number, without an axis.
    pub(in super::super) fn integer(&mut self, number: i64) -> String {
        let data = TensorData::new(DType::I64, Vec::new(), number.to_le_bytes().to_vec());
        self.held(&number.to_string(), data.ok())
    }

    /// A number in a format, without an axis.
    pub(in super::super) fn scalar(&mut self, number: f64, dtype: DType) -> String {
        let data = match dtype.is_float() {
            true => TensorData::from_f64(dtype, Vec::new(), &[number]).ok(),
            false => integer_of(number, dtype),
        };
        self.held(&number.to_string(), data)
    }

    /// A tensor of the file's own.
    pub(in super::super) fn held(&mut self, name: &str, data: Option<TensorData>) -> String {
        let name = self.fresh(name);
        // What has no data has a dtype that no such number has; readers will say so.
        self.tensors.extend(data.map(|data| Held { name: name.clone(), data }));
        name
    }

    /// The shape as a vector; sizes that are open are computed from the inputs'.
    pub(in super::super) fn shape(&mut self, dims: &[Dim]) -> String {
        let fixed: Option<Vec<i64>> = dims.iter().map(|dim| dim.fixed().map(|n| n as i64)).collect();
        if let Some(fixed) = fixed {
            return self.integers(&fixed);
        }
        let parts: Vec<String> = dims.iter().map(|dim| self.size(*dim)).collect();
        match &parts[..] {
            [one] => one.clone(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.part("Concat", &parts, vec![("axis", 0i64.into())])
            }
        }
    }

    /// A size as a vector of one number.
    fn size(&mut self, dim: Dim) -> String {
        if let Some(name) = self.sizes.get(&dim) {
            return name.clone();
        }
        let name = match dim {
            Dim::Fixed(n) => return self.integers(&[n as i64]),
            Dim::Batch | Dim::SEQUENCE => self.of_input(dim),
            open => {
                let [fixed, batch, sequence, both] = open.terms();
                let mut sum: Option<String> = None;
                for (factor, of) in [
                    (both, [Some(Dim::Batch), Some(Dim::SEQUENCE)]),
                    (batch, [Some(Dim::Batch), None]),
                    (sequence, [Some(Dim::SEQUENCE), None]),
                    (fixed, [None, None]),
                ] {
                    if factor == 0 {
                        continue;
                    }
                    let mut term = self.integers(&[factor]);
                    for dim in of.into_iter().flatten() {
                        let size = self.size(dim);
                        term = if factor == 1 && of[1].is_none() {
                            size
                        } else {
                            self.part("Mul", &[&term, &size], Vec::new())
                        };
                    }
                    sum = Some(match sum {
                        Some(before) => self.part("Add", &[&before, &term], Vec::new()),
                        None => term,
                    });
                }
                sum.unwrap_or_else(|| self.integers(&[0]))
            }
        };
        self.sizes.insert(dim, name.clone());
        name
    }

    /// The batch or the steps, from an input that has them as an axis.
    fn of_input(&mut self, dim: Dim) -> String {
        let inputs = self.graph.inputs().iter().map(|id| self.graph.value(*id));
        let found =
            inputs.filter_map(|value| Some((value.name.clone(), value.shape().iter().position(|d| *d == dim)?)));
        let Some((input, axis)) = found.into_iter().next() else { return self.integers(&[1]) };
        let shape = self.part("Shape", &[&input], Vec::new());
        let place = self.integers(&[axis as i64]);
        self.part("Gather", &[&shape, &place], vec![("axis", 0i64.into())])
    }

    /// A node on the way to the result, whose name is made up.
    pub(in super::super) fn part(&mut self, op: &str, inputs: &[&str], attributes: Attributes) -> String {
        let output = self.fresh(&format!("{}.{}", self.node, op));
        self.emit(op, inputs, std::slice::from_ref(&output), attributes);
        output
    }

    /// The node that has the weight, where its bias is added by another one: it has the node's name.
    pub(in super::super) fn layer(&mut self, op: &str, inputs: &[&str]) -> String {
        let output = self.part(op, inputs, Vec::new());
        if let Some(node) = self.nodes.last_mut() {
            node.name.clone_from(&self.node);
            self.named = true;
        }
        output
    }

    /// The node that gives the results; it has the node's name, and its results have the values' where nothing follows.
    pub(in super::super) fn last(
        &mut self,
        node: &Node,
        op: &str,
        inputs: &[&str],
        attributes: Attributes,
    ) -> Vec<String> {
        let names: Vec<String> = node
            .outputs
            .iter()
            .map(|id| {
                let value = self.graph.value(*id);
                let (own, float) = (value.ty.dtype, value.ty.dtype.is_float());
                let (computed, carried) = (self.precision.of(own), super::carried(self.graph, own));
                // A cast follows that has the name.
                let follows = float && (computed != own || carried != own);
                if follows { self.fresh(&format!("{}.{}", value.name, op)) } else { value.name.clone() }
            })
            .collect();
        self.emit(op, inputs, &names, attributes);
        if let Some(node) = self.nodes.last_mut().filter(|_| !self.named) {
            node.name.clone_from(&self.node);
        }
        names
    }

    fn cast(&mut self, name: &str, to: DType) -> String {
        self.part("Cast", &[name], vec![("to", Attribute::Int(i64::from(dtype::number(to))))])
    }

    /// Writes a node.
    fn emit(&mut self, op: &str, inputs: &[&str], outputs: &[String], attributes: Attributes) {
        let name = loop {
            self.parts += 1;
            let name = format!("{}.{}", self.node, self.parts);
            if self.node_names.insert(name.clone()) {
                break name;
            }
        };
        let attribute = attributes.into_iter().map(|(name, value)| attribute(name, value));
        self.nodes.push(NodeProto {
            name,
            op_type: op.to_string(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: outputs.to_vec(),
            attribute: attribute.collect(),
            ..NodeProto::default()
        });
    }

    fn fresh(&mut self, name: &str) -> String {
        let mut unique = name.to_string();
        let mut number = self.tensors.len() + self.nodes.len();
        while !self.taken.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        unique
    }
}

fn integer_of(number: f64, dtype: DType) -> Option<TensorData> {
    let bytes = match dtype {
        DType::I64 => (number as i64).to_le_bytes().to_vec(),
        DType::I32 => (number as i32).to_le_bytes().to_vec(),
        DType::I8 => (number as i8).to_le_bytes().to_vec(),
        DType::U8 => (number as u8).to_le_bytes().to_vec(),
        DType::Bool => vec![u8::from(number != 0.0)],
        _ => return None,
    };
    TensorData::new(dtype, Vec::new(), bytes).ok()
}

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    let ty = match value {
        Attribute::Int(i) => {
            proto.i = i;
            AttributeType::Int
        }
        Attribute::Ints(ints) => {
            proto.ints = ints;
            AttributeType::Ints
        }
        Attribute::Float(f) => {
            proto.f = f as f32;
            AttributeType::Float
        }
        Attribute::Tensor(data) => {
            proto.t = Some(Box::new(tensor::write("", &data)));
            AttributeType::Tensor
        }
        Attribute::Text(text) => {
            proto.s = text.as_bytes().to_vec().into();
            AttributeType::String
        }
    };
    proto.r#type = ty as i32;
    proto
}
