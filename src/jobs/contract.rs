//! What the queue promises, checked on SQLite always and on PostgreSQL where `NIWAKI_TEST_POSTGRES` holds a URL. Time is
//! an argument, so nothing here waits.

use sqlx::{AssertSqlSafe, Row};

use super::JobError;
use super::job::{Checkpoint, Directive, Failure, Job, JobKey, JobResult, Lease, NewJob, Outcome};
use super::queue::JobQueue;
use super::state::JobState;
use crate::error::{Classify, Kind};
use crate::recipe::run::Progress;
use crate::report::EmittedFile;
use crate::settings;
use crate::store::{Begun, Catalogue, Database, DatasetDetail, NewEntry, Page, Request, etag};

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
    a_job_in_whose_way_the_server_is_lets_others_pass_and_is_not_tried_for_ever
    a_queued_job_is_cancelled_at_once_and_a_running_one_when_its_worker_stops
    finishing_twice_is_finishing_once
    a_failure_and_a_result_read_back_as_they_were_written
    a_job_that_cannot_be_read_fails_and_is_in_nobodys_way
    a_watcher_sees_progress_but_not_heartbeats
    another_tenants_job_does_not_exist
    a_job_without_its_data_set_is_refused
    a_job_on_what_is_not_ready_is_refused
    between_tenants_the_one_with_fewest_running_comes_first_and_within_one_priority_then_age
    a_tenant_that_fills_the_queue_holds_up_nobody_and_is_refused_beyond_its_cap
    the_caps_are_exact_however_many_ask_at_once
    a_checkpoint_is_kept_for_the_next_attempt_and_counts_as_getting_on
    a_stale_attempt_moves_no_checkpoint
    a_server_that_starts_takes_every_job_back_without_waiting_for_leases
    a_job_out_of_time_is_told_so_and_keeps_what_it_has
    a_storm_of_cancels_and_an_end_come_to_one_terminal_state
    a_job_is_deleted_once_it_has_ended_and_only_as_the_caller_saw_it
    what_jobs_need_is_not_deleted
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

fn file(name: &str, content: &[u8]) -> EmittedFile {
    let digest = crate::digest::Digest::of(content).to_string();
    EmittedFile { name: name.into(), bytes: content.len() as u64, digest }
}

