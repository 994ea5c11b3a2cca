//! A whole network: every value of a graph, node by node.

use thiserror::Error;

use super::array::{cast, reals, rounded};
use super::{Context, ReferenceError, eval};
use crate::graph::Graph;
use crate::tensor::{DType, TensorData};

/// A node, or an input, that could not be evaluated.
#[derive(Debug, Error, PartialEq)]
#[error("'{name}': {source}")]
pub struct NodeError {
    /// The name of the node or of the input value.
    pub name: String,
    /// Why.
    pub source: ReferenceError,
}

/// All values of a graph, by [`ValueId`](crate::graph::ValueId), for these inputs in the order of [`Graph::inputs`].
///
/// `params`, where given, are used instead of the graph's own, by [`ParamId`](crate::graph::ParamId). The context's sizes
/// are those that the inputs have: [`Graph::sizes`] finds them. Floating point results are rounded to
/// [`Graph::activations`], unless they are to be exact; a value keeps its format nevertheless. Values that nothing writes
/// are empty.
pub fn values(
    graph: &Graph,
    inputs: &[TensorData],
    params: Option<&[TensorData]>,
    context: &Context,
) -> Result<Vec<TensorData>, NodeError> {
    let own: Vec<&TensorData> = match params {
        Some(params) => params.iter().collect(),
        None => graph.params().iter().map(|param| &param.data).collect(),
    };
    let mut values: Vec<Option<TensorData>> = vec![None; graph.values().len()];
    if inputs.len() != graph.inputs().len() || own.len() != graph.params().len() {
        let problem = format!("has {} inputs and {} parameters", graph.inputs().len(), graph.params().len());
        return Err(NodeError { name: graph.name().to_string(), source: wrong("the network", problem) });
    }
    for (id, input) in graph.inputs().iter().zip(inputs) {
        let value = graph.value(*id);
        let failed = |source| NodeError { name: value.name.clone(), source };
        let fits = input.shape().iter().map(|size| Some(*size)).eq(value.shape().iter().map(|d| d.at(context.sizes)));
        let exact = context.exact && value.ty.dtype.is_float() && input.dtype().is_float();
        if !fits || (input.dtype() != value.ty.dtype && !exact) {
            return Err(failed(wrong("the network", format!("wants {}, got {input:?}", value.ty))));
        }
        values[id.index()] = Some(cast(input, context.float(input.dtype())).map_err(|error| failed(error.into()))?);
    }
    for node in graph.nodes() {
        let failed = |source| NodeError { name: node.name.clone(), source };
        let read: Option<Vec<&TensorData>> = node.inputs.iter().map(|id| values[id.index()].as_ref()).collect();
        let read = read.ok_or_else(|| failed(wrong(node.op.name(), "reads what is not written before".into())))?;
        let params: Vec<&TensorData> = node.params.iter().map(|id| own[id.index()]).collect();
        let outputs = eval(&node.op, &read, &params, context).map_err(failed)?;
        for (id, output) in node.outputs.iter().zip(outputs) {
            values[id.index()] = Some(passed(output, graph.activations(), context).map_err(failed)?);
        }
    }
    let empty =
        TensorData::zeros(vec![0]).map_err(|error| NodeError { name: graph.name().into(), source: error.into() })?;
    Ok(values.into_iter().map(|value| value.unwrap_or_else(|| empty.clone())).collect())
}

/// A result as it passes on to the next node.
fn passed(output: TensorData, format: DType, context: &Context) -> Result<TensorData, ReferenceError> {
    if context.exact || !output.dtype().is_float() || matches!(format, DType::F32 | DType::F64) {
        return Ok(output);
    }
    let numbers = reals(&output).into_iter().map(|value| rounded(value, format)).collect();
    Ok(super::Numbers::Real(numbers).tensor(output.dtype(), output.shape().to_vec())?)
}

fn wrong(op: &'static str, problem: String) -> ReferenceError {
    ReferenceError::Input { op, problem }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, random, real};
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::dim::Sizes;
    use crate::graph::op::Activation;

    fn network() -> Graph {
        let mut graph =
            GraphBuilder::new("net", &[2]).linear("fc", 2).activation("act", Activation::Relu).build().unwrap();
        let mut edit = graph.edit();
        let weight = edit.graph().param_id("fc.weight").unwrap();
        edit.set_param(weight, real(&[2, 2], &[1.0, 2.0, -1.0, 1.0 + 2f64.powi(-12)]));
        edit.commit().unwrap();
        graph
    }

    #[test]
    fn a_network_is_its_nodes_one_after_the_other() {
        let (graph, x) = (network(), real(&[1, 2], &[3.0, 1.0]));
        let context = Context::eval(graph.sizes(&[x.shape()]).unwrap());
        let all = values(&graph, std::slice::from_ref(&x), None, &context).unwrap();
        assert_eq!(all, [x.clone(), real(&[1, 2], &[5.0, -2.0 + 2f64.powi(-12)]), real(&[1, 2], &[5.0, 0.0])]);
        let error = values(&graph, &[real(&[1, 3], &[0.0; 3])], None, &context).unwrap_err();
        assert_eq!(error.to_string(), "'input': the network wants F32[N, 2], got F32[1, 3]");
    }

    #[test]
    fn results_pass_through_the_networks_format_unless_they_are_exact() {
        let (mut graph, x) = (network(), random(&[1, 2], 1));
        let mut edit = graph.edit();
        edit.set_activations(DType::F16);
        edit.commit().unwrap();
        let context = Context::eval(Sizes::of_batch(1));
        let rounded = values(&graph, &[real(&[1, 2], &[3.0, 1.0])], None, &context).unwrap();
        assert_eq!(rounded[1], real(&[1, 2], &[5.0, -2.0 + 2f64.powi(-12)].map(rounded_to_half)));
        let exact = Context { exact: true, ..context };
        let params: Vec<TensorData> =
            graph.params().iter().map(|param| cast(&param.data, DType::F64).unwrap()).collect();
        let all = values(&graph, std::slice::from_ref(&x), Some(&params), &exact).unwrap();
        assert!(all.iter().all(|value| value.dtype() == DType::F64));
        let (x, w) = (reals(&x), reals(&params[0]));
        let expected =
            TensorData::from_f64(DType::F64, vec![1, 2], &[x[0] * w[0] + x[1] * w[1], x[0] * w[2] + x[1] * w[3]]);
        assert!(close(&all[1], &expected.unwrap()));
    }

    fn rounded_to_half(value: f64) -> f64 {
        rounded(value, DType::F16)
    }
}
