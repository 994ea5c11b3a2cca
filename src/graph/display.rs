//! A graph as text, one line a node: for golden tests and for people.

use std::fmt;

use super::dim::shape_text;
use super::{Graph, Value};
use crate::tensor::DType;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |ids: &[super::ValueId]| -> String {
            ids.iter().map(|v| self.value(*v).name.as_str()).collect::<Vec<_>>().join(", ")
        };
        for input in self.inputs() {
            let value = self.value(*input);
            writeln!(f, "{}", described(value))?;
        }
        for node in self.nodes() {
            let params: Vec<String> =
                node.params.iter().map(|p| self.param(*p)).map(|p| format!("{} {:?}", p.name, p.data)).collect();
            let outputs: Vec<String> = node.outputs.iter().map(|id| described(self.value(*id))).collect();
            write!(f, "{} = {}{}", outputs.join(", "), node.op.name(), attributes(&node.op.attributes()))?;
            write!(f, "({})", names(&node.inputs))?;
            if !params.is_empty() {
                write!(f, " [{}]", params.join(", "))?;
            }
            writeln!(f)?;
        }
        if self.activations() != DType::F32 {
            writeln!(f, "values pass through {}", self.activations().name())?;
        }
        writeln!(f, "return {}", names(self.outputs()))
    }
}

/// `fc1 : [N, 3]`, with the number format where it is not the usual one.
fn described(value: &Value) -> String {
    match value.ty.dtype {
        DType::F32 => format!("{} : {}", value.name, shape_text(value.shape())),
        _ => format!("{} : {}", value.name, value.ty),
    }
}

/// A JSON object of attributes as people read it: `{kernel [2, 2], stride [2, 2]}`.
fn attributes(json: &str) -> String {
    if json == "{}" {
        return String::new();
    }
    json.chars().fold(String::new(), |mut text, c| {
        match c {
            '"' => {}
            ':' => text.push(' '),
            ',' => text.push_str(", "),
            c => text.push(c),
        }
        text
    })
}
