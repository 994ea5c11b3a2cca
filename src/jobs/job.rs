//! A job as a value, and what happens to it. Nothing here waits, reads a clock or writes: the time is an argument, and
//! the queue makes each of these steps one transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JobError;
use super::state::{Event, JobState};
use crate::error::Kind;
use crate::fault::{Bug, planted};
use crate::recipe::run::Progress;
use crate::report::{EmittedFile, Report};
use crate::settings;

pub use crate::error::Failure;

/// How long a job waits that something of the server's was in the way of, in milliseconds: twice as long each time, and at
/// the most ten minutes.
const OBSTACLE_WAIT_MS: i64 = 10_000;
const MAX_OBSTACLE_WAIT_MS: i64 = 600_000;
/// So often something may be in the way of a job that does not get on: for about two and a half hours.
const MAX_OBSTACLES: u32 = 20;

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
    /// Which of a tenant's waiting jobs come first: those with the higher number.
    pub priority: i32,
    /// How long the job may run, over all attempts, in milliseconds; `None`: as long as the server allows.
    pub time_limit_ms: Option<i64>,
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
    /// Which of a tenant's waiting jobs come first: those with the higher number.
    pub priority: i32,
    /// How long it may run, over all attempts, in milliseconds; `None`: as long as the server allows.
    pub time_limit_ms: Option<i64>,
    /// Where it stands.
    pub state: JobState,
    /// Grows with every change.
    pub revision: u64,
    /// How often it was claimed; fences the workers that had it before.
    pub attempt: u32,
    /// How often its process or its worker was lost since the last checkpoint.
    pub losses: u32,
    /// How often something of the server's was in its way since the last checkpoint.
    pub obstacles: u32,
    /// How long earlier attempts ran, in milliseconds.
    pub run_ms: i64,
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
    /// Where whoever takes it up again goes on.
    pub checkpoint: Option<Checkpoint>,
    /// What it kept when it was stopped.
    pub partial: Vec<EmittedFile>,
    /// When it was queued.
    pub create_ms: i64,
    /// It is not to be claimed before.
    pub not_before_ms: i64,
    /// When the latest attempt started.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub finish_ms: Option<i64>,
}

/// Work that was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The file; its bytes are in the blob store.
    pub file: EmittedFile,
    /// When the work stood there.
    pub at_ms: i64,
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
    /// Stop the job, which took longer than it may, and say so.
    TimeOut,
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
    /// Its process died without a last word; another may try, unless that happened too often.
    Lost(Failure),
    /// It was stopped, as asked. What it kept is in the blob store.
    Cancelled(Vec<EmittedFile>),
    /// It was stopped because it took longer than it may. What it kept is in the blob store.
    TimedOut(Vec<EmittedFile>),
    /// It was stopped because the worker goes; another may take it.
    Released,
    /// Something of the server's was in its way; it is tried again later, unless that happened too often.
    Hindered(Failure),
}

