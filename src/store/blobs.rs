//! Complete files, stored by their digest: `sha256/ab/cdef…`.
//!
//! A blob is never changed, so writing one twice is harmless and heals a damaged copy. Every way out of the store
//! compares the bytes with the digest. Writes are durable when they return: `object_store` syncs files and folders only
//! if it is asked to.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::StoreError;
use crate::digest::{Digest, Hasher};

/// Bytes that are written at once: large enough for a remote store's parts.
const PART_BYTES: usize = 8 << 20;
/// Bytes that are read at once: one chunk of a download.
const READ_BYTES: u64 = 1 << 20;

/// The blob store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// The store in a folder that exists.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let store = LocalFileSystem::new_with_prefix(folder).map_err(StoreError::Blobs)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Stores the bytes of a file, if they have this digest; otherwise nothing is stored.
    pub async fn put_file(&self, path: &Path, digest: &Digest) -> Result<(), StoreError> {
        let mut file = File::open(path).await.map_err(StoreError::file(path))?;
        let mut upload = self.store.put_multipart(&key(digest)).await.map_err(disk)?;
        let result = async {
            let mut hasher = Hasher::default();
            loop {
                let mut part = BytesMut::with_capacity(PART_BYTES);
                while part.len() < PART_BYTES && file.read_buf(&mut part).await.map_err(StoreError::file(path))? > 0 {}
                if part.is_empty() {
                    break;
                }
                hasher.update(&part);
                upload.put_part(part.freeze().into()).await.map_err(disk)?;
            }
            let actual = hasher.finish();
            if actual != *digest {
                return Err(StoreError::DigestMismatch { declared: *digest, actual });
            }
            upload.complete().await.map_err(disk)
        }
        .await;
        if result.is_err() {
            // The error that matters is the first one; a leftover staging file is only lost room.
            let _ = upload.abort().await;
        }
        result.map(|_| ())
    }

    /// Stores bytes that are in memory.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let digest = Digest::of(&bytes);
        self.store.put(&key(&digest), bytes.into()).await.map_err(disk)?;
        Ok(digest)
    }

    /// The size of a blob in bytes.
    pub async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        Ok(self.store.head(&key(digest)).await.map_err(|e| lost(digest, e))?.size)
    }

    /// Copies a blob into a file, which must not exist yet. If the bytes are not what was written, the file is removed.
    pub async fn get_to_file(&self, digest: &Digest, path: &Path) -> Result<(), StoreError> {
        let copy = async {
            let mut file = File::create_new(path).await.map_err(StoreError::file(path))?;
            let mut reader = Reader::open(self, digest).await?;
            while let Some(piece) = reader.next().await? {
                file.write_all(&piece).await.map_err(StoreError::file(path))?;
            }
            file.flush().await.map_err(StoreError::file(path))
        };
        let result = copy.await;
        if result.is_err() {
            let _ = tokio::fs::remove_file(path).await;
        }
        result
    }

    /// The whole blob in memory.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let mut reader = Reader::open(self, digest).await?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(reader.size as usize).map_err(|_| StoreError::OutOfMemory)?;
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// The bytes from `offset` on, at most `limit` (0: to the end), in pieces of 1 MiB with the place of each.
    ///
    /// The bytes before `offset` are read too, so that a stream to the end ends with [`StoreError::Corrupt`] if the blob
    /// is not what was written; a stream that ends before is not checked.
    pub async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        limit: u64,
    ) -> Result<impl Stream<Item = Result<(u64, Bytes), StoreError>> + use<>, StoreError> {
        let reader = Reader::open(self, digest).await?;
        if offset > reader.size {
            return Err(StoreError::ReadOffset { offset, size: reader.size });
        }
        let end = if limit == 0 { reader.size } else { reader.size.min(offset.saturating_add(limit)) };
        Ok(stream::try_unfold(reader, move |mut reader| async move {
            loop {
                let begin = reader.offset;
                if begin >= end && end < reader.size {
                    return Ok(None);
                }
                let Some(piece) = reader.next().await? else { return Ok(None) };
                let from = offset.saturating_sub(begin).min(piece.len() as u64);
                let to = (end - begin).min(piece.len() as u64);
                if from < to {
                    return Ok(Some(((begin + from, piece.slice(from as usize..to as usize)), reader)));
                }
            }
        }))
    }
}

