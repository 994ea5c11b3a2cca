//! The catalogue: models and data sets, each a list of complete uploads with what was found in them.
//!
//! Both kinds are rows of the same form in a table each; what only one kind has is its [`Detail`].
//!
//! ```text
//! begin ──▶ VALIDATING ──ready──▶ READY ──delete──▶ DELETED   (the row goes when no job names it any more)
//!               └────────reject─▶ REJECTED ──delete──▶ DELETED
//! ```
//!
//! A new entry names the blobs of its files from its first moment, so that they stay however long the check takes. One
//! that is DELETED is shown to nobody.

use std::collections::HashSet;

use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row, Transaction};

use super::{Database, Page, Request, StoreError, check_etag, new_id, stored_digest};
use crate::data::DataSource;
use crate::digest::Digest;
use crate::error::Failure;
use crate::format::Architecture;
use crate::settings;

/// The models and data sets.
#[derive(Debug, Clone)]
pub struct Catalogue {
    database: Database,
    limits: settings::Uploads,
}

/// What only models, or only data sets, have. It is stored as JSON.
pub trait Detail: Serialize + DeserializeOwned + Default + Send + Unpin {
    /// The table.
    const TABLE: &'static str;
    /// What errors call it.
    const WHAT: &'static str;
    /// What [`Catalogue::list`] reads as the files: the column, or an empty list where there may be too many for a page.
    const LISTED_FILES: &'static str;
    /// What of this [`Catalogue::list`] leaves out, because it may be too large for a page.
    const UNLISTED: &'static [&'static str];

    /// How many of them one tenant may have.
    fn most(limits: &settings::Uploads) -> u32;
}

/// A model or a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<D> {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// A label for people.
    pub display_name: String,
    /// The files it is made of.
    pub files: Vec<FileRef>,
    /// What only this kind has. Before it is READY it has what the caller said, and no figures.
    pub detail: D,
    /// Where it stands.
    pub state: EntryState,
    /// Why it was rejected.
    pub failure: Option<Failure>,
    /// Grows with every change.
    pub revision: u64,
    /// When it was made.
    pub create_ms: i64,
}

/// The states of a model or a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// Its files are being read.
    Validating,
    /// Jobs may use it.
    Ready,
    /// Its files are not what they should be.
    Rejected,
    /// Nobody sees it any more.
    Deleted,
}

/// What [`Catalogue::begin`] found.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun<D> {
    /// A new entry, VALIDATING: whoever began it is to end it by `ready` or `reject`.
    New(Entry<D>),
    /// What an earlier call with this request made; somebody else ends it, or has ended it.
    Before(Entry<D>),
}

/// What a new model or data set is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry<D> {
    /// Whose it is.
    pub tenant: String,
    /// A label for people.
    pub display_name: String,
    /// The files it is made of; they are blobs already.
    pub files: Vec<FileRef>,
    /// What only this kind has.
    pub detail: D,
}

/// A complete upload that a model or a data set is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// The upload's id.
    pub upload: String,
    /// The file's name.
    pub file_name: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its digest, as it is written.
    pub digest: String,
}

/// What a model has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelDetail {
    /// The graph, where the file does not carry it.
    pub architecture: Option<Architecture>,
    /// Parameters.
    pub params: u64,
    /// Parameters that are not zero.
    pub nonzero_params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
    /// Nodes of the graph.
    pub nodes: u32,
    /// Shape of one input sample.
    pub input_shape: Vec<u64>,
    /// Shape of the output for one sample.
    pub output_shape: Vec<u64>,
}

/// What a data set has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetDetail {
    /// The form of the files: `idx`, `images` and so on.
    pub source: String,
    /// Which files are what, if whoever made the data set said it.
    #[serde(default)]
    pub data_source: Option<DataSource>,
    /// Samples meant for training.
    pub train_samples: u64,
    /// Samples meant for testing.
    pub test_samples: u64,
    /// Samples meant for validation.
    #[serde(default)]
    pub validation_samples: u64,
    /// Samples meant for choices between candidates.
    #[serde(default)]
    pub selection_samples: u64,
    /// The first of the names of the classes.
    #[serde(default)]
    pub class_names: Vec<String>,
    /// One more than the largest label.
    pub classes: u32,
    /// Shape of one sample.
    pub sample_shape: Vec<u64>,
}

