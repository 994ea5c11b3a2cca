//! The queue: jobs and their leases in the database.
//!
//! Each step is one transaction: read the row and lock it, let [`Job`] make the step, write the row back. The machine is
//! therefore in one place, in Rust, and SQL only stores it. Whoever follows a job is told in this process at once;
//! across processes they look again every second.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row, Transaction};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::JobError;
use super::job::{Checkpoint, Directive, Failure, Job, JobKey, Lease, NewJob, Outcome};
use super::state::JobState;
use crate::digest::Digest;
use crate::error::Kind;
use crate::recipe::run::Progress;
use crate::report::EmittedFile;
use crate::settings;
use crate::store::{Database, EntryState, Page, Request, StoreError, check_etag, new_id, stored_digest};

/// How often whoever waits for a change looks without being told.
const POLL: Duration = Duration::from_secs(1);
/// Changes that a slow watcher may be behind; one that is further behind looks again.
const BACKLOG: usize = 256;

/// The columns whose length has a small bound: all but `recipe` and `result`.
const SHORT: &str =
    "tenant, id, model, extra_models, dataset, priority, time_limit_ms, state, revision, attempt, losses, obstacles, run_ms,
    worker, lease_expires_ms, progress, failure, checkpoint, partial, create_ms, not_before_ms, start_ms, finish_ms";
/// What of a recipe and of a result a list leaves out.
const UNLISTED_RECIPE: &[&str] = &["description", "data", "start", "steps"];
const UNLISTED_RESULT: &[&str] = &["report.classes", "report.start", "report.steps"];

/// The queue.
#[derive(Debug, Clone)]
pub struct JobQueue {
    database: Database,
    rules: settings::Jobs,
    changes: broadcast::Sender<JobKey>,
}

/// Hears of changes.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<JobKey>);

impl JobQueue {
    /// The queue in a database; `rules` are what a job may do.
    pub fn new(database: Database, rules: settings::Jobs) -> Self {
        Self { database, rules, changes: broadcast::Sender::new(BACKLOG) }
    }

