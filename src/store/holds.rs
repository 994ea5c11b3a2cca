//! Which blobs somebody is at.
//!
//! A blob that no row names is garbage, but not at every moment: whoever stores one names it only afterwards, and whoever
//! reads one may outlive the row. Both hold the digest meanwhile. The collector asks for each blob, and is told to leave
//! alone whatever was held at any moment since it began to read the names: what it read may be old for those. While it
//! removes a blob, whoever wants to hold it waits, and stores it anew.
//!
//! Holds are in memory: the data folder belongs to one process, and what a process held when it died nobody holds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::digest::Digest;

/// The holds on one blob store.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    removed: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    /// Held at any moment since the collector began.
    touched: HashSet<Digest>,
    removing: Option<Digest>,
}

/// Keeps a blob from the collector until it is dropped.
#[derive(Debug)]
#[must_use = "a blob that no row names may be collected as soon as nobody holds it"]
pub struct Hold {
    holds: Holds,
    digest: Digest,
}

/// The right to remove a blob; ends when dropped.
#[derive(Debug)]
pub(super) struct Removal(Holds);

impl Holds {
    /// Holds a blob, once nobody is removing it.
    pub async fn hold(&self, digest: &Digest) -> Hold {
        loop {
            let removed = self.0.removed.notified();
            {
                let mut state = self.state();
                if state.removing != Some(*digest) {
                    *state.held.entry(*digest).or_default() += 1;
                    state.touched.insert(*digest);
                    return Hold { holds: self.clone(), digest: *digest };
                }
            }
            removed.await;
        }
    }

    /// Begins to remember what is held, anew. To be called before the names are read. Returns what was held at any moment
    /// since it was called last.
    pub fn begin(&self) -> HashSet<Digest> {
        let mut state = self.state();
        let held = state.held.keys().copied().collect();
        std::mem::replace(&mut state.touched, held)
    }

    /// The right to remove a blob; `None` if it was held since [`Holds::begin`].
    pub fn removal(&self, digest: &Digest) -> Option<Removal> {
        let mut state = self.state();
        if state.touched.contains(digest) {
            return None;
        }
        state.removing = Some(*digest);
        Some(Removal(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.state();
        if let Some(count) = state.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.digest);
            }
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.state().removing = None;
        self.0.0.removed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_held_since_the_collector_began_is_left_alone() {
        let (holds, digest) = (Holds::default(), Digest::of(b"a"));
        let held = holds.hold(&digest).await;
        holds.begin();
        assert!(holds.removal(&digest).is_none());
        drop(held);
        assert!(holds.removal(&digest).is_none(), "its row may be younger than the names that were read");
        holds.begin();
        assert!(holds.removal(&digest).is_some());
    }

    #[tokio::test]
    async fn whoever_comes_while_a_blob_is_removed_waits() {
        let (holds, digest) = (Holds::default(), Digest::of(b"a"));
        holds.begin();
        let removal = holds.removal(&digest).unwrap();
        let waiting = holds.hold(&digest);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        // Another blob is not concerned.
        let _other = holds.hold(&Digest::of(b"b")).await;
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(removal);
        let _held = waiting.await;
        assert!(holds.removal(&digest).is_none());
    }
}
