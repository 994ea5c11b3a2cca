//! Hostile files, before the real process that reads uploads: what it says of them and how much memory that took. The
//! numbers are those of the list in docs/security.md. Every file is made here; none is kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use niwaki::data::DataSource;
use niwaki::error::{Failure, Kind};
use niwaki::format::Architecture;
use niwaki::jobs::protocol::{DATA_FOLDER, ModelFile};
use niwaki::jobs::reader::{Answer, DataFiles, READ_FILE, ReadFile, Task, VERB, Verdict};
use niwaki::sandbox::Limits;
use tempfile::TempDir;

mod datasets;
mod onnx;
mod pictures;
mod room;
mod safetensors;

/// What a file that is refused may cost beside four times its header, in bytes.
const BASE: u64 = 64 << 20;

/// How much of the machine the process may have here.
fn limits() -> Limits {
    Limits { memory_bytes: 1 << 30, cpu_seconds: 60, file_bytes: 0, open_files: 64 }
}

/// A folder for the process.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(DATA_FOLDER)).unwrap();
    folder
}

/// The answer of the process to what lies in the folder, or what it left behind: how it ended, and its log.
fn ask(folder: &Path, task: Task) -> Result<Answer, String> {
    ask_within(folder, task, limits())
}

fn ask_within(folder: &Path, task: Task, limits: Limits) -> Result<Answer, String> {
    let read = serde_json::to_vec(&ReadFile { limits, task }).unwrap();
    std::fs::write(folder.join(READ_FILE), read).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_niwaki"));
    let begun = std::time::Instant::now();
    let ended = command.arg(VERB).arg(folder).env_clear().stdin(Stdio::null()).output().unwrap();
    // For people, with --nocapture: no test depends on a clock.
    eprintln!("{:?}: {} ms", std::thread::current().name().unwrap_or_default(), begun.elapsed().as_millis());
    if !ended.status.success() {
        return Err(format!("{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr)));
    }
    Ok(serde_json::from_slice(&ended.stdout).unwrap())
}

/// A refusal, and the peak of memory.
#[derive(Debug)]
struct Refused {
    failure: Failure,
    peak_bytes: u64,
}

impl Refused {
    #[track_caller]
    fn of(answer: Result<Answer, String>, what: &str) -> Self {
        match answer {
            Ok(Answer { verdict: Verdict::Refused { failure, .. }, peak_bytes, .. }) => {
                assert_ne!(failure.kind, Kind::Internal, "{what}: {failure:?}");
                assert!(failure.message.len() < 4000, "{what}: a long message: {}", failure.message.len());
                assert!(!failure.message.contains("/tmp"), "{what}: {}", failure.message);
                Self { failure, peak_bytes }
            }
            other => panic!("{what}: {other:?}"),
        }
    }

    /// The refusal has this reason, and cost no more memory than `header` bytes allow.
    #[track_caller]
    fn is(&self, reason: &str, header: usize) {
        assert_eq!(self.failure.reason, reason, "{}", self.failure.message);
        let most = BASE + 4 * header as u64;
        assert!(self.peak_bytes <= most, "{reason}: {} MiB, at most {}", self.peak_bytes >> 20, most >> 20);
    }
}

/// What is said of a model in this file.
fn model(fill: impl FnOnce(&mut File), architecture: Option<&str>) -> Result<Answer, String> {
    let folder = folder();
    fill(&mut File::create(folder.path().join("0")).unwrap());
    let architecture = architecture.map(|json| Architecture::GraphJson(json.to_string()));
    ask(folder.path(), Task::Model(ModelFile { folder: "".into(), names: vec!["model".into()], architecture }))
}

/// What is said of a model of these files.
fn model_files(files: &[(&str, &[u8])]) -> Result<Answer, String> {
    let folder = folder();
    for (place, (_, bytes)) in files.iter().enumerate() {
        std::fs::write(folder.path().join(place.to_string()), bytes).unwrap();
    }
    let names = files.iter().map(|(name, _)| name.to_string()).collect();
    ask(folder.path(), Task::Model(ModelFile { folder: "".into(), names, architecture: None }))
}

#[track_caller]
fn refused_model(bytes: &[u8]) -> Refused {
    Refused::of(model(|file| file.write_all(bytes).unwrap(), None), "a model")
}

/// What is said of a data set of these files.
fn data(files: &[(&str, &[u8])], source: Option<DataSource>) -> Result<Answer, String> {
    let folder = folder();
    for (place, (_, bytes)) in files.iter().enumerate() {
        std::fs::write(folder.path().join(DATA_FOLDER).join(place.to_string()), bytes).unwrap();
    }
    let names = files.iter().map(|(name, _)| name.to_string()).collect();
    ask(folder.path(), Task::Dataset(DataFiles { names, source }))
}

#[track_caller]
fn refused_data(files: &[(&str, &[u8])], source: Option<DataSource>) -> Refused {
    Refused::of(data(files, source), files[0].0)
}

/// A safetensors file with this header and data.
fn container(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// The header's JSON for tensors of that dtype, shape and bytes, one behind the other.
fn header(tensors: &[(&str, &str, &[u64], u64)], metadata: &BTreeMap<String, String>) -> String {
    let mut entries = vec![format!("\"__metadata__\":{}", serde_json::to_string(metadata).unwrap())];
    let mut at = 0;
    for (name, dtype, shape, bytes) in tensors {
        let (name, end) = (serde_json::to_string(name).unwrap(), at + bytes);
        entries.push(format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"));
        at = end;
    }
    format!("{{{}}}", entries.join(","))
}
