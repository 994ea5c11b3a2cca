//! The inputs of a run: whether they are the graph's, and what they say about the open sizes.

use super::ExecError;
use crate::graph::dim::Sizes;
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
            return Err(misfit(input, data));
        }
    }
    let sizes = sizes(
        inputs
            .iter()
            .zip(data)
            .flat_map(|(input, data)| input.ty.shape.iter().copied().zip(data.shape().iter().copied())),
    );
    for (input, data) in inputs.iter().zip(data) {
        if input.ty.shape.iter().zip(data.shape()).any(|(dim, size)| dim.at(sizes) != Some(*size)) {
            return Err(misfit(input, data));
        }
    }
    if sizes.batch == 0 { Err(ExecError::EmptyBatch) } else { Ok(sizes) }
}

fn misfit(input: &Input, data: &TensorData) -> ExecError {
    let problem = format!("input '{}' is {}, got {}{:?}", input.name, input.ty, data.dtype(), data.shape());
    ExecError::Inputs { problem }
}

/// The open sizes that axes of these sizes say; 1 for those they do not. Whether all of them agree is not looked at.
fn sizes(axes: impl Iterator<Item = (Dim, usize)>) -> Sizes {
    let axes: Vec<([i64; 4], i64)> = axes.map(|(dim, size)| (dim.terms(), size as i64)).collect();
    let (mut batch, mut sequence) = (None, None);
    // Whoever is known makes the other's axes linear, so the second round finds all that can be found.
    for _ in 0..2 {
        for &([fixed, n, s, both], size) in &axes {
            // `fixed + n N + s S + both N S`, with what is known put in.
            let linear = match (batch, sequence) {
                (None, None) if s == 0 && both == 0 => Some((true, fixed, n)),
                (None, None) if n == 0 && both == 0 => Some((false, fixed, s)),
                (None, Some(known)) => Some((true, fixed + s * known, n + both * known)),
                (Some(known), None) => Some((false, fixed + n * known, s + both * known)),
                _ => None,
            };
            let Some((is_batch, rest, factor)) = linear.filter(|(_, _, factor)| *factor != 0) else { continue };
            let found = Some((size - rest) / factor).filter(|found| *found >= 0);
            let open = if is_batch { &mut batch } else { &mut sequence };
            *open = open.or(found);
        }
    }
    let or_one = |size: Option<i64>| size.and_then(|size| usize::try_from(size).ok()).unwrap_or(1);
    Sizes { batch: or_one(batch), sequence: or_one(sequence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_sizes_follow_from_the_axes() {
        let found = |axes: &[(&str, usize)]| {
            let Sizes { batch, sequence } = sizes(axes.iter().map(|(dim, size)| (dim.parse().unwrap(), *size)));
            (batch, sequence)
        };
        assert_eq!(found(&[("N", 3), ("7", 7)]), (3, 1));
        assert_eq!(found(&[("S+1", 5), ("2N", 6)]), (3, 4));
        assert_eq!(found(&[("NS", 12), ("S", 4)]), (3, 4));
        assert_eq!(found(&[("NS-N", 9), ("N", 3)]), (3, 4));
        assert_eq!(found(&[("NS", 9)]), (1, 1));
    }
}
