//! A worker: claims a job, stages its inputs, watches over its process, publishes what it made.
//!
//! ```text
//! claim ─▶ stage folder ─▶ start process ─▶ attend ─▶ look over ─▶ store blobs ─▶ finish
//!    │                                        └ what it saves is stored          │
//!    └───────────────── a task of its own sends heartbeats all the while ──────────┘
//! ```
//!
//! Nothing computes here: heartbeats must not wait for anything. When the lease is lost the process is killed and nothing
//! is published; blobs that were stored already have no name and harm nobody. The job's folder is removed in any case.
//!
//! | the process | the job |
//! |---|---|
//! | says that it is done, and left what it says | SUCCEEDED |
//! | says why it cannot go on | FAILED; to try again would end the same |
//! | cannot be started, or its results not be stored: the disk is full, say | QUEUED; this worker rests before the next |
//! | dies without a word, or says what is no line | lost: QUEUED, and the next process goes on from the last checkpoint |
//! | stops because of a cancel or the time limit, or is killed two seconds later | CANCELLED or FAILED, with the best model |
//! | stops because the server does, or is killed five seconds later | QUEUED, with a fresh checkpoint and no loss counted |

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::JobError;
use super::account;
use super::attend::{End, Ended, STOP_GRACE, attend, called_off};
use super::emitted::{self, Taken};
use super::heart::Heart;
use super::job::{Directive, Failure, Job, JobResult, Lease, Outcome};
use super::protocol::{DATA_FOLDER, JOB_FILE, JobFile, Line, ModelFile, OUT_FOLDER, RESUME_FILE};
use super::queue::JobQueue;
use super::reader::{Reader, Refusal};
use super::runner::{OUT_OF_MEMORY, Process};
use super::saver::Saver;
use super::staging::{stage, stage_model};
use crate::error::{Classify, Kind};
use crate::recipe::run::{BEST_FILE, Progress, REPORT_FILE};
use crate::report::EmittedFile;
use crate::sandbox::Limits;
use crate::settings;
use crate::store::{DatasetDetail, Entry, Hold, ModelDetail, Store, StoreError, now_ms, stored_digest};

/// Descriptors that a process may have: pipes, its folder, and for each thread a file.
const OPEN_FILES: u64 = 256;
/// How long a worker waits when the queue cannot be reached.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a worker rests that gave a job back because something of this server is in the way.
const REST: Duration = Duration::from_secs(10);
/// How long the best model of a job that was stopped may take to be looked at and stored.
const BEST_LIMIT: Duration = Duration::from_secs(60);
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
    /// Who reads the models that a job leaves.
    pub reader: Reader,
    /// What jobs may do.
    pub settings: settings::Jobs,
    /// The program that runs a job.
    pub job_program: PathBuf,
}

impl Worker {
    /// Runs jobs until `shutdown`; a job that is running then is given back.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.queue.changes();
        while !shutdown.is_cancelled() {
            match self.queue.claim(&self.name, now_ms(), self.lease_ms()).await {
                Ok(Some((job, lease))) => {
                    let worked = self.work(&job, &lease, &shutdown).instrument(account::attempt(&lease)).await;
                    if worked == Worked::InTheWay {
                        tokio::select! {
                            () = tokio::time::sleep(REST) => {}
                            () = shutdown.cancelled() => {}
                        }
                    }
                }
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

    async fn work(&self, job: &Job, lease: &Lease, shutdown: &CancellationToken) -> Worked {
        tracing::info!(job = job.key.id, attempt = lease.attempt, worker = self.name, "job started");
        let begun = Instant::now();
        let (progress, latest) = watch::channel(None);
        let (director, directive) = watch::channel(Directive::Continue);
        let (queue, lease_ms) = (self.queue.clone(), self.lease_ms());
        let heart = Heart { queue, lease: lease.clone(), lease_ms, progress: latest, director };
        // The set ends the heart when it is dropped.
        let mut beating = JoinSet::new();
        beating.spawn(heart.beat().in_current_span());
        let mut worked = Worked::Ended;
        // What the end will name must not be collected before.
        let mut held = Vec::new();
        let outcome = match self.outcome(job, lease, &progress, directive, shutdown, &mut held).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                tracing::warn!(job = job.key.id, attempt = lease.attempt, "lease lost, nothing is published");
                return worked;
            }
            // To fail the job, and then the next, for a disk that is full would empty the queue.
            Err(failure) if is_in_the_way(&failure) => {
                tracing::error!(job = job.key.id, reason = failure.reason, message = failure.message, "given back");
                worked = Worked::InTheWay;
                // What is in the way while the server stops is that it stops.
                if shutdown.is_cancelled() { Outcome::Released } else { Outcome::Hindered(failure) }
            }
            Err(failure) => Outcome::Failed(failure),
        };
        account::ended(begun, &outcome);
        self.finish(lease, outcome).await;
        // The lease is kept until the end is written; a beat after that changes nothing.
        drop((beating, held));
        worked
    }

