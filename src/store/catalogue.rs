//! The catalogue: models and data sets, each a list of complete uploads with what was found in them.
//!
//! Both kinds are rows of the same form in a table each; what only one kind has is its [`Detail`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Database, Page, Request, StoreError, new_id};
use crate::data::DataSource;
use crate::format::Architecture;

/// The models and data sets.
#[derive(Debug, Clone)]
pub struct Catalogue {
    database: Database,
}

/// What only models, or only data sets, have. It is stored as JSON.
pub trait Detail: Serialize + DeserializeOwned + Send + Unpin {
    /// The table.
    const TABLE: &'static str;
    /// What errors call it.
    const WHAT: &'static str;
    /// What [`Catalogue::list`] reads as the files: the column, or an empty list where there may be too many for a page.
    const LISTED_FILES: &'static str;
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
    /// What only this kind has.
    pub detail: D,
    /// When it was made.
    pub create_ms: i64,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

impl Detail for DatasetDetail {
    const TABLE: &'static str = "datasets";
    const WHAT: &'static str = "dataset";
    const LISTED_FILES: &'static str = "'[]' AS files";
}

/// All columns but the files.
const COLUMNS: &str = "tenant, id, display_name, detail, create_ms";

impl Catalogue {
    /// The catalogue in a database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// What an earlier call with this request made, if there was one; an error if that call said something else.
    pub async fn made_by<D: Detail>(&self, tenant: &str, request: &Request) -> Result<Option<Entry<D>>, StoreError> {
        if request.id.is_empty() {
            return Ok(None);
        }
        let sql =
            format!("SELECT {COLUMNS}, files, request_digest FROM {} WHERE tenant = $1 AND request_id = $2", D::TABLE);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(&request.id);
        let Some(row) = query.fetch_optional(self.database.pool()).await? else { return Ok(None) };
        request.matches(D::WHAT, row.try_get("request_digest")?)?;
        from_row(&row).map(Some)
    }

    /// Adds an entry, or returns what an earlier call with this request made.
    pub async fn create<D: Detail>(
        &self,
        new: &NewEntry<D>,
        request: &Request,
        now: i64,
    ) -> Result<Entry<D>, StoreError> {
        let id = new_id();
        let sql = format!(
            "INSERT INTO {} (tenant, id, request_id, request_digest, display_name, files, detail, state, revision, create_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'READY', 1, $8)
             ON CONFLICT (tenant, request_id) WHERE request_id <> '' DO NOTHING",
            D::TABLE
        );
        let inserted = sqlx::query(AssertSqlSafe(sql))
            .bind(&new.tenant)
            .bind(&id)
            .bind(&request.id)
            .bind(&request.digest)
            .bind(&new.display_name)
            .bind(to_json(&new.files)?)
            .bind(to_json(&new.detail)?)
            .bind(now)
            .execute(self.database.pool())
            .await?;
        if inserted.rows_affected() == 0
            && let Some(first) = self.made_by(&new.tenant, request).await?
        {
            return Ok(first);
        }
        self.get(&new.tenant, &id).await
    }

    /// Reads an entry.
    pub async fn get<D: Detail>(&self, tenant: &str, id: &str) -> Result<Entry<D>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, files FROM {} WHERE tenant = $1 AND id = $2", D::TABLE);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(id);
        let row = query.fetch_optional(self.database.pool()).await?;
        from_row(&row.ok_or_else(|| StoreError::NotFound { what: D::WHAT, id: id.into() })?)
    }

    /// A page of a tenant's entries; those of data sets without their files.
    pub async fn list<D: Detail>(&self, tenant: &str, page: &Page) -> Result<Vec<Entry<D>>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, {} FROM {} WHERE tenant = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3",
            D::LISTED_FILES,
            D::TABLE
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .bind(page.before.as_deref().unwrap_or_default())
            .bind(i64::from(page.size));
        query.fetch_all(self.database.pool()).await?.iter().map(from_row).collect()
    }
}

fn from_row<D: Detail>(row: &AnyRow) -> Result<Entry<D>, StoreError> {
    Ok(Entry {
        tenant: row.try_get("tenant")?,
        id: row.try_get("id")?,
        display_name: row.try_get("display_name")?,
        files: from_json(row, "files")?,
        detail: from_json(row, "detail")?,
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
mod tests {
    use super::*;
    use crate::store::Store;

    fn new(name: &str) -> NewEntry<ModelDetail> {
        let detail = ModelDetail {
            architecture: Some(Architecture::Preset("lenet5".into())),
            params: 3,
            nonzero_params: 2,
            macs: 3,
            nodes: 1,
            input_shape: vec![1, 28, 28],
            output_shape: vec![10],
        };
        let file = FileRef { upload: "u".into(), file_name: "m".into(), size_bytes: 1, digest: "sha256:0".into() };
        NewEntry { tenant: "default".into(), display_name: name.into(), files: vec![file], detail }
    }

    #[tokio::test]
    async fn a_repeated_call_gives_the_first_object_and_another_call_with_its_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Store::open(folder.path()).await.unwrap().catalogue;
        let call = Request::new("key", &"content");
        let first = catalogue.create(&new("a"), &call, 7).await.unwrap();
        assert_eq!(first.detail, new("a").detail);
        assert_eq!(catalogue.create(&new("a"), &call, 8).await.unwrap(), first);
        let other = Request::new("key", &"other content");
        let error = catalogue.create(&new("b"), &other, 9).await.unwrap_err();
        assert!(matches!(error, StoreError::RequestIdReused { what: "model", .. }));
        // Without a key, every call makes a new one; another tenant's keys are its own.
        let none = Request::new("", &"content");
        assert_ne!(
            catalogue.create(&new("a"), &none, 9).await.unwrap(),
            catalogue.create(&new("a"), &none, 9).await.unwrap()
        );
        let theirs = NewEntry { tenant: "other".into(), ..new("b") };
        assert_ne!(catalogue.create(&theirs, &other, 9).await.unwrap().id, first.id);
    }

    #[tokio::test]
    async fn pages_are_newest_first_and_join_without_gap_or_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Store::open(folder.path()).await.unwrap().catalogue;
        let mut made = Vec::new();
        for i in 0..5 {
            made.push(catalogue.create(&new("m"), &Request::new("", &i), i).await.unwrap());
        }
        made.reverse();
        let mut seen = Vec::new();
        let mut page = Page { size: 2, before: None };
        loop {
            let entries = catalogue.list::<ModelDetail>("default", &page).await.unwrap();
            let Some(last) = entries.last() else { break };
            page.before = Some(last.id.clone());
            seen.extend(entries);
        }
        assert_eq!(seen, made);
        assert!(catalogue.list::<ModelDetail>("other", &page).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_list_of_data_sets_does_not_read_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let Store { catalogue, .. } = Store::open(folder.path()).await.unwrap();
        let NewEntry { tenant, display_name, files, .. } = new("digits");
        let digits = NewEntry { tenant, display_name, files, detail: DatasetDetail::default() };
        let made = catalogue.create(&digits, &Request::new("", &0), 0).await.unwrap();
        assert_eq!(made.files.len(), 1);
        // Files that are no JSON would be found out if they were read.
        sqlx::query("UPDATE datasets SET files = '?'").execute(catalogue.database.pool()).await.unwrap();
        assert!(catalogue.get::<DatasetDetail>("default", &made.id).await.is_err());
        let page = Page { size: 2, before: None };
        let listed = catalogue.list::<DatasetDetail>("default", &page).await.unwrap();
        assert_eq!(listed, [Entry { files: Vec::new(), ..made }]);
    }
}
