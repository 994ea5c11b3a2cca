//! `niwaki.v1.JobService`: recipes at work.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::pin::Pin;

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::convert::job::job as to_pb;
use super::convert::{Path, recipe_from_pb};
use super::filter::JOBS;
use super::limits::MAX_MODELS_BYTES;
use super::names::Collection;
use super::paging::{Paging, check_request_id};
use super::recipe::to_json;
use super::status::{self, RequestError};
use super::v1::job_service_server::JobService;
use super::validation::placed;
use super::{Context, v1};
use crate::error::Violation;
use crate::jobs::job::{Job, JobKey, NewJob};
use crate::jobs::queue::{Changes, JobQueue};
use crate::jobs::reader::{Fit, Part, StoredModel};
use crate::store::{self, DatasetDetail, Entry, ModelDetail, StoreError, now_ms};

/// More models than a recipe has use for.
const MAX_EXTRA_MODELS: usize = 8;
const PRIORITIES: RangeInclusive<i32> = -100..=100;

#[derive(Debug, Clone)]
pub(super) struct Jobs(pub Context);

#[tonic::async_trait]
impl JobService for Jobs {
    async fn create_job(&self, request: Request<v1::CreateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let (caller, v1::CreateJobRequest { parent, job, request_id, validate_only }) = Caller::of(request)?;
        let new = new_job(&caller, caller.parent(&parent)?, job.unwrap_or_default(), &request_id, self.longest_ms())?;
        if validate_only {
            self.check_fit(&new).await?;
            let job = to_pb(Job::new(String::new(), new, now_ms()));
            return Ok(Response::new(v1::Job { name: String::new(), state: 0, revision: 0, ..job }));
        }
        let request = identity(request_id, &new);
        if let Some(first) = self.0.queue.made_by(&new.tenant, &request).await? {
            return Ok(Response::new(to_pb(first)));
        }
        self.check_fit(&new).await?;
        Ok(Response::new(to_pb(self.0.queue.submit(&new, &request, now_ms()).await?)))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let (caller, request) = Caller::of(request)?;
        let key: JobKey = caller.parse(Collection::Jobs, &request.name, "name")?.into();
        Ok(Response::new(to_pb(self.0.queue.get(&key).await?)))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::ListJobsRequest { parent, page_size, page_token, filter } = request;
        let tenant = caller.parent(&parent)?;
        let paging = Paging::read(Collection::Jobs, &parent, page_size, &page_token, &filter, JOBS)?;
        let mut jobs = self.0.queue.list(&tenant, &paging.page).await?;
        let next_page_token = paging.cut(&mut jobs, |job| &job.key.id);
        let jobs = jobs.into_iter().map(to_pb).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let (caller, request) = Caller::of(request)?;
        let key: JobKey = caller.parse(Collection::Jobs, &request.name, "name")?.into();
        Ok(Response::new(to_pb(self.0.queue.cancel(&key, now_ms()).await?)))
    }

    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let (caller, v1::WatchJobRequest { name, after_revision }) = Caller::of(request)?;
        let key: JobKey = caller.parse(Collection::Jobs, &name, "name")?.into();
        // Listening begins before the first look, so that no change falls between the two.
        let changes = self.0.queue.changes();
        let job = self.0.queue.get(&key).await?;
        if after_revision > job.revision {
            return Err(RequestError::Revision { after: after_revision, revision: job.revision }.into());
        }
        let (queue, stop) = (self.0.queue.clone(), self.0.stop.clone());
        Ok(Response::new(Box::pin(watch(Watch { queue, key, changes, stop, seen: after_revision, ended: false }))))
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Jobs, &request.name, "name")?;
        self.0.queue.delete(&name.into(), &request.etag).await?;
        Ok(Response::new(v1::DeleteJobResponse {}))
    }
}

impl Jobs {
    /// The longest time limit that a job may have, in milliseconds.
    fn longest_ms(&self) -> i64 {
        i64::from(self.0.settings.jobs.max_seconds).saturating_mul(1000)
    }

