//! A graph as text, one line a node: for golden tests and for people.

use std::fmt;

use super::Graph;
use super::op::{Op, shape_text};

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
                Op::Linear | Op::Activation(_) | Op::Flatten => {}
            }
            write!(f, "({})", names(&node.inputs))?;
            if !params.is_empty() {
                write!(f, " [{}]", params.join(", "))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "return {}", names(self.outputs()))
    }
}
