//! What every graph promises: unique names, nodes after what they read, right arity and shapes, no loose parameters.

use std::collections::HashSet;

use super::op::ValueType;
use super::{Graph, GraphError};
use crate::tensor::{DType, TensorError};

/// More nodes than any real network has; a bound on the work that a hostile file can cause.
pub(crate) const MAX_NODES: usize = 20_000;
/// Numbers a sample that a value may have, or the columns of a convolution: half a gibibyte. A description of a few bytes
/// could ask for any amount of memory otherwise.
const MAX_SAMPLE: u64 = 1 << 27;
/// Names are labels; longer ones are mistakes or attacks.
const MAX_NAME: usize = 512;

pub(super) fn verify(graph: &Graph) -> Result<(), GraphError> {
    for (what, count) in [("node", graph.nodes.len()), ("parameter", graph.params.len())] {
        if count > MAX_NODES {
            return Err(GraphError::TooMany { what, count, limit: MAX_NODES });
        }
    }
    check_name("graph", &graph.name)?;
    if !matches!(graph.activations, DType::F32 | DType::F16 | DType::BF16) {
        return Err(GraphError::Activations { dtype: graph.activations });
    }
    names("node", graph.nodes.iter().map(|n| n.name.as_str()))?;
    names("value", graph.values.iter().map(|v| v.name.as_str()))?;
    names("parameter", graph.params.iter().map(|p| p.name.as_str()))?;
    if graph.outputs.is_empty() {
        return Err(GraphError::NoOutput);
    }
    params(graph)?;
    let written = nodes(graph)?;
    for output in &graph.outputs {
        if !written[output.index()] {
            return Err(GraphError::OutputMissing { value: graph.value(*output).name.clone() });
        }
    }
    Ok(())
}

/// The rule for the size of a value of this sample shape.
pub(crate) fn check_size(value: &str, sample_shape: &[usize]) -> Result<(), GraphError> {
    let elements = sample_shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    check_elements(value, "it has", elements)
}

fn check_elements(value: &str, what: &'static str, elements: u64) -> Result<(), GraphError> {
    if elements > MAX_SAMPLE {
        return Err(GraphError::TooLarge { value: value.to_string(), what, elements, limit: MAX_SAMPLE });
    }
    Ok(())
}

/// The rule for names of the graph, its nodes, values and parameters.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), GraphError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(GraphError::BadName { what, name: name.chars().take(60).collect() });
    }
    Ok(())
}

fn names<'a>(what: &'static str, all: impl Iterator<Item = &'a str>) -> Result<(), GraphError> {
    let mut seen = HashSet::new();
    for name in all {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(GraphError::DuplicateName { what, name: name.to_string() });
        }
    }
    Ok(())
}

fn params(graph: &Graph) -> Result<(), GraphError> {
    let mut used = vec![false; graph.params.len()];
    for node in &graph.nodes {
        for id in &node.params {
            used[id.index()] = true;
        }
    }
    for (param, used) in graph.params.iter().zip(used) {
        let name = param.name.clone();
        if !used {
            return Err(GraphError::UnusedParam { name });
        }
        if !param.fixed && !param.data.dtype().is_float() {
            return Err(GraphError::Param { name, source: TensorError::NotFloat { dtype: param.data.dtype() } });
        }
        if let Some(mask) = &param.mask
            && mask.len() != param.data.elements()
        {
            return Err(GraphError::Mask { name, mask: mask.len(), elements: param.data.elements() });
        }
    }
    Ok(())
}