    /// Whether model and data set are there and the recipe suits them.
    async fn check_fit(&self, new: &NewJob) -> Result<(), Status> {
        let dataset = self.0.ready::<DatasetDetail>(&new.tenant, &new.dataset).await?;
        let mut model = None;
        if let Some(id) = &new.model {
            model = Some(self.found(new, id).await?);
        }
        let mut extra_models = BTreeMap::new();
        for (name, id) in &new.extra_models {
            extra_models.insert(name.clone(), self.found(new, id).await?);
        }
        check_sizes(
            model.iter().chain(extra_models.values()).flat_map(|found| found.files.iter().map(|file| file.size_bytes)),
        )?;
        let (recipe, source) = (new.recipe.clone(), dataset.detail.data_source);
        let fit = Fit { recipe, model, extra_models, data: dataset.files, source };
        let read = self.0.reader.fit(&fit).await;
        let mut violations = read.map_err(|refusal| status::refused(&placed(refusal, in_request).failure()))?;
        if violations.is_empty() {
            return Ok(());
        }
        for violation in &mut violations {
            violation.field = format!("job.recipe.{}", violation.field);
        }
        Err(RequestError::Invalid { violations }.into())
    }

    /// Finds one of the job's models.
    async fn found(&self, new: &NewJob, id: &str) -> Result<StoredModel, StoreError> {
        let Entry { files, detail, .. } = self.0.ready::<ModelDetail>(&new.tenant, id).await?;
        Ok(StoredModel { files, architecture: detail.architecture })
    }
}

/// What makes a repeated call the same one. Jobs without other models, priority and time limit have the digests that they
/// had before there were any, so that a call may be repeated over an upgrade.
fn identity(request_id: String, new: &NewJob) -> store::Request {
    let NewJob { model, extra_models, dataset, recipe, .. } = new;
    let NewJob { priority, time_limit_ms, .. } = new;
    match (extra_models.is_empty(), (priority, time_limit_ms)) {
        (true, (0, None)) => store::Request::new(request_id, &(model, dataset, recipe)),
        (false, (0, None)) => store::Request::new(request_id, &(model, extra_models, dataset, recipe)),
        (_, rest) => store::Request::new(request_id, &(model, extra_models, dataset, recipe, rest)),
    }
}

/// All models of a job are in memory at once when it is checked: together they may be as large as one.
fn check_sizes(bytes: impl Iterator<Item = u64>) -> Result<(), RequestError> {
    let bytes = bytes.fold(0, u64::saturating_add);
    if bytes <= MAX_MODELS_BYTES {
        return Ok(());
    }
    let text = format!("the job's models have {bytes} bytes together, at most {MAX_MODELS_BYTES} are allowed");
    Err(RequestError::Invalid { violations: vec![Violation::new("job.extra_models", text)] })
}

/// Where the request has what a reader calls bad.
fn in_request(part: &Part, field: &str) -> String {
    match part {
        Part::Recipe => "job.recipe".into(),
        Part::Model => "job.model".into(),
        Part::Extra(name) => format!("job.extra_models.{name}"),
        Part::Data if field.starts_with("data.") => format!("job.recipe.{field}"),
        Part::Data => "job.dataset".into(),
    }
}

/// Reads a request's job; all its bad fields at once otherwise.
fn new_job(
    caller: &Caller,
    tenant: String,
    job: v1::Job,
    request_id: &str,
    longest_ms: i64,
) -> Result<NewJob, RequestError> {
    let mut violations: Vec<Violation> = check_request_id(request_id).into_iter().collect();
    let mut resource = |collection: Collection, name: &str, field: &str| match caller.parse(collection, name, field) {
        Ok(found) => Ok(Some(found.id)),
        Err(RequestError::Invalid { violations: bad }) => {
            violations.extend(bad);
            Ok(None)
        }
        Err(other) => Err(other),
    };
    let dataset = resource(Collection::Datasets, &job.dataset, "job.dataset")?;
    let model = if job.model.is_empty() { None } else { resource(Collection::Models, &job.model, "job.model")? };
    let mut extra_models = BTreeMap::new();
    let refused = check_extra(&job.extra_models);
    if refused.is_none() {
        for (name, model) in &job.extra_models {
            if let Some(id) = resource(Collection::Models, model, &format!("job.extra_models.{name}"))? {
                extra_models.insert(name.clone(), id);
            }
        }
    }
    violations.extend(refused);
    if !PRIORITIES.contains(&job.priority) {
        let text = format!("{} is not from {} to {}", job.priority, PRIORITIES.start(), PRIORITIES.end());
        violations.push(Violation::new("job.priority", text));
    }
    let time_limit_ms = job
        .time_limit
        .map(|limit| limit.seconds.saturating_mul(1000).saturating_add(i64::from(limit.nanos) / 1_000_000));
    if let Some(ms) = time_limit_ms
        && !(1..=longest_ms).contains(&ms)
    {
        let text = format!("{ms} ms are not from 1 ms to {} s", longest_ms / 1000);
        violations.push(Violation::new("job.time_limit", text));
    }
    let recipe = match job.recipe {
        Some(recipe) => recipe_from_pb(recipe, &Path::root("job.recipe")),
        None => Err(vec![Violation::new("job.recipe", "is missing")]),
    };
    match (recipe, dataset) {
        (Ok(recipe), Some(dataset)) if violations.is_empty() => {
            let recipe_text = to_json(&recipe);
            let (recipe, priority) = (recipe_text, job.priority);
            Ok(NewJob { tenant, model, extra_models, dataset, recipe, priority, time_limit_ms })
        }
        (recipe, _) => {
            violations.extend(recipe.err().unwrap_or_default());
            Err(RequestError::Invalid { violations })
        }
    }
}

