//! Whether a data folder holds what it says, and copies of it.
//!
//! A backup is a copy of the database at one moment, and then of the blobs that it names: blobs never change, and stay for
//! a while after their last name has gone, so that no moment of the server need stand still. Files on their way in are not
//! part of it; whoever was sending one is told to begin again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use sqlx::{AssertSqlSafe, Row};

use super::{
    Blobs, Catalogue, Database, DatasetDetail, Detail, ModelDetail, Store, StoreError, catalogue, make_folder, uploads,
};
use crate::digest::Digest;

/// What a backup copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Blobs that were copied; those of an earlier backup in the same folder are not copied again.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
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
/// of an earlier backup is brought up to date. `names_of_jobs` is asked of the copied database.
pub async fn backup(
    data: &Path,
    to: &Path,
    names_of_jobs: impl AsyncFnOnce(Database) -> Result<HashSet<Digest>, StoreError>,
) -> Result<Backup, StoreError> {
    let from = data.join("niwaki.sqlite");
    if !from.is_file() {
        return Err(StoreError::NoDatabase { path: from });
    }
    make_folder(to).map_err(StoreError::folder(to))?;
    let (copy, part) = (to.join("niwaki.sqlite"), to.join("niwaki.sqlite.part"));
    let _ = fs::remove_file(&part);
    let database = Database::open_file(&from).await?;
    database.copy_to(&part).await?;
    database.pool().close().await;
    File::open(&part).and_then(|file| file.sync_all()).map_err(StoreError::folder(&part))?;
    for old in ["niwaki.sqlite-wal", "niwaki.sqlite-shm"] {
        let _ = fs::remove_file(to.join(old));
    }
    fs::rename(&part, &copy).map_err(StoreError::folder(&copy))?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(StoreError::folder(to))?;

    let blobs = to.join("blobs");
    make_folder(&blobs).map_err(StoreError::folder(&blobs))?;
    let (source, target) = (Blobs::open(&data.join("blobs"))?, Blobs::open(&blobs)?);
    let database = Database::open_file(&copy).await?;
    let mut named = Catalogue::new(database.clone()).names().await?;
    named.extend(names_of_jobs(database.clone()).await?);
    database.pool().close().await;
    let mut copied = Backup { blobs: 0, bytes: 0 };
    for digest in named {
        let size = source.size(&digest).await?;
        if target.find(&digest, size).await.is_none() {
            drop(target.put_file(&source.path(&digest), &digest).await?);
            copied.blobs += 1;
            copied.bytes += size;
        }
    }
    Ok(copied)
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
        assert_eq!(backup(&data, &to, none).await.unwrap(), Backup { blobs: 1, bytes: 5 });
        assert_eq!(backup(&data, &to, none).await.unwrap(), Backup { blobs: 0, bytes: 0 });
        drop(store);
        let restored = Store::open(&to).await.unwrap();
        assert_eq!(restored.blobs.get(&digest).await.unwrap(), "bytes");
        assert_eq!(restored.check(&HashSet::new()).await.unwrap(), [""; 0]);
        assert!(backup(&folder.path().join("nothing"), &to, none).await.is_err());
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
