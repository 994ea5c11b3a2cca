//! Reads a stranger's files in a small locked room: a process of its own, `PROGRAM read-child FOLDER`, which is given one
//! folder and limits ([`crate::sandbox`]), says its verdict in one line of JSON, and ends.
//!
//! The server itself parses no model and no data set. What a reader may be made to do by a file, take memory, time, or
//! crash, it does alone, and that is a verdict like any other:
//!
//! | the process | the verdict |
//! |---|---|
//! | says one | what it says |
//! | cannot allocate, or is killed by the kernel | RESOURCE_EXHAUSTED `READER_MEMORY` |
//! | is still there after `reader.seconds`, and killed | RESOURCE_EXHAUSTED `READER_TIME` |
//! | ends in any other way | INVALID_ARGUMENT `UNREADABLE`, and an error in the log: a defect of ours |
//!
//! ```text
//! folder/                    in the store's work folder, removed afterwards
//! ├── read.json   ReadFile   written by the server
//! ├── models/0/0             files by number: their names, which a client chose, are never paths
//! └── data/0
//! ```

pub mod child;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::account::Reading;
use super::job::Failure;
use super::protocol::{DATA_FOLDER, ModelFile};
use super::runner;
use super::staging::{stage, stage_model};
use crate::data::DataSource;
use crate::error::{Classify, Kind, Violation};
use crate::format::Architecture;
use crate::report::Analysis;
use crate::sandbox::Limits;
use crate::settings;
use crate::store::{DatasetDetail, FileRef, ModelDetail, Store, StoreError};

/// The hidden verb of the program.
pub const VERB: &str = "read-child";
/// The name of the file that says what is to be read.
pub const READ_FILE: &str = "read.json";
/// The reason where memory was too short.
const MEMORY: &str = "READER_MEMORY";
/// The longest verdict, in bytes: a thousand names of classes of a data set, or the violations of a recipe's every step.
const MAX_ANSWER: u64 = 4 << 20;
/// So much of the end of a process's log is kept, in bytes.
const LOG_TAIL: usize = 4 << 10;
/// Descriptors: pipes, the folder, and for each thread a file.
const OPEN_FILES: u64 = 256;

/// What a process is to read.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadFile {
    /// How much of the machine it may have.
    pub limits: Limits,
    /// What it is to do.
    pub task: Task,
}

/// What a process is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Read a model.
    Model(ModelFile),
    /// Read the model that is this file of the folder.
    Emitted(String),
    /// Read a data set.
    Dataset(DataFiles),
    /// Read all that a recipe needs, and see whether it suits.
    Fit {
        /// The recipe, in its file form.
        recipe: String,
        /// The model to start from.
        model: Option<ModelFile>,
        /// Other models, by the names that the recipe has for them.
        extra_models: BTreeMap<String, ModelFile>,
        /// The data set.
        data: DataFiles,
    },
    /// Say what can be cut from a model.
    Analyze {
        /// The model.
        model: ModelFile,
        /// What is asked.
        question: Question,
        /// The data set, where accuracies are asked for.
        data: Option<DataFiles>,
    },
}

/// What is asked about a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// A recipe in its file form: how samples are read, and the plan.
    pub recipe: Option<String>,
    /// The shares that each group of channels loses.
    pub ratios: Vec<f64>,
    /// Validation samples to measure on.
    pub samples: usize,
}

/// A data set in the folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct DataFiles {
    /// Names of its files, in the order of their numbers.
    pub names: Vec<String>,
    /// Which of them are what, where it was said.
    pub source: Option<DataSource>,
}

/// The last words of a process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// What it found.
    pub verdict: Verdict,
    /// The most memory that it had, in bytes; 0 where the kernel does not say.
    pub peak_bytes: u64,
    /// Which walls of its room are missing.
    pub gaps: Vec<String>,
}

/// What a process found.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A model. Its `architecture` is left to whoever asked.
    Model(ModelDetail),
    /// A data set. Its `data_source` is left to whoever asked.
    Dataset(Box<DatasetDetail>),
    /// What keeps a recipe from running on what was given; nothing: it suits.
    Fit(Vec<Violation>),
    /// What can be cut from a model.
    Analysis(Box<Analysis>),
    /// The files are not what they are said to be.
    Refused {
        /// Which of them.
        part: Part,
        /// Why not.
        failure: Failure,
    },
}

