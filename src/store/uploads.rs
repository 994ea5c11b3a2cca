//! Files on their way in.
//!
//! An open upload is a file that grows by chunks. A chunk's checksum is compared before the offset moves; bytes are
//! synced to disk before the row's `committed_size` says so, and only that number is ever told to a client. Bytes beyond
//! it (a server died while writing) are cut off when writing goes on.
//!
//! ```text
//! create ──▶ OPEN ──write, write, …──▶ OPEN ──complete──▶ COMPLETE   (file hashed, blob stored, then the row)
//!                                       └─wrong digest──▶ OPEN, empty again
//! ```

use std::collections::HashSet;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sqlx::Row;
use sqlx::any::AnyRow;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::{Blobs, Database, Request, StoreError, new_id, stored_digest};
use crate::digest::Digest;

/// Bytes that may be lost, and must be sent again, when the server dies while writing.
const COMMIT_EVERY: u64 = 16 << 20;

/// A file on its way in, or arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// The name that models and data sets use for it.
    pub file_name: String,
    /// Declared size.
    pub size_bytes: u64,
    /// Declared digest.
    pub digest: Digest,
    /// Bytes that are safely stored.
    pub committed_size: u64,
    /// Where it stands.
    pub state: UploadState,
    /// When it was announced.
    pub create_ms: i64,
}

/// The states of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    /// Bytes are still awaited.
    Open,
    /// The bytes are a blob.
    Complete,
}

/// What a new upload is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpload {
    /// Whose it is.
    pub tenant: String,
    /// The name that models and data sets use for it; the caller has checked that it is a plain name.
    pub file_name: String,
    /// Declared size.
    pub size_bytes: u64,
    /// Declared digest.
    pub digest: Digest,
}

/// Some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where they belong.
    pub offset: u64,
    /// The sender's CRC-32C of them.
    pub crc32c: u32,
    /// The bytes.
    pub data: Bytes,
}

/// The open and complete uploads.
#[derive(Debug, Clone)]
pub struct Uploads {
    database: Database,
    blobs: Blobs,
    folder: PathBuf,
    /// Uploads, as `TENANT/ID`, that are being written or completed. This process has the folder to itself, so memory is the right place.
    busy: Arc<Mutex<HashSet<String>>>,
}

impl Uploads {
    pub(super) fn new(database: Database, blobs: Blobs, folder: PathBuf) -> Self {
        Self { database, blobs, folder, busy: Arc::default() }
    }

