//! What a worker and a job's process say to each other.
//!
//! The process is given a folder and two pipes, and nothing else: no database, no store, no network.
//!
//! ```text
//! folder/                              stdin   held open by the worker; the line `cancel` asks to stop,
//! ├── job.json   a JobFile                     and so does its end: a process dies with its worker
//! ├── model/0    the model's file      stdout  JSON, one Line a line
//! ├── data/0…    the data set's files  stderr  for the log
//! └── out/       what the process makes
//! ```
//!
//! Files are numbered: their names, which a client chose, are never paths.

use serde::{Deserialize, Serialize};

use super::job::Failure;
use crate::data::DataSource;
use crate::format::Architecture;
use crate::recipe::run::Progress;

/// The name of the file that describes the job.
pub const JOB_FILE: &str = "job.json";
/// The folder of the model's files.
pub const MODEL_FOLDER: &str = "model";
/// The folder of the data set's files.
pub const DATA_FOLDER: &str = "data";
/// The folder for what the process makes.
pub const OUT_FOLDER: &str = "out";
/// The line that asks to stop.
pub const CANCEL: &str = "cancel";
/// The longest line a process may write, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// What a process is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFile {
    /// The recipe, in its file form.
    pub recipe: String,
    /// Name of the model's file; `None`: the recipe starts from a preset.
    pub model: Option<String>,
    /// The graph, where the model's file does not carry it.
    pub architecture: Option<Architecture>,
    /// Names of the data set's files, in the order of their numbers.
    pub data: Vec<String>,
    /// Which of them are what, if the data set says it; a recipe that says it comes first.
    pub data_source: Option<DataSource>,
}

/// What a process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// It got further.
    Progress(Progress),
    /// It has written its files, report and all; this is the last line.
    Done,
    /// It has stopped, as asked; this is the last line.
    Cancelled,
    /// It cannot go on; this is the last line.
    Failed(Failure),
}
