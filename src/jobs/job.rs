//! A job as a value, and what happens to it. Nothing here waits, reads a clock or writes: the time is an argument, and
//! the queue makes each of these steps one transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JobError;
use super::state::{Event, JobState, MAX_LOSSES};
use crate::error::{Classify, Kind, Violation};
use crate::recipe::run::Progress;
use crate::report::{EmittedFile, Report};

/// What names a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
}

/// What a new job is to be. Model and data set are of the same tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Whose it is.
    pub tenant: String,
    /// Id of the model to start from; `None`: the recipe starts from a preset.
    pub model: Option<String>,
    /// Ids of other models that the recipe speaks of, by the names it has for them.
    pub extra_models: BTreeMap<String, String>,
    /// Id of the data set.
    pub dataset: String,
    /// The recipe, in its file form.
    pub recipe: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What names it.
    pub key: JobKey,
    /// Id of the model to start from.
    pub model: Option<String>,
    /// Ids of other models that the recipe speaks of, by the names it has for them.
    pub extra_models: BTreeMap<String, String>,
    /// Id of the data set.
    pub dataset: String,
    /// The recipe, in its file form.
    pub recipe: String,
    /// Where it stands.
    pub state: JobState,
    /// Grows with every change.
    pub revision: u64,
    /// How often it was claimed; fences the workers that had it before.
    pub attempt: u32,
    /// How often its lease ran out.
    pub losses: u32,
    /// Who has it.
    pub worker: Option<String>,
    /// When the lease runs out.
    pub lease_expires_ms: Option<i64>,
    /// What it is doing.
    pub progress: Option<Progress>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What it produced.
    pub result: Option<JobResult>,
    /// When it was queued.
    pub create_ms: i64,
    /// When the latest attempt started.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub finish_ms: Option<i64>,
}

/// A worker's right to a job, as long as no other attempt began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub key: JobKey,
    /// The attempt it is for.
    pub attempt: u32,
}

/// What a worker is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    Continue,
    /// Stop the job and say so.
    Cancel,
    /// Stop and leave the job alone: it is no longer this worker's.
    Lost,
}

/// How a worker ends a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is done and its artifacts are in the blob store.
    Succeeded(Box<JobResult>),
    /// It cannot be done.
    Failed(Failure),
    /// It was stopped, as asked.
    Cancelled,
    /// It was stopped because the worker goes; another may take it.
    Released,
}

/// What a job produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The report.
    pub report: Report,
    /// The files, the report's among them.
    pub artifacts: Vec<EmittedFile>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: Kind,
    /// A stable word for machines.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// The bad fields of the recipe, where that is what is wrong.
    #[serde(default)]
    pub violations: Vec<Violation>,
}

impl Failure {
    /// The failure that an error is.
    pub fn of(error: &impl Classify) -> Self {
        Self {
            kind: error.kind(),
            reason: error.reason().into(),
            message: error.to_string(),
            violations: error.violations(),
        }
    }

    /// A failure that is no error of ours to convert.
    pub fn new(kind: Kind, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), message: message.into(), violations: Vec::new() }
    }

    /// The job's process did not keep to its part: it crashed, or what it left is not what it said.
    pub fn crashed(message: impl Into<String>) -> Self {
        Self::new(Kind::Aborted, "JOB_CRASHED", message)
    }
}

impl Job {
    /// A job that was just queued.
    pub fn new(id: String, new: NewJob, now: i64) -> Self {
        Self {
            key: JobKey { tenant: new.tenant, id },
            model: new.model,
            extra_models: new.extra_models,
            dataset: new.dataset,
            recipe: new.recipe,
            state: JobState::Queued,
            revision: 1,
            attempt: 0,
            losses: 0,
            worker: None,
            lease_expires_ms: None,
            progress: None,
            failure: None,
            result: None,
            create_ms: now,
            start_ms: None,
            finish_ms: None,
        }
    }

    /// A worker takes the job for `ttl` milliseconds.
    pub fn claim(&mut self, worker: &str, now: i64, ttl: i64) -> Result<Lease, JobError> {
        self.state = self.state.next(Event::Claim)?;
        self.attempt += 1;
        self.worker = Some(worker.into());
        self.lease_expires_ms = Some(now + ttl);
        self.start_ms = Some(now);
        self.progress = None;
        Ok(Lease { key: self.key.clone(), attempt: self.attempt })
    }

    /// A worker is alive; it may have got further.
    pub fn heartbeat(&mut self, lease: &Lease, now: i64, ttl: i64, progress: Option<Progress>) -> Directive {
        if !self.is_held_by(lease) {
            return Directive::Lost;
        }
        self.lease_expires_ms = Some(now + ttl);
        self.progress = progress.or(self.progress.take());
        if self.state == JobState::Cancelling { Directive::Cancel } else { Directive::Continue }
    }

    /// A worker ends the job. Saying so twice is the same as saying so once.
    pub fn finish(&mut self, lease: &Lease, outcome: Outcome, now: i64) -> Result<(), JobError> {
        if self.state.is_terminal() && self.attempt == lease.attempt {
            return Ok(());
        }
        if !self.is_held_by(lease) {
            return Err(JobError::LeaseLost { attempt: lease.attempt });
        }
        let event = match outcome {
            Outcome::Succeeded(_) => Event::Succeed,
            Outcome::Failed(_) => Event::Fail,
            Outcome::Cancelled => Event::Stop,
            Outcome::Released => Event::Release,
        };
        self.enter(self.state.next(event)?, now);
        match (self.state, outcome) {
            (JobState::Succeeded, Outcome::Succeeded(result)) => self.result = Some(*result),
            (JobState::Failed, Outcome::Failed(failure)) => self.failure = Some(failure),
            _ => {}
        }
        Ok(())
    }