    /// Announces a file.
    pub async fn create(&self, new: &NewUpload, request: &Request, now: i64) -> Result<Upload, StoreError> {
        let id = new_id();
        let inserted = sqlx::query(
            "INSERT INTO uploads (tenant, id, request_id, request_digest, file_name, size_bytes, digest, committed_size,
                 state, revision, create_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 'OPEN', 1, $8)
             ON CONFLICT (tenant, request_id) WHERE request_id <> '' DO NOTHING",
        )
        .bind(&new.tenant)
        .bind(&id)
        .bind(&request.id)
        .bind(&request.digest)
        .bind(&new.file_name)
        .bind(new.size_bytes as i64)
        .bind(new.digest.to_string())
        .bind(now)
        .execute(self.database.pool())
        .await?;
        if inserted.rows_affected() == 1 {
            return self.get(&new.tenant, &id).await;
        }
        let first = sqlx::query("SELECT id, request_digest FROM uploads WHERE tenant = $1 AND request_id = $2")
            .bind(&new.tenant)
            .bind(&request.id)
            .fetch_one(self.database.pool())
            .await?;
        request.matches("upload", first.try_get(1)?)?;
        self.get(&new.tenant, first.try_get(0)?).await
    }

    /// Reads an upload's description.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Upload, StoreError> {
        sqlx::query(
            "SELECT tenant, id, file_name, size_bytes, digest, committed_size, state, create_ms
             FROM uploads WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant)
        .bind(id)
        .fetch_optional(self.database.pool())
        .await?
        .as_ref()
        .map(from_row)
        .ok_or_else(|| StoreError::NotFound { what: "upload", id: id.into() })?
    }

    /// Begins to write. There is one writer at a time.
    pub async fn writer(&self, tenant: &str, id: &str) -> Result<UploadWriter, StoreError> {
        let claim = self.claim(tenant, id)?;
        let upload = self.get(tenant, id).await?;
        if upload.state == UploadState::Complete {
            return Err(StoreError::UploadComplete { id: upload.id });
        }
        let path = self.path(&upload);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(StoreError::file(folder))?;
        }
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path).await;
        let mut file = open.map_err(StoreError::file(&path))?;
        file.set_len(upload.committed_size).await.map_err(StoreError::file(&path))?;
        file.seek(SeekFrom::End(0)).await.map_err(StoreError::file(&path))?;
        Ok(UploadWriter { uploads: self.clone(), offset: upload.committed_size, upload, path, file, _claim: claim })
    }

    /// Verifies size and digest and makes the file a blob. A complete upload is returned as it is.
    pub async fn complete(&self, tenant: &str, id: &str) -> Result<Upload, StoreError> {
        let _claim = self.claim(tenant, id)?;
        let upload = self.get(tenant, id).await?;
        let Upload { committed_size, size_bytes: declared, .. } = upload;
        if upload.state == UploadState::Complete {
            return Ok(upload);
        }
        if committed_size < declared {
            return Err(StoreError::UploadIncomplete { id: upload.id, committed_size, declared });
        }
        let path = self.path(&upload);
        if let Err(error) = self.blobs.put_file(&path, &upload.digest).await {
            if matches!(error, StoreError::DigestMismatch { .. }) {
                // These bytes are of no use; the sender may begin again.
                self.set(&upload, 0, UploadState::Open).await?;
            }
            return Err(error);
        }
        self.set(&upload, declared, UploadState::Complete).await?;
        if let Err(error) = tokio::fs::remove_file(&path).await {
            tracing::warn!(path = %path.display(), %error, "a complete upload's file could not be removed");
        }
        self.get(tenant, id).await
    }

    async fn set(&self, upload: &Upload, committed_size: u64, state: UploadState) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE uploads SET committed_size = $1, state = $2, revision = revision + 1
             WHERE tenant = $3 AND id = $4 AND state = 'OPEN'",
        )
        .bind(committed_size as i64)
        .bind(state.name())
        .bind(&upload.tenant)
        .bind(&upload.id)
        .execute(self.database.pool())
        .await?;
        Ok(())
    }

    fn path(&self, upload: &Upload) -> PathBuf {
        self.folder.join(&upload.tenant).join(&upload.id)
    }

    fn claim(&self, tenant: &str, id: &str) -> Result<Claim, StoreError> {
        let key = format!("{tenant}/{id}");
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(key.clone()) {
            return Err(StoreError::UploadBusy { id: id.into() });
        }
        Ok(Claim { busy: self.busy.clone(), key })
    }
}

impl UploadState {
    fn name(self) -> &'static str {
        match self {
            UploadState::Open => "OPEN",
            UploadState::Complete => "COMPLETE",
        }
    }
}

/// The right to write or complete an upload; ends when dropped.
#[derive(Debug)]
struct Claim {
    busy: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Appends to an upload.
#[derive(Debug)]
pub struct UploadWriter {
    uploads: Uploads,
    upload: Upload,
    path: PathBuf,
    file: File,
    /// Bytes written; `upload.committed_size` of them are synced.
    offset: u64,
    _claim: Claim,
}

impl UploadWriter {
    /// Takes the next chunk. After an error nothing of the chunk counts and no more chunks may follow; what was taken
    /// before can still be committed.
    pub async fn append(&mut self, chunk: &Chunk) -> Result<(), StoreError> {
        if chunk.offset != self.offset {
            return Err(StoreError::OffsetMismatch { offset: chunk.offset, committed_size: self.offset });
        }
        let end = self.offset + chunk.data.len() as u64;
        if end > self.upload.size_bytes {
            return Err(StoreError::TooManyBytes { end, declared: self.upload.size_bytes });
        }
        let actual = crc32c::crc32c(&chunk.data);
        if actual != chunk.crc32c {
            return Err(StoreError::ChunkChecksum { offset: chunk.offset, stated: chunk.crc32c, actual });
        }
        self.file.write_all(&chunk.data).await.map_err(StoreError::file(&self.path))?;
        // Without this the write goes on in the background, and its failure (a full disk) would show at a later chunk,
        // when this one counts already.
        self.file.flush().await.map_err(StoreError::file(&self.path))?;
        self.offset = end;
        if self.offset - self.upload.committed_size >= COMMIT_EVERY {
            self.commit().await?;
        }
        Ok(())
    }

