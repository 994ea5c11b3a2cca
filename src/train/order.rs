//! In which order samples are seen, and in how small batches they may be.

use std::collections::HashSet;

use rand::seq::SliceRandom;

use crate::graph::{Graph, Op, ParamId};
use crate::seed;

/// The places of `samples` samples in the order of the random stream `purpose`: each once.
pub(super) fn shuffled(samples: usize, seed: u64, purpose: &str) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut seed::stream(seed, purpose));
    order
}

/// The fewest samples that a batch may have: 2 where a batch normalisation measures the variance of one number a sample,
/// which one sample does not have; else 1. Where its running statistics are frozen, it measures nothing.
pub(super) fn smallest_batch(graph: &Graph, frozen: &HashSet<ParamId>) -> usize {
    let lacks_variance = graph.nodes().iter().any(|node| {
        let numbers: usize = graph.value(node.output()).sample_shape().iter().skip(1).product();
        let measures = !node.params[node.op.statistics()].iter().any(|id| frozen.contains(id));
        matches!(node.op, Op::BatchNorm(_)) && measures && numbers == 1
    });
    if lacks_variance { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_comes_once_and_each_purpose_has_an_order_of_its_own() {
        let order = shuffled(100, 7, "order/1");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
        assert_eq!(order, shuffled(100, 7, "order/1"));
        assert_ne!(order, shuffled(100, 7, "order/2"));
        assert_ne!(order, shuffled(100, 8, "order/1"));
    }
}
