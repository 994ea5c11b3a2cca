//! What operators ask the database: how many jobs there are in which state, and whether it can be written.

use std::collections::BTreeMap;

use super::JobError;
use super::state::JobState;
use crate::store::{Database, StoreError};

/// How many jobs of all tenants are in which state, with 0 for the states that none is in.
pub async fn count(database: &Database) -> Result<BTreeMap<&'static str, u64>, JobError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetch_all(database.pool()).await?;
    let mut states: BTreeMap<&'static str, u64> = JobState::ALL.iter().map(|state| (state.name(), 0)).collect();
    for (name, jobs) in rows {
        let state = JobState::from_name(&name).ok_or_else(|| StoreError::Row { what: format!("state {name:?}") })?;
        states.insert(state.name(), jobs.unsigned_abs());
    }
    Ok(states)
}

/// Takes the database's write lock and lets it go again.
pub async fn check_writable(database: &Database) -> Result<(), JobError> {
    let mut transaction = database.begin().await?;
    // The empty tenant is nobody's: no row is found, but only who may write may look for it this way.
    sqlx::query("UPDATE jobs SET revision = revision WHERE tenant = ''").execute(&mut *transaction).await?;
    transaction.rollback().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_empty_queue_has_no_jobs_in_every_state_and_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open_file(&folder.path().join("db")).await.unwrap();
        let states = count(&database).await.unwrap();
        assert_eq!((states.len(), states.values().sum::<u64>()), (JobState::ALL.len(), 0));
        check_writable(&database).await.unwrap();
        sqlx::query("DROP TABLE jobs").execute(database.pool()).await.unwrap();
        assert!(check_writable(&database).await.is_err());
    }
}