    /// Makes all chunks taken durable and says how many bytes are stored.
    pub async fn commit(&mut self) -> Result<u64, StoreError> {
        if self.offset > self.upload.committed_size {
            self.file.sync_all().await.map_err(StoreError::file(&self.path))?;
            if self.upload.committed_size == 0 {
                sync_folders(&self.path).await?;
            }
            self.uploads.set(&self.upload, self.offset, UploadState::Open).await?;
            self.upload.committed_size = self.offset;
        }
        Ok(self.upload.committed_size)
    }
}

/// Makes the name of an upload's new file durable: that of the file in its folder, and that of the folder.
async fn sync_folders(file: &Path) -> Result<(), StoreError> {
    for folder in file.ancestors().skip(1).take(2) {
        let opened = File::open(folder).await.map_err(StoreError::file(folder))?;
        opened.sync_all().await.map_err(StoreError::file(folder))?;
    }
    Ok(())
}

fn from_row(row: &AnyRow) -> Result<Upload, StoreError> {
    let (digest, state): (&str, &str) = (row.try_get("digest")?, row.try_get("state")?);
    Ok(Upload {
        tenant: row.try_get("tenant")?,
        id: row.try_get("id")?,
        file_name: row.try_get("file_name")?,
        size_bytes: row.try_get::<i64, _>("size_bytes")? as u64,
        digest: stored_digest(digest)?,
        committed_size: row.try_get::<i64, _>("committed_size")? as u64,
        state: match state {
            "OPEN" => UploadState::Open,
            "COMPLETE" => UploadState::Complete,
            other => return Err(StoreError::Row { what: format!("upload state {other:?}") }),
        },
        create_ms: row.try_get("create_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const BYTES: &[u8] = b"0123456789";

    async fn announced(digest: Digest) -> (tempfile::TempDir, Store, Upload) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let new = NewUpload { tenant: "default".into(), file_name: "digits".into(), size_bytes: 10, digest };
        let upload = store.uploads.create(&new, &Request::new("", &0), 1).await.unwrap();
        (folder, store, upload)
    }

    fn chunk(offset: usize, end: usize) -> Chunk {
        let data = Bytes::from_static(&BYTES[offset..end]);
        Chunk { offset: offset as u64, crc32c: crc32c::crc32c(&data), data }
    }

    #[tokio::test]
    async fn bytes_of_a_writer_that_died_uncommitted_are_sent_again() {
        let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
        let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
        writer.append(&chunk(0, 4)).await.unwrap();
        assert_eq!(writer.commit().await.unwrap(), 4);
        writer.append(&chunk(4, 8)).await.unwrap();
        drop(writer);
        assert_eq!(store.uploads.get("default", &upload.id).await.unwrap().committed_size, 4);
        let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
        let error = writer.append(&chunk(8, 10)).await.unwrap_err();
        assert!(matches!(error, StoreError::OffsetMismatch { offset: 8, committed_size: 4 }));
        writer.append(&chunk(4, 10)).await.unwrap();
        writer.commit().await.unwrap();
        drop(writer);
        let complete = store.uploads.complete("default", &upload.id).await.unwrap();
        assert_eq!(complete.state, UploadState::Complete);
        assert_eq!(store.blobs.get(&Digest::of(BYTES)).await.unwrap(), BYTES);
        assert_eq!(store.uploads.complete("default", &upload.id).await.unwrap(), complete);
        let error = store.uploads.writer("default", &upload.id).await.unwrap_err();
        assert!(matches!(error, StoreError::UploadComplete { .. }));
    }

    #[tokio::test]
    async fn a_chunk_that_did_not_reach_the_disk_does_not_count() {
        let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
        let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
        writer.file = OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        assert!(matches!(writer.append(&chunk(0, 4)).await, Err(StoreError::DiskFull)));
        assert_eq!(writer.commit().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn one_writes_at_a_time_and_nobody_completes_meanwhile() {
        let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
        let writer = store.uploads.writer("default", &upload.id).await.unwrap();
        assert!(matches!(store.uploads.writer("default", &upload.id).await, Err(StoreError::UploadBusy { .. })));
        assert!(matches!(store.uploads.complete("default", &upload.id).await, Err(StoreError::UploadBusy { .. })));
        drop(writer);
        store.uploads.writer("default", &upload.id).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrong_digest_publishes_nothing_and_the_upload_begins_again() {
        let (_folder, store, upload) = announced(Digest::of(b"something else")).await;
        let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
        writer.append(&chunk(0, 10)).await.unwrap();
        writer.commit().await.unwrap();
        drop(writer);
        let error = store.uploads.complete("default", &upload.id).await.unwrap_err();
        assert!(matches!(error, StoreError::DigestMismatch { .. }));
        let after = store.uploads.get("default", &upload.id).await.unwrap();
        assert_eq!((after.committed_size, after.state), (0, UploadState::Open));
        assert!(store.blobs.get(&Digest::of(BYTES)).await.is_err());
    }

    #[tokio::test]
    async fn another_tenants_upload_does_not_exist() {
        let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
        assert!(matches!(store.uploads.get("other", &upload.id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.uploads.writer("other", &upload.id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.uploads.complete("other", &upload.id).await, Err(StoreError::NotFound { .. })));
    }
}
