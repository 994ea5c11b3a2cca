//! What the queue promises, checked on SQLite always and on PostgreSQL where `NIWAKI_TEST_POSTGRES` holds a URL. Time is
//! an argument, so nothing here waits.

use sqlx::AssertSqlSafe;

use super::JobError;
use super::job::{Directive, Failure, Job, JobKey, JobResult, Lease, NewJob, Outcome};
use super::queue::JobQueue;
use super::state::JobState;
use crate::error::{Classify, Kind};
use crate::recipe::run::Progress;
use crate::settings;
use crate::store::{Catalogue, Database, DatasetDetail, NewEntry, Page, Request};

const TTL: i64 = 10_000;
const MAX_LOSSES: u32 = 3;

/// A queue with nothing in it, and a data set that jobs may name.
struct Fixture {
    queue: JobQueue,
    database: Database,
    catalogue: Catalogue,
    dataset: String,
    _folder: Option<tempfile::TempDir>,
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                match super::postgres().await {
                    Some(fixture) => super::$name(fixture).await,
                    None => eprintln!("skipped: NIWAKI_TEST_POSTGRES is not set"),
                }
            })*
        }
    };
}

contract! {
    a_job_is_claimed_once_in_the_order_of_submission
    many_workers_never_share_a_job
    a_repeated_submit_gives_the_first_job
    a_stale_attempt_changes_nothing
    a_job_that_loses_its_workers_fails_in_the_end
    a_job_that_is_given_back_uses_up_no_try
    a_queued_job_is_cancelled_at_once_and_a_running_one_when_its_worker_stops
    finishing_twice_is_finishing_once
    a_failure_and_a_result_read_back_as_they_were_written
    a_job_that_cannot_be_read_fails_and_is_in_nobodys_way
    a_watcher_sees_progress_but_not_heartbeats
    another_tenants_job_does_not_exist
    a_job_without_its_data_set_is_refused
}

async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_file(&folder.path().join("queue.sqlite")).await.unwrap();
    fixture(database, Some(folder)).await
}

/// Each test has a schema of its own.
async fn postgres() -> Option<Fixture> {
    let url = std::env::var("NIWAKI_TEST_POSTGRES").ok()?;
    sqlx::any::install_default_drivers();
    let schema = format!("niwaki_test_{}", uuid::Uuid::new_v4().simple());
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&pool).await.unwrap();
    pool.close().await;
    let join = if url.contains('?') { '&' } else { '?' };
    Some(fixture(Database::open(&format!("{url}{join}options[search_path]={schema}")).await.unwrap(), None).await)
}

fn rules() -> settings::Jobs {
    settings::Jobs { max_losses: MAX_LOSSES, ..settings::Jobs::default() }
}

async fn fixture(database: Database, folder: Option<tempfile::TempDir>) -> Fixture {
    let catalogue = Catalogue::new(database.clone());
    let dataset = dataset(&catalogue, "default").await;
    Fixture { queue: JobQueue::new(database.clone(), rules()), database, catalogue, dataset, _folder: folder }
}

async fn dataset(catalogue: &Catalogue, tenant: &str) -> String {
    let detail = DatasetDetail { source: "idx".into(), train_samples: 8, test_samples: 2, ..DatasetDetail::default() };
    let new = NewEntry { tenant: tenant.into(), display_name: String::new(), files: Vec::new(), detail };
    catalogue.create(&new, &Request::new("", &0), 0).await.unwrap().id
}

impl Fixture {
    fn new_job(&self) -> NewJob {
        NewJob {
            tenant: "default".into(),
            model: None,
            extra_models: Default::default(),
            dataset: self.dataset.clone(),
            recipe: "{}".into(),
            priority: 0,
            time_limit_ms: None,
        }
    }

    async fn submit(&self, now: i64) -> Job {
        self.queue.submit(&self.new_job(), &Request::new("", &0), now).await.unwrap()
    }

    async fn claim(&self, now: i64) -> Lease {
        self.queue.claim("worker", now, TTL).await.unwrap().expect("a job is queued").1
    }

    async fn state(&self, key: &JobKey) -> JobState {
        self.queue.get(key).await.unwrap().state
    }
}

async fn a_job_is_claimed_once_in_the_order_of_submission(f: Fixture) {
    let (first, second) = (f.submit(1).await, f.submit(2).await);
    assert_eq!((first.state, first.revision, first.attempt), (JobState::Queued, 1, 0));
    let (job, lease) = f.queue.claim("worker", 5, TTL).await.unwrap().unwrap();
    assert_eq!((&job.key, job.state, job.attempt, job.revision), (&first.key, JobState::Running, 1, 2));
    assert_eq!((job.worker.as_deref(), job.start_ms), (Some("worker"), Some(5)));
    assert_eq!(lease.attempt, 1);
    assert_eq!(f.queue.get(&first.key).await.unwrap(), job);
    assert_eq!(f.claim(6).await.key, second.key);
    assert!(f.queue.claim("worker", 7, TTL).await.unwrap().is_none());
}