fn checkpoint(content: &[u8]) -> Checkpoint {
    Checkpoint { file: file("checkpoint.safetensors", content), at_ms: 7 }
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

    /// The same queue, with other rules.
    fn ruled(&self, rules: settings::Jobs) -> JobQueue {
        JobQueue::new(self.database.clone(), rules)
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

async fn a_job_in_whose_way_the_server_is_lets_others_pass_and_is_not_tried_for_ever(f: Fixture) {
    let (hindered, other) = (f.submit(0).await, f.submit(1).await);
    let obstacle = || Outcome::Hindered(Failure::new(Kind::ResourceExhausted, "DISK_FULL", "the disk is full"));
    let lease = f.claim(2).await;
    assert_eq!(lease.key, hindered.key);
    let waits = f.queue.finish(&lease, obstacle(), 3).await.unwrap();
    assert_eq!((waits.state, waits.losses), (JobState::Queued, 0));
    let lease = f.claim(4).await;
    assert_eq!(lease.key, other.key);
    f.queue.finish(&lease, Outcome::Failed(Failure::crashed("x")), 5).await.unwrap();
    assert!(f.queue.claim("worker", waits.not_before_ms - 1, TTL).await.unwrap().is_none());

    // To get on is to begin anew with the waiting; not to, is to fail in the end.
    let mut now = waits.not_before_ms;
    let lease = f.claim(now).await;
    f.queue.checkpoint(&lease, checkpoint(b"a"), now).await.unwrap();
    let mut last = f.queue.finish(&lease, obstacle(), now).await.unwrap();
    assert_eq!((last.obstacles, last.not_before_ms - now), (1, waits.not_before_ms - 3));
    while last.state == JobState::Queued {
        assert!(last.not_before_ms - now <= 600_000);
        now = last.not_before_ms;
        let lease = f.claim(now).await;
        last = f.queue.finish(&lease, obstacle(), now).await.unwrap();
    }
    assert_eq!((last.state, last.failure.unwrap().reason.as_str()), (JobState::Failed, "DISK_FULL"));
    assert!(now > 2 * 3_600_000, "{now}");
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
    let page = Page { size: 10, ..Page::default() };
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

async fn a_job_on_what_is_not_ready_is_refused(f: Fixture) {
    let detail = DatasetDetail::default();
    let new = NewEntry { tenant: "default".into(), display_name: String::new(), files: Vec::new(), detail };
    let Begun::New(entry) = f.catalogue.begin(&new, &Request::new("", &0), 0).await.unwrap() else {
        panic!("it is new")
    };
    let job = NewJob { dataset: entry.id.clone(), ..f.new_job() };
    let submit = async || f.queue.submit(&job, &Request::new("", &0), 0).await;
    let error = submit().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "NOT_READY"));
    f.catalogue.ready("default", &entry.id, &new.detail).await.unwrap();
    let submitted = submit().await.unwrap();
    f.queue.cancel(&submitted.key, 1).await.unwrap();
    f.catalogue.delete::<DatasetDetail>("default", &entry.id, "").await.unwrap();
    assert_eq!(submit().await.unwrap_err().kind(), Kind::NotFound);
}

async fn between_tenants_the_one_with_fewest_running_comes_first_and_within_one_priority_then_age(f: Fixture) {
    let theirs = dataset(&f.catalogue, "other").await;
    let submit = async |tenant: &str, priority: i32, now: i64| {
        let dataset = if tenant == "other" { theirs.clone() } else { f.dataset.clone() };
        let new = NewJob { tenant: tenant.into(), dataset, priority, ..f.new_job() };
        f.queue.submit(&new, &Request::new("", &0), now).await.unwrap().key
    };
    let late = submit("default", 0, 2).await;
    let early = submit("default", 0, 1).await;
    let low = submit("default", -100, 0).await;
    let urgent = submit("default", 100, 3).await;
    let (first, second) = (submit("other", 0, 4).await, submit("other", 0, 5).await);
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(f.claim(10).await.key);
    }
    assert_eq!(order, [urgent, first, early, second, late, low]);
}

async fn a_tenant_that_fills_the_queue_holds_up_nobody_and_is_refused_beyond_its_cap(f: Fixture) {
    let queue = f.ruled(settings::Jobs { max_queued: 50, max_running: 2, ..rules() });
    for now in 0..50 {
        queue.submit(&f.new_job(), &Request::new("", &0), now).await.unwrap();
    }
    let error = queue.submit(&f.new_job(), &Request::new("", &0), 50).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "QUEUE_FULL"));
    assert_eq!(error.metadata(), [("limit", "50".to_string())]);
    let (_, first) = queue.claim("worker", 50, TTL).await.unwrap().unwrap();
    let new = NewJob { tenant: "other".into(), dataset: dataset(&f.catalogue, "other").await, ..f.new_job() };
    let theirs = queue.submit(&new, &Request::new("", &0), 51).await.unwrap();
    assert_eq!(queue.claim("worker", 52, TTL).await.unwrap().unwrap().0.key, theirs.key);
    // A job that runs counts until it has ended.
    assert_eq!(queue.submit(&f.new_job(), &Request::new("", &0), 53).await.unwrap_err().reason(), "QUEUE_FULL");
    queue.claim("worker", 54, TTL).await.unwrap().unwrap();
    assert!(queue.claim("worker", 55, TTL).await.unwrap().is_none(), "as many run as may");
    queue.finish(&first, Outcome::Failed(Failure::crashed("x")), 56).await.unwrap();
    queue.submit(&f.new_job(), &Request::new("", &0), 57).await.unwrap();
    assert!(queue.claim("worker", 58, TTL).await.unwrap().is_some());
}

