//! What a worker and a job's process say to each other.
//!
//! The process is given a folder and two pipes, and nothing else: no database, no store, no network.
//!
//! ```text
//! folder/                              stdin   held open by the worker; the line `cancel` asks to stop, and so does its
//! ├── job.json   a JobFile                     end; `leave` asks to save the work and stop
//! ├── models/0/0 a model's file        stdout  JSON, one Line a line
//! ├── data/0     a data set's file     stderr  for the log
//! ├── resume.safetensors      what an earlier process saved
//! ├── checkpoint.safetensors  what this one saved last, whole whenever it is there; the worker takes it away
//! └── out/       what the process makes
//! ```
//!
//! Nothing that a process says or leaves is believed: lines are short, files are opened without following links, and
//! what they hold is found out by whoever reads them.
//!
//! Files are numbered: their names, which a client chose, are never paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::Failure;
use crate::data::DataSource;
use crate::format::{Architecture, ModelFiles};
use crate::recipe::run::Progress;
use crate::sandbox::Limits;

/// The name of the file that describes the job.
pub const JOB_FILE: &str = "job.json";
/// The folder of the models' files, a folder each.
pub const MODELS_FOLDER: &str = "models";
/// The folder of the data set's files.
pub const DATA_FOLDER: &str = "data";
/// The folder for what the process makes.
pub const OUT_FOLDER: &str = "out";
/// The file of what an earlier process of the job saved.
pub const RESUME_FILE: &str = "resume.safetensors";
/// The line that asks to stop.
pub const CANCEL: &str = "cancel";
/// The line that asks to save the work and then to stop.
pub const LEAVE: &str = "leave";
/// The longest line a process may write, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// What a process is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFile {
    /// What the job goes by: what another one saved is not gone on from.
    pub job: String,
    /// How much of the machine the process may have.
    pub limits: Limits,
    /// How much work may be lost, in seconds.
    pub checkpoint_seconds: u32,
    /// What an earlier process saved, from the job's folder on.
    pub checkpoint: Option<PathBuf>,
    /// The recipe, in its file form.
    pub recipe: String,
    /// The model to start from; `None`: the recipe starts from a preset.
    pub model: Option<ModelFile>,
    /// Other models that the recipe speaks of, by the names it has for them.
    pub extra_models: BTreeMap<String, ModelFile>,
    /// Names of the data set's files, in the order of their numbers.
    pub data: Vec<String>,
    /// Which of them are what, if the data set says it; a recipe that says it comes first.
    pub data_source: Option<DataSource>,
}

impl ModelFile {
    /// Where its files are, by their names; `room` is the job's folder.
    pub fn files(&self, room: &Path) -> ModelFiles {
        let path = |place: usize| room.join(&self.folder).join(place.to_string());
        self.names.iter().enumerate().map(|(place, name)| (name.clone(), path(place))).collect()
    }
}

/// A model that was put into the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The folder of its files, from the job's folder on.
    pub folder: PathBuf,
    /// The files' names, in the order of their numbers.
    pub names: Vec<String>,
    /// The graph, where the file does not carry it.
    pub architecture: Option<Architecture>,
}

/// What a process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// It got further.
    Progress(Progress),
    /// It has saved its work in the file that is named for that.
    Checkpoint,
    /// It has written its files, report and all; this is the last line.
    Done,
    /// It has stopped, as asked; this is the last line.
    Cancelled,
    /// It cannot go on; this is the last line.
    Failed(Failure),
}
