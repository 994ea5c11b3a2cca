//! Files on their way in.
//!
//! An open upload is a file that grows by chunks. A chunk's checksum is compared before the offset moves; bytes are
//! synced to disk before the row's `committed_size` says so, and only that number is ever told to a client. Bytes beyond
//! it (a server died while writing) are cut off when writing goes on.
//!
//! ```text
//! create ──▶ OPEN ──write, write, …──▶ OPEN ──complete──▶ COMPLETE   (file hashed, blob stored, then the row)
//!   │                                   ├─wrong digest──▶ OPEN, empty again
//!   │                                   └─nothing written for long──▶ gone
//!   └─the tenant has a complete upload of these bytes──▶ COMPLETE
//! ```
//!
//! Only a tenant's own uploads are looked at: whether another has sent these bytes shows neither in an answer nor in the
//! time that it takes. What a tenant may have is counted in the transaction that adds an upload, so that it is exact.

mod writer;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use super::{Blobs, Database, Page, Request, StoreError, check_etag, new_id, now_ms, remove_file, stored_digest};
use crate::digest::Digest;
use crate::settings;

pub use writer::UploadWriter;

const COLUMNS: &str =
    "tenant, id, file_name, size_bytes, digest, committed_size, state, revision, expire_ms, create_ms";
/// Uploads that there still are at a time, which is parameter `$1`: one that has expired is gone, collected or not.
const LIVE: &str = "(state = 'COMPLETE' OR expire_ms > $1)";

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
    /// Grows with every change.
    pub revision: u64,
    /// When it is removed, if it is still open and nothing is written to it until then.
    pub expire_ms: Option<i64>,
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
    limits: settings::Uploads,
    /// Uploads, as `TENANT/ID`, that are being written, completed or removed. This process has the folder to itself, so
    /// memory is the right place.
    busy: Arc<Mutex<HashSet<String>>>,
}

impl Uploads {
    pub(super) fn new(database: Database, blobs: Blobs, folder: PathBuf, limits: settings::Uploads) -> Self {
        Self { database, blobs, folder, limits, busy: Arc::default() }
    }

    /// The same uploads within other limits.
    pub(super) fn limited(self, limits: settings::Uploads) -> Self {
        Self { limits, ..self }
    }