    /// Puts a job into the queue, or returns the one that an earlier call with this request put there. Model and data set
    /// must be READY, and the tenant may have only so many jobs that wait or run: both are looked at in the transaction
    /// that adds the job, so that neither a delete nor another submit comes between.
    pub async fn submit(&self, new: &NewJob, request: &Request, now: i64) -> Result<Job, JobError> {
        let mut tx = self.database.begin().await?;
        self.database.lock_name(&mut tx, &format!("submit {}", new.tenant)).await?;
        if let Some(first) = made_by(&mut *tx, &new.tenant, request).await? {
            return Ok(first);
        }
        let models = new.model.iter().chain(new.extra_models.values()).map(|id| ("model", "models", id));
        for (what, table, id) in models.chain([("dataset", "datasets", &new.dataset)]) {
            let sql = format!("SELECT state FROM {table} WHERE tenant = $1 AND id = $2 {}", self.database.lock_row());
            let row = sqlx::query(AssertSqlSafe(sql)).bind(&new.tenant).bind(id).fetch_optional(&mut *tx).await?;
            let state = row.as_ref().map(|row| row.try_get("state")).transpose()?.and_then(EntryState::from_name);
            match state {
                Some(EntryState::Ready) => {}
                None | Some(EntryState::Deleted) => return Err(StoreError::NotFound { what, id: id.clone() }.into()),
                Some(state) => return Err(StoreError::NotReady { what, id: id.clone(), state: state.name() }.into()),
            }
        }
        let limit = self.rules.max_queued;
        let active = sqlx::query("SELECT COUNT(*) FROM jobs WHERE tenant = $1 AND finish_ms IS NULL");
        let active: i64 = active.bind(&new.tenant).fetch_one(&mut *tx).await?.try_get(0)?;
        if active >= i64::from(limit) {
            return Err(JobError::QueueFull { limit });
        }
        let job = Job::new(new_id(), new.clone(), now);
        sqlx::query(
            "INSERT INTO jobs (tenant, id, request_id, request_digest, model, extra_models, dataset, recipe, priority,
                 time_limit_ms, state, revision, attempt, losses, run_ms, create_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, 0, 0, 0, $12)",
        )
        .bind(&job.key.tenant)
        .bind(&job.key.id)
        .bind(&request.id)
        .bind(&request.digest)
        .bind(&job.model)
        .bind(to_json(&Some(&job.extra_models))?)
        .bind(&job.dataset)
        .bind(&job.recipe)
        .bind(i64::from(job.priority))
        .bind(job.time_limit_ms)
        .bind(job.state.name())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.tell(&job.key);
        Ok(job)
    }

    /// The job that an earlier call with this request made, if there was one; an error if that call said something else.
    pub async fn made_by(&self, tenant: &str, request: &Request) -> Result<Option<Job>, JobError> {
        made_by(self.database.pool(), tenant, request).await
    }

    /// Reads a job.
    pub async fn get(&self, key: &JobKey) -> Result<Job, JobError> {
        let query = sqlx::query("SELECT * FROM jobs WHERE tenant = $1 AND id = $2").bind(&key.tenant).bind(&key.id);
        let row = query.fetch_optional(self.database.pool()).await?;
        Ok(from_row(&row.ok_or_else(|| not_found(key))?)?)
    }

    /// A page of a tenant's jobs, without what may be too large for one.
    pub async fn list(&self, tenant: &str, page: &Page) -> Result<Vec<Job>, JobError> {
        let sql = format!(
            "SELECT {SHORT}, {}, {} FROM jobs WHERE tenant = $1 AND ($2 = '' OR id < $2) {} ORDER BY id DESC LIMIT $3",
            self.database.without("recipe", UNLISTED_RECIPE),
            self.database.without("result", UNLISTED_RESULT),
            page.filter.sql(4)
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .bind(page.before.as_deref().unwrap_or_default())
            .bind(i64::from(page.size));
        let rows = page.filter.bind(query).fetch_all(self.database.pool()).await?;
        Ok(rows.iter().map(from_row).collect::<Result<_, _>>()?)
    }

    /// Removes a job that has ended. Its artifacts become garbage.
    pub async fn delete(&self, key: &JobKey, etag: &str) -> Result<(), JobError> {
        let mut tx = self.database.begin().await?;
        let sql =
            format!("SELECT state, revision FROM jobs WHERE tenant = $1 AND id = $2 {}", self.database.lock_row());
        let row = sqlx::query(AssertSqlSafe(sql)).bind(&key.tenant).bind(&key.id).fetch_optional(&mut *tx).await?;
        let row = row.ok_or_else(|| not_found(key))?;
        check_etag("job", &key.id, etag, row.try_get::<i64, _>("revision")? as u64)?;
        let state: &str = row.try_get("state")?;
        // A state that this version does not know can be deleted: nothing else can happen to it.
        if let Some(state) = JobState::from_name(state)
            && !state.is_terminal()
        {
            return Err(JobError::Impossible { state: state.name(), event: "be deleted: cancel it first" });
        }
        let query = sqlx::query("DELETE FROM jobs WHERE tenant = $1 AND id = $2").bind(&key.tenant).bind(&key.id);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        self.tell(key);
        Ok(())
    }

    /// Removes jobs that ended before a time; says how many. Their artifacts become garbage.
    pub async fn delete_ended(&self, before: i64) -> Result<u64, JobError> {
        let query = sqlx::query("DELETE FROM jobs WHERE finish_ms IS NOT NULL AND finish_ms < $1").bind(before);
        Ok(query.execute(self.database.pool()).await?.rows_affected())
    }

    /// The blobs that jobs of all tenants name: artifacts, what stopped jobs kept, checkpoints.
    pub async fn names(&self) -> Result<HashSet<Digest>, StoreError> {
        /// What of a result names blobs.
        #[derive(Deserialize)]
        struct Artifacts {
            artifacts: Vec<EmittedFile>,
        }
        let mut names = HashSet::new();
        let mut rows = sqlx::query("SELECT result, partial, checkpoint FROM jobs").fetch(self.database.pool());
        while let Some(row) = rows.try_next().await? {
            let result: Option<Artifacts> = from_json(&row, "result")?;
            let partial: Option<Vec<EmittedFile>> = from_json(&row, "partial")?;
            let checkpoint: Option<Checkpoint> = from_json(&row, "checkpoint")?;
            let files = result.into_iter().flat_map(|result| result.artifacts).chain(partial.into_iter().flatten());
            for file in files.chain(checkpoint.map(|checkpoint| checkpoint.file)) {
                names.insert(stored_digest(&file.digest)?);
            }
        }
        Ok(names)
    }

    /// The rows that cannot be read, in sentences.
    pub async fn check(&self) -> Result<Vec<String>, JobError> {
        let mut rows = sqlx::query("SELECT * FROM jobs").fetch(self.database.pool());
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await? {
            if let Err(error) = from_row(&row) {
                found.push(format!("job {}: {error}", row.try_get::<&str, _>("id")?));
            }
        }
        Ok(found)
    }

    /// Asks a job to stop.
    pub async fn cancel(&self, key: &JobKey, now: i64) -> Result<Job, JobError> {
        self.step(key, |job| job.cancel(now)).await.map(|(job, ())| job)
    }

    /// Gives a queued job to a worker for `ttl` milliseconds: a job of the tenant that has the fewest running, of that
    /// tenant's the one with the highest priority, of those the oldest. A tenant with as many running as it may have is
    /// passed over, and so is a job that waits until something in its way may be gone.
    pub async fn claim(&self, worker: &str, now: i64, ttl: i64) -> Result<Option<(Job, Lease)>, JobError> {
        // A look without a lock comes first: idle workers must not be in the way of whoever writes.
        let most = i64::from(self.rules.max_running);
        if next_in_line(self.database.pool(), most, now).await?.is_none() {
            return Ok(None);
        }
        let mut tx = self.database.begin().await?;
        // One claim at a time, so that no two of them count the same running jobs.
        self.database.lock_name(&mut tx, "claim").await?;
        let mut claimed = None;
        while let Some(key) = next_in_line(&mut *tx, most, now).await? {
            // Whoever cancels it may have been faster.
            let sql = format!(
                "SELECT * FROM jobs WHERE tenant = $1 AND id = $2 AND state = 'QUEUED' {}",
                self.database.lock_row()
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(&key.tenant).bind(&key.id);
            let Some(row) = query.fetch_optional(&mut *tx).await? else { continue };
            match from_row(&row) {
                Ok(job) => {
                    claimed = Some(job);
                    break;
                }
                Err(error) => give_up(&mut tx, &row, &error, now).await?,
            }
        }
        let Some(mut job) = claimed else {
            tx.commit().await?;
            return Ok(None);
        };
        let lease = job.claim(worker, now, ttl)?;
        job.revision += 1;
        save(&mut tx, &job).await?;
        tx.commit().await?;
        self.tell(&job.key);
        Ok(Some((job, lease)))
    }

    /// A worker is alive, and may have got further. It hears what to do next.
    pub async fn heartbeat(
        &self,
        lease: &Lease,
        now: i64,
        ttl: i64,
        progress: Option<Progress>,
    ) -> Result<Directive, JobError> {
        let step = self.step(&lease.key, |job| Ok(job.heartbeat(lease, now, ttl, progress, &self.rules))).await;
        step.map(|(_, directive)| directive)
    }

    /// A worker has saved the work; the file is in the blob store already. Returns the checkpoint that this one has replaced
    /// with what to do next: its file is garbage now.
    pub async fn checkpoint(
        &self,
        lease: &Lease,
        checkpoint: Checkpoint,
        now: i64,
    ) -> Result<(Directive, Option<Checkpoint>), JobError> {
        let step = self.step(&lease.key, |job| {
            let before = job.checkpoint.clone();
            let directive = job.checkpoint(lease, checkpoint, now, &self.rules);
            let replaced = before.filter(|before| job.checkpoint.as_ref().is_some_and(|now| now.file != before.file));
            Ok((directive, replaced))
        });
        step.await.map(|(_, told)| told)
    }

    /// A worker ends a job.
    pub async fn finish(&self, lease: &Lease, outcome: Outcome, now: i64) -> Result<Job, JobError> {
        self.step(&lease.key, |job| job.finish(lease, outcome, now, &self.rules)).await.map(|(job, ())| job)
    }

    /// Takes the jobs of workers that were not heard of away from them; returns these jobs.
    pub async fn expire(&self, now: i64) -> Result<Vec<Job>, JobError> {
        self.take_from_workers(now, now, |job| job.expire(now, &self.rules)).await
    }

    /// Takes every job that a worker has away from it; returns these jobs. For the start of a server that has the database
    /// to itself: whoever held a job is gone, and nobody need wait for its lease to run out.
    pub async fn take_back_all(&self, now: i64) -> Result<Vec<Job>, JobError> {
        self.take_from_workers(i64::MAX, now, |job| job.take_back(now, &self.rules)).await
    }

    /// Lets `take` happen to the jobs whose lease ends by `until`.
    async fn take_from_workers(
        &self,
        until: i64,
        now: i64,
        take: impl Fn(&mut Job) -> Result<(), JobError>,
    ) -> Result<Vec<Job>, JobError> {
        let mut tx = self.database.begin().await?;
        let sql = format!(
            "SELECT * FROM jobs WHERE lease_expires_ms IS NOT NULL AND lease_expires_ms <= $1 ORDER BY id {}",
            self.database.skip_locked()
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(until).fetch_all(&mut *tx).await?;
        let mut expired = Vec::new();
        for row in &rows {
            let read = from_row(row).map_err(JobError::from).and_then(|mut job| {
                take(&mut job)?;
                Ok(job)
            });
            match read {
                Ok(mut job) => {
                    job.revision += 1;
                    save(&mut tx, &job).await?;
                    expired.push(job);
                }
                Err(error) => give_up(&mut tx, row, &error, now).await?,
            }
        }
        tx.commit().await?;
        for job in &expired {
            self.tell(&job.key);
        }
        Ok(expired)
    }

    /// Hears of changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }

    /// Lets something happen to a job, in one transaction.
    async fn step<T>(
        &self,
        key: &JobKey,
        happen: impl FnOnce(&mut Job) -> Result<T, JobError>,
    ) -> Result<(Job, T), JobError> {
        let mut tx = self.database.begin().await?;
        let sql = format!("SELECT * FROM jobs WHERE tenant = $1 AND id = $2 {}", self.database.lock_row());
        let row = sqlx::query(AssertSqlSafe(sql)).bind(&key.tenant).bind(&key.id).fetch_optional(&mut *tx).await?;
        let before = from_row(&row.ok_or_else(|| not_found(key))?)?;
        let mut job = before.clone();
        let value = happen(&mut job)?;
        if job == before {
            return Ok((job, value));
        }
        // That a lease goes on is nothing that a watcher can see.
        let seen = job != Job { lease_expires_ms: job.lease_expires_ms, ..before };
        if seen {
            job.revision += 1;
        }
        save(&mut tx, &job).await?;
        tx.commit().await?;
        if seen {
            self.tell(key);
        }
        Ok((job, value))
    }

    fn tell(&self, key: &JobKey) {
        // An error says that nobody listens.
        let _ = self.changes.send(key.clone());
    }
}

impl Changes {
    /// Waits until this job may have changed.
    pub async fn of(&mut self, key: &JobKey) {
        self.wait(|changed| changed == key).await;
    }

    /// Waits until any job may have changed.
    pub async fn any(&mut self) {
        self.wait(|_| true).await;
    }

    async fn wait(&mut self, concerns: impl Fn(&JobKey) -> bool) {
        let told = async {
            loop {
                match self.0.recv().await {
                    Ok(key) if !concerns(&key) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    // The queue is gone; the time-out below ends the wait.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout(POLL, told).await;
    }
}

async fn made_by<'e>(
    executor: impl Executor<'e, Database = Any>,
    tenant: &str,
    request: &Request,
) -> Result<Option<Job>, JobError> {
    if request.id.is_empty() {
        return Ok(None);
    }
    let query = sqlx::query("SELECT * FROM jobs WHERE tenant = $1 AND request_id = $2").bind(tenant).bind(&request.id);
    let Some(row) = query.fetch_optional(executor).await? else { return Ok(None) };
    request.matches("job", row.try_get("request_digest")?)?;
    Ok(Some(from_row(&row)?))
}

/// Which job comes next `now`, where a tenant may have `most` running. The tenants that have jobs waiting are found one after the
/// other, each by one step in the index, and so is the head of each one's line: the length of the lines plays no part.
pub(super) const NEXT_IN_LINE: &str = "
    WITH RECURSIVE waiting (tenant) AS (
        SELECT MIN(tenant) FROM jobs WHERE state = 'QUEUED'
        UNION ALL
        SELECT (SELECT MIN(j.tenant) FROM jobs j WHERE j.state = 'QUEUED' AND j.tenant > w.tenant)
        FROM waiting w WHERE w.tenant IS NOT NULL
    ), running (tenant, jobs) AS (
        SELECT tenant, COUNT(*) FROM jobs WHERE lease_expires_ms IS NOT NULL GROUP BY tenant
    )
    SELECT head.tenant, head.id
    FROM waiting w
    JOIN jobs head ON head.tenant = w.tenant AND head.id = (
        SELECT q.id FROM jobs q WHERE q.state = 'QUEUED' AND q.tenant = w.tenant AND q.not_before_ms <= $2
        ORDER BY q.priority DESC, q.create_ms, q.id LIMIT 1)
    LEFT JOIN running r ON r.tenant = w.tenant
    WHERE COALESCE(r.jobs, 0) < $1
    ORDER BY COALESCE(r.jobs, 0), head.create_ms, head.id LIMIT 1";

async fn next_in_line<'e>(
    executor: impl Executor<'e, Database = Any>,
    most: i64,
    now: i64,
) -> Result<Option<JobKey>, StoreError> {
    let query = sqlx::query(NEXT_IN_LINE).bind(most).bind(now);
    let Some(row) = query.fetch_optional(executor).await? else { return Ok(None) };
    Ok(Some(JobKey { tenant: row.try_get("tenant")?, id: row.try_get("id")? }))
}

async fn save(tx: &mut Transaction<'static, Any>, job: &Job) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET state = $1, revision = $2, attempt = $3, losses = $4, worker = $5, lease_expires_ms = $6,
             progress = $7, failure = $8, result = $9, start_ms = $10, finish_ms = $11, run_ms = $12, checkpoint = $13,
             partial = $14, obstacles = $15, not_before_ms = $16
         WHERE tenant = $17 AND id = $18",
    )
    .bind(job.state.name())
    .bind(job.revision as i64)
    .bind(i64::from(job.attempt))
    .bind(i64::from(job.losses))
    .bind(&job.worker)
    .bind(job.lease_expires_ms)
    .bind(to_json(&job.progress)?)
    .bind(to_json(&job.failure)?)
    .bind(to_json(&job.result)?)
    .bind(job.start_ms)
    .bind(job.finish_ms)
    .bind(job.run_ms)
    .bind(to_json(&job.checkpoint)?)
    .bind(to_json(&(!job.partial.is_empty()).then_some(&job.partial))?)
    .bind(i64::from(job.obstacles))
    .bind(job.not_before_ms)
    .bind(&job.key.tenant)
    .bind(&job.key.id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Fails a job whose row this version cannot read, so that it is in nobody's way; what it held of progress is lost.
async fn give_up(
    tx: &mut Transaction<'static, Any>,
    row: &AnyRow,
    error: &(dyn Error + Send + Sync),
    now: i64,
) -> Result<(), StoreError> {
    let (tenant, id): (&str, &str) = (row.try_get("tenant")?, row.try_get("id")?);
    tracing::error!(job = id, %error, "a job that cannot be read is given up");
    let failure = Failure::new(Kind::Internal, "INTERNAL", "the server cannot read its record of this job");
    sqlx::query(
        "UPDATE jobs SET state = $1, revision = revision + 1, worker = NULL, lease_expires_ms = NULL, progress = NULL,
             failure = $2, result = NULL, checkpoint = NULL, partial = NULL, finish_ms = $3
         WHERE tenant = $4 AND id = $5",
    )
    .bind(JobState::Failed.name())
    .bind(to_json(&Some(failure))?)
    .bind(now)
    .bind(tenant)
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn from_row(row: &AnyRow) -> Result<Job, StoreError> {
    let state: &str = row.try_get("state")?;
    let number = |column: &'static str| -> Result<u32, StoreError> {
        let value: i64 = row.try_get(column)?;
        value.try_into().map_err(|_| StoreError::Row { what: format!("{column} {value}") })
    };
    Ok(Job {
        key: JobKey { tenant: row.try_get("tenant")?, id: row.try_get("id")? },
        model: row.try_get("model")?,
        extra_models: from_json(row, "extra_models")?.unwrap_or_default(),
        dataset: row.try_get("dataset")?,
        recipe: row.try_get("recipe")?,
        priority: row.try_get::<i64, _>("priority")? as i32,
        time_limit_ms: row.try_get("time_limit_ms")?,
        state: JobState::from_name(state).ok_or_else(|| StoreError::Row { what: format!("job state {state:?}") })?,
        revision: row.try_get::<i64, _>("revision")? as u64,
        attempt: number("attempt")?,
        losses: number("losses")?,
        obstacles: number("obstacles")?,
        run_ms: row.try_get("run_ms")?,
        worker: row.try_get("worker")?,
        lease_expires_ms: row.try_get("lease_expires_ms")?,
        progress: from_json(row, "progress")?,
        failure: from_json(row, "failure")?,
        result: from_json(row, "result")?,
        checkpoint: from_json(row, "checkpoint")?,
        partial: from_json(row, "partial")?.unwrap_or_default(),
        create_ms: row.try_get("create_ms")?,
        not_before_ms: row.try_get("not_before_ms")?,
        start_ms: row.try_get("start_ms")?,
        finish_ms: row.try_get("finish_ms")?,
    })
}

fn from_json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(serde_json::from_str).transpose().map_err(|e| StoreError::Row { what: format!("{column}: {e}") })
}

fn to_json<T: Serialize>(value: &Option<T>) -> Result<Option<String>, StoreError> {
    value.as_ref().map(serde_json::to_string).transpose().map_err(|e| StoreError::Row { what: e.to_string() })
}

fn not_found(key: &JobKey) -> StoreError {
    StoreError::NotFound { what: "job", id: key.id.clone() }
}
