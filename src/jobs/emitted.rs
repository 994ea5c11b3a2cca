//! Looks over what a job's process left, before anybody else sees it.
//!
//! The process is not trusted: it read files from outside. Its report is parsed, each file it names is hashed again, and
//! the model is read again as if it had been uploaded.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::job::{Failure, JobResult};
use crate::digest::{Digest, Hasher};
use crate::format;
use crate::recipe::run::{MODEL_FILE, REPORT_FILE};
use crate::report::{EmittedFile, Report};
use crate::store::is_file_name;

/// A report has some kilobytes; a process that writes more than this is up to no good.
const MAX_REPORT: u64 = 16 << 20;

/// Files that were looked over.
#[derive(Debug)]
pub struct Emitted {
    /// The report with its files.
    pub result: JobResult,
    /// Where each of `result.artifacts` lies, with its digest.
    pub files: Vec<(PathBuf, Digest)>,
}

/// Looks over the folder that a process wrote. Blocks.
pub fn look_over(folder: &Path) -> Result<Emitted, Failure> {
    let path = folder.join(REPORT_FILE);
    let bytes = read(&path, MAX_REPORT)?;
    let report: Report = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::crashed(format!("the job's {REPORT_FILE} is no report: {error}")))?;
    let mut artifacts = Vec::new();
    let mut files = Vec::new();
    for file in &report.files {
        let (path, digest) = check(folder, file)?;
        artifacts.push(file.clone());
        files.push((path, digest));
    }
    if !artifacts.iter().any(|file| file.name == MODEL_FILE) {
        return Err(Failure::crashed(format!("the job's report names no {MODEL_FILE}")));
    }
    let model = Bytes::from(read(&folder.join(MODEL_FILE), u64::MAX)?);
    format::open_model(model, None)
        .map_err(|error| Failure::crashed(format!("the job's {MODEL_FILE} cannot be read: {error}")))?;
    let digest = Digest::of(&bytes);
    artifacts.push(EmittedFile { name: REPORT_FILE.into(), bytes: bytes.len() as u64, digest: digest.to_string() });
    files.push((path, digest));
    Ok(Emitted { result: JobResult { report, artifacts }, files })
}

fn check(folder: &Path, file: &EmittedFile) -> Result<(PathBuf, Digest), Failure> {
    if !is_file_name(&file.name) || file.name == REPORT_FILE {
        return Err(Failure::crashed(format!("the job's report names a file {:?}", file.name)));
    }
    let path = folder.join(&file.name);
    let mut reader = open(&path)?;
    let (mut hasher, mut size, mut piece) = (Hasher::default(), 0, vec![0; 1 << 20]);
    loop {
        let read = reader.read(&mut piece).map_err(|error| unreadable(&path, &error))?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        size += read as u64;
    }
    let digest = hasher.finish();
    if digest.to_string() != file.digest || size != file.bytes {
        let EmittedFile { name, bytes, digest: stated } = file;
        return Err(Failure::crashed(format!(
            "the job's {name} has {size} bytes and digest {digest}, its report says {bytes} and {stated}"
        )));
    }
    Ok((path, digest))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut reader = open(path)?.take(limit.saturating_add(1));
    reader.read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::crashed(format!("the job's {} is larger than {limit} bytes", name(path))));
    }
    Ok(bytes)
}

/// Opens a plain file; a link could name any file of the server.
fn open(path: &Path) -> Result<fs::File, Failure> {
    let metadata = fs::symlink_metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::crashed(format!("the job's {} is no plain file", name(path))));
    }
    fs::File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::crashed(format!("the job's {} cannot be read: {error}", name(path)))
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a report that names these files.
    fn folder(files: &[(&str, u64, Digest)]) -> tempfile::TempDir {
        let mut report: Report = serde_json::from_str(include_str!("testdata/report.json")).unwrap();
        report.files = files
            .iter()
            .map(|(name, bytes, digest)| EmittedFile {
                name: (*name).into(),
                bytes: *bytes,
                digest: digest.to_string(),
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(REPORT_FILE), serde_json::to_vec(&report).unwrap()).unwrap();
        folder
    }

    fn refused(folder: &tempfile::TempDir) -> String {
        let failure = look_over(folder.path()).unwrap_err();
        assert_eq!(failure.reason, "JOB_CRASHED");
        failure.message
    }

    #[test]
    fn a_report_that_is_missing_or_no_report_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(refused(&empty).contains("report.json cannot be read"));
        fs::write(empty.path().join(REPORT_FILE), "{}").unwrap();
        assert!(refused(&empty).contains("is no report"));
    }

    #[test]
    fn a_file_that_is_not_what_the_report_says_is_refused() {
        let lying = folder(&[(MODEL_FILE, 5, Digest::of(b"model"))]);
        fs::write(lying.path().join(MODEL_FILE), b"other").unwrap();
        assert!(refused(&lying).contains("its report says"));
        let garbage = folder(&[(MODEL_FILE, 5, Digest::of(b"model"))]);
        fs::write(garbage.path().join(MODEL_FILE), b"model").unwrap();
        assert!(refused(&garbage).contains("model.safetensors cannot be read"));
    }

    #[test]
    fn names_that_lead_elsewhere_and_links_are_refused() {
        for name in ["../secret", "/etc/passwd", ".hidden", "", REPORT_FILE] {
            assert!(refused(&folder(&[(name, 1, Digest::of(b"x"))])).contains("names"), "{name}");
        }
        let linked = folder(&[(MODEL_FILE, 5, Digest::of(b"model"))]);
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        fs::write(elsewhere.path(), b"model").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), linked.path().join(MODEL_FILE)).unwrap();
        assert!(refused(&linked).contains("no plain file"));
    }

    #[test]
    fn a_report_without_a_model_is_refused() {
        assert!(refused(&folder(&[])).contains("names no model.safetensors"));
    }
}