async fn many_workers_never_share_a_job(f: Fixture) {
    for now in 0..24 {
        f.submit(now).await;
    }
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let queue = f.queue.clone();
        workers.spawn(async move {
            let mut claimed = Vec::new();
            while let Some((job, _)) = queue.claim(&format!("worker-{worker}"), 100, TTL).await.unwrap() {
                claimed.push(job.key.id);
            }
            claimed
        });
    }
    let mut all: Vec<String> = workers.join_all().await.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 24);
}

async fn a_repeated_submit_gives_the_first_job(f: Fixture) {
    let call = Request::new("key", &"content");
    let first = f.queue.submit(&f.new_job(), &call, 1).await.unwrap();
    let lease = f.claim(2).await;
    let again = f.queue.submit(&f.new_job(), &call, 3).await.unwrap();
    assert_eq!((again.key, again.state), (first.key.clone(), JobState::Running));
    let error = f.queue.submit(&f.new_job(), &Request::new("key", &"other"), 4).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::AlreadyExists, "REQUEST_ID_REUSED"));
    f.queue.finish(&lease, Outcome::Failed(Failure::crashed("x")), 5).await.unwrap();
    assert_eq!(f.queue.submit(&f.new_job(), &call, 6).await.unwrap().state, JobState::Failed);
}

async fn a_stale_attempt_changes_nothing(f: Fixture) {
    let job = f.submit(0).await;
    let stale = f.claim(0).await;
    assert!(f.queue.expire(TTL - 1).await.unwrap().is_empty());
    assert_eq!(f.queue.expire(TTL).await.unwrap()[0].state, JobState::Queued);
    let fresh = f.claim(TTL).await;
    assert_eq!((stale.attempt, fresh.attempt), (1, 2));
    let before = f.queue.get(&job.key).await.unwrap();
    let progress = Progress { phase: "train".into(), ..Progress::default() };
    assert_eq!(f.queue.heartbeat(&stale, TTL + 1, TTL, Some(progress)).await.unwrap(), Directive::Lost);
    for outcome in [Outcome::Failed(Failure::crashed("stale")), Outcome::Cancelled(Vec::new()), Outcome::Released] {
        let error = f.queue.finish(&stale, outcome, TTL + 2).await.unwrap_err();
        assert!(matches!(error, JobError::LeaseLost { attempt: 1 }));
    }
    assert_eq!(f.queue.get(&job.key).await.unwrap(), before);
    assert_eq!(f.queue.heartbeat(&fresh, TTL + 3, TTL, None).await.unwrap(), Directive::Continue);
}

async fn a_job_that_loses_its_workers_fails_in_the_end(f: Fixture) {
    let job = f.submit(0).await;
    let mut now = 0;
    for _ in 0..MAX_LOSSES {
        f.claim(now).await;
        now += TTL;
        f.queue.expire(now).await.unwrap();
    }
    let job = f.queue.get(&job.key).await.unwrap();
    assert_eq!((job.state, job.attempt, job.finish_ms), (JobState::Failed, MAX_LOSSES, Some(now)));
    assert_eq!(job.failure.unwrap().reason, "WORKER_LOST");
    assert!(f.queue.claim("worker", now, TTL).await.unwrap().is_none());
}

async fn a_job_that_is_given_back_uses_up_no_try(f: Fixture) {
    let job = f.submit(0).await;
    for attempt in 1..=MAX_LOSSES + 2 {
        let lease = f.claim(0).await;
        assert_eq!(lease.attempt, attempt);
        f.queue.finish(&lease, Outcome::Released, 0).await.unwrap();
    }
    assert_eq!(f.state(&job.key).await, JobState::Queued);
}

async fn a_queued_job_is_cancelled_at_once_and_a_running_one_when_its_worker_stops(f: Fixture) {
    let queued = f.submit(0).await;
    let cancelled = f.queue.cancel(&queued.key, 1).await.unwrap();
    assert_eq!((cancelled.state, cancelled.finish_ms), (JobState::Cancelled, Some(1)));
    assert!(f.queue.claim("worker", 2, TTL).await.unwrap().is_none());
    assert_eq!(f.queue.cancel(&queued.key, 3).await.unwrap(), cancelled);

    let running = f.submit(4).await;
    let lease = f.claim(5).await;
    assert_eq!(f.queue.cancel(&running.key, 6).await.unwrap().state, JobState::Cancelling);
    assert_eq!(f.queue.heartbeat(&lease, 7, TTL, None).await.unwrap(), Directive::Cancel);
    f.queue.finish(&lease, Outcome::Cancelled(Vec::new()), 8).await.unwrap();
    assert_eq!(f.state(&running.key).await, JobState::Cancelled);

    // A worker that is lost while stopping has stopped.
    let lost = f.submit(9).await;
    f.claim(10).await;
    f.queue.cancel(&lost.key, 11).await.unwrap();
    f.queue.expire(10 + TTL).await.unwrap();
    assert_eq!(f.state(&lost.key).await, JobState::Cancelled);
}