/// Which of the things that were read a refusal is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The recipe.
    Recipe,
    /// The model.
    Model,
    /// The other model of this name.
    Extra(String),
    /// The data set.
    Data,
}

/// All that a recipe needs, as it is stored.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The recipe, in its file form.
    pub recipe: String,
    /// The model to start from.
    pub model: Option<StoredModel>,
    /// Other models, by the names that the recipe has for them.
    pub extra_models: BTreeMap<String, StoredModel>,
    /// The data set's files.
    pub data: Vec<FileRef>,
    /// Which of them are what, where it was said.
    pub source: Option<DataSource>,
}

/// A model as it is stored.
#[derive(Debug, Clone)]
pub struct StoredModel {
    /// Its files.
    pub files: Vec<FileRef>,
    /// The graph, where the file does not carry it.
    pub architecture: Option<Architecture>,
}

/// Why there is no model or data set.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// The files are to blame; asked again, the answer would be the same.
    Files {
        /// Which of them.
        part: Part,
        /// Why.
        failure: Failure,
    },
    /// This server is to blame, or it is stopping; the files may be good.
    Server(Failure),
}

impl Refusal {
    /// Why.
    pub fn failure(self) -> Failure {
        match self {
            Refusal::Files { failure, .. } | Refusal::Server(failure) => failure,
        }
    }
}

/// Starts processes that read, a few at a time.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Store,
    program: Arc<Path>,
    settings: settings::Reader,
    permits: Arc<Semaphore>,
    /// That walls are missing was said.
    warned: Arc<AtomicBool>,
}

impl Reader {
    /// A reader of what `store` has; `program` is started as `PROGRAM read-child FOLDER`.
    pub fn new(store: Store, program: &Path, settings: settings::Reader) -> Self {
        let permits = Arc::new(Semaphore::new(settings.processes.max(1) as usize));
        Self { store, program: program.into(), settings, permits, warned: Arc::default() }
    }

    /// Reads a model.
    pub async fn model(&self, model: &StoredModel) -> Result<ModelDetail, Refusal> {
        let (_permit, folder) = self.room().await?;
        let file = self.stage_model(model, 0, folder.path()).await?;
        match self.ask(folder.path(), Task::Model(file), &named(&model.files)).await? {
            Verdict::Model(detail) => Ok(ModelDetail { architecture: model.architecture.clone(), ..detail }),
            other => Err(unexpected(other)),
        }
    }

    /// Reads a data set.
    pub async fn dataset(&self, files: &[FileRef], source: Option<DataSource>) -> Result<DatasetDetail, Refusal> {
        let (_permit, folder) = self.room().await?;
        let data = self.stage_data(files, source.clone(), folder.path()).await?;
        match self.ask(folder.path(), Task::Dataset(data), &named(files)).await? {
            Verdict::Dataset(detail) => Ok(DatasetDetail { data_source: source, ..*detail }),
            other => Err(unexpected(other)),
        }
    }

    /// What keeps a recipe from running on what is given: nothing if it suits.
    pub async fn fit(&self, fit: &Fit) -> Result<Vec<Violation>, Refusal> {
        let (_permit, folder) = self.room().await?;
        let mut model = None;
        if let Some(stored) = &fit.model {
            model = Some(self.stage_model(stored, 0, folder.path()).await?);
        }
        let mut extra_models = BTreeMap::new();
        for (place, (name, stored)) in (1..).zip(&fit.extra_models) {
            extra_models.insert(name.clone(), self.stage_model(stored, place, folder.path()).await?);
        }
        let data = self.stage_data(&fit.data, fit.source.clone(), folder.path()).await?;
        let task = Task::Fit { recipe: fit.recipe.clone(), model, extra_models, data };
        match self.ask(folder.path(), task, "what the job is given").await? {
            Verdict::Fit(violations) => Ok(violations),
            other => Err(unexpected(other)),
        }
    }

