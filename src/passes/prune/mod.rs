//! Pruning: which weights go, and when.

pub mod channels;
mod schedule;
mod weights;

pub use schedule::{GradualPruning, cubic_sparsity};
pub use weights::{Amount, PruneWeights, Scope, Threshold};