async fn finishing_twice_is_finishing_once(f: Fixture) {
    f.submit(0).await;
    let lease = f.claim(0).await;
    let failed = f.queue.finish(&lease, Outcome::Failed(Failure::crashed("first")), 1).await.unwrap();
    let again = f.queue.finish(&lease, Outcome::Failed(Failure::crashed("second")), 2).await.unwrap();
    assert_eq!(again, failed);
}

async fn a_failure_and_a_result_read_back_as_they_were_written(f: Fixture) {
    f.submit(0).await;
    let lease = f.claim(0).await;
    let failure = Failure {
        violations: vec![crate::error::Violation::new("steps[0].train.epochs", "is 0")],
        ..Failure::crashed("it said: \"no\"\n")
    };
    f.queue.finish(&lease, Outcome::Failed(failure.clone()), 1).await.unwrap();
    assert_eq!(f.queue.get(&lease.key).await.unwrap().failure, Some(failure));

    f.submit(2).await;
    let lease = f.claim(2).await;
    let report = serde_json::from_str(include_str!("testdata/report.json")).unwrap();
    let result = JobResult { report, artifacts: Vec::new() };
    f.queue.finish(&lease, Outcome::Succeeded(Box::new(result.clone())), 3).await.unwrap();
    let job = f.queue.get(&lease.key).await.unwrap();
    assert_eq!((job.state, job.result), (JobState::Succeeded, Some(result)));
}

async fn a_job_that_cannot_be_read_fails_and_is_in_nobodys_way(f: Fixture) {
    let damage = async |job: &JobKey| {
        let damage = sqlx::query("UPDATE jobs SET progress = '{' WHERE id = $1").bind(&job.id);
        damage.execute(f.database.pool()).await.unwrap();
        assert!(f.queue.get(job).await.is_err());
    };
    let (queued, next) = (f.submit(0).await, f.submit(1).await);
    damage(&queued.key).await;
    let lease = f.claim(2).await;
    assert_eq!(lease.key, next.key);
    let given_up = f.queue.get(&queued.key).await.unwrap();
    assert_eq!((given_up.state, given_up.revision, given_up.finish_ms), (JobState::Failed, 2, Some(2)));

    let (running, other) = (lease.key, f.submit(3).await);
    f.claim(3).await;
    damage(&running).await;
    let expired = f.queue.expire(3 + TTL).await.unwrap();
    assert_eq!(expired.iter().map(|job| &job.key).collect::<Vec<_>>(), [&other.key]);
    assert_eq!(f.state(&running).await, JobState::Failed);

    // The last one that waits may be such a one too.
    f.claim(4 + TTL).await;
    let last = f.submit(5 + TTL).await;
    damage(&last.key).await;
    assert!(f.queue.claim("worker", 6 + TTL, TTL).await.unwrap().is_none());
    assert_eq!(f.state(&last.key).await, JobState::Failed);
}

async fn a_watcher_sees_progress_but_not_heartbeats(f: Fixture) {
    let job = f.submit(0).await;
    let lease = f.claim(0).await;
    f.queue.heartbeat(&lease, 5, TTL, None).await.unwrap();
    let quiet = f.queue.get(&job.key).await.unwrap();
    assert_eq!((quiet.revision, quiet.lease_expires_ms), (2, Some(5 + TTL)));
    let progress = Progress { phase: "train".into(), step: 1, loss: Some(0.5), ..Progress::default() };
    let mut changes = f.queue.changes();
    f.queue.heartbeat(&lease, 6, TTL, Some(progress.clone())).await.unwrap();
    changes.of(&job.key).await;
    let seen = f.queue.get(&job.key).await.unwrap();
    assert_eq!((seen.revision, seen.progress), (3, Some(progress)));
}

async fn another_tenants_job_does_not_exist(f: Fixture) {
    let job = f.submit(0).await;
    let theirs = JobKey { tenant: "other".into(), id: job.key.id.clone() };
    assert_eq!(f.queue.get(&theirs).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(f.queue.cancel(&theirs, 1).await.unwrap_err().kind(), Kind::NotFound);
    let page = Page { size: 10, before: None };
    assert!(f.queue.list("other", &page).await.unwrap().is_empty());
    assert_eq!(f.queue.list("default", &page).await.unwrap(), [job]);
}

async fn a_job_without_its_data_set_is_refused(f: Fixture) {
    let theirs = dataset(&f.catalogue, "other").await;
    for dataset in ["none".to_string(), theirs] {
        let new = NewJob { dataset, ..f.new_job() };
        assert!(f.queue.submit(&new, &Request::new("", &0), 0).await.is_err());
    }
}
