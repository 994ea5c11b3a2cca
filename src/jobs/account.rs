//! What operators hear of processes at work: a span for each attempt of a job and in it one for each of its steps, how long
//! attempts took, how many processes read.
//!
//! A job's process has no spans of its own: its steps are those that it tells of, seen from outside.

use metrics::{gauge, histogram};
use tokio::time::Instant;
use tracing::Span;

use super::job::{Lease, Outcome};
use crate::recipe::run::Progress;

/// The figure of how long attempts ran, by `outcome`.
pub const JOB_DURATION: &str = "niwaki_job_duration_seconds";
/// The figure of processes that read what was uploaded.
pub const READERS: &str = "niwaki_reader_processes";

/// The span of an attempt.
pub fn attempt(lease: &Lease) -> Span {
    tracing::info_span!("job", job = lease.key.id, attempt = lease.attempt)
}

/// Counts an attempt that began at `begun` and has ended.
pub fn ended(begun: Instant, outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Lost(_) => "lost",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::TimedOut(_) => "timed_out",
        Outcome::Released => "given_back",
        Outcome::Hindered(_) => "hindered",
    };
    histogram!(JOB_DURATION, "outcome" => outcome).record(begun.elapsed());
}

/// The spans of a job's steps, one after the other.
#[derive(Debug)]
pub struct Steps {
    place: (u32, String),
    /// The step at work; its span ends when the next one begins.
    _span: Span,
}

impl Default for Steps {
    fn default() -> Self {
        Self { place: (0, String::new()), _span: Span::none() }
    }
}

impl Steps {
    /// The job is there now.
    pub fn at(&mut self, now: &Progress) {
        if (now.step, now.phase.as_str()) == (self.place.0, &self.place.1) {
            return;
        }
        let span = tracing::info_span!("step", step = now.step, phase = now.phase);
        tracing::debug!(parent: &span, "step begun");
        *self = Self { place: (now.step, now.phase.clone()), _span: span };
    }
}

/// Counts a process that reads, until this is dropped.
#[derive(Debug)]
pub struct Reading(());

impl Reading {
    /// One more.
    pub fn begin() -> Self {
        gauge!(READERS).increment(1);
        Self(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        gauge!(READERS).decrement(1);
    }
}
