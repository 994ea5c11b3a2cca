//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;
use crate::error::{Classify, Kind};

/// What can go wrong in the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such thing, or it belongs to another tenant.
    #[error("{what} '{id}' does not exist")]
    NotFound {
        /// `upload`, `model`, `dataset`, `job` or `artifact`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// Jobs that wait or run need it.
    #[error("{what} '{id}' is used by jobs that have not ended: {}", jobs.join(", "))]
    InUse {
        /// `model` or `dataset`.
        what: &'static str,
        /// Its id.
        id: String,
        /// Ids of the jobs, the first of them.
        jobs: Vec<String>,
    },
    /// It is no longer as the caller saw it.
    #[error("{what} '{id}' has changed, etag {etag} is not its own any more")]
    EtagMismatch {
        /// What was to be deleted.
        what: &'static str,
        /// Its id.
        id: String,
        /// What the caller has.
        etag: String,
    },
    /// A model or a data set that jobs cannot use (yet).
    #[error("{what} '{id}' is {state}, jobs use what is READY")]
    NotReady {
        /// `model` or `dataset`.
        what: &'static str,
        /// Its id.
        id: String,
        /// Where it stands.
        state: &'static str,
    },
    /// The request_id came before, with other content.
    #[error("request_id '{request_id}' was used before for another {what}")]
    RequestIdReused {
        /// What was to be made.
        what: &'static str,
        /// The key.
        request_id: String,
    },
    /// A chunk that does not follow the bytes that are there.
    #[error("the chunk begins at {offset}, but {committed_size} bytes are stored")]
    OffsetMismatch {
        /// Where the chunk says it belongs.
        offset: u64,
        /// Where it would have to begin.
        committed_size: u64,
    },
    /// A chunk whose bytes are not what was sent.
    #[error("the chunk at {offset} has CRC-32C {actual:#010x}, the sender says {stated:#010x}")]
    ChunkChecksum {
        /// Where the chunk belongs.
        offset: u64,
        /// What the sender says.
        stated: u32,
        /// What the bytes have.
        actual: u32,
    },
    /// More bytes than were declared.
    #[error("the chunk ends at {end}, but the file was declared to have {declared} bytes")]
    TooManyBytes {
        /// Where the chunk would end.
        end: u64,
        /// The declared size.
        declared: u64,
    },
    /// Bytes for a complete upload.
    #[error("upload '{id}' is complete")]
    UploadComplete {
        /// The upload.
        id: String,
    },
    /// Bytes are missing.
    #[error("upload '{id}' has {committed_size} of {declared} bytes")]
    UploadIncomplete {
        /// The upload.
        id: String,
        /// Bytes that are stored.
        committed_size: u64,
        /// Bytes that were declared.
        declared: u64,
    },
    /// The tenant has as many of something as it may.
    #[error("this tenant has {limit} {what}s, which is as many as it may have")]
    TooMany {
        /// `open upload`, `upload`, `model` or `dataset`.
        what: &'static str,
        /// How many it may have.
        limit: u32,
    },
    /// The tenant has no room for a file.
    #[error(
        "this tenant's uploads have {bytes} bytes, with {asked} more they would have more than the {limit} they may"
    )]
    TooManyTenantBytes {
        /// What it has: declared by open uploads, stored in complete ones.
        bytes: u64,
        /// What it asks for.
        asked: u64,
        /// What it may have.
        limit: u64,
    },
    /// Bytes could not be made durable.
    #[error("upload '{id}' could not be written to the disk; go on from its committed_size")]
    SyncFailed {
        /// The upload.
        id: String,
        /// What the system says.
        source: io::Error,
    },
    /// A writer that has failed before.
    #[error("upload '{id}' could not be written before; go on from its committed_size with another call")]
    WriterBroken {
        /// The upload.
        id: String,
    },
    /// Somebody else is at it.
    #[error("upload '{id}' is being written or completed by another call")]
    UploadBusy {
        /// The upload.
        id: String,
    },
    /// Bytes that are not what was declared.
    #[error("the bytes have digest {actual}, declared was {declared}")]
    DigestMismatch {
        /// What was declared.
        declared: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// Stored bytes have changed or are gone.
    #[error("the stored bytes of {digest} are not what was written: {problem}")]
    Corrupt {
        /// What was written.
        digest: Digest,
        /// What was found.
        problem: String,
    },
    /// A read beyond the end.
    #[error("read_offset {offset} is beyond the end, the file has {size} bytes")]
    ReadOffset {
        /// Where the read was to begin.
        offset: u64,
        /// The file's size.
        size: u64,
    },
    /// No room on the disk.
    #[error("the server's disk is full")]
    DiskFull,
    /// Less memory than a file needs.
    #[error("the server has too little memory for this file")]
    OutOfMemory,
    /// The data folder cannot be made or used.
    #[error("the data folder cannot be used: {}: {source}", path.display())]
    Folder {
        /// The folder, or what cannot be used in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A data folder without a database.
    #[error("{} is no database: this is no data folder of a server, or it is damaged", path.display())]
    NoDatabase {
        /// Where it should be.
        path: PathBuf,
    },
    /// A backup into a data folder, that which it is of or another.
    #[error("{} is a data folder or lies in one: a backup needs a folder elsewhere", path.display())]
    BackupWithin {
        /// The folder.
        path: PathBuf,
    },
    /// Another server has the data folder.
    #[error("the data folder {} is in use by another niwaki server", path.display())]
    FolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// A SQLite with known corruption bugs.
    #[error("SQLite {found} is too old, {needed} or later is needed")]
    SqliteTooOld {
        /// What was found.
        found: String,
        /// What is needed.
        needed: &'static str,
    },
    /// A row that this version cannot read.
    #[error("the database holds what this version cannot read: {what}")]
    Row {
        /// Which column and why.
        what: String,
    },
    /// The machine's storage failed: a disk's error, too many open files. What is known of it is in the log.
    #[error("the server's storage did not do what it should; try again")]
    Storage,
    /// The database failed.
    #[error("database: {0}")]
    Database(sqlx::Error),
    /// The tables could not be made.
    #[error("database migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The blob store failed.
    #[error("blob store: {0}")]
    Blobs(object_store::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    /// Makes an error of an I/O error; to be used with `map_err`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| of_machine(&source).unwrap_or_else(|| StoreError::File { path: path.to_path_buf(), source })
    }

    /// A folder of the server's own could not be made below another of its own, for whatever reason.
    pub(crate) fn own_folder(error: io::Error) -> Self {
        of_machine(&error).unwrap_or_else(|| storage_failed(&error))
    }

    /// An error of the blob store, by what is at its bottom.
    pub(super) fn blobs(error: object_store::Error) -> Self {
        let first: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut causes = std::iter::successors(first, |cause| cause.source());
        let of_machine = causes.find_map(|cause| of_machine(cause.downcast_ref::<io::Error>()?));
        of_machine.unwrap_or(StoreError::Blobs(error))
    }

    /// The same for the data folder, which whoever starts the server has chosen.
    pub(crate) fn folder(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| match StoreError::file(path)(source) {
            StoreError::File { path, source } => StoreError::Folder { path, source },
            other => other,
        }
    }
}

/// What an error says of the machine, if it says something of that and nothing of the program.
fn of_machine(error: &io::Error) -> Option<StoreError> {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return Some(StoreError::DiskFull),
        io::ErrorKind::OutOfMemory => return Some(StoreError::OutOfMemory),
        _ => {}
    }
    let failed = [Errno::IO, Errno::ROFS, Errno::MFILE, Errno::NFILE, Errno::STALE, Errno::NODEV, Errno::NXIO];
    let number = Errno::from_raw_os_error(error.raw_os_error()?);
    failed.contains(&number).then(|| storage_failed(error))
}

