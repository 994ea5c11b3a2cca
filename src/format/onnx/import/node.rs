//! A node of a file as whoever converts it sees it: typed attributes, with errors that name the node.

use super::super::error::{OnnxError, shown, told};
use super::super::proto::attribute_proto::AttributeType;
use super::super::proto::{AttributeProto, NodeProto, TensorProto};

/// A node with what errors call it.
#[derive(Clone, Copy)]
pub(in super::super) struct Node<'s> {
    pub(in super::super) proto: &'s NodeProto,
    pub(in super::super) label: &'s str,
    /// The version of ONNX's operators.
    pub(in super::super) opset: i64,
}

impl<'s> Node<'s> {
    /// The operator's name.
    pub(in super::super) fn op(&self) -> &'s str {
        &self.proto.op_type
    }

    /// An error that names the node.
    pub(in super::super) fn wrong(&self, problem: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.label.to_string(), op: shown(self.op()), problem: told(problem.into()) }
    }

    /// An error for something that must be known before the network runs.
    pub(in super::super) fn runtime(&self, what: impl Into<String>) -> OnnxError {
        OnnxError::Runtime { node: self.label.to_string(), op: shown(self.op()), what: what.into() }
    }

    /// A whole number.
    pub(in super::super) fn int(&self, name: &str) -> Result<Option<i64>, OnnxError> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|a| a.i))
    }

    /// A whole number that is a truth value.
    pub(in super::super) fn flag(&self, name: &str, default: bool) -> Result<bool, OnnxError> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// Whole numbers.
    pub(in super::super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, OnnxError> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    /// A number.
    pub(in super::super) fn float(&self, name: &str) -> Result<Option<f64>, OnnxError> {
        // The shortest decimal number that is this one in 32 bits is what was meant.
        Ok(self.attribute(name, AttributeType::Float)?.map(|a| decimal(a.f)))
    }

    /// Numbers.
    pub(in super::super) fn floats(&self, name: &str) -> Result<Option<Vec<f64>>, OnnxError> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| a.floats.iter().map(|f| decimal(*f)).collect()))
    }

    /// A text.
    pub(in super::super) fn text(&self, name: &str) -> Result<Option<String>, OnnxError> {
        let text = self.attribute(name, AttributeType::String)?.map(|a| String::from_utf8(a.s.to_vec()));
        text.transpose().map_err(|_| self.wrong(format!("attribute '{name}' is no UTF-8")))
    }

    /// Texts.
    pub(in super::super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, OnnxError> {
        let Some(attribute) = self.attribute(name, AttributeType::Strings)? else { return Ok(None) };
        let texts: Result<Vec<String>, _> = attribute.strings.iter().map(|s| String::from_utf8(s.to_vec())).collect();
        texts.map(Some).map_err(|_| self.wrong(format!("attribute '{name}' is no UTF-8")))
    }

    /// A tensor.
    pub(in super::super) fn tensor(&self, name: &str) -> Result<Option<&'s TensorProto>, OnnxError> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|a| a.t.as_deref()))
    }

    /// Whether there is an attribute of that name.
    pub(in super::super) fn has(&self, name: &str) -> bool {
        self.proto.attribute.iter().any(|a| a.name == name)
    }

    fn attribute(&self, name: &str, ty: AttributeType) -> Result<Option<&'s AttributeProto>, OnnxError> {
        let Some(found) = self.proto.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        if !found.ref_attr_name.is_empty() {
            return Err(self.wrong(format!("attribute '{name}' refers to one of a function that is not there")));
        }
        // Before version 2 of the format no type was written.
        if found.r#type != ty as i32 && found.r#type != AttributeType::Undefined as i32 {
            return Err(self.wrong(format!("attribute '{name}' has another type than {}", ty.as_str_name())));
        }
        Ok(Some(found))
    }
}

/// The shortest decimal number that is `f` in 32 bits: `0.1`, not `0.10000000149011612`.
pub(in super::super) fn decimal(f: f32) -> f64 {
    f.to_string().parse().unwrap_or(f64::from(f))
}
