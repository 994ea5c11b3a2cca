//! VALIDATING to READY or REJECTED: the files of a new model or data set are read by a process of their own.
//!
//! A check is a task of the server's. It goes on when the call that began it has gone, and ends when the server stops. Those
//! that did not decide are begun anew when a server starts, and then once a minute. A call that is repeated meanwhile waits
//! for the same check.
//!
//! What is wrong with the files is the entry's fate and the call's answer, now and whenever the call is repeated. What is
//! wrong with this server (it stops, its disk is full) is the call's answer only: the entry stays VALIDATING, and the call,
//! repeated, tries again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tonic::Status;

use super::Context;
use super::status::{self, RequestError};
use crate::error::{Classify, Failure, Kind, Violation};
use crate::jobs::reader::{Part, Reader, Refusal};
use crate::store::{DatasetDetail, Detail, Entry, EntryState, ModelDetail, NewEntry, StoreError};

/// How often what could not be decided is tried again.
const TAKE_UP_EVERY: Duration = Duration::from_secs(60);

/// What a reader makes of an entry's files.
pub(super) trait Readable: Detail + Send + Sync + Clone + 'static {
    /// Reads them. The fields of a refusal are those of the request that made the entry.
    fn read(reader: &Reader, entry: &Entry<Self>) -> impl Future<Output = Result<Self, Refusal>> + Send;
}

/// The checks at work, by the ids of what they check. A check that has ended tells what kept it from deciding, if anything.
#[derive(Debug, Clone)]
pub(super) struct Running {
    ends: Arc<Mutex<HashMap<String, watch::Receiver<Option<End>>>>>,
    turns: Arc<Semaphore>,
}

/// How a check ended: it has decided, or this failure of the server kept it from that.
type End = Result<(), Failure>;

impl Running {
    /// No checks yet; `turns` of them may be at work at once.
    pub(super) fn new(turns: u32) -> Self {
        Self { ends: Arc::default(), turns: Arc::new(Semaphore::new(turns as usize)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<End>>>> {
        // A poisoned lock: somebody panicked while the map was whole.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// What becomes of an entry: waits for its check, if there is still one to come. The error of a rejected one is the
    /// answer to the call that made it.
    pub(super) async fn checked<D: Readable>(&self, entry: Entry<D>) -> Result<Entry<D>, Status> {
        let Entry { tenant, id, .. } = entry.clone();
        let mut settled = entry;
        if settled.state == EntryState::Validating {
            let mut end = self.check::<D>(tenant.clone(), id.clone());
            match end.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(failure))) => return Err(status::refused(failure)),
                Ok(_) => {}
                // The task is gone without a word: the server stops.
                Err(_) => return Err(RequestError::Stopping.into()),
            }
            settled = self.store.catalogue.get(&tenant, &id).await?;
        }
        match &settled.failure {
            Some(failure) => Err(status::refused(failure)),
            None => Ok(settled),
        }
    }

    /// Begins the checks anew that a server that has gone did not end.
    pub(super) async fn take_up(&self) -> Result<(), StoreError> {
        for (tenant, id) in self.store.catalogue.validating::<ModelDetail>().await? {
            self.check::<ModelDetail>(tenant, id);
        }
        for (tenant, id) in self.store.catalogue.validating::<DatasetDetail>().await? {
            self.check::<DatasetDetail>(tenant, id);
        }
        Ok(())
    }

    /// Begins those again, from time to time until the server stops, that something in the server's way kept from deciding.
    pub(super) async fn take_up_again(self) {
        while timeout(TAKE_UP_EVERY, self.stop.cancelled()).await.is_err() {
            if let Err(error) = self.take_up().await {
                tracing::error!(%error, "what is not validated yet could not be listed");
            }
        }
    }

    /// Begins the check of an entry, unless it is at work. Tells its end.
    fn check<D: Readable>(&self, tenant: String, id: String) -> watch::Receiver<Option<End>> {
        let mut running = self.checks.lock();
        if let Some(end) = running.get(&id) {
            return end.clone();
        }
        let (told, end) = watch::channel(None);
        let ending = Ending { running: self.checks.clone(), id: id.clone() };
        running.insert(id.clone(), end.clone());
        let context = self.clone();
        self.tasks.spawn(async move {
            let done = tokio::select! {
                done = context.decide::<D>(&tenant, &id) => done,
                () = context.stop.cancelled() => Err(Failure::of(&RequestError::Stopping)),
            };
            // First the entry is free to be checked again, then whoever waits is told.
            drop(ending);
            told.send_replace(Some(done));
        });
        end
    }

    /// Reads an entry's files and writes down what was found.
    async fn decide<D: Readable>(&self, tenant: &str, id: &str) -> End {
        // An entry may be large: those that wait for their turn are not in memory. Nobody closes the semaphore.
        let _turn = self.checks.turns.acquire().await;
        let catalogue = &self.store.catalogue;
        let entry = catalogue.get::<D>(tenant, id).await.map_err(|error| Failure::of(&error))?;
        let read = D::read(&self.reader, &entry).await;
        let written = match read {
            Ok(detail) => catalogue.ready(tenant, id, &detail).await.map(|_| ()),
            Err(Refusal::Files { failure, .. }) => {
                tracing::info!(what = D::WHAT, id, reason = failure.reason, "rejected");
                catalogue.reject::<D>(tenant, id, &failure).await.map(|_| ())
            }
            // Bytes that are lost do not come back.
            Err(Refusal::Server(failure)) if failure.kind == Kind::DataLoss => {
                catalogue.reject::<D>(tenant, id, &failure).await.map(|_| ())
            }
            Err(Refusal::Server(failure)) => return Err(failure),
        };
        written.map_err(|error| {
            if error.kind() == Kind::Internal {
                tracing::error!(what = D::WHAT, id, %error, "what was found in files could not be written down");
            }
            Failure::of(&error)
        })
    }
}

/// Takes a check out of the map when it ends, however it ends.
struct Ending {
    running: Running,
    id: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

/// A refusal in the words of a request: `in_request` says where it has what the reader calls bad (empty: all of that part).
pub(super) fn placed(refusal: Refusal, in_request: impl Fn(&Part, &str) -> String) -> Refusal {
    let Refusal::Files { part, mut failure } = refusal else { return refusal };
    for violation in &mut failure.violations {
        violation.field = in_request(&part, &violation.field);
    }
    if failure.violations.is_empty() && failure.kind == Kind::InvalidArgument {
        failure.violations.push(Violation::new(in_request(&part, ""), failure.message.clone()));
    }
    Refusal::Files { part, failure }
}

/// The entry that a call asks about without making it.
pub(super) fn unnamed<D>(new: NewEntry<D>) -> Entry<D> {
    let NewEntry { tenant, display_name, files, detail } = new;
    let (id, state, failure) = (String::new(), EntryState::Ready, None);
    Entry { tenant, id, display_name, files, detail, state, failure, revision: 0, create_ms: 0 }
}