impl Detail for ModelDetail {
    const TABLE: &'static str = "models";
    const WHAT: &'static str = "model";
    const LISTED_FILES: &'static str = "files";
    const UNLISTED: &'static [&'static str] = &["architecture"];

    fn most(limits: &settings::Uploads) -> u32 {
        limits.max_models
    }
}

impl Detail for DatasetDetail {
    const TABLE: &'static str = "datasets";
    const WHAT: &'static str = "dataset";
    const LISTED_FILES: &'static str = "'[]' AS files";
    const UNLISTED: &'static [&'static str] = &[];

    fn most(limits: &settings::Uploads) -> u32 {
        limits.max_datasets
    }
}

/// The columns whose length has a small bound: all but `files` and `detail`.
const COLUMNS: &str = "tenant, id, display_name, state, failure, revision, create_ms";
/// Parameters of one statement: both engines take more.
const BATCH: usize = 500;
/// Jobs that are named when something is in use.
const NAMED_JOBS: i64 = 5;

impl Catalogue {
    /// The catalogue in a database.
    pub fn new(database: Database) -> Self {
        Self { database, limits: settings::Uploads::default() }
    }

    /// The same catalogue within other limits.
    pub(super) fn limited(self, limits: settings::Uploads) -> Self {
        Self { limits, ..self }
    }

    /// What an earlier call with this request made, if there was one; an error if that call said something else.
    pub async fn made_by<D: Detail>(&self, tenant: &str, request: &Request) -> Result<Option<Entry<D>>, StoreError> {
        made_by(self.database.pool(), tenant, request).await
    }