/// Walks the nodes in order; says which values are there in the end.
fn nodes(graph: &Graph) -> Result<Vec<bool>, GraphError> {
    let mut written = vec![false; graph.values.len()];
    for input in &graph.inputs {
        written[input.index()] = true;
        check_size(&graph.value(*input).name, &graph.value(*input).sample_shape())?;
    }
    for node in &graph.nodes {
        for input in &node.inputs {
            if !written[input.index()] {
                return Err(GraphError::Dangling {
                    node: node.name.clone(),
                    what: "value",
                    name: graph.value(*input).name.clone(),
                    problem: "is not written before",
                });
            }
        }
        let inputs: Vec<&ValueType> = node.inputs.iter().map(|v| &graph.value(*v).ty).collect();
        let params: Vec<&[usize]> = node.params.iter().map(|p| graph.param(*p).data.shape()).collect();
        let inferred = node
            .op
            .infer(&inputs, &params)
            .map_err(|source| GraphError::Op { node: node.name.clone(), source: Box::new(source) })?;
        if inferred.len() != node.outputs.len() {
            let (stated, inferred) = (node.outputs.len(), inferred.len());
            return Err(GraphError::Outputs { node: node.name.clone(), stated, inferred });
        }
        for (output, inferred) in node.outputs.iter().zip(inferred) {
            let value = graph.value(*output);
            if value.ty != inferred {
                return Err(GraphError::Shape {
                    value: value.name.clone(),
                    stated: value.ty.to_string(),
                    inferred: inferred.to_string(),
                });
            }
            let sample_shape = value.sample_shape();
            check_size(&value.name, &sample_shape)?;
            check_elements(&value.name, "its convolution unfolds to", node.op.columns(&params, &sample_shape))?;
            if std::mem::replace(&mut written[output.index()], true) {
                return Err(GraphError::Rewritten { node: node.name.clone(), value: value.name.clone() });
            }
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;
    use crate::graph::{Dim, ParamId, ValueId};

    fn network() -> Graph {
        GraphBuilder::new("test", &[4]).linear("fc1", 3).activation("relu", Activation::Relu).build().unwrap()
    }

    /// Each way to break a sound graph gives its own error, which names the place.
    #[test]
    fn every_broken_promise_is_named() {
        type Break = fn(&mut Graph);
        let broken: [(Break, &str); 11] = [
            (
                |g| g.name = "\u{1b}[2J".into(),
                "graph name \"\\u{1b}[2J\" is not allowed: 1 to 512 printable characters are",
            ),
            (|g| g.nodes[1].name = "fc1".into(), "two nodes are named 'fc1'"),
            (|g| g.values[1].name = "input".into(), "two values are named 'input'"),
            (
                |g| g.params[0].name = "a\u{7}".into(),
                "parameter name \"a\\u{7}\" is not allowed: 1 to 512 printable characters are",
            ),
            (|g| g.outputs.clear(), "the graph has no output"),
            (|g| g.nodes.swap(0, 1), "node 'relu' reads value 'fc1', which is not written before"),
            (|g| g.nodes[1].outputs = vec![ValueId(1)], "node 'relu' writes value 'fc1', which is written before"),
            (|g| g.nodes[0].params = vec![ParamId(0)], "parameter 'fc1.bias' is read by no node"),
            (
                |g| g.values[2].ty.shape = vec![Dim::Batch, Dim::Fixed(9)],
                "value 'relu' is said to be F32[N, 9], but its node produces F32[N, 3]",
            ),
            (|g| g.activations = DType::I8, "values cannot pass through I8, only through F32, F16 and BF16"),
            (|g| drop(g.nodes.pop()), "output 'relu' is written by no node"),
        ];
        for (change, expected) in broken {
            let mut graph = network();
            change(&mut graph);
            assert_eq!(graph.verify().unwrap_err().to_string(), expected);
        }
        assert_eq!(network().verify(), Ok(()));
    }

    #[test]
    fn a_small_description_cannot_ask_for_much_memory() {
        use crate::graph::op::Conv2d;
        let padded = Conv2d { padding: [10_000; 4], ..Conv2d::default() };
        let error = GraphBuilder::new("wide", &[1, 28, 28]).conv("conv", 1, 1, padded).build().unwrap_err();
        // 20,028 pixels each way.
        let text = "value 'conv': it has 401120784 numbers a sample, at most 134217728 are allowed";
        assert_eq!(error.to_string(), text);
        let error = GraphBuilder::new("deep", &[1, 2000, 2000]).conv("conv", 1, 500, Conv2d::default()).build();
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("value 'conv': its convolution unfolds to"), "{text}");
    }
}
