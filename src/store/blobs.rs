//! Complete files, stored by their digest: `sha256/ab/cdef…`.
//!
//! A blob is never changed, so writing one twice is harmless and heals a damaged copy. Every way out of the store
//! compares the bytes with the digest. Writes are durable when they return: `object_store` syncs files and folders only
//! if it is asked to. Whoever writes or reads a blob holds it, so that the collector leaves it alone.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::StoreError;
use super::holds::{Hold, Holds};
use crate::digest::{Digest, Hasher};

/// Bytes that are written at once: large enough for a remote store's parts.
const PART_BYTES: usize = 8 << 20;
/// Bytes that are read at once: one chunk of a download.
const READ_BYTES: u64 = 1 << 20;

/// The blob store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
    holds: Holds,
    /// Those that nobody will miss, although they had a name a moment ago.
    pub(super) spent: Arc<std::sync::Mutex<HashSet<Digest>>>,
    /// Held while blobs are removed, and by whoever wants none removed for a while.
    pub(super) removing: Arc<Mutex<()>>,
}

/// A file of the blob store that is no blob: `object_store` writes `NAME#1` and renames it.
const STAGING: char = '#';

impl Blobs {
    /// The store in a folder that exists.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let store = LocalFileSystem::new_with_prefix(folder).map_err(StoreError::Blobs)?.with_fsync(true);
        let (holds, spent, removing) = Default::default();
        Ok(Self { store: Arc::new(store), folder: folder.to_path_buf(), holds, spent, removing })
    }

    /// Stores the bytes of a file, if they have this digest; otherwise nothing is stored. They stay while they are held:
    /// until a row names them.
    pub async fn put_file(&self, path: &Path, digest: &Digest) -> Result<Hold, StoreError> {
        let hold = self.holds.hold(digest).await;
        let mut file = File::open(path).await.map_err(StoreError::file(path))?;
        let mut upload = self.store.put_multipart(&key(digest)).await.map_err(StoreError::blobs)?;
        let result = async {
            let mut hasher = Hasher::default();
            loop {
                let mut part = BytesMut::with_capacity(PART_BYTES);
                while part.len() < PART_BYTES && file.read_buf(&mut part).await.map_err(StoreError::file(path))? > 0 {}
                if part.is_empty() {
                    break;
                }
                hasher.update(&part);
                upload.put_part(part.freeze().into()).await.map_err(StoreError::blobs)?;
            }
            let actual = hasher.finish();
            if actual != *digest {
                return Err(StoreError::DigestMismatch { declared: *digest, actual });
            }
            upload.complete().await.map_err(StoreError::blobs)
        }
        .await;
        if result.is_err() {
            // The error that matters is the first one; a leftover staging file is only lost room.
            let _ = upload.abort().await;
        }
        result.map(|_| hold)
    }

    /// The size of a blob in bytes.
    pub async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        Ok(self.store.head(&key(digest)).await.map_err(|e| lost(digest, e))?.size)
    }

    /// Whether a blob of this size is there, as far as that shows without reading it; it stays while it is held.
    pub async fn find(&self, digest: &Digest, size: u64) -> Option<Hold> {
        let hold = self.holds.hold(digest).await;
        self.size(digest).await.is_ok_and(|found| found == size).then_some(hold)
    }

    /// Reads all of a blob and compares it with its digest.
    pub async fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut reader = Reader::open(self, digest).await?;
        while reader.next().await?.is_some() {}
        Ok(())
    }

    /// Says that a blob which has just lost a name is of no use to anybody who copied the name before: unless it has another,
    /// the next collections remove it without a time of grace.
    pub fn spend(&self, digest: Digest) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Where a blob lies.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(key(digest).as_ref())
    }

    /// Begins a collection: what is held from now on is not removed. To be called before the names of blobs are read. Returns
    /// what was held at any moment since the last one began.
    pub(super) fn begin_collection(&self) -> HashSet<Digest> {
        self.holds.begin()
    }

    /// All blobs, and the digests of those that were being written when a process died. What is neither is left out: it is
    /// not ours.
    pub(super) async fn list(&self) -> Result<Listed, StoreError> {
        let folder = self.folder.join("sha256");
        let listed = tokio::task::spawn_blocking(move || {
            let mut listed = Listed::default();
            for_each_file(&folder, |begin, name, path, size| {
                let (rest, staged) = name.split_once(STAGING).map_or((name, false), |(rest, _)| (rest, true));
                match Digest::parse(&format!("sha256:{begin}{rest}")) {
                    Some(digest) if staged => listed.staged.push((digest, path)),
                    Some(digest) => listed.blobs.push((digest, size)),
                    None => tracing::warn!(path = %path.display(), "a file that is no blob"),
                }
            })?;
            Ok(listed)
        });
        listed.await.map_err(|_| StoreError::Row { what: "the list of blobs".into() })?
    }

    /// Removes a blob; not one that is, or was, held since [`Blobs::begin_collection`]. Says whether it did.
    pub(super) async fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(_removal) = self.holds.removal(digest) else { return Ok(false) };
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(StoreError::blobs(error)),
        }
    }

    /// Removes what is left of a blob that was being written; not if somebody is at it.
    pub(super) async fn remove_staged(&self, digest: &Digest, path: &Path) -> Result<bool, StoreError> {
        let Some(_removal) = self.holds.removal(digest) else { return Ok(false) };
        super::remove_file(path).await
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

/// What [`Blobs::list`] found.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The blobs, with their sizes.
    pub blobs: Vec<(Digest, u64)>,
    /// What was being written.
    pub staged: Vec<(Digest, PathBuf)>,
}

