//! Looks over what a job's process left, before anybody else sees it.
//!
//! The process is not trusted: it read files from outside. A file is moved to where no process writes and opened without
//! following a link, whatever the process put under its name; its size and digest are found out here. What the report
//! says of a file is compared with that, and whether the model is one is left to [`super::reader`], as with an upload.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat, renameat};

use super::job::{Failure, JobResult};
use super::protocol::OUT_FOLDER;
use crate::digest::{Digest, Hasher};
use crate::recipe::run::{MODEL_FILE, REPORT_FILE};
use crate::report::{EmittedFile, Report};
use crate::store::is_file_name;

/// A report has some kilobytes; a process that writes more than this is up to no good.
const MAX_REPORT: u64 = 16 << 20;

/// A file that a process left, where no process changes it any more.
#[derive(Debug)]
pub struct Taken {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Name, size and digest.
    pub file: EmittedFile,
}

/// Files that were looked over.
#[derive(Debug)]
pub struct Emitted {
    /// The report with its files.
    pub result: JobResult,
    /// Where each of `result.artifacts` lies.
    pub files: Vec<Taken>,
}

/// Looks over what a process that has ended left in the folder `room`, and moves it to the folder `kept`. Blocks.
pub fn look_over(room: &Path, kept: &Path) -> Result<Emitted, Failure> {
    let out = room.join(OUT_FOLDER);
    let taken = take(&out, REPORT_FILE, kept)?.ok_or_else(|| missing(REPORT_FILE))?;
    let report: Report = serde_json::from_slice(&read(&taken, MAX_REPORT)?)
        .map_err(|error| Failure::crashed(format!("the job's {REPORT_FILE} is no report: {error}")))?;
    let mut files = Vec::new();
    for file in &report.files {
        files.push(check(&out, file, kept)?);
    }
    if !files.iter().any(|taken| taken.file.name == MODEL_FILE) {
        return Err(Failure::crashed(format!("the job's report names no {MODEL_FILE}")));
    }
    files.push(taken);
    let artifacts = files.iter().map(|taken| taken.file.clone()).collect();
    Ok(Emitted { result: JobResult { report, artifacts }, files })
}

/// Moves the file `name` from `folder`, where a process writes or wrote, to the folder `kept`; `None` if there is none.
/// `name` is a plain name. Blocks.
pub fn take(folder: &Path, name: &str, kept: &Path) -> Result<Option<Taken>, Failure> {
    let unreadable = |error: io::Error| Failure::crashed(format!("the job's {name} cannot be read: {error}"));
    let folders = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = open(folder, folders, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let to = open(kept, folders, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    match renameat(&from, name, &to, name) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        moved => moved.map_err(|error| unreadable(error.into()))?,
    }
    // A pipe would let us wait, a link lead us elsewhere.
    let plain = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match openat(&to, name, plain, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(no_plain_file(name)),
        opened => File::from(opened.map_err(|error| unreadable(error.into()))?),
    };
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(no_plain_file(name));
    }
    let (digest, bytes) = hash(opened).map_err(unreadable)?;
    let file = EmittedFile { name: name.to_string(), bytes, digest: digest.to_string() };
    Ok(Some(Taken { path: kept.join(name), digest, file }))
}

fn check(out: &Path, file: &EmittedFile, kept: &Path) -> Result<Taken, Failure> {
    if !is_file_name(&file.name) || file.name == REPORT_FILE {
        return Err(Failure::crashed(format!("the job's report names a file {:?}", file.name)));
    }
    let taken = take(out, &file.name, kept)?.ok_or_else(|| missing(&file.name))?;
    if taken.file != *file {
        let EmittedFile { name, bytes, digest } = &taken.file;
        let message = format!(
            "the job's {name} has {bytes} bytes and digest {digest}, its report says {} and {}",
            file.bytes, file.digest
        );
        return Err(Failure::crashed(message));
    }
    Ok(taken)
}

fn hash(mut file: File) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut size, mut piece) = (Hasher::default(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&piece[..read]);
        size += read as u64;
    }
}

fn read(taken: &Taken, limit: u64) -> Result<Vec<u8>, Failure> {
    let name = &taken.file.name;
    if taken.file.bytes > limit {
        return Err(Failure::crashed(format!("the job's {name} is larger than {limit} bytes")));
    }
    fs::read(&taken.path).map_err(|error| Failure::crashed(format!("the job's {name} cannot be read: {error}")))
}

fn missing(name: &str) -> Failure {
    Failure::crashed(format!("the job left no {name}"))
}

