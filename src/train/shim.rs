//! Stands in for what `Session` does not have yet.
use std::collections::HashSet;

use crate::exec::{ExecError, Session};
use crate::graph::{Graph, ParamId};

pub(crate) trait Shim: Sized {
    fn for_training(graph: &Graph, frozen: &HashSet<ParamId>) -> Result<Self, ExecError>;
    fn trained(&self) -> usize;
    fn set_randomness(&mut self, seed: u64);
    fn set_momentum(&mut self, momentum: Option<f64>);
}

impl Shim for Session {
    fn for_training(graph: &Graph, _frozen: &HashSet<ParamId>) -> Result<Self, ExecError> {
        Session::new(graph)
    }
    fn trained(&self) -> usize {
        self.params().len()
    }
    fn set_randomness(&mut self, _seed: u64) {}
    fn set_momentum(&mut self, _momentum: Option<f64>) {}
}
