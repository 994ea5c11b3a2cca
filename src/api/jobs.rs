//! `niwaki.v1.JobService`: recipes at work.

use std::pin::Pin;

use futures::{Stream, stream};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::job::{job as to_pb, listed};
use super::convert::{Path, recipe_from_pb};
use super::files::panicked;
use super::names::{Collection, parse_parent};
use super::paging::{check_request_id, cut, page};
use super::recipe::to_json;
use super::status::RequestError;
use super::v1::job_service_server::JobService;
use super::{Context, v1};
use crate::error::Violation;
use crate::jobs::job::{JobKey, NewJob};
use crate::jobs::queue::{Changes, JobQueue};
use crate::recipe::Recipe;
use crate::store::{self, DatasetDetail, Entry, ModelDetail, StoreError, now_ms};

#[derive(Debug, Clone)]
pub(super) struct Jobs(pub Context);

#[tonic::async_trait]
impl JobService for Jobs {
    async fn create_job(&self, request: Request<v1::CreateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::CreateJobRequest { parent, job, request_id, validate_only: _ } = request.into_inner();
        let (new, recipe) = new_job(parse_parent(&parent)?, job.unwrap_or_default(), &request_id)?;
        let request = store::Request::new(request_id, &(&new.model, &new.dataset, &new.recipe));
        if let Some(first) = self.0.queue.made_by(&new.tenant, &request).await? {
            return Ok(Response::new(to_pb(first)));
        }
        self.check_fit(&new, recipe).await?;
        Ok(Response::new(to_pb(self.0.queue.submit(&new, &request, now_ms()).await?)))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let key: JobKey = Collection::Jobs.parse(&request.into_inner().name, "name")?.into();
        Ok(Response::new(to_pb(self.0.queue.get(&key).await?)))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let v1::ListJobsRequest { parent, page_size, page_token } = request.into_inner();
        let (tenant, page) = (parse_parent(&parent)?, page(page_size, &page_token)?);
        let mut jobs = self.0.queue.list(&tenant, &page).await?;
        let next_page_token = cut(&mut jobs, &page, |job| &job.key.id);
        let jobs = jobs.into_iter().map(listed).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let key: JobKey = Collection::Jobs.parse(&request.into_inner().name, "name")?.into();
        Ok(Response::new(to_pb(self.0.queue.cancel(&key, now_ms()).await?)))
    }

    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let v1::WatchJobRequest { name, after_revision } = request.into_inner();
        let key: JobKey = Collection::Jobs.parse(&name, "name")?.into();
        // Listening begins before the first look, so that no change falls between the two.
        let changes = self.0.queue.changes();
        self.0.queue.get(&key).await?;
        let (queue, stop) = (self.0.queue.clone(), self.0.stop.clone());
        Ok(Response::new(Box::pin(watch(Watch { queue, key, changes, stop, seen: after_revision, ended: false }))))
    }
}

impl Jobs {
    /// Whether model and data set are there and the recipe suits them.
    async fn check_fit(&self, new: &NewJob, recipe: Recipe) -> Result<(), Status> {
        let catalogue = &self.0.store.catalogue;
        let dataset: Entry<DatasetDetail> = catalogue.get(&new.tenant, &new.dataset).await?;
        let model: Option<Entry<ModelDetail>> = match &new.model {
            Some(id) => Some(catalogue.get(&new.tenant, id).await?),
            None => None,
        };
        let reading = self.0.reading().await?;
        let model = match &model {
            Some(Entry { files, detail, .. }) => {
                let file = files.first().ok_or_else(|| StoreError::Row { what: "a model without files".into() })?;
                Some(self.0.read_model(&reading, file, detail.architecture.clone(), |_| "job.model".into()).await?)
            }
            None => None,
        };
        let source = recipe.data.source.clone().or(dataset.detail.data_source);
        let dataset = self.0.read_dataset(&reading, &dataset.files, source, in_request).await?;
        let validated = spawn_blocking(move || {
            let violations = recipe.validate(model.as_ref().map(|model| &model.graph), &dataset);
            drop((model, dataset, reading));
            violations
        });
        let mut violations = validated.await.map_err(panicked)?;
        if violations.is_empty() {
            return Ok(());
        }
        for violation in &mut violations {
            violation.field = format!("job.recipe.{}", violation.field);
        }
        Err(RequestError::Invalid { violations }.into())
    }
}

/// Where a bad field of a data set stands in the request: in the recipe's `data`, or it is a file's name.
fn in_request(field: &str) -> String {
    if field.starts_with("data.") { format!("job.recipe.{field}") } else { "job.dataset".into() }
}

/// Reads a request's job; all its bad fields at once otherwise.
fn new_job(tenant: String, job: v1::Job, request_id: &str) -> Result<(NewJob, Recipe), RequestError> {
    let mut violations: Vec<Violation> = check_request_id(request_id).into_iter().collect();
    let mut resource = |collection: Collection, name: &str, field: &str| match collection.parse(name, field) {
        Ok(found) if found.tenant != tenant => Err(RequestError::NoSuchTenant { tenant: found.tenant }),
        Ok(found) => Ok(Some(found.id)),
        Err(RequestError::Invalid { violations: bad }) => {
            violations.extend(bad);
            Ok(None)
        }
        Err(other) => Err(other),
    };
    let dataset = resource(Collection::Datasets, &job.dataset, "job.dataset")?;
    let model = if job.model.is_empty() { None } else { resource(Collection::Models, &job.model, "job.model")? };
    let recipe = match job.recipe {
        Some(recipe) => recipe_from_pb(recipe, &Path::root("job.recipe")),
        None => Err(vec![Violation::new("job.recipe", "is missing")]),
    };
    match (recipe, dataset) {
        (Ok(recipe), Some(dataset)) if violations.is_empty() => {
            Ok((NewJob { tenant, model, dataset, recipe: to_json(&recipe) }, recipe))
        }
        (recipe, _) => {
            violations.extend(recipe.err().unwrap_or_default());
            Err(RequestError::Invalid { violations })
        }
    }
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