    /// What can be cut from a model.
    pub async fn analyze(
        &self,
        model: &StoredModel,
        data: Option<(&[FileRef], Option<DataSource>)>,
        question: Question,
    ) -> Result<Analysis, Refusal> {
        let (_permit, folder) = self.room().await?;
        let model = self.stage_model(model, 0, folder.path()).await?;
        let mut staged = None;
        if let Some((files, source)) = data {
            staged = Some(self.stage_data(files, source, folder.path()).await?);
        }
        let task = Task::Analyze { model, question, data: staged };
        match self.ask(folder.path(), task, "the model").await? {
            Verdict::Analysis(analysis) => Ok(*analysis),
            other => Err(unexpected(other)),
        }
    }

    /// Reads a model that a job's process left: `file`, which is to be read in `folder`, where nobody writes any more.
    pub async fn emitted(&self, folder: &Path, file: &str) -> Result<ModelDetail, Refusal> {
        let _permit = self.permits.acquire().await.map_err(|e| ours("the reader has ended", &e))?;
        let task = Task::Emitted(file.into());
        match self.ask(folder, task, &format!("'{file}'")).await? {
            Verdict::Model(detail) => Ok(detail),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until another process may read, and makes a folder for it.
    async fn room(&self) -> Result<(tokio::sync::SemaphorePermit<'_>, tempfile::TempDir), Refusal> {
        let permit = self.permits.acquire().await.map_err(|e| ours("the reader has ended", &e))?;
        let folder = tempfile::Builder::new().prefix("read-").tempdir_in(&self.store.work);
        Ok((permit, folder.map_err(|e| of_store(&StoreError::own_folder(e)))?))
    }

    /// Puts a model's files into the folder, under the number `place`.
    async fn stage_model(&self, model: &StoredModel, place: usize, folder: &Path) -> Result<ModelFile, Refusal> {
        let StoredModel { files, architecture } = model.clone();
        stage_model(&self.store, &files, architecture, place, folder).await.map_err(|e| of_store(&e))
    }

    /// Puts a data set's files into the folder.
    async fn stage_data(
        &self,
        files: &[FileRef],
        source: Option<DataSource>,
        folder: &Path,
    ) -> Result<DataFiles, Refusal> {
        stage(&self.store, files, &folder.join(DATA_FOLDER)).await.map_err(|e| of_store(&e))?;
        Ok(DataFiles { names: files.iter().map(|file| file.file_name.clone()).collect(), source })
    }

    /// Has a process read what lies in `folder`, which people know as `what`. Dropped, it kills the process.
    async fn ask(&self, folder: &Path, task: Task, what: &str) -> Result<Verdict, Refusal> {
        let wait = Duration::from_secs(self.settings.seconds.max(1).into());
        // Time is ours to measure: processor time only ends a process that nobody waits for any more.
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let limits = Limits {
            memory_bytes: self.settings.memory_bytes,
            cpu_seconds: wait.as_secs().saturating_mul(processors).saturating_add(1),
            file_bytes: 0,
            open_files: OPEN_FILES,
        };
        let part = whole(&task);
        let text = serde_json::to_vec(&ReadFile { limits, task }).map_err(|e| ours("a task has no JSON", &e))?;
        let path = folder.join(READ_FILE);
        let written = tokio::fs::write(&path, text).await;
        written.map_err(|e| of_store(&StoreError::file(&path)(e)))?;
        let mut command = runner::command(&self.program, VERB, folder);
        let (answer, log, status) = match timeout(wait, talk(command.stdin(Stdio::null()))).await {
            Ok(ended) => ended.map_err(|e| no_process(&e))?,
            Err(_) => {
                let text = format!("reading {what} took more than {} s, which is this server's limit", wait.as_secs());
                let failure = Failure::new(Kind::ResourceExhausted, "READER_TIME", text);
                return Err(Refusal::Files { part, failure });
            }
        };
        let Some(mut answer) = answer.filter(|_| status.success()) else {
            return Err(died(status, &log, part, what, limits.memory_bytes));
        };
        if !answer.gaps.is_empty() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("files of strangers are read with less protection than there could be: {:?}", answer.gaps);
        }
        tracing::debug!(peak_bytes = answer.peak_bytes, "files read");
        if let Verdict::Refused { failure, .. } = &mut answer.verdict
            && failure.reason == MEMORY
        {
            *failure = too_much_memory(what, limits.memory_bytes);
        }
        Ok(answer.verdict)
    }
}

/// Runs a process to its end: its answer, if it is one, the end of its log, and how it ended.
async fn talk(command: &mut Command) -> io::Result<(Option<Answer>, String, ExitStatus)> {
    let mut child = command.spawn()?;
    let _counted = Reading::begin();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (answer, log, status) = tokio::join!(answer(stdout), tail(stderr), child.wait());
    Ok((answer, log, status?))
}

async fn answer(output: Option<impl AsyncRead + Unpin>) -> Option<Answer> {
    let mut text = Vec::new();
    let mut output = output?;
    (&mut output).take(MAX_ANSWER).read_to_end(&mut text).await.ok()?;
    // What is longer is cut, and no JSON; the process must not wait for somebody to read the rest.
    tokio::io::copy(&mut output, &mut tokio::io::sink()).await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// The end of a process's log.
async fn tail(output: Option<impl AsyncRead + Unpin>) -> String {
    let (mut kept, mut piece) = (Vec::new(), vec![0; LOG_TAIL]);
    if let Some(mut output) = output {
        while let Ok(read @ 1..) = output.read(&mut piece).await {
            kept.extend_from_slice(&piece[..read]);
            kept.drain(..kept.len().saturating_sub(LOG_TAIL));
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// What is said when a reader ended without an answer.
fn died(status: ExitStatus, log: &str, part: Part, what: &str, memory_bytes: u64) -> Refusal {
    // The allocator's words, before it aborts.
    if log.contains(runner::OUT_OF_MEMORY) {
        return Refusal::Files { part, failure: too_much_memory(what, memory_bytes) };
    }
    // Nothing that a file holds makes a process end so: the kernel did, where the machine's memory is short, or whoever
    // stops the service.
    let by_others = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
    if status.signal().is_some_and(|signal| by_others.contains(&signal)) {
        tracing::error!(%status, log, "a reader ended before its answer");
        let text = format!("the process that read {what} was ended; try again");
        return Refusal::Server(Failure::new(Kind::Unavailable, "READER_LOST", text));
    }
    tracing::error!(%status, log, "files ended the process that read them: this is a defect of niwaki");
    let text = format!("{what} cannot be read: damaged in a way that niwaki does not know");
    Refusal::Files { part, failure: Failure::new(Kind::InvalidArgument, "UNREADABLE", text) }
}

fn too_much_memory(what: &str, memory_bytes: u64) -> Failure {
    let text = format!("reading {what} takes more than {memory_bytes} bytes of memory, which is this server's limit");
    Failure::new(Kind::ResourceExhausted, MEMORY, text)
}

/// The files that are read, as messages name them.
fn named(files: &[FileRef]) -> String {
    match files {
        [] => "nothing".into(),
        [file] => format!("'{}'", file.file_name),
        [first, rest @ ..] => format!("'{}' and {} other files", first.file_name, rest.len()),
    }
}

/// What a task as a whole is about.
fn whole(task: &Task) -> Part {
    match task {
        Task::Model(_) | Task::Emitted(_) => Part::Model,
        Task::Dataset(_) => Part::Data,
        Task::Fit { .. } => Part::Recipe,
        Task::Analyze { .. } => Part::Model,
    }
}

/// A refusal, or a verdict on something else than what was asked: only a process that was taken over says that.
fn unexpected(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused { failure: failure @ Failure { kind: Kind::Internal, .. }, .. } => {
            tracing::error!(message = failure.message, "a reader could not read");
            Refusal::Server(failure)
        }
        Verdict::Refused { part, failure } => Refusal::Files { part, failure },
        other => {
            tracing::error!(verdict = ?other, "a reader answered what it was not asked");
            Refusal::Server(Failure::new(Kind::Internal, "INTERNAL", "a reader answered what it was not asked"))
        }
    }
}

fn of_store(error: &StoreError) -> Refusal {
    if error.kind() == Kind::Internal {
        tracing::error!(%error, "files could not be put before a reader");
    }
    Refusal::Server(Failure::of(error))
}

/// A machine that starts no process is one that is short of something.
fn no_process(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "a reader could not be started");
    Refusal::Server(Failure::new(Kind::Unavailable, "READER_LOST", "no process could be started that reads files"))
}

fn ours(what: &str, error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "{what}");
    Refusal::Server(Failure::new(Kind::Internal, "INTERNAL", what))
}

#[cfg(test)]
mod tests;