async fn the_caps_are_exact_however_many_ask_at_once(f: Fixture) {
    let queue = f.ruled(settings::Jobs { max_queued: 7, max_running: 3, ..rules() });
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..20 {
        let (queue, new) = (queue.clone(), f.new_job());
        calls.spawn(async move { queue.submit(&new, &Request::new(format!("key-{i}"), &i), i).await.is_ok() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|taken| *taken).count(), 7);
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..8 {
        let queue = queue.clone();
        calls.spawn(async move { queue.claim(&format!("worker-{i}"), 100, TTL).await.unwrap().is_some() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|claimed| *claimed).count(), 3);
    // A call that is repeated is answered although the queue is full.
    let jobs = queue.list("default", &Page { size: 50, ..Page::default() }).await.unwrap();
    assert_eq!(jobs.len(), 7);
    let mut repeated = 0;
    for i in 0..20 {
        let again = queue.submit(&f.new_job(), &Request::new(format!("key-{i}"), &i), i).await;
        repeated += usize::from(again.is_ok_and(|again| jobs.iter().any(|job| job.key == again.key)));
    }
    assert_eq!(repeated, 7);
}

async fn a_checkpoint_is_kept_for_the_next_attempt_and_counts_as_getting_on(f: Fixture) {
    let job = f.submit(0).await;
    for step in 0..2 * MAX_LOSSES as u8 {
        let lease = f.claim(0).await;
        let (directive, replaced) = f.queue.checkpoint(&lease, checkpoint(&[step]), 1).await.unwrap();
        assert_eq!(
            (directive, replaced),
            (Directive::Continue, step.checked_sub(1).map(|before| checkpoint(&[before])))
        );
        let lost = f.queue.finish(&lease, Outcome::Lost(Failure::crashed("a signal")), 2).await.unwrap();
        assert_eq!((lost.state, lost.losses, lost.checkpoint), (JobState::Queued, 1, Some(checkpoint(&[step]))));
    }
    let mut end = f.queue.get(&job.key).await.unwrap();
    while !end.state.is_terminal() {
        let lease = f.claim(3).await;
        let failure = Failure::new(Kind::ResourceExhausted, "OUT_OF_MEMORY", "the process used it all");
        end = f.queue.finish(&lease, Outcome::Lost(failure), 4).await.unwrap();
    }
    assert_eq!((end.state, end.attempt, end.checkpoint), (JobState::Failed, 3 * MAX_LOSSES - 1, None));
    assert_eq!(end.failure.unwrap().reason, "OUT_OF_MEMORY");
}

async fn a_stale_attempt_moves_no_checkpoint(f: Fixture) {
    let job = f.submit(0).await;
    let stale = f.claim(0).await;
    f.queue.expire(TTL).await.unwrap();
    let fresh = f.claim(TTL).await;
    f.queue.checkpoint(&fresh, checkpoint(b"fresh"), TTL).await.unwrap();
    assert_eq!(f.queue.checkpoint(&stale, checkpoint(b"stale"), TTL).await.unwrap(), (Directive::Lost, None));
    assert_eq!(f.queue.get(&job.key).await.unwrap().checkpoint, Some(checkpoint(b"fresh")));
}

async fn a_server_that_starts_takes_every_job_back_without_waiting_for_leases(f: Fixture) {
    let (running, cancelling, waiting) = (f.submit(0).await, f.submit(1).await, f.submit(2).await);
    for _ in 0..2 {
        f.claim(5).await;
    }
    f.queue.cancel(&cancelling.key, 6).await.unwrap();
    // The clock may have been set back meanwhile: leases of the time before say nothing.
    assert_eq!(f.queue.take_back_all(3).await.unwrap().len(), 2);
    assert_eq!(f.state(&cancelling.key).await, JobState::Cancelled);
    let taken = f.queue.get(&running.key).await.unwrap();
    assert_eq!((taken.state, taken.losses, taken.run_ms), (JobState::Queued, 1, 0));
    assert_eq!(f.queue.get(&waiting.key).await.unwrap(), waiting);
    for _ in 1..MAX_LOSSES {
        assert_eq!(f.claim(7).await.key, running.key);
        f.queue.take_back_all(8).await.unwrap();
    }
    let failed = f.queue.get(&running.key).await.unwrap();
    assert_eq!((failed.state, failed.failure.unwrap().reason.as_str()), (JobState::Failed, "WORKER_LOST"));
}

async fn a_job_out_of_time_is_told_so_and_keeps_what_it_has(f: Fixture) {
    let new = NewJob { time_limit_ms: Some(1000), ..f.new_job() };
    f.queue.submit(&new, &Request::new("", &0), 0).await.unwrap();
    let first = f.claim(0).await;
    f.queue.finish(&first, Outcome::Released, 600).await.unwrap();
    let second = f.claim(5000).await;
    assert_eq!(f.queue.heartbeat(&second, 5399, TTL, None).await.unwrap(), Directive::Continue);
    assert_eq!(f.queue.heartbeat(&second, 5400, TTL, None).await.unwrap(), Directive::TimeOut);
    let kept = vec![file("best.safetensors", b"best")];
    f.queue.finish(&second, Outcome::TimedOut(kept.clone()), 5401).await.unwrap();
    let ended = f.queue.get(&second.key).await.unwrap();
    assert_eq!((ended.state, ended.partial, ended.run_ms), (JobState::Failed, kept, 1001));
    assert_eq!(ended.failure.unwrap().kind, Kind::DeadlineExceeded);
}

async fn a_storm_of_cancels_and_an_end_come_to_one_terminal_state(f: Fixture) {
    let job = f.submit(0).await;
    let lease = f.claim(1).await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (queue, lease) = (f.queue.clone(), lease.clone());
        calls.spawn(async move {
            if i == 20 {
                queue.finish(&lease, Outcome::Failed(Failure::crashed("x")), 2).await.map(|job| job.state)
            } else {
                queue.cancel(&lease.key, 2).await.map(|job| job.state)
            }
        });
    }
    let seen: Vec<JobState> = calls.join_all().await.into_iter().collect::<Result<_, _>>().unwrap();
    let end = f.queue.get(&job.key).await.unwrap();
    assert!(matches!(end.state, JobState::Failed | JobState::Cancelled));
    assert!(seen.iter().all(|state| !state.is_terminal() || *state == end.state), "{seen:?}");
    assert_eq!(f.queue.cancel(&job.key, 3).await.unwrap(), end);
}

async fn a_job_is_deleted_once_it_has_ended_and_only_as_the_caller_saw_it(f: Fixture) {
    let job = f.submit(0).await;
    let error = f.queue.delete(&job.key, "").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "JOB_STATE"));
    let ended = f.queue.cancel(&job.key, 1).await.unwrap();
    let error = f.queue.delete(&job.key, &etag(job.revision)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Aborted, "ETAG_MISMATCH"));
    let theirs = JobKey { tenant: "other".into(), ..job.key.clone() };
    assert_eq!(f.queue.delete(&theirs, "").await.unwrap_err().kind(), Kind::NotFound);
    f.queue.delete(&job.key, &etag(ended.revision)).await.unwrap();
    assert_eq!(f.queue.get(&job.key).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(f.queue.delete(&job.key, "").await.unwrap_err().kind(), Kind::NotFound);
}

