//! Whether a data folder holds what it says, and copies of it.
//!
//! A backup is a copy of the database at one moment, and then of the blobs that it names: blobs never change, and stay for
//! a while after their last name has gone, so that no moment of the server need stand still. Files on their way in are not
//! part of it; whoever was sending one is told to begin again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Row};

use super::{
    Blobs, Catalogue, Database, DatasetDetail, Detail, ModelDetail, Store, StoreError, catalogue, lock, make_folder,
    uploads,
};
use crate::digest::Digest;

/// So often a backup begins with a younger copy of the database, if blobs went before they were copied.
const ROUNDS: u32 = 3;

/// What a backup copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// Blobs that were copied; those of an earlier backup in the same folder are not copied again.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is named and is lost or damaged where it was copied from, in sentences.
    pub lost: Vec<String>,
}

impl Store {
    /// What is wrong with the folder, in sentences; nothing, if nothing is. `names_of_jobs` are the blobs that jobs name.
    /// Every blob that has a name is read.
    pub async fn check(&self, names_of_jobs: &HashSet<Digest>) -> Result<Vec<String>, StoreError> {
        let mut found = self.database.check().await?;
        let rows = sqlx::query("SELECT * FROM uploads").fetch_all(self.database.pool()).await?;
        found.extend(rows.iter().filter_map(|row| Some(format!("upload: {}", uploads::from_row(row).err()?))));
        self.check_entries::<ModelDetail>(&mut found).await?;
        self.check_entries::<DatasetDetail>(&mut found).await?;
        let mut named = self.catalogue.names().await?;
        named.extend(names_of_jobs);
        let mut named: Vec<Digest> = named.into_iter().collect();
        named.sort_by_key(Digest::hex);
        for digest in named {
            if let Err(error) = self.blobs.verify(&digest).await {
                found.push(error.to_string());
            }
        }
        Ok(found)
    }

    async fn check_entries<D: Detail>(&self, found: &mut Vec<String>) -> Result<(), StoreError> {
        let sql = format!("SELECT * FROM {}", D::TABLE);
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(self.database.pool()).await? {
            if let Err(error) = catalogue::from_row::<D>(&row) {
                found.push(format!("{} {}: {error}", D::WHAT, row.try_get::<&str, _>("id")?));
            }
        }
        Ok(())
    }
}

/// Copies the data folder of a server, which may be running, into a folder that a server can be started on. What is there
/// of an earlier backup is brought up to date, and stays as it is until all that the new one names is there. `names_of_jobs`
/// is asked of the copied database.
pub async fn backup(
    data: &Path,
    to: &Path,
    names_of_jobs: impl AsyncFn(Database) -> Result<HashSet<Digest>, StoreError>,
) -> Result<Backup, StoreError> {
    let from = data.join("niwaki.sqlite");
    if !from.is_file() {
        return Err(StoreError::NoDatabase { path: from });
    }
    let is_source = fs::canonicalize(to).is_ok_and(|to| fs::canonicalize(data).is_ok_and(|data| to == data));
    if is_source || folder_around(to).is_some() {
        return Err(StoreError::BackupWithin { path: to.to_path_buf() });
    }
    make_folder(to).map_err(StoreError::folder(to))?;
    // A server may have been started on an earlier backup.
    let _lock = lock(to)?;
    let blobs = to.join("blobs");
    make_folder(&blobs).map_err(StoreError::folder(&blobs))?;
    let (source, target) = (Blobs::open(&data.join("blobs"))?, Blobs::open(&blobs)?);
    let (copy, part) = (to.join("niwaki.sqlite"), to.join("niwaki.sqlite.part"));
    let mut copied = Backup::default();
    for _ in 0..ROUNDS {
        remove_database(&part);
        Database::copy_file(&from, &part).await?;
        copied.lost.clear();
        for digest in names(&part, &names_of_jobs).await? {
            match copy_blob(&source, &target, &digest).await {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    copied.blobs += 1;
                    copied.bytes += bytes;
                }
                Err(error) if is_of_one_file(&error) => copied.lost.push(format!("{digest}: {error}")),
                Err(error) => return Err(error),
            }
        }
        if copied.lost.is_empty() {
            break;
        }
    }
    File::open(&part).and_then(|file| file.sync_all()).map_err(StoreError::folder(&part))?;
    remove_journals(&copy);
    fs::rename(&part, &copy).map_err(StoreError::folder(&copy))?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(StoreError::folder(to))?;
    Ok(copied)
}