/// Reads a blob from its beginning; the end is only reached if the bytes have their digest.
struct Reader {
    store: Arc<dyn ObjectStore>,
    digest: Digest,
    size: u64,
    offset: u64,
    hasher: Hasher,
}

impl Reader {
    async fn open(blobs: &Blobs, digest: &Digest) -> Result<Self, StoreError> {
        let size = blobs.size(digest).await?;
        Ok(Self { store: blobs.store.clone(), digest: *digest, size, offset: 0, hasher: Hasher::default() })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.offset == self.size {
            let actual = std::mem::take(&mut self.hasher).finish();
            if actual != self.digest {
                return Err(StoreError::Corrupt { digest: self.digest, problem: format!("they have digest {actual}") });
            }
            return Ok(None);
        }
        let range: Range<u64> = self.offset..self.size.min(self.offset + READ_BYTES);
        let piece = self.store.get_range(&key(&self.digest), range).await.map_err(|e| lost(&self.digest, e))?;
        self.hasher.update(&piece);
        self.offset += piece.len() as u64;
        Ok(Some(piece))
    }
}

fn key(digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::from(format!("sha256/{}/{}", &hex[..2], &hex[2..]))
}

/// A blob is only ever asked for because a row names it: that it is missing is a loss, not a caller's mistake.
fn lost(digest: &Digest, error: object_store::Error) -> StoreError {
    match error {
        object_store::Error::NotFound { .. } => {
            StoreError::Corrupt { digest: *digest, problem: "they are gone".into() }
        }
        other => disk(other),
    }
}

fn disk(error: object_store::Error) -> StoreError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return StoreError::DiskFull;
        }
        source = cause.source();
    }
    StoreError::Blobs(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use proptest::prelude::*;

    async fn stored(bytes: &[u8]) -> (tempfile::TempDir, Blobs, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::copy_from_slice(bytes)).await.unwrap();
        (folder, blobs, digest)
    }

    fn damage(folder: &tempfile::TempDir, digest: &Digest) {
        let hex = digest.hex();
        let path = folder.path().join("sha256").join(&hex[..2]).join(&hex[2..]);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_file_with_another_digest_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), b"what was sent").unwrap();
        let declared = Digest::of(b"what was declared");
        let error = blobs.put_file(source.path(), &declared).await.unwrap_err();
        assert!(matches!(error, StoreError::DigestMismatch { actual, .. } if actual == Digest::of(b"what was sent")));
        assert!(matches!(blobs.size(&declared).await, Err(StoreError::Corrupt { .. })));
        blobs.put_file(source.path(), &Digest::of(b"what was sent")).await.unwrap();
        assert_eq!(blobs.get(&Digest::of(b"what was sent")).await.unwrap(), "what was sent");
    }

    #[tokio::test]
    async fn a_damaged_blob_reaches_nobody_and_is_healed_by_writing_it_again() {
        let (folder, blobs, digest) = stored(b"weights").await;
        damage(&folder, &digest);
        let copy = folder.path().join("copy");
        assert!(matches!(blobs.get_to_file(&digest, &copy).await, Err(StoreError::Corrupt { .. })));
        assert!(!copy.exists());
        assert!(blobs.get(&digest).await.is_err());
        let stream = blobs.read(&digest, 3, 0).await.unwrap();
        assert!(stream.try_collect::<Vec<_>>().await.is_err());
        blobs.put(Bytes::from_static(b"weights")).await.unwrap();
        blobs.get_to_file(&digest, &copy).await.unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), b"weights");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_range_is_what_slicing_gives(size in 1usize..3_000_000, offset: prop::sample::Index, limit in 0u64..2_500_000) {
            let offset = offset.index(size + 1);
            let bytes: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let pieces: Vec<(u64, Bytes)> = runtime.block_on(async {
                let (_folder, blobs, digest) = stored(&bytes).await;
                blobs.read(&digest, offset as u64, limit).await.unwrap().try_collect().await.unwrap()
            });
            let mut next = offset as u64;
            for (place, piece) in &pieces {
                prop_assert_eq!(*place, next);
                next += piece.len() as u64;
            }
            let end = if limit == 0 { size } else { size.min(offset + limit as usize) };
            prop_assert_eq!(pieces.iter().flat_map(|(_, p)| p.to_vec()).collect::<Vec<_>>(), &bytes[offset..end]);
        }
    }
}
