//! The inputs of a run: whether they are the graph's, and what they say about the open sizes.

use super::ExecError;
use crate::graph::dim::{self, Sizes};
use crate::graph::op::ValueType;
use crate::graph::{Dim, Graph, ValueId};
use crate::tensor::TensorData;

/// One input of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    pub(super) id: ValueId,
    pub(super) name: String,
    pub(super) ty: ValueType,
}

/// The inputs of `graph`.
pub(super) fn of_graph(graph: &Graph) -> Vec<Input> {
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        Input { id: *id, name: value.name.clone(), ty: value.ty.clone() }
    };
    graph.inputs().iter().map(input).collect()
}

/// The shape of one sample of the only input; an error where there are others, or it is not one of samples of `F32`.
pub(super) fn sample_shape(inputs: &[Input]) -> Result<Vec<usize>, ExecError> {
    let refused = |problem: &str| ExecError::Inputs { problem: problem.to_string() };
    let [input] = inputs else { return Err(refused("the graph takes several inputs, not one of samples")) };
    let sample = match &input.ty.shape[..] {
        [Dim::Batch, sample @ ..] if input.ty.dtype.is_float() => sample.iter().map(|d| d.fixed()).collect(),
        _ => None,
    };
    sample.ok_or_else(|| ExecError::Inputs {
        problem: format!("input '{}' is {}, not floating point numbers with a batch axis", input.name, input.ty),
    })
}

/// Checks number formats and shapes; says what the open sizes are.
pub(super) fn check(inputs: &[Input], data: &[TensorData]) -> Result<Sizes, ExecError> {
    if inputs.len() != data.len() {
        let problem = format!("the graph takes {}, got {}", inputs.len(), data.len());
        return Err(ExecError::Inputs { problem });
    }
    for (input, data) in inputs.iter().zip(data) {
        if data.dtype() != input.ty.dtype || data.shape().len() != input.ty.shape.len() {
            return Err(ExecError::Inputs { problem: described(input, data) });
        }
    }
    let types: Vec<&[Dim]> = inputs.iter().map(|input| &input.ty.shape[..]).collect();
    let shapes: Vec<&[usize]> = data.iter().map(TensorData::shape).collect();
    let Some(sizes) = dim::sizes_of(&types, &shapes) else {
        let each: Vec<String> = inputs.iter().zip(data).map(|(input, data)| described(input, data)).collect();
        return Err(ExecError::Inputs { problem: each.join("; ") });
    };
    if sizes.batch == 0 { Err(ExecError::EmptyBatch) } else { Ok(sizes) }
}

fn described(input: &Input, data: &TensorData) -> String {
    format!("input '{}' is {}, got {}{:?}", input.name, input.ty, data.dtype(), data.shape())
}