/// What a job produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The report.
    pub report: Report,
    /// The files, the report's among them.
    pub artifacts: Vec<EmittedFile>,
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
            priority: new.priority,
            time_limit_ms: new.time_limit_ms,
            state: JobState::Queued,
            revision: 1,
            attempt: 0,
            losses: 0,
            obstacles: 0,
            run_ms: 0,
            worker: None,
            lease_expires_ms: None,
            progress: None,
            failure: None,
            result: None,
            checkpoint: None,
            partial: Vec::new(),
            create_ms: now,
            not_before_ms: 0,
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
    pub fn heartbeat(
        &mut self,
        lease: &Lease,
        now: i64,
        ttl: i64,
        progress: Option<Progress>,
        rules: &settings::Jobs,
    ) -> Directive {
        if !self.is_held_by(lease) {
            return Directive::Lost;
        }
        self.lease_expires_ms = Some(now + ttl);
        self.progress = progress.or(self.progress.take());
        self.directive(now, rules)
    }

    /// A worker has saved the work. Who gets further has lost nothing so far; the same bytes again are no progress.
    pub fn checkpoint(&mut self, lease: &Lease, checkpoint: Checkpoint, now: i64, rules: &settings::Jobs) -> Directive {
        if !self.is_held_by(lease) {
            return Directive::Lost;
        }
        if self.checkpoint.as_ref().is_none_or(|before| before.file.digest != checkpoint.file.digest) {
            self.losses = 0;
            self.obstacles = 0;
            self.checkpoint = Some(checkpoint);
        }
        self.directive(now, rules)
    }

    /// A worker ends the job. Saying so twice is the same as saying so once.
    pub fn finish(
        &mut self,
        lease: &Lease,
        outcome: Outcome,
        now: i64,
        rules: &settings::Jobs,
    ) -> Result<(), JobError> {
        if self.state.is_terminal() && self.attempt == lease.attempt {
            if !planted(Bug::FinishTwice) {
                return Ok(());
            }
            self.state = JobState::Running;
        }
        if !self.is_held_by(lease) {
            return Err(JobError::LeaseLost { attempt: lease.attempt });
        }
        let event = match &outcome {
            Outcome::Succeeded(_) => Event::Succeed,
            Outcome::Failed(_) => Event::Fail,
            Outcome::Cancelled(_) => Event::Stop,
            Outcome::TimedOut(_) => Event::TimeOut,
            Outcome::Released => Event::Release,
            Outcome::Lost(failure) => return self.lose(failure.clone(), now, rules),
            Outcome::Hindered(failure) => return self.hinder(failure.clone(), now),
        };
        self.enter(self.state.next(event)?, now);
        match outcome {
            Outcome::Succeeded(result) if self.state == JobState::Succeeded => self.result = Some(*result),
            Outcome::Failed(failure) if self.state == JobState::Failed => self.failure = Some(failure),
            Outcome::Cancelled(files) => self.partial = files,
            Outcome::TimedOut(files) => {
                self.partial = files;
                if self.state == JobState::Failed {
                    self.failure = Some(self.out_of_time(rules));
                }
            }
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
    pub fn expire(&mut self, now: i64, rules: &settings::Jobs) -> Result<(), JobError> {
        if self.lease_expires_ms.is_none_or(|expires| expires > now) {
            return Ok(());
        }
        self.take_back(now, rules)
    }

    /// The worker is known to be gone: its server has started anew.
    pub fn take_back(&mut self, now: i64, rules: &settings::Jobs) -> Result<(), JobError> {
        let message = format!("the worker was lost {} times without getting on", self.losses + 1);
        self.lose(Failure::new(Kind::Aborted, "WORKER_LOST", message), now, rules)
    }

    /// The job's process or worker is lost; `failure` is what that comes to if it was the last time.
    fn lose(&mut self, failure: Failure, now: i64, rules: &settings::Jobs) -> Result<(), JobError> {
        let last = self.losses + 1 >= rules.max_losses;
        let next = self.state.next(if last { Event::LoseLast } else { Event::Lose })?;
        self.losses += 1;
        self.enter(next, now);
        if next == JobState::Failed {
            self.failure = Some(failure);
        }
        Ok(())
    }

    /// Something of the server's is in the job's way; `failure` is what that comes to if it was the last time. The job waits
    /// for longer each time, so that it is not in the way of those behind it.
    fn hinder(&mut self, failure: Failure, now: i64) -> Result<(), JobError> {
        self.obstacles += 1;
        let last = self.obstacles >= MAX_OBSTACLES;
        self.enter(self.state.next(if last { Event::Fail } else { Event::Release })?, now);
        match self.state {
            JobState::Failed => self.failure = Some(failure),
            JobState::Queued => {
                let wait = OBSTACLE_WAIT_MS << (self.obstacles - 1).min(16);
                self.not_before_ms = now + wait.min(MAX_OBSTACLE_WAIT_MS);
            }
            _ => {}
        }
        Ok(())
    }

    fn directive(&self, now: i64, rules: &settings::Jobs) -> Directive {
        if self.state == JobState::Cancelling {
            return Directive::Cancel;
        }
        if self.run_ms + self.running_ms(now) >= self.may_run_ms(rules) {
            Directive::TimeOut
        } else {
            Directive::Continue
        }
    }

    /// How long the job may run: no longer than the server allows.
    fn may_run_ms(&self, rules: &settings::Jobs) -> i64 {
        let most = i64::from(rules.max_seconds) * 1000;
        self.time_limit_ms.map_or(most, |limit| limit.min(most))
    }

    /// How long this attempt has run, as far as anybody was there to run it.
    fn running_ms(&self, now: i64) -> i64 {
        let (Some(start), Some(expires)) = (self.start_ms, self.lease_expires_ms) else { return 0 };
        (now.min(expires) - start).max(0)
    }

    fn out_of_time(&self, rules: &settings::Jobs) -> Failure {
        let seconds = self.may_run_ms(rules) as f64 / 1000.0;
        Failure::new(Kind::DeadlineExceeded, "TIME_LIMIT", format!("the job took longer than its {seconds} seconds"))
    }

    fn is_held_by(&self, lease: &Lease) -> bool {
        self.state.is_leased() && (self.attempt == lease.attempt || planted(Bug::UnfencedAttempt))
    }

    fn enter(&mut self, state: JobState, now: i64) {
        if !state.is_leased() {
            self.run_ms += self.running_ms(now);
            self.worker = None;
            self.lease_expires_ms = None;
        }
        if state.is_terminal() {
            self.finish_ms = Some(now);
            self.checkpoint = None;
        }
        self.state = state;
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
        Checkpoint(usize, u8),
        Succeed(usize),
        Fail(usize),
        Stop(usize),
        TimeOut(usize),
        Lose(usize),
        Release(usize),
        Hinder(usize),
        Cancel,
        Expire,
        TakeBack,
        Wait(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Claim),
            2 => (0usize..4).prop_map(Act::Beat),
            2 => (0usize..4, 0u8..4).prop_map(|(i, file)| Act::Checkpoint(i, file)),
            1 => (0usize..4).prop_map(Act::Succeed),
            1 => (0usize..4).prop_map(Act::Fail),
            1 => (0usize..4).prop_map(Act::Stop),
            1 => (0usize..4).prop_map(Act::TimeOut),
            1 => (0usize..4).prop_map(Act::Lose),
            2 => (0usize..4).prop_map(Act::Release),
            1 => (0usize..4).prop_map(Act::Hinder),
            1 => Just(Act::Cancel),
            2 => Just(Act::Expire),
            1 => Just(Act::TakeBack),
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
            priority: 0,
            time_limit_ms: Some(LIMIT),
        };
        Job::new("job".into(), new, 0)
    }

    fn result() -> Outcome {
        let report = serde_json::from_str(include_str!("testdata/report.json")).unwrap();
        Outcome::Succeeded(Box::new(JobResult { report, artifacts: Vec::new() }))
    }

    fn file(name: &str, content: &[u8]) -> EmittedFile {
        let digest = crate::digest::Digest::of(content).to_string();
        EmittedFile { name: name.into(), bytes: content.len() as u64, digest }
    }

    const TTL: i64 = 10;
    const LIMIT: i64 = 100;
    const MAX_LOSSES: u32 = 3;

    fn rules() -> settings::Jobs {
        settings::Jobs { max_losses: MAX_LOSSES, ..settings::Jobs::default() }
    }

    #[test]
    fn time_is_counted_over_attempts_but_not_while_nobody_has_the_job() {
        let (mut job, rules) = (queued(), rules());
        let first = job.claim("w", 0, TTL).unwrap();
        assert_eq!(job.heartbeat(&first, 60, TTL, None, &rules), Directive::Continue);
        // The server is gone for a long time; the attempt ran until its lease ended at the latest.
        job.expire(100_000, &rules).unwrap();
        assert_eq!(job.run_ms, 70);
        let second = job.claim("w", 200_000, TTL).unwrap();
        assert_eq!(job.heartbeat(&second, 200_005, TTL, None, &rules), Directive::Continue);
        assert_eq!(job.heartbeat(&second, 200_030, 2 * TTL, None, &rules), Directive::TimeOut);
        job.finish(&second, Outcome::TimedOut(vec![file("best.safetensors", b"b")]), 200_031, &rules).unwrap();
        let failure = job.failure.unwrap();
        assert_eq!((failure.kind, failure.reason.as_str()), (Kind::DeadlineExceeded, "TIME_LIMIT"));
        assert_eq!(failure.message, "the job took longer than its 0.1 seconds");
        assert_eq!(job.partial.len(), 1);
    }

    #[test]
    fn a_job_may_set_a_shorter_limit_than_the_servers_but_no_longer_one() {
        let rules = settings::Jobs { max_seconds: 1, ..rules() };
        for (own, most) in [(None, 1000), (Some(999), 999), (Some(5000), 1000)] {
            let mut job = Job { time_limit_ms: own, ..queued() };
            let lease = job.claim("w", 0, 10_000).unwrap();
            assert_eq!(job.heartbeat(&lease, most - 1, 10_000, None, &rules), Directive::Continue);
            assert_eq!(job.heartbeat(&lease, most, 10_000, None, &rules), Directive::TimeOut);
        }
    }

    #[test]
    fn a_job_that_gets_on_survives_any_number_of_losses_and_one_that_does_not_ends_with_the_last_failure() {
        let (mut job, rules) = (queued(), rules());
        for step in 0u8..20 {
            let lease = job.claim("w", 0, TTL).unwrap();
            let checkpoint = Checkpoint { file: file("checkpoint.safetensors", &[step]), at_ms: 0 };
            assert_eq!(job.checkpoint(&lease, checkpoint, 0, &rules), Directive::Continue);
            job.finish(&lease, Outcome::Lost(Failure::crashed("a signal")), 0, &rules).unwrap();
            assert_eq!((job.state, job.losses), (JobState::Queued, 1));
        }
        for loss in 2..=MAX_LOSSES {
            let lease = job.claim("w", 0, TTL).unwrap();
            // The bytes that it began from are no progress.
            let same = job.checkpoint.clone().unwrap();
            job.checkpoint(&lease, same, 0, &rules);
            job.finish(&lease, Outcome::Lost(Failure::crashed(format!("loss {loss}"))), 0, &rules).unwrap();
        }
        assert_eq!(job.state, JobState::Failed);
        assert_eq!((job.failure.unwrap().message.as_str(), job.checkpoint), ("loss 3", None));
    }

    proptest! {
        /// Workers that were given a lease once go on using it, whatever happened since.
        #[test]
        fn random_events_never_break_the_invariants(acts in prop::collection::vec(act(), 1..60)) {
            let (mut job, mut now, mut leases, rules) = (queued(), 0i64, Vec::<Lease>::new(), rules());
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
                    Act::Beat(i) => if let Some(lease) = lease(i) { job.heartbeat(&lease, now, TTL, None, &rules); },
                    Act::Checkpoint(i, content) => if let Some(lease) = lease(i) {
                        let checkpoint = Checkpoint { file: file("checkpoint.safetensors", &[content]), at_ms: now };
                        job.checkpoint(&lease, checkpoint, now, &rules);
                    },
                    Act::Succeed(i) => if let Some(lease) = lease(i) { let _ = job.finish(&lease, result(), now, &rules); },
                    Act::Fail(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Failed(Failure::crashed("x")), now, &rules);
                    },
                    Act::Stop(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Cancelled(vec![file("best.safetensors", b"b")]), now, &rules);
                    },
                    Act::TimeOut(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::TimedOut(vec![file("best.safetensors", b"b")]), now, &rules);
                    },
                    Act::Lose(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Lost(Failure::crashed("x")), now, &rules);
                    },
                    Act::Release(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Released, now, &rules);
                    },
                    Act::Hinder(i) => if let Some(lease) = lease(i) {
                        let _ = job.finish(&lease, Outcome::Hindered(Failure::crashed("x")), now, &rules);
                    },
                    Act::Cancel => job.cancel(now).unwrap(),
                    Act::Expire => job.expire(now, &rules).unwrap(),
                    Act::TakeBack => if job.state.is_leased() { job.take_back(now, &rules).unwrap() },
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
                prop_assert!(job.checkpoint.is_none() || !job.state.is_terminal(), "invariant 8");
                let stopped = matches!(job.state, JobState::Cancelled | JobState::Failed);
                prop_assert!(job.partial.is_empty() || stopped, "invariant 9");
                prop_assert!((before.run_ms..=now).contains(&job.run_ms), "invariant 10");
            }
        }
    }
}