    /// How the job ended; `None` if it is no longer ours. An error is what kept it from ending so.
    async fn outcome(
        &self,
        job: &Job,
        lease: &Lease,
        progress: &watch::Sender<Option<Progress>>,
        mut directive: watch::Receiver<Directive>,
        shutdown: &CancellationToken,
        held: &mut Vec<Hold>,
    ) -> Result<Option<Outcome>, Failure> {
        let folder = Folder::make(&self.store.work, &job.key.id);
        let folder = folder.map_err(|e| of_store(&StoreError::own_folder(e)))?;
        let staged = tokio::select! {
            staged = self.stage(job, &folder.room) => staged,
            called_off = called_off(&mut directive, shutdown) => return Ok(called_off),
        };
        staged?;
        let process = Process::start_with_threads(&self.job_program, &folder.room, self.threads());
        let mut process = process.map_err(|e| ours("the job's process could not be started", &e))?;
        let (queue, store, lease) = (self.queue.clone(), self.store.clone(), lease.clone());
        let saver = Saver { queue, store, lease, room: folder.room.clone(), kept: folder.kept.clone() };
        let (announce, announced) = watch::channel(());
        let attending = attend(&mut process, progress, announce, &mut directive, shutdown);
        let ended = {
            let saving = saver.run(announced);
            tokio::pin!(attending, saving);
            let ended = tokio::select! {
                ended = &mut attending => ended,
                () = &mut saving => attending.await,
            };
            // Who asked for a stop does not wait for what is saved on the way.
            if !matches!(ended, Ended::Stopped(End::Cancelled | End::TimedOut | End::Lost)) {
                saving.await;
            }
            ended
        };
        let end = match ended {
            Ended::Stopped(end) => end,
            Ended::Alone(last, status) => {
                let last_words = timeout(STOP_GRACE, process.last_words()).await.unwrap_or_default();
                self.judge(last, status, &last_words)
            }
        };
        // A finished job is published even while the server stops.
        let going_on = CancellationToken::new();
        Ok(Some(match end {
            End::Done => tokio::select! {
                published = self.publish(&folder, held) => Outcome::Succeeded(Box::new(published?)),
                called_off = called_off(&mut directive, &going_on) => return Ok(called_off),
            },
            End::Failed(failure) if failure.kind != Kind::Internal && is_in_the_way(&failure) => return Err(failure),
            End::Failed(failure) => Outcome::Failed(failure),
            End::Died(failure) => {
                // It may have saved something without having come to say so.
                saver.save().await;
                Outcome::Lost(failure)
            }
            End::Released => {
                saver.save().await;
                Outcome::Released
            }
            End::Cancelled => Outcome::Cancelled(self.best(&folder, held).await),
            End::TimedOut => Outcome::TimedOut(self.best(&folder, held).await),
            End::Lost => return Ok(None),
        }))
    }

    /// What it means that a process ended so without having been asked to.
    fn judge(&self, last: Option<Line>, status: std::io::Result<ExitStatus>, last_words: &str) -> End {
        let status = match (last, status) {
            (Some(Line::Done), Ok(status)) if status.success() => return End::Done,
            (Some(Line::Failed(failure)), _) => return End::Failed(failure),
            (_, Ok(status)) => status,
            (_, Err(error)) => return End::Died(ours("the job's process was lost", &error)),
        };
        // What an allocation that fails says; where memory runs out altogether, the kernel kills the largest process.
        let allocation = last_words.starts_with(OUT_OF_MEMORY);
        if allocation || status.signal() == Some(rustix::process::Signal::KILL.as_raw()) {
            let bytes = self.settings.memory_bytes;
            let how = if allocation { "ran out of memory" } else { "was killed, as happens when memory runs out" };
            let message = format!("the job's process {how}; it may have {bytes} bytes");
            return End::Died(Failure::new(Kind::ResourceExhausted, "OUT_OF_MEMORY", message));
        }
        End::Died(Failure::crashed(format!("the job's process ended early: {status}")))
    }

    /// How long a worker may be silent before its job is given to another, in milliseconds.
    fn lease_ms(&self) -> i64 {
        i64::from(self.settings.lease_seconds.max(1)) * 1000
    }

