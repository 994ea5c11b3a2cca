//! A worker's heart: a task of its own that never computes and never waits for whoever does, so that the lease is kept
//! whatever the job's process and the store are doing.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::job::{Directive, Lease};
use super::queue::JobQueue;
use super::state::JobState;
use crate::recipe::run::Progress;
use crate::store::now_ms;

/// How often a worker is heard of at least: often enough that a cancel is seen within a second.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How often progress is written at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Keeps the lease, writes progress, and hears what to do.
pub(super) struct Heart {
    pub(super) queue: JobQueue,
    pub(super) lease: Lease,
    pub(super) lease_ms: i64,
    pub(super) progress: watch::Receiver<Option<Progress>>,
    pub(super) director: watch::Sender<Directive>,
}

impl Heart {
    /// Beats until it is dropped.
    pub(super) async fn beat(mut self) {
        let mut changes = self.queue.changes();
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beaten = Instant::now();
        loop {
            let due = tokio::select! {
                _ = ticks.tick() => self.progress.has_changed().unwrap_or(false) || beaten.elapsed() >= BEAT_EVERY,
                // Most changes are our own progress; only a cancel is worth a beat at once.
                () = changes.of(&self.lease.key) => self.is_cancelling().await,
            };
            if !due {
                continue;
            }
            let news = self.progress.has_changed().unwrap_or(false);
            let progress = if news { self.progress.borrow_and_update().clone() } else { None };
            // A queue that does not answer keeps no lease.
            let lease = Duration::from_millis(self.lease_ms as u64);
            let beat = self.queue.heartbeat(&self.lease, now_ms(), self.lease_ms, progress);
            let beat = timeout(lease.saturating_sub(beaten.elapsed()), beat).await;
            match beat {
                Ok(Ok(directive)) => {
                    beaten = Instant::now();
                    self.director.send_if_modified(|now| std::mem::replace(now, directive) != directive);
                }
                Ok(Err(error)) => {
                    tracing::warn!(job = self.lease.key.id, %error, "a heartbeat failed");
                    if beaten.elapsed() >= lease {
                        self.director.send_replace(Directive::Lost);
                    }
                }
                Err(_) => {
                    tracing::warn!(job = self.lease.key.id, "the queue did not take a heartbeat in time");
                    self.director.send_replace(Directive::Lost);
                }
            }
        }
    }

    async fn is_cancelling(&self) -> bool {
        self.queue.get(&self.lease.key).await.is_ok_and(|job| job.state == JobState::Cancelling)
    }
}