    /// Announces a file. If the tenant has a complete upload of these bytes, the new one is complete too.
    pub async fn create(&self, new: &NewUpload, request: &Request, now: i64) -> Result<Upload, StoreError> {
        // What is found is held until the new row names it. A blob that is lost must not stand in the way of its return.
        let held = match twin(self.database.pool(), new).await? {
            true => self.blobs.find(&new.digest, new.size_bytes).await,
            false => None,
        };
        let mut tx = self.database.begin().await?;
        self.database.lock_name(&mut tx, &format!("uploads {}", new.tenant)).await?;
        if !request.id.is_empty() {
            let sql = format!(
                "SELECT {COLUMNS}, request_digest FROM uploads WHERE {LIVE} AND tenant = $2 AND request_id = $3"
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(now).bind(&new.tenant).bind(&request.id);
            if let Some(first) = query.fetch_optional(&mut *tx).await? {
                request.matches("upload", first.try_get("request_digest")?)?;
                return from_row(&first);
            }
            // One that has expired and was not yet collected makes room; its file is collected as one that has no row.
            let query = sqlx::query("DELETE FROM uploads WHERE tenant = $1 AND request_id = $2");
            query.bind(&new.tenant).bind(&request.id).execute(&mut *tx).await?;
        }
        let usage = sqlx::query(AssertSqlSafe(format!(
            "SELECT CAST(COALESCE(SUM(CASE WHEN state = 'OPEN' THEN 1 ELSE 0 END), 0) AS BIGINT),
                    CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT), COUNT(*)
             FROM uploads WHERE {LIVE} AND tenant = $2"
        )));
        let usage = usage.bind(now).bind(&new.tenant).fetch_one(&mut *tx).await?;
        let (open, bytes) = (usage.try_get::<i64, _>(0)? as u64, usage.try_get::<i64, _>(1)? as u64);
        let files = usage.try_get::<i64, _>(2)? as u64;
        let twin = match held {
            Some(_) => twin(&mut *tx, new).await?,
            None => false,
        };
        if !twin && open >= u64::from(self.limits.max_open) {
            return Err(StoreError::TooMany { what: "open upload", limit: self.limits.max_open });
        }
        if files >= u64::from(self.limits.max_files) {
            return Err(StoreError::TooMany { what: "upload", limit: self.limits.max_files });
        }
        let limit = self.limits.max_tenant_bytes;
        if bytes.saturating_add(new.size_bytes) > limit {
            return Err(StoreError::TooManyTenantBytes { bytes, asked: new.size_bytes, limit });
        }
        let (state, committed_size) =
            if twin { (UploadState::Complete, new.size_bytes) } else { (UploadState::Open, 0) };
        let upload = Upload {
            tenant: new.tenant.clone(),
            id: new_id(),
            file_name: new.file_name.clone(),
            size_bytes: new.size_bytes,
            digest: new.digest,
            committed_size,
            state,
            revision: 1,
            expire_ms: (!twin).then(|| self.expire_ms(now)),
            create_ms: now,
        };
        sqlx::query(
            "INSERT INTO uploads (tenant, id, request_id, request_digest, file_name, size_bytes, digest, committed_size,
                 state, revision, create_ms, expire_ms, complete_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12)",
        )
        .bind(&upload.tenant)
        .bind(&upload.id)
        .bind(&request.id)
        .bind(&request.digest)
        .bind(&upload.file_name)
        .bind(upload.size_bytes as i64)
        .bind(upload.digest.to_string())
        .bind(upload.committed_size as i64)
        .bind(upload.state.name())
        .bind(now)
        .bind(upload.expire_ms)
        .bind(twin.then_some(now))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(upload)
    }

    /// Reads an upload's description.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Upload, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM uploads WHERE {LIVE} AND tenant = $2 AND id = $3");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(now_ms()).bind(tenant).bind(id);
        let row = query.fetch_optional(self.database.pool()).await?;
        from_row(&row.ok_or_else(|| not_found(id))?)
    }

    /// A page of a tenant's uploads.
    pub async fn list(&self, tenant: &str, page: &Page) -> Result<Vec<Upload>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM uploads WHERE {LIVE} AND tenant = $2 AND ($3 = '' OR id < $3) {}
             ORDER BY id DESC LIMIT $4",
            page.filter.sql(5)
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(now_ms())
            .bind(tenant)
            .bind(page.before.as_deref().unwrap_or_default())
            .bind(i64::from(page.size));
        page.filter.bind(query).fetch_all(self.database.pool()).await?.iter().map(from_row).collect()
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
        let path = self.path(tenant, id);
        let found = match tokio::fs::metadata(&path).await {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StoreError::file(&path)(error)),
        };
        if found < declared {
            // The row was restored from a backup, and the file was not: the sender begins again.
            self.set_committed(&upload, 0).await?;
            return Err(StoreError::UploadIncomplete { id: upload.id, committed_size: 0, declared });
        }
        let _hold = match self.blobs.put_file(&path, &upload.digest).await {
            Ok(hold) => hold,
            Err(error @ StoreError::DigestMismatch { .. }) => {
                // These bytes are of no use; the sender may begin again.
                self.set_committed(&upload, 0).await?;
                remove_file(&path).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let query = sqlx::query(
            "UPDATE uploads SET state = 'COMPLETE', expire_ms = NULL, complete_ms = $1, revision = revision + 1
             WHERE tenant = $2 AND id = $3 AND state = 'OPEN'",
        );
        query.bind(now_ms()).bind(tenant).bind(id).execute(self.database.pool()).await?;
        if let Err(error) = remove_file(&path).await {
            tracing::warn!(path = %path.display(), %error, "a complete upload's file is left to the collector");
        }
        self.get(tenant, id).await
    }

    /// Removes an upload. What was made of it names its blob too, and keeps it.
    pub async fn delete(&self, tenant: &str, id: &str, etag: &str) -> Result<(), StoreError> {
        let _claim = self.claim(tenant, id)?;
        let upload = self.get(tenant, id).await?;
        check_etag("upload", id, etag, upload.revision)?;
        let query = sqlx::query("DELETE FROM uploads WHERE tenant = $1 AND id = $2").bind(tenant).bind(id);
        query.execute(self.database.pool()).await?;
        remove_file(&self.path(tenant, id)).await?;
        Ok(())
    }

    /// Removes the uploads that nothing was written to for too long; says how many.
    pub(super) async fn remove_expired(&self, now: i64) -> Result<u64, StoreError> {
        let sql = "SELECT tenant, id FROM uploads WHERE state = 'OPEN' AND expire_ms <= $1";
        let mut removed = 0;
        for row in sqlx::query(sql).bind(now).fetch_all(self.database.pool()).await? {
            let (tenant, id): (&str, &str) = (row.try_get("tenant")?, row.try_get("id")?);
            // One that somebody writes to is not forgotten.
            let Ok(_claim) = self.claim(tenant, id) else { continue };
            let query =
                sqlx::query("DELETE FROM uploads WHERE tenant = $1 AND id = $2 AND state = 'OPEN' AND expire_ms <= $3");
            let deleted = query.bind(tenant).bind(id).bind(now).execute(self.database.pool()).await?;
            if deleted.rows_affected() == 1 {
                remove_file(&self.path(tenant, id)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes files that no open upload has. Says how many. Bytes beyond the committed ones of an open upload are cut off by
    /// its next writer, and go with it if there is none. Nothing is claimed for this: it is in nobody's way.
    pub(super) async fn remove_leftovers(&self) -> Result<u64, StoreError> {
        let folder = self.folder.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let mut files = Vec::new();
            super::blobs::for_each_file(&folder, |tenant, id, path, _size| {
                files.push((tenant.to_string(), id.to_string(), path));
            })?;
            Ok::<_, StoreError>(files)
        });
        let files =
            listed.await.map_err(|_| StoreError::Row { what: "the list of files on their way in".into() })??;
        let mut removed = 0;
        for (tenant, id, path) in files {
            let query = sqlx::query("SELECT id FROM uploads WHERE tenant = $1 AND id = $2 AND state = 'OPEN'");
            let open = query.bind(&tenant).bind(&id).fetch_optional(self.database.pool()).await?;
            // Rows come before files, and neither ids nor open states come back: nobody will want this file any more.
            if open.is_none() {
                removed += u64::from(remove_file(&path).await?);
            }
        }
        Ok(removed)
    }

    /// The row of an open upload now says that so many bytes are stored, and the time until it expires begins anew.
    async fn set_committed(&self, upload: &Upload, committed_size: u64) -> Result<(), StoreError> {
        let set = sqlx::query(
            "UPDATE uploads SET committed_size = $1, expire_ms = $2, revision = revision + 1
             WHERE tenant = $3 AND id = $4 AND state = 'OPEN'",
        )
        .bind(committed_size as i64)
        .bind(self.expire_ms(now_ms()))
        .bind(&upload.tenant)
        .bind(&upload.id)
        .execute(self.database.pool())
        .await?;
        // Its row went meanwhile: a new upload with its request_id has taken its place.
        if set.rows_affected() == 0 { Err(not_found(&upload.id)) } else { Ok(()) }
    }

    fn expire_ms(&self, now: i64) -> i64 {
        now + i64::from(self.limits.expire_hours) * 3_600_000
    }

    fn path(&self, tenant: &str, id: &str) -> PathBuf {
        self.folder.join(tenant).join(id)
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

/// The right to write, complete or remove an upload; ends when dropped.
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

/// Whether the tenant has a complete upload of these bytes.
async fn twin(database: impl Executor<'_, Database = Any>, new: &NewUpload) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "SELECT id FROM uploads WHERE tenant = $1 AND digest = $2 AND size_bytes = $3 AND state = 'COMPLETE' LIMIT 1",
    );
    let query = query.bind(&new.tenant).bind(new.digest.to_string()).bind(new.size_bytes as i64);
    Ok(query.fetch_optional(database).await?.is_some())
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound { what: "upload", id: id.into() }
}

/// Reads a row of [`COLUMNS`].
pub(super) fn from_row(row: &AnyRow) -> Result<Upload, StoreError> {
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
        revision: row.try_get::<i64, _>("revision")? as u64,
        expire_ms: row.try_get("expire_ms")?,
        create_ms: row.try_get("create_ms")?,
    })
}

#[cfg(test)]
mod tests;
