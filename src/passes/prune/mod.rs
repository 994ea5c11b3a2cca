//! Pruning: which weights go, and when.

mod schedule;
mod weights;

pub use schedule::cubic_sparsity;
pub use weights::{Amount, PruneWeights, Scope, Threshold};
