//! Pruning: which weights go, and when.

pub mod channels;
mod pattern;
mod rank;
pub mod reconstruct;
mod schedule;
mod weights;

pub use pattern::Pattern;
pub use schedule::{GradualPruning, cubic_sparsity};
pub use weights::{Amount, PruneWeights, Scope, Scores, Threshold};