/// What is wrong with the number or the names of a job's other models.
fn check_extra(extra: &BTreeMap<String, String>) -> Option<Violation> {
    if extra.len() > MAX_EXTRA_MODELS {
        let text = format!("has {} models, at most {MAX_EXTRA_MODELS} are allowed", extra.len());
        return Some(Violation::new("job.extra_models", text));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let bad = extra.keys().find(|name| name.is_empty() || name.len() > 64 || !name.chars().all(plain))?;
    let text = format!("{bad:?} is no name: 1 to 64 letters, digits, `-` and `_` are");
    Some(Violation::new("job.extra_models", text))
}

/// What a watch knows between two messages.
struct Watch {
    queue: JobQueue,
    key: JobKey,
    changes: Changes,
    stop: CancellationToken,
    /// The revision that was sent last.
    seen: u64,
    /// The terminal state was sent.
    ended: bool,
}

/// Sends the job whenever its revision has grown, and ends with the message that says it has ended.
fn watch(watch: Watch) -> impl Stream<Item = Result<v1::WatchJobResponse, Status>> {
    stream::try_unfold(watch, |mut watch| async move {
        while !watch.ended {
            let job = watch.queue.get(&watch.key).await?;
            watch.ended = job.state.is_terminal();
            if job.revision > watch.seen {
                watch.seen = job.revision;
                return Ok(Some((v1::WatchJobResponse { job: Some(to_pb(job)) }, watch)));
            }
            if watch.ended {
                break;
            }
            tokio::select! {
                () = watch.changes.of(&watch.key) => {}
                () = watch.stop.cancelled() => return Err(RequestError::Stopping.into()),
            }
        }
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> NewJob {
        NewJob {
            tenant: "default".into(),
            model: Some("m".into()),
            extra_models: BTreeMap::new(),
            dataset: "d".into(),
            recipe: r#"{"version":1}"#.into(),
            priority: 0,
            time_limit_ms: None,
        }
    }

    #[test]
    fn a_job_without_other_models_has_the_digest_that_it_had_before_there_were_any() {
        let first = store::Request::new("key", &(Some("m"), "d", r#"{"version":1}"#));
        assert_eq!(identity("key".into(), &job()), first);
        let extra_models = BTreeMap::from([("teacher".into(), "t".into())]);
        assert_ne!(identity("key".into(), &NewJob { extra_models, ..job() }), first);
    }

    #[test]
    fn the_models_of_a_job_may_have_the_size_of_one_together() {
        let refused = |sizes: &[u64]| match check_sizes(sizes.iter().copied()) {
            Err(RequestError::Invalid { violations }) => violations[0].field.clone(),
            _ => String::new(),
        };
        assert_eq!(refused(&[]), "");
        assert_eq!(refused(&[MAX_MODELS_BYTES]), "");
        assert_eq!(refused(&[MAX_MODELS_BYTES - 1, 1]), "");
        assert_eq!(refused(&[MAX_MODELS_BYTES - 1, 1, 1]), "job.extra_models");
        assert_eq!(refused(&[u64::MAX, u64::MAX]), "job.extra_models");
    }
}