/// The data folder that a folder, which need not exist, lies in: what is put there would be taken for the server's.
fn folder_around(path: &Path) -> Option<PathBuf> {
    let existing = path.ancestors().find_map(|folder| Some((folder, fs::canonicalize(folder).ok()?)));
    let (folder, existing) = existing.or_else(|| Some((Path::new(""), fs::canonicalize(".").ok()?)))?;
    let is_data = |folder: &&Path| folder.join("niwaki.sqlite").is_file();
    existing.ancestors().skip(usize::from(folder == path)).find(is_data).map(Path::to_path_buf)
}

/// The blobs that a copied database names. A copy of its own is brought up to date for that: the backup stays what the
/// program that made the database can read.
async fn names(
    copied: &Path,
    names_of_jobs: &impl AsyncFn(Database) -> Result<HashSet<Digest>, StoreError>,
) -> Result<HashSet<Digest>, StoreError> {
    let read = copied.with_extension("names");
    remove_database(&read);
    fs::copy(copied, &read).map_err(StoreError::folder(&read))?;
    let database = Database::open_file(&read).await?;
    let mut named = Catalogue::new(database.clone()).names().await?;
    named.extend(names_of_jobs(database.clone()).await?);
    database.pool().close().await;
    remove_database(&read);
    Ok(named)
}

/// Whether an error says that one file cannot be read, and nothing of the others: it is lost, damaged, or on a bad sector.
fn is_of_one_file(error: &StoreError) -> bool {
    use StoreError::{Corrupt, DigestMismatch, File, Storage};
    matches!(error, Corrupt { .. } | DigestMismatch { .. } | File { .. } | Storage)
}

/// Copies a blob unless it is there; says how many bytes.
async fn copy_blob(source: &Blobs, target: &Blobs, digest: &Digest) -> Result<Option<u64>, StoreError> {
    let size = source.size(digest).await?;
    if target.find(digest, size).await.is_some() {
        return Ok(None);
    }
    drop(target.put_file(&source.path(digest), digest).await?);
    Ok(Some(size))
}

/// Removes a SQLite database that nobody has open.
fn remove_database(path: &Path) {
    let _ = fs::remove_file(path);
    remove_journals(path);
}

