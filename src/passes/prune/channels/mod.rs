//! Pruning of channels, units and heads: what is cut is gone from the network, which is smaller and faster for it.

pub mod importance;
mod latency;
#[cfg(test)]
pub(crate) mod networks;
pub mod plan;
pub mod repair;
#[cfg(test)]
mod tests;

use crate::graph::GraphEdit;
use crate::graph::dims::{Cut, Dims};
use crate::passes::{Pass, PassError};

/// Takes channels out, all that must go with them included.
#[derive(Debug, Clone)]
pub struct PruneChannels<'a> {
    /// The groups of the graph.
    pub dims: &'a Dims,
    /// What stays of each.
    pub cut: &'a Cut,
}

/// Sets to zero in place what [`PruneChannels`] would take out: what the smaller network is held against.
#[derive(Debug, Clone)]
pub struct Silence<'a> {
    /// The groups of the graph.
    pub dims: &'a Dims,
    /// What stays of each.
    pub cut: &'a Cut,
}

impl Pass for Silence<'_> {
    fn name(&self) -> &'static str {
        "silence-channels"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        Ok(self.dims.silence(edit, self.cut)?)
    }
}

impl Pass for PruneChannels<'_> {
    fn name(&self) -> &'static str {
        "prune-channels"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        Ok(self.dims.cut(edit, self.cut)?)
    }
}
