//! Jobs: a queue of recipes, and workers that run each in a child process.
//!
//! - [`state`] the job machine: its invariants, its diagram; [`job`] a job as a value, and what happens to it
//! - [`queue`] jobs and leases in the database
//! - [`worker`] claims a job, stages its inputs, watches over its process, publishes what it made
//! - [`runner`] the process from outside, [`child`] from inside, [`protocol`] what they say to each other
//! - [`reaper`] takes jobs away from workers that were lost; [`collector`] removes what nobody needs any more
//! - [`census`] counts jobs for operators, [`account`] tells them of those at work
//! - [`supervise`] keeps workers and the reaper going
//! - [`reader`] reads what came from outside, in a process of its own
//! - [`emitted`] looks over what a process left before anybody else sees it; what it saved on the way is stored by a task
//!   beside the worker

pub mod account;
mod attend;
pub mod census;
pub mod child;
pub mod collector;
pub mod emitted;
mod heart;
pub mod job;
pub mod protocol;
pub mod queue;
pub mod reader;
pub mod reaper;
pub mod runner;
mod saver;
mod staging;
pub mod state;
pub mod supervise;
pub mod worker;

#[cfg(test)]
mod contract;

use thiserror::Error;

use crate::error::{Classify, Kind};
use crate::store::StoreError;

/// What can go wrong with a job in the queue.
#[derive(Debug, Error)]
pub enum JobError {
    /// An event that the state does not know.
    #[error("a job that is {state} cannot {event}")]
    Impossible {
        /// The state.
        state: &'static str,
        /// The event.
        event: &'static str,
    },
    /// The worker does not hold the job (any more).
    #[error("the lease of attempt {attempt} has ended")]
    LeaseLost {
        /// The attempt that the worker held.
        attempt: u32,
    },
    /// The tenant has as many jobs in the queue as it may.
    #[error("{limit} jobs of this tenant wait or run, which is as many as it may have")]
    QueueFull {
        /// How many it may have.
        limit: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> Self {
        JobError::Store(error.into())
    }
}

impl Classify for JobError {
    fn kind(&self) -> Kind {
        match self {
            JobError::Impossible { .. } => Kind::FailedPrecondition,
            JobError::LeaseLost { .. } => Kind::Aborted,
            JobError::QueueFull { .. } => Kind::ResourceExhausted,
            JobError::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            JobError::Impossible { .. } => "JOB_STATE",
            JobError::LeaseLost { .. } => "LEASE_LOST",
            JobError::QueueFull { .. } => "QUEUE_FULL",
            JobError::Store(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            JobError::QueueFull { limit } => vec![("limit", limit.to_string())],
            JobError::Store(error) => error.metadata(),
            JobError::Impossible { .. } | JobError::LeaseLost { .. } => Vec::new(),
        }
    }
}
