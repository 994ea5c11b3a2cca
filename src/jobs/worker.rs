//! A worker: claims a job, stages its inputs, watches over its process, publishes what it made.
//!
//! ```text
//! claim ─▶ stage folder ─▶ start process ─▶ attend ─▶ look over ─▶ store blobs ─▶ finish
//!    └───────────────── a task of its own sends heartbeats all the while ──────────┘
//! ```
//!
//! Nothing computes here: heartbeats must not wait for anything. When the lease is lost the process is killed and nothing
//! is published; blobs that were stored already have no name and harm nobody. The job's folder is removed in any case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::JobError;
use super::emitted;
use super::job::{Directive, Failure, Job, JobResult, Lease, Outcome};
use super::protocol::{DATA_FOLDER, JOB_FILE, JobFile, Line, MODELS_FOLDER, ModelFile, OUT_FOLDER};
use super::queue::JobQueue;
use super::runner::Process;
use super::state::JobState;
use crate::error::{Classify, Kind};
use crate::recipe::run::Progress;
use crate::store::{DatasetDetail, Entry, FileRef, ModelDetail, Store, StoreError, now_ms, stored_digest};

/// How long a worker may be silent before its job is given to another, in milliseconds.
const LEASE_MS: i64 = 15_000;
/// How often a worker is heard of at least: often enough that a cancel is seen within a second.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How often progress is written at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long a process may take to stop when it is asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long a worker waits when the queue cannot be reached.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the end of a job is tried to be written; after that its lease runs out.
const FINISH_TRIES: u32 = 5;

/// Runs jobs, one at a time.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its name, for people.
    pub name: String,
    /// Where jobs come from.
    pub queue: JobQueue,
    /// Where their inputs come from and their artifacts go.
    pub store: Store,
    /// The program that runs a job.
    pub job_program: PathBuf,
}

/// How the process of a job ended.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Done,
    Failed(Failure),
    Cancelled,
    TimedOut,
    Released,
    Lost,
}

