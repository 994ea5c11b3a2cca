//! Takes what a job's process saved on the way into the store, so that another process goes on from there.
//!
//! A task of its own: a checkpoint may be large, and whoever attends to the process must hear of a cancel meanwhile. One
//! that comes while another is being stored takes the place of all between. When something goes wrong the one before stays
//! in its place, and the job goes on: it only has more to lose.

use std::path::PathBuf;

use tokio::sync::watch;

use super::JobError;
use super::emitted::{self, Taken};
use super::job::{Checkpoint, Failure, Lease};
use super::queue::JobQueue;
use crate::error::Classify;
use crate::recipe::CHECKPOINT_FILE;
use crate::store::{Store, now_ms, stored_digest};

/// Stores what one process saves.
#[derive(Debug)]
pub(super) struct Saver {
    pub(super) queue: JobQueue,
    pub(super) store: Store,
    pub(super) lease: Lease,
    /// Where the process writes.
    pub(super) room: PathBuf,
    /// Where it cannot.
    pub(super) kept: PathBuf,
}

impl Saver {
    /// Stores what is announced until nobody is left to announce anything.
    pub(super) async fn run(&self, mut announced: watch::Receiver<()>) {
        while announced.changed().await.is_ok() {
            self.save().await;
        }
    }

    /// Stores what was saved last, if that has not been done.
    pub(super) async fn save(&self) {
        let taken = match self.take().await {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(failure) => {
                let (job, problem) = (&self.lease.key.id, failure.message);
                return tracing::warn!(job, problem, "a checkpoint is put aside");
            }
        };
        match self.store(taken).await {
            Ok(bytes) => tracing::debug!(job = self.lease.key.id, bytes, "checkpoint"),
            Err(error) => {
                tracing::warn!(job = self.lease.key.id, %error, reason = error.reason(), "a checkpoint is not stored");
            }
        }
    }

    async fn take(&self) -> Result<Option<Taken>, Failure> {
        let (room, kept) = (self.room.clone(), self.kept.clone());
        let taken = tokio::task::spawn_blocking(move || emitted::take(&room, CHECKPOINT_FILE, &kept)).await;
        taken.map_err(|error| Failure::crashed(error.to_string()))?
    }

    async fn store(&self, taken: Taken) -> Result<u64, JobError> {
        let Taken { path, digest, file } = taken;
        let _named_below = self.store.blobs.put_file(&path, &digest).await?;
        let (bytes, now) = (file.bytes, now_ms());
        let (_, replaced) = self.queue.checkpoint(&self.lease, Checkpoint { file, at_ms: now }, now).await?;
        if let Some(replaced) = replaced {
            self.store.blobs.spend(stored_digest(&replaced.file.digest)?);
        }
        Ok(bytes)
    }
}