async fn what_jobs_need_is_not_deleted(f: Fixture) {
    let job = f.submit(0).await;
    let error = f.catalogue.delete::<DatasetDetail>("default", &f.dataset, "").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "IN_USE"));
    assert!(error.to_string().contains(&job.key.id), "{error}");
    f.queue.cancel(&job.key, 1).await.unwrap();
    f.catalogue.delete::<DatasetDetail>("default", &f.dataset, "").await.unwrap();
    // The job still says what it was about.
    assert_eq!(f.queue.get(&job.key).await.unwrap().dataset, f.dataset);
}

/// A queue of any length costs a claim the same: both steps go by the index, and nothing is sorted.
#[tokio::test]
async fn a_claim_goes_by_the_index_alone() {
    let f = sqlite().await;
    let sql = format!("EXPLAIN QUERY PLAN {}", super::queue::NEXT_IN_LINE);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(1i64).bind(0i64).fetch_all(f.database.pool()).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
    let looks: Vec<&String> = plan.iter().filter(|step| step.contains("SEARCH") || step.contains("SCAN")).collect();
    for step in &looks {
        let by_index = ["USING INDEX", "USING COVERING INDEX", "USING AUTOMATIC"].iter().any(|how| step.contains(how));
        assert!(by_index || step.starts_with("SCAN w") || step.starts_with("SCAN r"), "{plan:#?}");
    }
    assert!(looks.iter().filter(|step| step.contains("jobs_queued")).count() >= 3, "{plan:#?}");
}