impl Worker {
    /// Runs jobs until `shutdown`; a job that is running then is given back.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.queue.changes();
        while !shutdown.is_cancelled() {
            match self.queue.claim(&self.name, now_ms(), LEASE_MS).await {
                Ok(Some((job, lease))) => self.work(&job, &lease, &shutdown).await,
                Ok(None) => tokio::select! {
                    () = changes.any() => {}
                    () = shutdown.cancelled() => {}
                },
                Err(error) => {
                    tracing::error!(worker = self.name, %error, "no job could be claimed");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn work(&self, job: &Job, lease: &Lease, shutdown: &CancellationToken) {
        tracing::info!(job = job.key.id, attempt = lease.attempt, worker = self.name, "job started");
        let (progress, latest) = watch::channel(None);
        let (director, directive) = watch::channel(Directive::Continue);
        let heart = Heart { queue: self.queue.clone(), lease: lease.clone(), progress: latest, director };
        // The set ends the heart when it is dropped.
        let mut beating = JoinSet::new();
        beating.spawn(heart.beat());
        let outcome = match self.outcome(job, &progress, directive, shutdown).await {
            Some(outcome) => outcome,
            None => {
                tracing::warn!(job = job.key.id, attempt = lease.attempt, "lease lost, nothing is published");
                return;
            }
        };
        // The last progress must not be written after the end.
        drop(beating);
        self.finish(lease, outcome).await;
    }

    /// How the job ended; `None` if it is no longer ours.
    async fn outcome(
        &self,
        job: &Job,
        progress: &watch::Sender<Option<Progress>>,
        mut directive: watch::Receiver<Directive>,
        shutdown: &CancellationToken,
    ) -> Option<Outcome> {
        let folder = match tempfile::Builder::new().prefix(&format!("{}-", job.key.id)).tempdir_in(&self.store.work) {
            Ok(folder) => folder,
            Err(error) => return Some(Outcome::Failed(ours("a folder for the job could not be made", &error))),
        };
        if let Err(failure) = self.stage(job, folder.path()).await {
            return Some(Outcome::Failed(failure));
        }
        let mut process = match Process::start(&self.job_program, folder.path()) {
            Ok(process) => process,
            Err(error) => return Some(Outcome::Failed(ours("the job's process could not be started", &error))),
        };
        match attend(&mut process, progress, &mut directive, shutdown).await {
            End::Done => {}
            End::Failed(failure) => return Some(Outcome::Failed(failure)),
            End::Cancelled => return Some(Outcome::Cancelled(Vec::new())),
            End::TimedOut => return Some(Outcome::TimedOut(Vec::new())),
            End::Released => return Some(Outcome::Released),
            End::Lost => return None,
        }
        Some(match self.publish(folder.path().join(OUT_FOLDER)).await {
            Ok(result) => Outcome::Succeeded(Box::new(result)),
            Err(failure) => Outcome::Failed(failure),
        })
    }

    /// Puts the job's inputs into its folder, compared with their digests.
    async fn stage(&self, job: &Job, folder: &Path) -> Result<(), Failure> {
        let mut model = None;
        if let Some(id) = &job.model {
            model = Some(self.stage_model(job, id, 0, folder).await?);
        }
        let mut extra_models = BTreeMap::new();
        for (place, (name, id)) in (1..).zip(&job.extra_models) {
            extra_models.insert(name.clone(), self.stage_model(job, id, place, folder).await?);
        }
        let dataset: Entry<DatasetDetail> =
            self.store.catalogue.get(&job.key.tenant, &job.dataset).await.map_err(|e| of_store(&e))?;
        self.fetch(&dataset.files, &folder.join(DATA_FOLDER)).await?;
        let job_file = JobFile {
            recipe: job.recipe.clone(),
            model,
            extra_models,
            data: dataset.files.iter().map(|file| file.file_name.clone()).collect(),
            data_source: dataset.detail.data_source,
        };
        let text = serde_json::to_vec(&job_file).map_err(|e| ours("the job could not be described", &e))?;
        let write = async {
            tokio::fs::create_dir(folder.join(OUT_FOLDER)).await?;
            tokio::fs::write(folder.join(JOB_FILE), text).await
        };
        write.await.map_err(|e| ours("the job's folder could not be filled", &e))
    }

    /// Puts a model's file into the folder, under the number `place`.
    async fn stage_model(&self, job: &Job, id: &str, place: usize, folder: &Path) -> Result<ModelFile, Failure> {
        let model: Entry<ModelDetail> =
            self.store.catalogue.get(&job.key.tenant, id).await.map_err(|e| of_store(&e))?;
        let own = Path::new(MODELS_FOLDER).join(place.to_string());
        self.fetch(&model.files, &folder.join(&own)).await?;
        Ok(ModelFile { path: own.join("0"), architecture: model.detail.architecture })
    }

    /// Puts files into a folder, under their numbers.
    async fn fetch(&self, files: &[FileRef], folder: &Path) -> Result<(), Failure> {
        tokio::fs::create_dir_all(folder).await.map_err(|e| ours("the job's folder could not be filled", &e))?;
        for (place, file) in files.iter().enumerate() {
            let digest = stored_digest(&file.digest).map_err(|e| of_store(&e))?;
            let stored = self.store.blobs.get_to_file(&digest, &folder.join(place.to_string())).await;
            stored.map_err(|e| of_store(&e))?;
        }
        Ok(())
    }

    /// Stores what the process made, after looking it over.
    async fn publish(&self, out: PathBuf) -> Result<JobResult, Failure> {
        let looked_over = tokio::task::spawn_blocking(move || emitted::look_over(&out)).await;
        let emitted = looked_over.map_err(|e| ours("the job's files could not be looked over", &e))??;
        for (path, digest) in &emitted.files {
            self.store.blobs.put_file(path, digest).await.map_err(|e| of_store(&e))?;
        }
        Ok(emitted.result)
    }

    async fn finish(&self, lease: &Lease, outcome: Outcome) {
        for attempt in 1..=FINISH_TRIES {
            match self.queue.finish(lease, outcome.clone(), now_ms()).await {
                Ok(job) => {
                    let reason = job.failure.map(|failure| failure.reason);
                    tracing::info!(job = lease.key.id, state = %job.state, reason, "job ended");
                    return;
                }
                Err(error @ (JobError::LeaseLost { .. } | JobError::Impossible { .. })) => {
                    tracing::warn!(job = lease.key.id, %error, "the end of a job came too late");
                    return;
                }
                Err(error @ (JobError::Store(_) | JobError::QueueFull { .. })) => {
                    tracing::error!(job = lease.key.id, %error, attempt, "the end of a job could not be written");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}

/// Follows a process to its end.
async fn attend(
    process: &mut Process,
    progress: &watch::Sender<Option<Progress>>,
    directive: &mut watch::Receiver<Directive>,
    shutdown: &CancellationToken,
) -> End {
    let mut last: Option<Line> = None;
    let mut stopping: Option<(End, Instant)> = None;
    loop {
        let deadline = stopping.as_ref().map_or_else(Instant::now, |(_, deadline)| *deadline);
        tokio::select! {
            line = process.next() => match line {
                Some(Ok(Line::Progress(now))) => { progress.send_replace(Some(now)); }
                Some(Ok(line)) => last = Some(line),
                Some(Err(problem)) => {
                    process.kill();
                    stopping = Some((End::Failed(Failure::crashed(format!("the job's process wrote {problem}"))), Instant::now()));
                }
                None => break,
            },
            told = directive.changed(), if stopping.is_none() => {
                // Without a heart there is no lease to keep.
                let directive = if told.is_err() { Directive::Lost } else { *directive.borrow() };
                match directive {
                    Directive::Continue => {}
                    Directive::Cancel => {
                        process.cancel().await;
                        stopping = Some((End::Cancelled, Instant::now() + STOP_GRACE));
                    }
                    Directive::TimeOut => {
                        process.cancel().await;
                        stopping = Some((End::TimedOut, Instant::now() + STOP_GRACE));
                    }
                    Directive::Lost => {
                        process.kill();
                        stopping = Some((End::Lost, Instant::now()));
                    }
                }
            }
            () = shutdown.cancelled(), if stopping.is_none() => {
                process.cancel().await;
                stopping = Some((End::Released, Instant::now() + STOP_GRACE));
            }
            () = sleep_until(deadline), if stopping.is_some() => {
                process.kill();
                break;
            }
        }
    }
    // Its output has ended; a process that goes on all the same is ended too.
    let status = match timeout(STOP_GRACE, process.wait()).await {
        Ok(status) => status,
        Err(_) => {
            process.kill();
            process.wait().await
        }
    };
    if let Some((end, _)) = stopping {
        return end;
    }
    match (last, status) {
        (Some(Line::Done), Ok(status)) if status.success() => End::Done,
        (Some(Line::Failed(failure)), _) => End::Failed(failure),
        (Some(Line::Cancelled), _) => End::Failed(Failure::crashed("the job's process stopped without being asked to")),
        (_, Ok(status)) => End::Failed(Failure::crashed(format!("the job's process ended early: {status}"))),
        (_, Err(error)) => End::Failed(ours("the job's process was lost", &error)),
    }
}

/// Keeps the lease, writes progress, and hears what to do.
struct Heart {
    queue: JobQueue,
    lease: Lease,
    progress: watch::Receiver<Option<Progress>>,
    director: watch::Sender<Directive>,
}

impl Heart {
    async fn beat(mut self) {
        let mut changes = self.queue.changes();
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beaten = Instant::now();
        loop {
            let due = tokio::select! {
                _ = ticks.tick() => self.progress.has_changed().unwrap_or(false) || beaten.elapsed() >= BEAT_EVERY,
                // Most changes are our own progress; only a cancel is worth a beat at once.
                () = changes.of(&self.lease.key) => self.is_cancelling().await,
            };
            if !due {
                continue;
            }
            let news = self.progress.has_changed().unwrap_or(false);
            let progress = if news { self.progress.borrow_and_update().clone() } else { None };
            match self.queue.heartbeat(&self.lease, now_ms(), LEASE_MS, progress).await {
                Ok(directive) => {
                    beaten = Instant::now();
                    self.director.send_if_modified(|now| std::mem::replace(now, directive) != directive);
                }
                Err(error) => {
                    tracing::warn!(job = self.lease.key.id, %error, "a heartbeat failed");
                    if beaten.elapsed() >= Duration::from_millis(LEASE_MS as u64) {
                        self.director.send_replace(Directive::Lost);
                    }
                }
            }
        }
    }

    async fn is_cancelling(&self) -> bool {
        self.queue.get(&self.lease.key).await.is_ok_and(|job| job.state == JobState::Cancelling)
    }
}

/// A failure of the store, which the client sees by its kind; what is ours is told to the log alone.
fn of_store(error: &StoreError) -> Failure {
    if error.kind() == Kind::Internal { ours("the store failed", error) } else { Failure::of(error) }
}

/// A failure of ours.
fn ours(what: &str, error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "{what}");
    Failure::new(Kind::Internal, "INTERNAL", what)
}
