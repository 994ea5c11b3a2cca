//! What a network's channels cost in time: it is cut and run, one sample at once, on this machine as it is now.

use std::cell::RefCell;
use std::time::Instant;

use super::PruneChannels;
use crate::exec::{Awake, Mode, Session};
use crate::graph::Graph;
use crate::graph::dims::{Cut, Dims};
use crate::passes::{self, PassError};

/// Runs before the clock starts: a session lays its weights out at the first.
const WARM_UP: usize = 3;
/// Runs of which the fastest counts: what disturbs a run only makes it slower.
const RUNS: usize = 20;
/// As much time is enough for a slow network.
const ENOUGH_SECONDS: f64 = 0.1;

/// Times the networks that are left of one.
pub(super) struct Clock<'a> {
    graph: &'a Graph,
    dims: &'a Dims,
    /// What went wrong first; nothing is timed after it.
    failed: RefCell<Option<PassError>>,
    _awake: Awake,
}

impl<'a> Clock<'a> {
    pub(super) fn new(graph: &'a Graph, dims: &'a Dims) -> Self {
        Self { graph, dims, failed: RefCell::default(), _awake: Awake::new() }
    }

    /// Milliseconds of a network of whose groups so many channels are left, whichever; endless where it cannot be run.
    pub(super) fn milliseconds(&self, counts: &[usize]) -> f64 {
        if self.failed.borrow().is_some() {
            return f64::INFINITY;
        }
        self.time(counts).unwrap_or_else(|error| {
            *self.failed.borrow_mut() = Some(error);
            f64::INFINITY
        })
    }

    /// What went wrong, if anything did.
    pub(super) fn finish(self) -> Result<(), PassError> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }

    fn time(&self, counts: &[usize]) -> Result<f64, PassError> {
        let cut = Cut { keep: counts.iter().map(|count| (0..*count).collect()).collect() };
        let mut smaller = self.graph.clone();
        passes::apply(&PruneChannels { dims: self.dims, cut: &cut }, &mut smaller)?;
        let failed = |error: crate::exec::ExecError| PassError::Unmeasured { problem: error.to_string() };
        let mut session = Session::new(&smaller).map_err(failed)?;
        let sample = vec![0.5; smaller.input_shape().iter().product()];
        let (start, mut fastest) = (Instant::now(), f64::INFINITY);
        for run in 0..WARM_UP + RUNS {
            let clock = Instant::now();
            session.forward(&sample, 1, Mode::Eval, &[]).map_err(failed)?;
            if run >= WARM_UP {
                fastest = fastest.min(clock.elapsed().as_secs_f64() * 1e3);
                if start.elapsed().as_secs_f64() > ENOUGH_SECONDS {
                    break;
                }
            }
        }
        Ok(fastest)
    }
}
