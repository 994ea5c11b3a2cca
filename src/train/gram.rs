//! The Gram matrices of what layers read, on training samples: what a layer that loses some of its input is refitted by
//! ([`reconstruct`](crate::passes::prune::reconstruct)).
//!
//! ```text
//!   G = E[u u^T]      u [K]  what one output place of the layer sees, in the order of its weight's columns,
//!                            with the constant 1 behind it where the layer has a bias
//! ```
//!
//! Of a linear layer every vector that it reads is a `u`, of a convolution every patch, zeros of the padding included. A layer
//! with many places would give far more of them than the mean needs: at most [`PATCHES`] a sample are taken, drawn anew
//! from the seed for each batch and layer.

mod patches;
mod sum;

use thiserror::Error;

use self::patches::Reads;
use self::sum::Sum;
use super::calibrate::{Batches, batches};
use super::{TrainError, order};
use crate::data::Subset;
use crate::error::{Classify, Kind};
use crate::exec::{Mode, Session};
use crate::graph::{Graph, ValueId};
use crate::passes::PassError;
use crate::passes::prune::reconstruct::Gram;
use crate::tensor::linalg::LinalgError;

/// Patches of a layer that are taken, for each sample of a batch.
pub const PATCHES: usize = 64;
/// The most columns that a layer may have: 512 channels under a kernel of 3x3, whose matrix takes 170 MB.
pub const MAX_COLUMNS: usize = 4608;

/// Why a layer has no Gram matrix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoGram {
    /// A node that is no linear layer and no convolution without groups.
    #[error("node '{node}' ({op}) is neither a linear layer nor a convolution of one group")]
    Op {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// A layer whose matrix would be too large.
    #[error("node '{node}' reads {columns} numbers for each output, a Gram matrix is made of up to {MAX_COLUMNS}")]
    Columns {
        /// The node.
        node: String,
        /// Columns of its weight.
        columns: usize,
    },
    /// A convolution of images whose size is open.
    #[error("node '{node}' works on {shape}, whose size is open")]
    Open {
        /// The node.
        node: String,
        /// The shape of its input.
        shape: String,
    },
}

impl Classify for NoGram {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        "NO_GRAM_MATRIX"
    }
}

/// The Gram matrix of each of the nodes at these places of the graph, or why that one has none, in [`Mode::Eval`]. All
/// matrices are in memory at once, each with `8 (K + 1)^2` bytes. `cancelled` is asked before every batch.
///
/// # Panics
///
/// If the graph has no node at one of the places.
pub fn grams(
    graph: &Graph,
    nodes: &[usize],
    train: &Subset,
    how: Batches,
    seed: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Result<Gram, NoGram>>, TrainError> {
    let mut layers: Vec<Result<Layer, NoGram>> = nodes.iter().map(|place| Layer::new(graph, *place)).collect();
    let mut values: Vec<ValueId> = layers.iter().flatten().map(|layer| layer.value).collect();
    values.sort_unstable();
    values.dedup();
    let mut session = Session::new(graph)?;
    for (number, places) in batches(train, how, seed)?.enumerate() {
        if values.is_empty() {
            break;
        }
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = train.batch(places);
        let samples = batch.labels.len();
        let taps = session.forward(&batch.inputs, samples, Mode::Eval, &values)?.taps;
        for layer in layers.iter_mut().flatten() {
            let tap = values.iter().zip(&taps).find(|(value, _)| **value == layer.value);
            let Some((_, tap)) = tap else { continue };
            let purpose = format!("gram/{}/{number}", layer.node);
            let mut drawn = order::shuffled(layer.reads.patches(tap), seed, &purpose);
            drawn.truncate(PATCHES * samples);
            // In their order, so that memory is read from front to back.
            drawn.sort_unstable();
            let Layer { reads, sum, .. } = layer;
            sum.add(drawn.len(), |i, patch| reads.read(tap, drawn[i], patch));
        }
    }
    let finish = |layer: Result<Layer, NoGram>| match layer {
        Ok(layer) => layer.finish(graph).map(Ok),
        Err(why) => Ok(Err(why)),
    };
    layers.into_iter().map(finish).collect()
}

/// A layer and what was summed up of it so far.
struct Layer {
    node: String,
    /// What it reads.
    value: ValueId,
    reads: Reads,
    sum: Sum,
}

impl Layer {
    fn new(graph: &Graph, place: usize) -> Result<Self, NoGram> {
        let node = &graph.nodes()[place];
        let (reads, columns) = Reads::of(graph, node)?;
        if columns > MAX_COLUMNS {
            return Err(NoGram::Columns { node: node.name.clone(), columns });
        }
        let constants = node.params.len() - 1;
        Ok(Self { node: node.name.clone(), value: node.inputs[0], reads, sum: Sum::new(columns, constants) })
    }

    fn finish(self, graph: &Graph) -> Result<Gram, TrainError> {
        let columns = self.sum.columns();
        let moments = self.sum.mean().map_err(|source| match source {
            LinalgError::NonFinite { .. } => TrainError::NotFinite { name: graph.value(self.value).name.clone() },
            source => PassError::Linalg { name: self.node.clone(), source }.into(),
        })?;
        Ok(Gram { node: self.node, columns, moments })
    }
}

#[cfg(test)]
mod tests;
