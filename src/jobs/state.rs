//! The job machine.
//!
//! # Invariants
//!
//! 1. A job has at most one unexpired lease.
//! 2. The attempt grows by one with every claim and never otherwise.
//! 3. A write with a stale attempt changes nothing.
//! 4. A terminal state never changes.
//! 5. The artifacts of a SUCCEEDED job are in the blob store before the state says so.
//! 6. Every change that a watcher can see makes the revision grow.
//! 7. A job whose process or worker is lost `max_losses` times without having got as far as another checkpoint has
//!    FAILED: what kills its workers is not tried for ever. A job that gets on survives any number of losses, and a
//!    lease that is given back (a server shuts down) is not lost.
//! 8. A job that something of the server's is in the way of (a full disk) waits for longer each time, and has FAILED when
//!    that happened too often without a checkpoint in between.
//! 9. Only the holder of the lease moves the checkpoint. A job that has ended has none.
//! 10. Only a job that was stopped, by a cancel or by its time limit, keeps partial files.
//! 11. The time that a job ran grows with every attempt and counts no time in which nobody had it.
//!
//! # Diagram
//!
//! ```text
//!          release, or process or lease lost with tries left
//!             ┌──────────────────────────────────────┐
//!             ▼                                      │
//! submit ──▶ QUEUED ────────────claim────────────▶ RUNNING ──succeed──▶ SUCCEEDED
//!             │                                    │  │  └──fail, time out, or lost for the last time──▶ FAILED
//!             │ cancel                      cancel │  │
//!             ▼                                    ▼  ╵
//!         CANCELLED ◀──the process has ended, or its lease is lost── CANCELLING
//! ```
//!
//! A checkpoint and a heartbeat leave a job where it is. A job that is CANCELLING ends as CANCELLED however its process
//! ends: who asked for a cancel wants no result.
//! `JobState::next` is this diagram; [`super::job::Job`] keeps the attempt and the lease with it, and is what the
//! property test below drives; [`super::queue::JobQueue`] makes each step one transaction.

use std::fmt;

use super::JobError;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waiting for a worker.
    Queued,
    /// A worker computes.
    Running,
    /// A cancel was asked for and the worker is stopping.
    Cancelling,
    /// Done.
    Succeeded,
    /// Ended without a result.
    Failed,
    /// Ended by a cancel.
    Cancelled,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A worker takes it.
    Claim,
    /// Somebody asks it to stop.
    Cancel,
    /// The worker has published its artifacts.
    Succeed,
    /// The worker says that it cannot be done.
    Fail,
    /// The worker has stopped it, as asked.
    Stop,
    /// The worker has stopped it because it took longer than it may.
    TimeOut,
    /// The worker gives it back.
    Release,
    /// Its process died, or its worker was not heard of, and another may try.
    Lose,
    /// The same, as too often before.
    LoseLast,
}

impl JobState {
    /// Every state.
    pub const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Running,
        JobState::Cancelling,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// The state after `event`.
    pub fn next(self, event: Event) -> Result<JobState, JobError> {
        use Event::*;
        use JobState::*;
        match (self, event) {
            (Queued, Claim) => Ok(Running),
            (Queued, Cancel) => Ok(Cancelled),
            (Running, Cancel) => Ok(Cancelling),
            (Running, Succeed) => Ok(Succeeded),
            (Running, Fail | TimeOut | LoseLast) => Ok(Failed),
            (Running, Release | Lose) => Ok(Queued),
            (Cancelling, Cancel) => Ok(Cancelling),
            (Cancelling, Succeed | Fail | Stop | TimeOut | Release | Lose | LoseLast) => Ok(Cancelled),
            // To cancel what has ended is no mistake: the caller could not know.
            (Succeeded | Failed | Cancelled, Cancel) => Ok(self),
            (Queued, Succeed | Fail | Stop | TimeOut | Release | Lose | LoseLast)
            | (Running, Claim | Stop)
            | (Cancelling, Claim)
            | (Succeeded | Failed | Cancelled, Claim | Succeed | Fail | Stop | TimeOut | Release | Lose | LoseLast) => {
                Err(JobError::Impossible { state: self.name(), event: event.name() })
            }
        }
    }

    /// Whether nothing can happen to the job any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    /// Whether a worker has it.
    pub fn is_leased(self) -> bool {
        matches!(self, JobState::Running | JobState::Cancelling)
    }

    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "QUEUED",
            JobState::Running => "RUNNING",
            JobState::Cancelling => "CANCELLING",
            JobState::Succeeded => "SUCCEEDED",
            JobState::Failed => "FAILED",
            JobState::Cancelled => "CANCELLED",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Claim => "be claimed",
            Event::Cancel => "be cancelled",
            Event::Succeed => "succeed",
            Event::Fail => "fail",
            Event::Stop => "be stopped",
            Event::Release => "be given back",
            Event::TimeOut => "run out of time",
            Event::Lose | Event::LoseLast => "be lost",
        }
    }
}