    /// How many threads a job computes with: the workers share the processors.
    fn threads(&self) -> usize {
        match self.settings.threads {
            0 => (processors() / self.settings.workers.max(1) as usize).max(1),
            threads => threads as usize,
        }
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
        stage(&self.store, &dataset.files, &folder.join(DATA_FOLDER)).await.map_err(|e| of_store(&e))?;
        let job_file = JobFile {
            job: format!("{}/{}", job.key.tenant, job.key.id),
            limits: self.limits(),
            checkpoint_seconds: self.settings.checkpoint_seconds,
            checkpoint: self.stage_checkpoint(job, folder).await,
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
        write.await.map_err(|e| of_store(&StoreError::file(folder)(e)))
    }

    /// Puts a model's files into the folder, under the number `place`.
    async fn stage_model(&self, job: &Job, id: &str, place: usize, folder: &Path) -> Result<ModelFile, Failure> {
        let model: Entry<ModelDetail> =
            self.store.catalogue.get(&job.key.tenant, id).await.map_err(|e| of_store(&e))?;
        let staged = stage_model(&self.store, &model.files, model.detail.architecture, place, folder).await;
        staged.map_err(|e| of_store(&e))
    }

    /// How much of the machine a job's process may have. Time is measured by the queue, over all attempts; what the
    /// processors count only ends a process that nobody waits for any more.
    fn limits(&self) -> Limits {
        let memory_bytes = self.settings.memory_bytes;
        let cpu_seconds = u64::from(self.settings.max_seconds).saturating_mul(processors() as u64).saturating_add(1);
        // A model is no larger than the memory it is written from.
        Limits { memory_bytes, cpu_seconds, file_bytes: memory_bytes, open_files: OPEN_FILES }
    }

    /// What an earlier process of the job saved, if it is all there.
    async fn stage_checkpoint(&self, job: &Job, folder: &Path) -> Option<PathBuf> {
        let checkpoint = job.checkpoint.as_ref()?;
        let staged = async {
            let digest = stored_digest(&checkpoint.file.digest)?;
            self.store.blobs.get_to_file(&digest, &folder.join(RESUME_FILE)).await
        };
        match staged.await {
            Ok(()) => Some(RESUME_FILE.into()),
            Err(error) => {
                tracing::warn!(job = job.key.id, %error, "the checkpoint is lost, the job begins anew");
                None
            }
        }
    }

    /// Stores what the process made, after looking it over.
    async fn publish(&self, folder: &Folder, held: &mut Vec<Hold>) -> Result<JobResult, Failure> {
        let (room, kept) = (folder.room.clone(), folder.kept.clone());
        let looked_over = tokio::task::spawn_blocking(move || emitted::look_over(&room, &kept)).await;
        let emitted = looked_over.map_err(|e| ours("the job's files could not be looked over", &e))??;
        for name in emitted.files.iter().map(|taken| taken.file.name.as_str()) {
            // Whatever else a job leaves is a model.
            if name != REPORT_FILE {
                self.read(folder, name).await?;
            }
        }
        for Taken { path, digest, .. } in &emitted.files {
            held.push(self.store.blobs.put_file(path, digest).await.map_err(|e| of_store(&e))?);
        }
        Ok(emitted.result)
    }

    /// Stores the best model that a process which was stopped left, if it left one.
    async fn best(&self, folder: &Folder, held: &mut Vec<Hold>) -> Vec<EmittedFile> {
        let kept = async {
            let (out, kept) = (folder.room.join(OUT_FOLDER), folder.kept.clone());
            let taken = tokio::task::spawn_blocking(move || emitted::take(&out, BEST_FILE, &kept)).await;
            let taken = taken.map_err(|e| ours("the job's files could not be looked over", &e))??;
            let Some(Taken { path, digest, file }) = taken else { return Ok(None) };
            self.read(folder, BEST_FILE).await?;
            held.push(self.store.blobs.put_file(&path, &digest).await.map_err(|e| of_store(&e))?);
            Ok::<_, Failure>(Some(file))
        };
        match timeout(BEST_LIMIT, kept).await {
            Ok(Ok(file)) => file.into_iter().collect(),
            Err(_) => {
                tracing::warn!("the best model so far is not kept: it took too long to look at");
                Vec::new()
            }
            Ok(Err(failure)) => {
                tracing::warn!(problem = failure.message, "the best model so far is not kept");
                Vec::new()
            }
        }
    }

    /// Has a model that a process left read, as if it had been uploaded.
    async fn read(&self, folder: &Folder, name: &str) -> Result<(), Failure> {
        match self.reader.emitted(&folder.kept, name).await {
            Ok(_detail) => Ok(()),
            // Larger or slower than the reader may be is not damaged.
            Err(Refusal::Files { failure, .. }) if failure.kind == Kind::ResourceExhausted => Err(failure),
            Err(Refusal::Files { failure, .. }) => {
                Err(Failure::crashed(format!("the job's {name} cannot be read: {}", failure.message)))
            }
            Err(Refusal::Server(failure)) => Err(failure),
        }
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

/// Whether a worker may take the next job at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worked {
    Ended,
    /// Something of this server was in the way, and would be in the way of the next job too.
    InTheWay,
}

/// Whether a failure says something of this server at this time, and nothing of the job.
fn is_in_the_way(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Internal | Kind::Unavailable)
        || ["DISK_FULL", "STORAGE_FULL"].contains(&failure.reason.as_str())
}

/// A job's folder, which is removed when this is dropped: what its process may write to, and what it may not.
struct Folder {
    room: PathBuf,
    kept: PathBuf,
    _whole: tempfile::TempDir,
}

impl Folder {
    fn make(work: &Path, id: &str) -> std::io::Result<Self> {
        let whole = tempfile::Builder::new().prefix(&format!("{id}-")).tempdir_in(work)?;
        let (room, kept) = (whole.path().join("room"), whole.path().join("kept"));
        std::fs::create_dir(&room)?;
        std::fs::create_dir(&kept)?;
        Ok(Self { room, kept, _whole: whole })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get())
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