/// Calls `found` with the name of each file's folder, its own, its path and its size. Files may come and go meanwhile; a folder
/// that cannot be read, such as a disk's `lost+found`, is passed over.
pub(super) fn for_each_file(folder: &Path, mut found: impl FnMut(&str, &str, PathBuf, u64)) -> Result<(), StoreError> {
    let read = |folder: &Path| match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::file(folder)(error)),
    };
    for outer in read(folder)?.into_iter().flatten().flatten() {
        if !outer.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let inner = read(&outer.path()).unwrap_or_else(|error| {
            tracing::warn!(%error, "a folder that is not looked into");
            None
        });
        for inner in inner.into_iter().flatten().flatten() {
            if let Ok(metadata) = inner.metadata()
                && metadata.is_file()
            {
                let (outer, inner_name) = (outer.file_name(), inner.file_name());
                found(&outer.to_string_lossy(), &inner_name.to_string_lossy(), inner.path(), metadata.len());
            }
        }
    }
    Ok(())
}

/// Reads a blob from its beginning; the end is only reached if the bytes have their digest.
struct Reader {
    store: Arc<dyn ObjectStore>,
    digest: Digest,
    size: u64,
    offset: u64,
    hasher: Hasher,
    /// Who is sent a file is sent all of it, although the row that named it may go meanwhile.
    _hold: Hold,
}

impl Reader {
    async fn open(blobs: &Blobs, digest: &Digest) -> Result<Self, StoreError> {
        let hold = blobs.holds.hold(digest).await;
        let size = blobs.size(digest).await?;
        let store = blobs.store.clone();
        Ok(Self { store, digest: *digest, size, offset: 0, hasher: Hasher::default(), _hold: hold })
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
        other => StoreError::blobs(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use proptest::prelude::*;

    async fn stored(bytes: &[u8]) -> (tempfile::TempDir, Blobs, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = put(&blobs, bytes).await;
        (folder, blobs, digest)
    }

    async fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let digest = Digest::of(bytes);
        let _hold = blobs.put_file(file.path(), &digest).await.unwrap();
        digest
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
        let _hold = blobs.put_file(source.path(), &Digest::of(b"what was sent")).await.unwrap();
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
        put(&blobs, b"weights").await;
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
