//! Appends to an upload.
//!
//! A sync that failed is never tried again: the system marks the pages that it could not write as clean, so that a second
//! sync says that all is well although the bytes are gone (ATC '20, "Can Applications Recover from fsync Failures?").
//! After a failure nothing that this writer took since its last commit counts. The next writer opens the file anew, cuts it
//! off at the committed size, and the sender sends the rest again.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::{Chunk, Claim, Upload, UploadState, Uploads};
use crate::fault::{Bug, planted};
use crate::store::StoreError;

/// Bytes that may be lost, and must be sent again, when the server dies while writing.
const COMMIT_EVERY: u64 = 16 << 20;

/// Appends to an upload.
#[derive(Debug)]
pub struct UploadWriter {
    uploads: Uploads,
    upload: Upload,
    path: PathBuf,
    /// `None` after a failure.
    file: Option<File>,
    /// Bytes written; `upload.committed_size` of them are synced.
    offset: u64,
    _claim: Claim,
}

impl Uploads {
    /// Begins to write. There is one writer at a time.
    pub async fn writer(&self, tenant: &str, id: &str) -> Result<UploadWriter, StoreError> {
        let claim = self.claim(tenant, id)?;
        let mut upload = self.get(tenant, id).await?;
        if upload.state == UploadState::Complete {
            return Err(StoreError::UploadComplete { id: upload.id });
        }
        let path = self.path(tenant, id);
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(StoreError::file(folder))?;
        }
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path).await;
        let mut file = open.map_err(StoreError::file(&path))?;
        let length = file.metadata().await.map_err(StoreError::file(&path))?.len();
        if length < upload.committed_size {
            // The file is lost, as after a restored backup, which holds no files on their way in.
            tracing::warn!(upload = id, length, committed_size = upload.committed_size, "an upload begins again");
            self.set_committed(&upload, 0).await?;
            upload.committed_size = 0;
        }
        file.set_len(upload.committed_size).await.map_err(StoreError::file(&path))?;
        file.seek(SeekFrom::End(0)).await.map_err(StoreError::file(&path))?;
        let offset = upload.committed_size;
        Ok(UploadWriter { uploads: self.clone(), offset, upload, path, file: Some(file), _claim: claim })
    }
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
        if !planted(Bug::OffsetBeforeChecksum) {
            compare(chunk)?;
        }
        let Some(file) = &mut self.file else { return Err(StoreError::WriterBroken { id: self.upload.id.clone() }) };
        file.write_all(&chunk.data).await.map_err(StoreError::file(&self.path))?;
        // Without this the write goes on in the background, and its failure (a full disk) would show at a later chunk,
        // when this one counts already.
        file.flush().await.map_err(StoreError::file(&self.path))?;
        self.offset = end;
        if planted(Bug::OffsetBeforeChecksum) {
            compare(chunk)?;
        }
        if self.offset - self.upload.committed_size >= COMMIT_EVERY {
            self.commit().await?;
        }
        Ok(())
    }

    /// Makes all chunks taken durable and says how many bytes are stored.
    pub async fn commit(&mut self) -> Result<u64, StoreError> {
        if self.offset > self.upload.committed_size {
            if planted(Bug::EarlyAcknowledgement) {
                return Ok(self.acknowledge_early());
            }
            if let Err(error) = self.sync().await {
                self.file = None;
                self.offset = self.upload.committed_size;
                return Err(error);
            }
            self.uploads.set_committed(&self.upload, self.offset).await?;
            self.upload.committed_size = self.offset;
        }
        Ok(self.upload.committed_size)
    }

    async fn sync(&mut self) -> Result<(), StoreError> {
        let Some(file) = &mut self.file else { return Err(StoreError::WriterBroken { id: self.upload.id.clone() }) };
        if planted(Bug::SkippedSync) {
            return Ok(());
        }
        let broken = |source| StoreError::SyncFailed { id: self.upload.id.clone(), source };
        file.sync_all().await.map_err(broken)?;
        if self.upload.committed_size == 0 {
            sync_folders(&self.path).await.map_err(broken)?;
        }
        Ok(())
    }

    /// The planted bug: the sender hears of bytes that are neither synced nor in the row yet.
    #[allow(clippy::disallowed_methods, reason = "nobody waits for it: that is the bug")]
    fn acknowledge_early(&mut self) -> u64 {
        let (uploads, upload, offset) = (self.uploads.clone(), self.upload.clone(), self.offset);
        tokio::spawn(async move { uploads.set_committed(&upload, offset).await });
        self.upload.committed_size = offset;
        offset
    }
}

/// Compares a chunk with its checksum.
fn compare(chunk: &Chunk) -> Result<(), StoreError> {
    let actual = crc32c::crc32c(&chunk.data);
    if actual == chunk.crc32c {
        return Ok(());
    }
    Err(StoreError::ChunkChecksum { offset: chunk.offset, stated: chunk.crc32c, actual })
}

/// Makes the name of an upload's new file durable: that of the file in its folder, and that of the folder.
async fn sync_folders(file: &Path) -> std::io::Result<()> {
    for folder in file.ancestors().skip(1).take(2) {
        File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}

#[cfg(test)]
impl UploadWriter {
    /// Writes elsewhere from now on.
    pub(super) fn redirect(&mut self, file: File) {
        self.file = Some(file);
    }
}