fn no_plain_file(name: &str) -> Failure {
    Failure::crashed(format!("the job's {name} is no plain file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job's folder with a report that names these files.
    fn room(files: &[(&str, u64, Digest)]) -> tempfile::TempDir {
        let mut report: Report = serde_json::from_str(include_str!("testdata/report.json")).unwrap();
        report.files = files
            .iter()
            .map(|(name, bytes, digest)| EmittedFile {
                name: (*name).into(),
                bytes: *bytes,
                digest: digest.to_string(),
            })
            .collect();
        let room = empty();
        fs::write(room.path().join("out").join(REPORT_FILE), serde_json::to_vec(&report).unwrap()).unwrap();
        room
    }

    fn empty() -> tempfile::TempDir {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir(room.path().join(OUT_FOLDER)).unwrap();
        room
    }

    fn refused(room: &tempfile::TempDir) -> String {
        let kept = tempfile::tempdir().unwrap();
        let failure = look_over(room.path(), kept.path()).unwrap_err();
        assert_eq!(failure.reason, "JOB_CRASHED");
        failure.message
    }

    #[test]
    fn files_are_moved_to_where_no_process_writes() {
        let room = room(&[(MODEL_FILE, 5, Digest::of(b"model"))]);
        fs::write(room.path().join("out").join(MODEL_FILE), b"model").unwrap();
        let kept = tempfile::tempdir().unwrap();
        let emitted = look_over(room.path(), kept.path()).unwrap();
        let names: Vec<&str> = emitted.result.artifacts.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [MODEL_FILE, REPORT_FILE]);
        assert!(emitted.files.iter().all(|taken| taken.path.starts_with(kept.path()) && taken.path.is_file()));
        assert_eq!(fs::read_dir(room.path().join("out")).unwrap().count(), 0);
        assert!(take(room.path(), "none", kept.path()).unwrap().is_none());
    }

    #[test]
    fn a_report_that_is_missing_or_no_report_is_refused() {
        let empty = empty();
        assert!(refused(&empty).contains("left no report.json"));
        fs::write(empty.path().join("out").join(REPORT_FILE), "{}").unwrap();
        assert!(refused(&empty).contains("is no report"));
        let large = File::create(empty.path().join("out").join(REPORT_FILE)).unwrap();
        large.set_len(MAX_REPORT + 1).unwrap();
        assert!(refused(&empty).contains("larger than"));
    }

    #[test]
    fn a_file_that_is_not_what_the_report_says_is_refused() {
        let lying = room(&[(MODEL_FILE, 5, Digest::of(b"model"))]);
        fs::write(lying.path().join("out").join(MODEL_FILE), b"other").unwrap();
        assert!(refused(&lying).contains("its report says"));
        assert!(refused(&room(&[(MODEL_FILE, 5, Digest::of(b"model"))])).contains("left no model.safetensors"));
    }

    #[test]
    fn names_that_lead_elsewhere_links_pipes_and_folders_are_refused() {
        for name in ["../secret", "/etc/passwd", ".hidden", "", REPORT_FILE] {
            assert!(refused(&room(&[(name, 1, Digest::of(b"x"))])).contains("names"), "{name}");
        }
        let digest = Digest::of(b"model");
        let elsewhere = tempfile::tempdir().unwrap();
        let secret = elsewhere.path().join(MODEL_FILE);
        fs::write(&secret, b"model").unwrap();

        let linked = room(&[(MODEL_FILE, 5, digest)]);
        std::os::unix::fs::symlink(&secret, linked.path().join("out").join(MODEL_FILE)).unwrap();
        assert!(refused(&linked).contains("no plain file"));

        let piped = room(&[(MODEL_FILE, 5, digest)]);
        let pipe = piped.path().join("out").join(MODEL_FILE);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(refused(&piped).contains("no plain file"));

        let folder = room(&[(MODEL_FILE, 5, digest)]);
        fs::create_dir(folder.path().join("out").join(MODEL_FILE)).unwrap();
        assert!(refused(&folder).contains("no plain file"));

        // The whole folder is a link: what it leads to stays where it is.
        let moved = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), moved.path().join(OUT_FOLDER)).unwrap();
        fs::write(elsewhere.path().join(REPORT_FILE), "{}").unwrap();
        assert!(refused(&moved).contains("cannot be read"));
        assert!(secret.is_file() && elsewhere.path().join(REPORT_FILE).is_file());
    }

    #[test]
    fn a_report_without_a_model_is_refused() {
        assert!(refused(&room(&[])).contains("names no model.safetensors"));
    }
}