    /// Adds an entry that is to be checked, or returns what an earlier call with this request made.
    pub async fn begin<D: Detail>(
        &self,
        new: &NewEntry<D>,
        request: &Request,
        now: i64,
    ) -> Result<Begun<D>, StoreError> {
        let mut tx = self.database.begin().await?;
        self.database.lock_name(&mut tx, &format!("{} {}", D::TABLE, new.tenant)).await?;
        if let Some(first) = made_by(&mut *tx, &new.tenant, request).await? {
            return Ok(Begun::Before(first));
        }
        let sql = format!("SELECT COUNT(*) FROM {} WHERE tenant = $1 AND state <> 'DELETED'", D::TABLE);
        let there: i64 = sqlx::query(AssertSqlSafe(sql)).bind(&new.tenant).fetch_one(&mut *tx).await?.try_get(0)?;
        let limit = D::most(&self.limits);
        if there >= i64::from(limit) {
            return Err(StoreError::TooMany { what: D::WHAT, limit });
        }
        self.check_uploads(&mut tx, new).await?;
        let id = new_id();
        let sql = format!(
            "INSERT INTO {} (tenant, id, request_id, request_digest, display_name, files, detail, state, revision, create_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'VALIDATING', 1, $8)",
            D::TABLE
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(&new.tenant)
            .bind(&id)
            .bind(&request.id)
            .bind(&request.digest)
            .bind(&new.display_name)
            .bind(to_json(&new.files)?)
            .bind(to_json(&new.detail)?)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.get(&new.tenant, &id).await.map(Begun::New)
    }

    /// Adds an entry whose files were checked, or returns what an earlier call with this request made.
    pub async fn create<D: Detail>(
        &self,
        new: &NewEntry<D>,
        request: &Request,
        now: i64,
    ) -> Result<Entry<D>, StoreError> {
        match self.begin(new, request, now).await? {
            Begun::New(entry) => self.ready(&entry.tenant, &entry.id, &new.detail).await,
            Begun::Before(entry) => Ok(entry),
        }
    }

    /// The uploads must be there when the entry begins to name their blobs: one that is removed at the same moment is
    /// either still there for both or gone for both.
    async fn check_uploads<D>(&self, tx: &mut Transaction<'static, Any>, new: &NewEntry<D>) -> Result<(), StoreError> {
        for files in new.files.chunks(BATCH) {
            let places: Vec<String> = (2..files.len() + 2).map(|place| format!("${place}")).collect();
            let sql = format!(
                "SELECT id FROM uploads WHERE tenant = $1 AND state = 'COMPLETE' AND id IN ({}) {}",
                places.join(", "),
                self.database.lock_row()
            );
            let query = files.iter().fold(sqlx::query(AssertSqlSafe(sql)).bind(&new.tenant), |q, f| q.bind(&f.upload));
            let rows = query.fetch_all(&mut **tx).await?;
            let found = rows.iter().map(|row| row.try_get("id")).collect::<Result<HashSet<&str>, _>>()?;
            if let Some(gone) = files.iter().find(|file| !found.contains(file.upload.as_str())) {
                return Err(StoreError::NotFound { what: "upload", id: gone.upload.clone() });
            }
        }
        Ok(())
    }

    /// The files of an entry are as they should be; `detail` has what was found in them. One that is no longer VALIDATING
    /// is returned as it is.
    pub async fn ready<D: Detail>(&self, tenant: &str, id: &str, detail: &D) -> Result<Entry<D>, StoreError> {
        let set = [("detail", to_json(detail)?)];
        self.settle::<D>(tenant, id, EntryState::Ready, set.as_slice()).await
    }

    /// The files of an entry are not as they should be. One that is no longer VALIDATING is returned as it is. What the
    /// caller said beside the files is forgotten: it may be long, and nobody needs it any more.
    pub async fn reject<D: Detail>(&self, tenant: &str, id: &str, failure: &Failure) -> Result<Entry<D>, StoreError> {
        let set = [("failure", to_json(failure)?), ("detail", to_json(&D::default())?)];
        self.settle::<D>(tenant, id, EntryState::Rejected, set.as_slice()).await
    }

    /// Ends a check: writes the state and, in these columns, what was found.
    async fn settle<D: Detail>(
        &self,
        tenant: &str,
        id: &str,
        state: EntryState,
        set: &[(&'static str, String)],
    ) -> Result<Entry<D>, StoreError> {
        let columns: String = (4..).zip(set).map(|(place, (column, _))| format!("{column} = ${place}, ")).collect();
        let sql = format!(
            "UPDATE {} SET state = $1, {columns} revision = revision + 1
             WHERE tenant = $2 AND id = $3 AND state = 'VALIDATING'",
            D::TABLE
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(state.name()).bind(tenant).bind(id);
        let query = set.iter().fold(query, |query, (_, value)| query.bind(value));
        query.execute(self.database.pool()).await?;
        self.get(tenant, id).await
    }

    /// The entries of all tenants whose check has not ended, by tenant and id.
    pub async fn validating<D: Detail>(&self) -> Result<Vec<(String, String)>, StoreError> {
        let sql = format!("SELECT tenant, id FROM {} WHERE state = 'VALIDATING' ORDER BY id", D::TABLE);
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.database.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get("tenant")?, row.try_get("id")?))).collect()
    }

    /// Reads an entry.
    pub async fn get<D: Detail>(&self, tenant: &str, id: &str) -> Result<Entry<D>, StoreError> {
        let sql = format!("SELECT * FROM {} WHERE tenant = $1 AND id = $2 AND state <> 'DELETED'", D::TABLE);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(id);
        let row = query.fetch_optional(self.database.pool()).await?;
        from_row(&row.ok_or_else(|| StoreError::NotFound { what: D::WHAT, id: id.into() })?)
    }

    /// A page of a tenant's entries, without what may be too large for one.
    pub async fn list<D: Detail>(&self, tenant: &str, page: &Page) -> Result<Vec<Entry<D>>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, {}, {} FROM {} WHERE tenant = $1 AND ($2 = '' OR id < $2) AND state <> 'DELETED' {}
             ORDER BY id DESC LIMIT $3",
            D::LISTED_FILES,
            self.database.without("detail", D::UNLISTED),
            D::TABLE,
            page.filter.sql(4)
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .bind(page.before.as_deref().unwrap_or_default())
            .bind(i64::from(page.size));
        page.filter.bind(query).fetch_all(self.database.pool()).await?.iter().map(from_row).collect()
    }

    /// The blobs that uploads, models and data sets name.
    pub(super) async fn names(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut names = HashSet::new();
        let uploads = sqlx::query("SELECT digest FROM uploads WHERE state = 'COMPLETE'");
        let mut rows = uploads.fetch(self.database.pool());
        while let Some(row) = rows.try_next().await? {
            names.insert(stored_digest(row.try_get("digest")?)?);
        }
        self.for_each_file(|file| {
            names.insert(stored_digest(&file.digest)?);
            Ok(())
        })
        .await?;
        Ok(names)
    }

