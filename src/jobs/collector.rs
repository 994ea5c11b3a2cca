//! The collector: from time to time it removes what nobody needs any more.

use std::collections::HashSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::JobError;
use super::queue::JobQueue;
use crate::settings::Retention;
use crate::store::{Collected, Store, Unnamed, before, now_ms};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);

/// Collects until `shutdown`.
pub async fn collect(store: Store, queue: JobQueue, retention: Retention, shutdown: CancellationToken) {
    let mut unnamed = Unnamed::default();
    // What it waits for at the most is the grace that a blob has.
    let every = EVERY.min(Duration::from_secs(u64::from(retention.garbage_seconds).max(1)));
    while !shutdown.is_cancelled() {
        match once(&store, &queue, &retention, &mut unnamed).await {
            Ok((0, nothing)) if nothing == Collected::default() => {}
            Ok((jobs, collected)) => {
                let Collected { uploads, entries, leftovers, blobs, bytes } = collected;
                tracing::info!(jobs, uploads, entries, leftovers, blobs, bytes, "removed what nobody needs any more");
            }
            Err(error) => tracing::error!(%error, "garbage could not be collected"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Collects once; says how many jobs were removed, and what else.
async fn once(
    store: &Store,
    queue: &JobQueue,
    retention: &Retention,
    unnamed: &mut Unnamed,
) -> Result<(u64, Collected), JobError> {
    let now = now_ms();
    let jobs = match before(now, retention.job_days) {
        Some(before) => queue.delete_ended(before).await?,
        None => 0,
    };
    let names_of_jobs = async || queue.names().await;
    Ok((jobs, store.collect(retention, unnamed, now, names_of_jobs).await?))
}

/// What is wrong with a data folder that no server is at, in sentences; nothing, if nothing is.
pub async fn check(store: &Store, queue: &JobQueue) -> Result<Vec<String>, JobError> {
    let mut found = queue.check().await?;
    let names = if found.is_empty() { queue.names().await? } else { HashSet::new() };
    found.extend(store.check(&names).await?);
    Ok(found)
}
