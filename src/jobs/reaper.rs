//! The reaper: takes jobs away from workers that were not heard of.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::queue::JobQueue;
use crate::store::now_ms;

/// How often leases are looked over.
const EVERY: Duration = Duration::from_secs(2);

/// Looks over the leases until `shutdown`.
pub async fn reap(queue: JobQueue, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match queue.expire(now_ms()).await {
            Ok(expired) => {
                for job in expired {
                    tracing::warn!(job = job.key.id, attempt = job.attempt, state = %job.state, "a worker was lost");
                }
            }
            Err(error) => tracing::error!(%error, "leases could not be looked over"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