fn remove_journals(path: &Path) {
    for end in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let _ = fs::remove_file(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Chunk, NewUpload, Request, now_ms};
    use bytes::Bytes;

    async fn with_an_upload() -> (tempfile::TempDir, Store, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).await.unwrap();
        let digest = Digest::of(b"bytes");
        let new = NewUpload { tenant: "default".into(), file_name: "m".into(), size_bytes: 5, digest };
        let upload = store.uploads.create(&new, &Request::new("", &0), now_ms()).await.unwrap();
        let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
        let data = Bytes::from_static(b"bytes");
        writer.append(&Chunk { offset: 0, crc32c: crc32c::crc32c(&data), data }).await.unwrap();
        writer.commit().await.unwrap();
        drop(writer);
        store.uploads.complete("default", &upload.id).await.unwrap();
        (folder, store, digest)
    }

    #[tokio::test]
    async fn a_backup_of_a_folder_in_use_is_a_folder_and_a_second_copies_only_what_is_new() {
        let (folder, store, digest) = with_an_upload().await;
        let (data, to) = (folder.path().join("data"), folder.path().join("copy"));
        let none = async |_| Ok(HashSet::new());
        let whole = |blobs, bytes| Backup { blobs, bytes, lost: Vec::new() };
        assert_eq!(backup(&data, &to, none).await.unwrap(), whole(1, 5));
        assert_eq!(backup(&data, &to, none).await.unwrap(), whole(0, 0));
        drop(store);
        let restored = Store::open(&to).await.unwrap();
        assert_eq!(restored.blobs.get(&digest).await.unwrap(), "bytes");
        assert_eq!(restored.check(&HashSet::new()).await.unwrap(), [""; 0]);
        assert!(backup(&folder.path().join("nothing"), &to, none).await.is_err());
        // Nobody's folder is written over.
        assert!(matches!(backup(&data, &to, none).await, Err(StoreError::FolderInUse { .. })));
        for within in [data.clone(), data.join("uploads/default"), data.join("new"), data.join("blobs/sha256/../new")] {
            assert!(matches!(backup(&data, &within, none).await, Err(StoreError::BackupWithin { .. })), "{within:?}");
        }
        assert!(!data.join("new").exists());
        fs::write(folder.path().join("data/niwaki.sqlite"), "no database, and long enough").unwrap();
        assert!(matches!(backup(&data, &to.join("../other"), none).await, Err(StoreError::NoDatabase { .. })));
    }

    #[tokio::test]
    async fn a_backup_goes_on_past_what_is_lost_and_says_so() {
        let (folder, store, digest) = with_an_upload().await;
        let (data, to) = (folder.path().join("data"), folder.path().join("copy"));
        let missing = Digest::of(b"missing");
        let copied = backup(&data, &to, async |_| Ok([digest, missing].into())).await.unwrap();
        assert_eq!((copied.blobs, copied.bytes, copied.lost.len()), (1, 5, 1));
        assert!(copied.lost[0].contains(&missing.hex()), "{copied:?}");
        drop(store);
        assert_eq!(Store::open(&to).await.unwrap().blobs.get(&digest).await.unwrap(), "bytes");
    }

    #[tokio::test]
    async fn an_upload_whose_bytes_a_backup_has_not_begins_again_when_it_is_completed() {
        let (folder, store, _) = with_an_upload().await;
        let (data, to) = (folder.path().join("data"), folder.path().join("copy"));
        let new =
            NewUpload { tenant: "default".into(), file_name: "n".into(), size_bytes: 4, digest: Digest::of(b"more") };
        let id = store.uploads.create(&new, &Request::new("", &0), now_ms()).await.unwrap().id;
        let chunk = Chunk { offset: 0, crc32c: crc32c::crc32c(b"more"), data: Bytes::from_static(b"more") };
        let mut writer = store.uploads.writer("default", &id).await.unwrap();
        writer.append(&chunk).await.unwrap();
        writer.commit().await.unwrap();
        drop(writer);
        backup(&data, &to, async |_| Ok(HashSet::new())).await.unwrap();
        drop(store);
        let restored = Store::open(&to).await.unwrap();
        let told = restored.uploads.complete("default", &id).await.unwrap_err();
        assert!(matches!(told, StoreError::UploadIncomplete { committed_size: 0, .. }), "{told:?}");
        let mut writer = restored.uploads.writer("default", &id).await.unwrap();
        writer.append(&chunk).await.unwrap();
        writer.commit().await.unwrap();
        drop(writer);
        restored.uploads.complete("default", &id).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_by_its_place() {
        let (folder, store, digest) = with_an_upload().await;
        let hex = digest.hex();
        let path = folder.path().join("data/blobs/sha256").join(&hex[..2]).join(&hex[2..]);
        fs::write(&path, "bytez").unwrap();
        sqlx::query("UPDATE uploads SET state = 'ODD' WHERE id IN (SELECT id FROM uploads)")
            .execute(store.database.pool())
            .await
            .unwrap();
        let missing = Digest::of(b"missing");
        let found = store.check(&[digest, missing].into()).await.unwrap().join("\n");
        for part in ["ODD", &hex, &missing.hex()] {
            assert!(found.contains(part), "{found}");
        }
    }
}