    /// Somebody asks the job to stop.
    pub fn cancel(&mut self, now: i64) -> Result<(), JobError> {
        let next = self.state.next(Event::Cancel)?;
        if next != self.state {
            self.enter(next, now);
        }
        Ok(())
    }

    /// The lease has run out, if it has.
    pub fn expire(&mut self, now: i64) -> Result<(), JobError> {
        if self.lease_expires_ms.is_none_or(|expires| expires > now) {
            return Ok(());
        }
        let last = self.losses + 1 >= MAX_LOSSES;
        let next = self.state.next(if last { Event::LoseLastLease } else { Event::LoseLease })?;
        self.losses += 1;
        self.enter(next, now);
        if next == JobState::Failed {
            let message = format!("the worker was lost in each of {} attempts", self.losses);
            self.failure = Some(Failure::new(Kind::Aborted, "WORKER_LOST", message));
        }
        Ok(())
    }

    fn is_held_by(&self, lease: &Lease) -> bool {
        self.state.is_leased() && self.attempt == lease.attempt
    }

    fn enter(&mut self, state: JobState, now: i64) {
        self.state = state;
        if !state.is_leased() {
            self.worker = None;
            self.lease_expires_ms = None;
        }
        if state.is_terminal() {
            self.finish_ms = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        Claim,
        Beat(usize),
        Succeed(usize),
        Fail(usize),
        Stop(usize),
        Release(usize),
        Cancel,
        Expire,
        Wait(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Claim),
            2 => (0usize..4).prop_map(Act::Beat),
            1 => (0usize..4).prop_map(Act::Succeed),
            1 => (0usize..4).prop_map(Act::Fail),
            1 => (0usize..4).prop_map(Act::Stop),
            2 => (0usize..4).prop_map(Act::Release),
            1 => Just(Act::Cancel),
            2 => Just(Act::Expire),
            4 => (1i64..15).prop_map(Act::Wait),
        ]
    }

    fn queued() -> Job {
        let new = NewJob {
            tenant: "default".into(),
            model: None,
            extra_models: BTreeMap::new(),
            dataset: "d".into(),
            recipe: r#"{"version":1}"#.into(),
        };
        Job::new("job".into(), new, 0)
    }

    fn result() -> Outcome {
        let report = serde_json::from_str(include_str!("testdata/report.json")).unwrap();
        Outcome::Succeeded(Box::new(JobResult { report, artifacts: Vec::new() }))
    }

    const TTL: i64 = 10;

    proptest! {
        /// Workers that were given a lease once go on using it, whatever happened since.
        #[test]
        fn random_events_never_break_the_invariants(acts in prop::collection::vec(act(), 1..60)) {
            let (mut job, mut now, mut leases) = (queued(), 0i64, Vec::<Lease>::new());
            for act in acts {
                let before = job.clone();
                let mut user: Option<Lease> = None;
                let mut lease = |i: usize| {
                    user = leases.iter().rev().nth(i).cloned();
                    user.clone()
                };
                match act {
                    Act::Wait(ms) => now += ms,
                    Act::Claim => {
                        let unexpired = job.lease_expires_ms.is_some_and(|expires| expires > now);
                        if let Ok(new) = job.claim("w", now, TTL) {
                            prop_assert!(!unexpired, "invariant 1: claimed under an unexpired lease");
                            prop_assert_eq!(job.attempt, before.attempt + 1);
                            leases.push(new);
                        }
                    }
                    Act::Beat(i) => if let Some(lease) = lease(i) { job.heartbeat(&lease, now, TTL, None); },
                    Act::Succeed(i) => if let Some(lease) = lease(i) { let _ = job.finish(&lease, result(), now); },
                    Act::Fail(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Failed(Failure::crashed("x")), now);
                    },
                    Act::Stop(i) => if let Some(lease) = lease(i) { let _ = job.finish(&lease, Outcome::Cancelled, now); },
                    Act::Release(i) => if let Some(lease) = lease(i) { let _ = job.finish(&lease, Outcome::Released, now); },
                    Act::Cancel => job.cancel(now).unwrap(),
                    Act::Expire => job.expire(now).unwrap(),
                }
                let claimed = before.state == JobState::Queued && job.state == JobState::Running;
                prop_assert_eq!(job.attempt, before.attempt + u32::from(claimed), "invariant 2");
                if user.is_some_and(|lease| lease.attempt != before.attempt) {
                    prop_assert_eq!(&job, &before, "invariant 3: a stale attempt changed something");
                }
                if before.state.is_terminal() {
                    prop_assert_eq!(&job, &before, "invariant 4");
                }
                prop_assert_eq!(job.state.is_leased(), job.lease_expires_ms.is_some());
                prop_assert_eq!(job.state.is_terminal(), job.finish_ms.is_some());
                prop_assert_eq!(job.state == JobState::Succeeded, job.result.is_some());
                prop_assert_eq!(job.state == JobState::Failed, job.failure.is_some());
                prop_assert!(job.losses <= MAX_LOSSES, "invariant 7");
                prop_assert!(job.losses < MAX_LOSSES || job.state.is_terminal(), "invariant 7");
            }
        }
    }
}
