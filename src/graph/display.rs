//! A graph as text, one line a node: for golden tests and for people.

use std::fmt;

use super::Graph;
use super::op::{Op, shape_text};
use crate::tensor::DType;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |ids: &[super::ValueId]| -> String {
            ids.iter().map(|v| self.value(*v).name.as_str()).collect::<Vec<_>>().join(", ")
        };
        for input in self.inputs() {
            let value = self.value(*input);
            writeln!(f, "{} : {}", value.name, shape_text(&value.shape))?;
        }
        for node in self.nodes() {
            let params: Vec<String> =
                node.params.iter().map(|p| self.param(*p)).map(|p| format!("{} {:?}", p.name, p.data)).collect();
            let output = self.value(node.output);
            write!(f, "{} : {} = {}", output.name, shape_text(&output.shape), node.op.name())?;
            match &node.op {
                Op::Conv2d(c) => write!(
                    f,
                    "{{stride {:?} padding {:?} dilation {:?} groups {}}}",
                    c.stride, c.padding, c.dilation, c.groups
                )?,
                Op::MaxPool2d(super::op::MaxPool2d { window: w })
                | Op::AvgPool2d(super::op::AvgPool2d { window: w, .. }) => {
                    write!(f, "{{kernel {:?} stride {:?} padding {:?}}}", w.kernel, w.stride, w.padding)?;
                }
                Op::BatchNorm(c) => write!(f, "{{epsilon {} momentum {}}}", c.epsilon, c.momentum)?,
                Op::Pad(c) => write!(f, "{{axis {} before {} after {}}}", c.axis, c.before, c.after)?,
                Op::Slice(c) => write!(f, "{{axis {} places {}..{} step {}}}", c.axis, c.start, c.end, c.step)?,
                Op::Dropout(c) => write!(f, "{{rate {}}}", c.rate)?,
                Op::Linear | Op::Activation(_) | Op::Flatten | Op::GlobalAvgPool | Op::Add => {}
            }
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
