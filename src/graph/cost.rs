//! What a network costs: parameters, and for one sample multiply-accumulate operations and activations.

use super::{Graph, Node, ValueType};

/// The figures of a network or of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Parameters that are learned; running statistics are not counted, as is the custom.
    pub params: u64,
    /// Those of them that are not zero.
    pub nonzero_params: u64,
    /// Multiply-accumulate operations for one sample. Zeros count like any other weight: a dense kernel multiplies them.
    pub macs: u64,
}

/// The cost of a whole network. A parameter that two nodes share is counted once.
pub fn of_graph(graph: &Graph) -> Cost {
    let statistics = graph.statistics();
    let learned = || graph.param_ids().filter(|id| !statistics.contains(id)).map(|id| &graph.param(id).data);
    Cost {
        params: learned().map(|data| data.elements() as u64).sum(),
        nonzero_params: learned().map(|data| data.nonzero() as u64).sum(),
        // Parameters may be shared by any number of nodes, so that the sum has no bound.
        macs: graph.nodes().iter().map(|n| macs(graph, n)).fold(0, u64::saturating_add),
    }
}

/// Numbers that the activations of a network take, for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activations {
    /// Of the largest value.
    pub largest: u64,
    /// Of all values together, as a backward pass needs them.
    pub total: u64,
}

/// The activations of a network.
pub fn activations(graph: &Graph) -> Activations {
    let sizes = graph.values().iter().map(|value| value.ty.sample_elements());
    Activations { largest: sizes.clone().max().unwrap_or(0), total: sizes.fold(0, u64::saturating_add) }
}

/// The cost of one node.
pub fn of_node(graph: &Graph, node: &Node) -> Cost {
    let learned = node.params.iter().enumerate().filter(|(place, _)| !node.op.statistics().contains(place));
    let params = learned.map(|(_, p)| graph.param(*p));
    Cost {
        params: params.clone().map(|p| p.data.elements() as u64).sum(),
        nonzero_params: params.map(|p| p.data.nonzero() as u64).sum(),
        macs: macs(graph, node),
    }
}

fn macs(graph: &Graph, node: &Node) -> u64 {
    let shapes: Vec<&[usize]> = node.params.iter().map(|p| graph.param(*p).data.shape()).collect();
    let inputs: Vec<&ValueType> = node.inputs.iter().map(|v| &graph.value(*v).ty).collect();
    node.op.macs(&inputs, &shapes, graph.value(node.output()).ty.sample_elements())
}
