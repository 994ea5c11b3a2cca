//! What the service keeps: bytes by their digest, and a database of what they are.
//!
//! ```text
//! data folder
//! ├── lock             held while a server runs
//! ├── niwaki.sqlite    uploads, models, data sets, jobs: one database, so that one transaction sees them all
//! ├── blobs/sha256/ab/cdef…   complete files, never changed
//! ├── uploads/TENANT/ID       files on their way in
//! └── work/            a folder for each job at work
//! ```
//!
//! A file is published in two steps: its bytes first, then the row that names them. A crash between the two leaves bytes
//! that nobody names, never a name without bytes.

mod blobs;
mod catalogue;
mod check;
mod database;
mod error;
mod filter;
mod garbage;
mod holds;
mod request;
mod uploads;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::settings;

pub use blobs::Blobs;
pub use catalogue::{Begun, Catalogue, DatasetDetail, Detail, Entry, EntryState, FileRef, ModelDetail, NewEntry};
pub use check::{Backup, backup};
pub use database::Database;
pub use error::StoreError;
pub use filter::{Condition, Filter, Operator, Value};
pub use garbage::{Collected, Unnamed, before};
pub use holds::Hold;
pub use request::Request;
pub use uploads::{Chunk, NewUpload, Upload, UploadState, UploadWriter, Uploads};

/// The parts of the store.
#[derive(Debug, Clone)]
pub struct Store {
    /// The database, for the job queue.
    pub database: Database,
    /// Complete files.
    pub blobs: Blobs,
    /// Files on their way in.
    pub uploads: Uploads,
    /// Models and data sets.
    pub catalogue: Catalogue,
    /// Where jobs work.
    pub work: PathBuf,
    lock: Arc<Lock>,
}

/// The right to a data folder.
#[derive(Debug)]
struct Lock(File);

/// A page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many.
    pub size: u32,
    /// Only those older than this id.
    pub before: Option<String>,
    /// Only those that meet these conditions.
    pub filter: Filter,
}

impl Store {
    /// Opens the data folder, or makes it.
    pub async fn open(data: &Path) -> Result<Self, StoreError> {
        let (blobs, uploads, work) = (data.join("blobs"), data.join("uploads"), data.join("work"));
        make_folder(data).map_err(StoreError::folder(data))?;
        let lock = lock(data)?;
        if work.exists() {
            // What is left of jobs that were at work when the server died; they will be tried again elsewhere.
            remove_work(&work, data).map_err(StoreError::folder(&work))?;
        }
        for folder in [&blobs, &uploads, &work] {
            make_folder(folder).map_err(StoreError::folder(folder))?;
        }
        let database = Database::open_file(&data.join("niwaki.sqlite")).await?;
        let blobs = Blobs::open(&blobs)?;
        Ok(Self {
            uploads: Uploads::new(database.clone(), blobs.clone(), uploads, settings::Uploads::default()),
            catalogue: Catalogue::new(database.clone()),
            database,
            blobs,
            work,
            lock: Arc::new(lock),
        })
    }

    /// The same store with other limits than the usual ones.
    pub fn limited(self, uploads: settings::Uploads) -> Self {
        Self { catalogue: self.catalogue.limited(uploads.clone()), uploads: self.uploads.limited(uploads), ..self }
    }

    /// Closes the database and lets go of the folder, whoever still has a part of the store: nothing works there any more.
    pub async fn close(&self) {
        self.database.pool().close().await;
        self.lock.release();
    }
}

impl Lock {
    /// Closing the file would not do: a process that is just being started may have a copy of it for a moment.
    fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the data folder could not be let go of");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

/// Makes a folder, and those it lies in, for good: a new name is safe once the folder that holds it was synced.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(parent)?;
    // What is in it is nobody's business but the server's.
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

/// Removes the folder of jobs, or puts it aside where that cannot be: a process that was taken over must not be able to
/// keep the next server from starting.
fn remove_work(work: &Path, data: &Path) -> io::Result<()> {
    let Err(error) = fs::remove_dir_all(work) else { return Ok(()) };
    let aside = data.join(format!("work-{}", new_id()));
    fs::rename(work, &aside)?;
    tracing::warn!(%error, aside = %aside.display(), "what jobs have left cannot be removed, please do");
    Ok(())
}

/// Two servers on one folder would write the same uploads.
fn lock(data: &Path) -> Result<Lock, StoreError> {
    let path = data.join("lock");
    let file = File::create(&path).map_err(StoreError::folder(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::FolderInUse { path: data.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}

/// Removes a file; says whether there was one.
pub(crate) async fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::file(path)(error)),
    }
}

/// The digest that a row holds.
pub(crate) fn stored_digest(text: &str) -> Result<Digest, StoreError> {
    Digest::parse(text).ok_or_else(|| StoreError::Row { what: format!("digest {text:?}") })
}

/// Compares the etag that a caller has with the revision of what there is; an empty one agrees with everything.
pub(crate) fn check_etag(what: &'static str, id: &str, etag: &str, revision: u64) -> Result<(), StoreError> {
    if etag.is_empty() || etag == self::etag(revision) {
        return Ok(());
    }
    Err(StoreError::EtagMismatch { what, id: id.into(), etag: etag.into() })
}

/// What names a revision.
pub fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// Whether a name may become a file's: 1 to 255 bytes of letters, digits, `.`, `_` and `-`, not beginning with a dot. Such
/// a name leads out of no folder and hides nothing.
pub fn is_file_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Whether a name may be that of a data set's file: at most 255 bytes, and file names with `/` between them where it lies in
/// folders, at most 8 of them.
pub fn is_nested_name(name: &str) -> bool {
    name.len() <= 255 && name.split('/').count() <= 8 && name.split('/').all(is_file_name)
}

/// A new id. Ids grow with time, so that the order of ids is the order of making.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The time, in milliseconds since 1970, by a clock that never jumps: the machine's is read once, and from then on only the
/// time that has passed counts. Leases and time limits would otherwise run out, or never, when somebody sets the clock.
pub fn now_ms() -> i64 {
    static START: OnceLock<(i64, Instant)> = OnceLock::new();
    let (start, since) = START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        (now, Instant::now())
    });
    start + since.elapsed().as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Classify, Kind};

    #[tokio::test]
    async fn a_data_folder_that_cannot_be_is_the_users_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = Store::open(&path).await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (Kind::InvalidArgument, "DATA_FOLDER"));
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_new_data_folder_is_closed_to_other_users() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Store::open(&data).await.unwrap();
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_folder_serves_one_server_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).await.unwrap();
        assert!(matches!(Store::open(folder.path()).await, Err(StoreError::FolderInUse { .. })));
        drop(first);
        let second = Store::open(folder.path()).await.unwrap();
        // A part that outlives its server does not keep the next one out.
        second.close().await;
        Store::open(folder.path()).await.unwrap();
        assert!(second.uploads.get("default", "any").await.is_err());
    }
}
