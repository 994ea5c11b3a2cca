//! Removes what nobody needs any more: uploads that were given up or never used, models and data sets that were rejected
//! or deleted, and blobs that no row names.
//!
//! # Why nothing is removed that somebody needs
//!
//! A blob gets its name after its bytes, so a blob without a name may be one that is about to be named. Whoever writes or
//! reads one holds it ([`Hold`](super::Hold)); a collection remembers what was held at any moment since before it read the
//! names, and leaves that alone. What it removes was therefore neither named when it looked nor held since, and whoever
//! comes later waits until it is gone and writes it anew. A death at any point leaves garbage for the next collection.
//!
//! Blobs stay for a time after their last name has gone (`retention.garbage_seconds`, counted from the first collection
//! that finds them so): a backup that has copied the database has that long to copy the blobs. Checkpoints that a younger one
//! has replaced do not: there are too many of them, and a backup that misses one copies the database again.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use sqlx::{AssertSqlSafe, Row};

use super::{DatasetDetail, Detail, ModelDetail, Store, StoreError};
use crate::digest::Digest;
use crate::settings::Retention;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What earlier collections found without a name, and when they first did.
#[derive(Debug, Default)]
pub struct Unnamed(HashMap<Digest, i64>);

/// What a collection removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Uploads, open and complete.
    pub uploads: u64,
    /// Models and data sets.
    pub entries: u64,
    /// Files without a row.
    pub leftovers: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of these blobs.
    pub bytes: u64,
}

impl Store {
    /// Removes what nobody needs at `now`. `names_of_jobs` is asked for the blobs that jobs name.
    pub async fn collect(
        &self,
        retention: &Retention,
        unnamed: &mut Unnamed,
        now: i64,
        names_of_jobs: impl AsyncFnOnce() -> Result<HashSet<Digest>, StoreError>,
    ) -> Result<Collected, StoreError> {
        let mut collected = Collected { uploads: self.uploads.remove_expired(now).await?, ..Collected::default() };
        for table in [ModelDetail::TABLE, DatasetDetail::TABLE] {
            collected.entries += self.remove_entries(table, before(now, retention.rejected_days)).await?;
        }
        if let Some(before) = before(now, retention.upload_days) {
            collected.uploads += self.remove_unused(before).await?;
        }
        collected.leftovers = self.uploads.remove_leftovers().await?;

        let _alone = self.blobs.removing.lock().await;
        let touched = self.blobs.begin_collection();
        let mut named = names_of_jobs().await?;
        named.extend(self.catalogue.names().await?);
        let listed = self.blobs.list().await?;
        for (digest, path) in &listed.staged {
            collected.leftovers += u64::from(self.blobs.remove_staged(digest, path).await?);
        }
        let garbage: Vec<_> = listed.blobs.into_iter().filter(|(digest, _)| !named.contains(digest)).collect();
        let found: HashSet<Digest> = garbage.iter().map(|(digest, _)| *digest).collect();
        // What was held since the last collection may have had a name again meanwhile: its time begins anew.
        unnamed.0.retain(|digest, _| found.contains(digest) && !touched.contains(digest));
        let spent = {
            let mut spent = self.blobs.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.retain(|digest| found.contains(digest));
            spent.clone()
        };
        for (digest, bytes) in garbage {
            let since = *unnamed.0.entry(digest).or_insert(now);
            if now - since < i64::from(retention.garbage_seconds) * 1000 && !spent.contains(&digest) {
                continue;
            }
            match self.blobs.remove(&digest).await {
                Ok(false) => {}
                Ok(true) => {
                    unnamed.0.remove(&digest);
                    collected.blobs += 1;
                    collected.bytes += bytes;
                }
                // One that cannot be removed is in no other's way.
                Err(error) => tracing::error!(%digest, %error, "a blob that nobody names could not be removed"),
            }
        }
        self.database.shrink().await?;
        Ok(collected)
    }

    /// Removes entries that are deleted, or were rejected before a time, and that no job names.
    async fn remove_entries(&self, table: &str, rejected_before: Option<i64>) -> Result<u64, StoreError> {
        let mut sql = format!(
            "DELETE FROM {table} WHERE (state = 'DELETED' OR state = 'REJECTED')
             AND (state = 'DELETED' OR create_ms < $1)
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.tenant = {table}.tenant AND jobs.{column} = {table}.id)",
            column = table.trim_end_matches('s')
        );
        if table == ModelDetail::TABLE {
            // Those that a recipe speaks of.
            sql += " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.tenant = models.tenant AND jobs.extra_models <> '{}'
                     AND jobs.extra_models LIKE '%:\"' || models.id || '\"%')";
        }
        let query = sqlx::query(AssertSqlSafe(sql)).bind(rejected_before.unwrap_or(i64::MIN));
        Ok(query.execute(self.database.pool()).await?.rows_affected())
    }

    /// Removes uploads that were complete before a time and that nothing is made of.
    async fn remove_unused(&self, before: i64) -> Result<u64, StoreError> {
        let used = self.catalogue.uploads_in_use().await?;
        let sql = "SELECT tenant, id FROM uploads WHERE state = 'COMPLETE' AND complete_ms < $1";
        let mut removed = 0;
        for row in sqlx::query(sql).bind(before).fetch_all(self.database.pool()).await? {
            let (tenant, id): (&str, &str) = (row.try_get("tenant")?, row.try_get("id")?);
            if used.contains(id) {
                continue;
            }
            // A model that is being made of it at this moment either finds it or is told that it is gone.
            match self.uploads.delete(tenant, id, "").await {
                Ok(()) => removed += 1,
                Err(StoreError::NotFound { .. } | StoreError::UploadBusy { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// The time so many days ago; `None` if that is for ever.
pub fn before(now: i64, days: u32) -> Option<i64> {
    (days > 0).then(|| now - i64::from(days) * DAY_MS)
}

#[cfg(test)]
mod tests;