fn storage_failed(error: &dyn std::error::Error) -> StoreError {
    tracing::error!(%error, "the storage failed");
    StoreError::Storage
}

/// SQLite's primary result codes, <https://sqlite.org/rescode.html>. Those of PostgreSQL have five characters.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse().ok().filter(|code| *code < 10_000).map(|code: u32| code & 0xff)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        const BUSY: u32 = 5;
        const READONLY: u32 = 8;
        const IOERR: u32 = 10;
        const FULL: u32 = 13;
        const CANTOPEN: u32 = 14;
        match sqlite_code(&error) {
            Some(FULL) => StoreError::DiskFull,
            Some(BUSY | READONLY | IOERR | CANTOPEN) => storage_failed(&error),
            _ => StoreError::Database(error),
        }
    }
}

impl Classify for StoreError {
    fn kind(&self) -> Kind {
        match self {
            StoreError::NotFound { .. } => Kind::NotFound,
            StoreError::RequestIdReused { .. } => Kind::AlreadyExists,
            StoreError::OffsetMismatch { .. }
            | StoreError::ChunkChecksum { .. }
            | StoreError::UploadBusy { .. }
            | StoreError::EtagMismatch { .. } => Kind::Aborted,
            StoreError::TooManyBytes { .. } | StoreError::ReadOffset { .. } => Kind::OutOfRange,
            StoreError::InUse { .. }
            | StoreError::NotReady { .. }
            | StoreError::UploadComplete { .. }
            | StoreError::UploadIncomplete { .. }
            | StoreError::FolderInUse { .. }
            | StoreError::SqliteTooOld { .. } => Kind::FailedPrecondition,
            StoreError::DigestMismatch { .. }
            | StoreError::Folder { .. }
            | StoreError::NoDatabase { .. }
            | StoreError::BackupWithin { .. } => Kind::InvalidArgument,
            StoreError::Corrupt { .. } => Kind::DataLoss,
            StoreError::TooMany { .. }
            | StoreError::TooManyTenantBytes { .. }
            | StoreError::DiskFull
            | StoreError::OutOfMemory => Kind::ResourceExhausted,
            StoreError::Storage | StoreError::SyncFailed { .. } | StoreError::WriterBroken { .. } => Kind::Unavailable,
            StoreError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => Kind::Unavailable,
            StoreError::Row { .. }
            | StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::Blobs(_)
            | StoreError::File { .. } => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            StoreError::NotFound { .. } => "NOT_FOUND",
            StoreError::InUse { .. } => "IN_USE",
            StoreError::EtagMismatch { .. } => "ETAG_MISMATCH",
            StoreError::NotReady { .. } => "NOT_READY",
            StoreError::RequestIdReused { .. } => "REQUEST_ID_REUSED",
            StoreError::OffsetMismatch { .. } => "OFFSET_MISMATCH",
            StoreError::ChunkChecksum { .. } => "CHUNK_CHECKSUM",
            StoreError::TooManyBytes { .. } => "TOO_MANY_BYTES",
            StoreError::UploadComplete { .. } => "UPLOAD_COMPLETE",
            StoreError::UploadIncomplete { .. } => "UPLOAD_INCOMPLETE",
            StoreError::TooMany { what: "model", .. } => "TOO_MANY_MODELS",
            StoreError::TooMany { what: "dataset", .. } => "TOO_MANY_DATASETS",
            StoreError::TooMany { .. } => "TOO_MANY_UPLOADS",
            StoreError::TooManyTenantBytes { .. } => "TENANT_BYTES",
            StoreError::SyncFailed { .. } => "SYNC_FAILED",
            StoreError::WriterBroken { .. } => "WRITER_BROKEN",
            StoreError::UploadBusy { .. } => "UPLOAD_BUSY",
            StoreError::DigestMismatch { .. } => "DIGEST_MISMATCH",
            StoreError::Corrupt { .. } => "STORED_BYTES_CORRUPT",
            StoreError::ReadOffset { .. } => "READ_OFFSET",
            StoreError::NoDatabase { .. } => "NO_DATABASE",
            StoreError::BackupWithin { .. } => "BACKUP_FOLDER",
            StoreError::DiskFull => "DISK_FULL",
            StoreError::Storage => "STORAGE",
            StoreError::OutOfMemory => "OUT_OF_MEMORY",
            StoreError::Folder { .. } => "DATA_FOLDER",
            StoreError::FolderInUse { .. } => "FOLDER_IN_USE",
            StoreError::SqliteTooOld { .. } => "SQLITE_TOO_OLD",
            StoreError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => "DATABASE_UNAVAILABLE",
            StoreError::Row { .. }
            | StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::Blobs(_)
            | StoreError::File { .. } => "INTERNAL",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            StoreError::OffsetMismatch { committed_size, .. } | StoreError::UploadIncomplete { committed_size, .. } => {
                vec![("committed_size", committed_size.to_string())]
            }
            StoreError::TooMany { limit, .. } => vec![("limit", limit.to_string())],
            StoreError::TooManyTenantBytes { bytes, limit, .. } => {
                vec![("bytes", bytes.to_string()), ("limit", limit.to_string())]
            }
            StoreError::InUse { jobs, .. } => vec![("jobs", jobs.join(","))],
            StoreError::ChunkChecksum { offset, .. } => vec![("committed_size", offset.to_string())],
            StoreError::DigestMismatch { declared, actual } => {
                vec![("declared", declared.to_string()), ("actual", actual.to_string())]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_told_from_defects_of_ours() {
        let of = |error: rustix::io::Errno| StoreError::file(Path::new("/data/secret"))(error.into());
        assert!(matches!(of(rustix::io::Errno::NOSPC), StoreError::DiskFull));
        for failed in [rustix::io::Errno::IO, rustix::io::Errno::MFILE, rustix::io::Errno::ROFS] {
            let error = of(failed);
            assert_eq!((error.kind(), error.reason()), (Kind::Unavailable, "STORAGE"));
            assert!(!error.to_string().contains("/data"), "{error}");
        }
        assert_eq!(of(rustix::io::Errno::NOENT).kind(), Kind::Internal);
        let below =
            object_store::Error::Generic { store: "local", source: Box::new(io::Error::from(rustix::io::Errno::IO)) };
        assert!(matches!(StoreError::blobs(below), StoreError::Storage));
    }

    /// The pages that a database may have are its disk: a transaction that does not fit fails, and the next one finds a
    /// connection that is not in the middle of anything.
    #[tokio::test]
    async fn a_database_without_room_says_so_and_works_on_when_there_is_some() {
        let folder = tempfile::tempdir().unwrap();
        let database = crate::store::Database::open_file(&folder.path().join("full.sqlite")).await.unwrap();
        let fill = async || {
            let mut tx = database.begin().await?;
            sqlx::query("PRAGMA max_page_count = 1").execute(&mut *tx).await?;
            sqlx::query("CREATE TABLE large AS SELECT randomblob(1000000) AS bytes").execute(&mut *tx).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        };
        for _ in 0..10 {
            let error = fill().await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "DISK_FULL"), "{error:?}");
        }
        let mut tx = database.begin().await.unwrap();
        sqlx::query("SELECT 1").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}