    /// The ids of the uploads that models and data sets of all tenants are made of.
    pub(super) async fn uploads_in_use(&self) -> Result<HashSet<String>, StoreError> {
        let mut ids = HashSet::new();
        self.for_each_file(|file| {
            ids.insert(file.upload);
            Ok(())
        })
        .await?;
        Ok(ids)
    }

    /// Calls `found` with each file that a model or a data set of any tenant is made of, one row in memory after the other.
    async fn for_each_file(&self, mut found: impl FnMut(FileRef) -> Result<(), StoreError>) -> Result<(), StoreError> {
        for table in [ModelDetail::TABLE, DatasetDetail::TABLE] {
            let sql = format!("SELECT files FROM {table} WHERE state <> 'DELETED'");
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(self.database.pool());
            while let Some(row) = rows.try_next().await? {
                from_json::<Vec<FileRef>>(&row, "files")?.into_iter().try_for_each(&mut found)?;
            }
        }
        Ok(())
    }

    /// Takes an entry away. It is refused while jobs that wait or run need it. Its row stays until no job names it.
    pub async fn delete<D: Detail>(&self, tenant: &str, id: &str, etag: &str) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        let sql = format!(
            "SELECT revision FROM {} WHERE tenant = $1 AND id = $2 AND state <> 'DELETED' {}",
            D::TABLE,
            self.database.lock_row()
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(id).fetch_optional(&mut *tx).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: D::WHAT, id: id.into() })?;
        check_etag(D::WHAT, id, etag, row.try_get::<i64, _>("revision")? as u64)?;
        // The names of other models are keys and values of a JSON object, and ids have no character that JSON escapes.
        let sql = format!(
            "SELECT id FROM jobs WHERE tenant = $1 AND finish_ms IS NULL AND ({} = $2 OR extra_models LIKE $3)
             ORDER BY id LIMIT {NAMED_JOBS}",
            D::WHAT
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(id).bind(format!("%:\"{id}\"%"));
        let rows = query.fetch_all(&mut *tx).await?;
        let jobs = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<String>, _>>()?;
        if !jobs.is_empty() {
            return Err(StoreError::InUse { what: D::WHAT, id: id.into(), jobs });
        }
        // The request that made it is forgotten, as it is when the row goes: a call that is repeated makes a new entry.
        let sql = format!(
            "UPDATE {} SET state = 'DELETED', revision = revision + 1, request_id = '' WHERE tenant = $1 AND id = $2",
            D::TABLE
        );
        sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(id).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

impl EntryState {
    const ALL: [Self; 4] = [Self::Validating, Self::Ready, Self::Rejected, Self::Deleted];

    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            EntryState::Validating => "VALIDATING",
            EntryState::Ready => "READY",
            EntryState::Rejected => "REJECTED",
            EntryState::Deleted => "DELETED",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What an earlier call with this request made, if there was one; an error if that call said something else.
async fn made_by<'e, D: Detail>(
    executor: impl Executor<'e, Database = Any>,
    tenant: &str,
    request: &Request,
) -> Result<Option<Entry<D>>, StoreError> {
    if request.id.is_empty() {
        return Ok(None);
    }
    let sql = format!("SELECT * FROM {} WHERE tenant = $1 AND request_id = $2", D::TABLE);
    let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(&request.id);
    let Some(row) = query.fetch_optional(executor).await? else { return Ok(None) };
    request.matches(D::WHAT, row.try_get("request_digest")?)?;
    from_row(&row).map(Some)
}

pub(super) fn from_row<D: Detail>(row: &AnyRow) -> Result<Entry<D>, StoreError> {
    let state: &str = row.try_get("state")?;
    Ok(Entry {
        tenant: row.try_get("tenant")?,
        id: row.try_get("id")?,
        display_name: row.try_get("display_name")?,
        files: from_json(row, "files")?,
        detail: from_json(row, "detail")?,
        state: EntryState::from_name(state).ok_or_else(|| StoreError::Row { what: format!("state {state:?}") })?,
        failure: match row.try_get::<Option<&str>, _>("failure")? {
            Some(_) => Some(from_json(row, "failure")?),
            None => None,
        },
        revision: row.try_get::<i64, _>("revision")? as u64,
        create_ms: row.try_get("create_ms")?,
    })
}

fn from_json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?).map_err(|e| StoreError::Row { what: format!("{column}: {e}") })
}

fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Row { what: e.to_string() })
}

#[cfg(test)]
mod tests;
