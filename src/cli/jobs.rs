//! `niwaki jobs`: jobs on the server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{ATTEMPTS, Client, all, back_off, id, is_passing, persist, request_id};
use super::failure::{Exit, Failure};
use super::local;
use super::output::{self, Output, comparison, percent, points, table};
use super::progress::Meter;
use super::steps;
use super::verbs::JobsVerb;
use crate::api::{self, v1};
use crate::recipe::run::Progress;
use crate::report::{Latency, Metrics};
use v1::job::State;

/// Does what was asked for.
pub async fn run(client: &Client, verb: JobsVerb, output: Output) -> Result<(), Failure> {
    match verb {
        JobsVerb::Create { recipe, model, extra_model, dataset, priority, time_limit, watch, validate_only } => {
            let model = model.map(|model| client.resource("models", &model)).unwrap_or_default();
            let recipe = recipe_message(&local::text(&recipe)?).map_err(|f| f.within(recipe.display()))?;
            let extra = extra_model.iter().map(|(name, model)| (name.clone(), client.resource("models", model)));
            let dataset = client.resource("datasets", &dataset);
            // A time that people can write fits.
            let time_limit = time_limit.and_then(|limit| limit.try_into().ok());
            let (recipe, extra_models) = (Some(recipe), extra.collect());
            let job = v1::Job { model, dataset, recipe, extra_models, priority, time_limit, ..Default::default() };
            if validate_only {
                let job = create(client, job, Purpose::Validate).await?;
                output.answer(|| "the job may run\n".to_string(), || to_json(&job));
                return Ok(());
            }
            return queue(client, job, watch, output).await;
        }
        JobsVerb::Retry { job, watch } => {
            let first = get(client, &job).await?;
            let v1::Job { model, dataset, recipe, extra_models, priority, time_limit, .. } = first;
            let job = v1::Job { model, dataset, recipe, extra_models, priority, time_limit, ..Default::default() };
            return queue(client, job, watch, output).await;
        }
        JobsVerb::Ls { filter } => {
            let jobs = list(client, &filter).await?;
            output.answer(|| overview(&jobs), || Value::Array(jobs.iter().map(to_json).collect()));
            if let Some(job) = jobs.first() {
                output.next([format!("niwaki jobs get {}", id(&job.name))]);
            }
        }
        JobsVerb::Get { job } => show(&get(client, &job).await?, output),
        JobsVerb::Wait { job } => {
            let name = client.resource("jobs", &job);
            show(&watch_to_end(client, &name, &mut Meter::silent(output)).await?, output);
        }
        JobsVerb::Rm { job } => {
            let request = v1::DeleteJobRequest { name: client.resource("jobs", &job), ..Default::default() };
            client.jobs().delete_job(request.clone()).await?;
            output.gone(&request.name);
        }
        JobsVerb::Watch { job } => return show_watched(client, &client.resource("jobs", &job), output).await,
        JobsVerb::Cancel { job } => {
            let request = v1::CancelJobRequest { name: client.resource("jobs", &job) };
            let job = persist(|| async { client.jobs().cancel_job(request.clone()).await }).await?.into_inner();
            show(&job, output);
        }
        JobsVerb::Download { job, out } => {
            local::out(&out)?;
            let job = get(client, &job).await?;
            let files = download(client, &job, &out).await?;
            let lines = || files.iter().map(|file| format!("{}\n", file.display())).collect();
            output.answer(lines, || json!({"files": files}));
            // Of a job that was stopped there is the best model so far.
            let model = files.iter().find(|file| file.extension().is_some_and(|end| end == "safetensors"));
            if let Some(model) = model {
                output.next([format!("niwaki inspect {}", model.display())]);
            }
        }
    }
    Ok(())
}

/// Queues a job and tells its id, or follows it to its end.
async fn queue(client: &Client, job: v1::Job, watch: bool, output: Output) -> Result<(), Failure> {
    let job = create(client, job, Purpose::Queue).await?;
    if watch {
        return show_watched(client, &job.name, output).await;
    }
    output.answer(|| id(&job.name).to_string(), || to_json(&job));
    output.next([format!("niwaki jobs watch {}", id(&job.name))]);
    Ok(())
}

async fn get(client: &Client, job: &str) -> Result<v1::Job, Failure> {
    let request = v1::GetJobRequest { name: client.resource("jobs", job) };
    Ok(persist(|| async { client.jobs().get_job(request.clone()).await }).await?.into_inner())
}

/// What a job is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be queued.
    Queue,
    /// To hear what is wrong with it.
    Validate,
}

/// Sends a job; its model and data set go by their full names.
pub async fn create(client: &Client, job: v1::Job, purpose: Purpose) -> Result<v1::Job, Failure> {
    let (job, validate_only) = (Some(job), purpose == Purpose::Validate);
    let request = v1::CreateJobRequest { parent: client.parent(), job, request_id: request_id(), validate_only };
    Ok(persist(|| async { client.jobs().create_job(request.clone()).await }).await?.into_inner())
}

/// Reads a recipe as the API sends it. What it means is checked by the server.
pub fn recipe_message(text: &str) -> Result<v1::Recipe, Failure> {
    api::json::from_str("Recipe", text)
        .map_err(|error| Failure::new(Exit::Invalid, "RECIPE_JSON", format!("the recipe cannot be read: {error}")))
}

/// Follows a job to its end, over broken connections too, and gives it as it then is: SUCCEEDED. A job that ended
/// otherwise is a failure.
pub async fn watch_to_end(client: &Client, name: &str, meter: &mut Meter) -> Result<v1::Job, Failure> {
    let mut job = v1::Job::default();
    let mut attempt = 0;
    while !is_terminal(job.state()) {
        let request = v1::WatchJobRequest { name: name.into(), after_revision: job.revision };
        let revision = job.revision;
        match follow(client, request, &mut job, meter).await {
            Ok(()) => {}
            Err(failure) if is_passing(&failure) => {}
            Err(failure) => return Err(failure),
        }
        attempt = if job.revision > revision { 0 } else { attempt + 1 };
        if attempt > ATTEMPTS {
            let message = format!("the server stopped telling of job {}", id(name));
            return Err(Failure::new(Exit::Unavailable, "WATCH_BROKEN", message)
                .hint(format!("niwaki jobs watch {}", id(name))));
        }
        if attempt > 0 {
            back_off(attempt).await;
        }
    }
    let error = job.error.clone().unwrap_or_default().message;
    match job.state() {
        State::Cancelled => {
            Err(Failure::new(Exit::JobFailed, "JOB_CANCELLED", format!("job {} was cancelled", id(name))))
        }
        State::Failed => Err(Failure::new(Exit::JobFailed, "JOB_FAILED", format!("job {} failed: {error}", id(name)))),
        _ => Ok(job),
    }
}

/// Downloads a succeeded job's artifacts into the folder `out`.
pub async fn download(client: &Client, job: &v1::Job, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let artifacts = job.result.as_ref().map_or(&job.partial_artifacts, |result| &result.artifacts);
    if artifacts.is_empty() {
        let id = id(&job.name);
        let (message, has_ended) = match job.state() {
            State::Failed | State::Cancelled => {
                (format!("job {id} has left nothing: it has ended as {}", state(job)), true)
            }
            _ => (format!("job {id} has produced nothing yet: it is {}", state(job)), false),
        };
        let hint = if has_ended { format!("niwaki jobs retry {id}") } else { format!("niwaki jobs watch {id}") };
        return Err(Failure::new(Exit::Failure, "NO_RESULT", message).hint(hint));
    }
    let mut files = Vec::new();
    for artifact in artifacts {
        files.push(client.download(artifact, out).await?);
    }
    Ok(files)
}

/// The figures of a message.
pub fn metrics(metrics: Option<&v1::Metrics>) -> Metrics {
    let metrics = metrics.cloned().unwrap_or_default();
    let latency = metrics.latency_ms.unwrap_or_default();
    Metrics {
        accuracy: metrics.accuracy,
        loss: metrics.loss,
        bytes: metrics.bytes,
        params: metrics.params,
        nonzero_params: metrics.nonzero_params,
        macs: metrics.macs,
        latency_ms: Latency { p50: latency.p50, p95: latency.p95 },
    }
}

/// Baseline and result of a job, side by side.
pub fn result_text(result: &v1::JobResult) -> String {
    let interval = result.accuracy_delta_ci95.unwrap_or_default();
    let mut text = steps::steps(&result.steps);
    text += &comparison(
        &metrics(result.baseline.as_ref()),
        &metrics(result.result.as_ref()),
        result.accuracy_delta,
        [interval.low, interval.high],
        result.test_samples,
    );
    for warning in &result.warnings {
        text += &format!("note: {warning}\n");
    }
    text
}

/// Reads one stream of changes until it ends or the job does.
async fn follow(
    client: &Client,
    request: v1::WatchJobRequest,
    job: &mut v1::Job,
    meter: &mut Meter,
) -> Result<(), Failure> {
    let mut changes = client.jobs().watch_job(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        let Some(next) = change.job else { continue };
        if next.state() != job.state() {
            meter.say(&format!("job {}: {}", id(&next.name), state(&next)));
        }
        if let Some(now) = &next.progress {
            meter.update(&progress(now));
        }
        *job = next;
    }
    Ok(())
}

/// Follows a job and shows its result; Ctrl-C leaves it running.
async fn show_watched(client: &Client, name: &str, output: Output) -> Result<(), Failure> {
    let mut meter = Meter::new(output);
    output.note(format!("job {} (Ctrl-C leaves it running)", id(name)));
    let watched = tokio::select! {
        watched = watch_to_end(client, name, &mut meter) => Some(watched),
        _ = tokio::signal::ctrl_c() => None,
    };
    meter.finish();
    let Some(watched) = watched else {
        let id = id(name);
        return Err(Failure::interrupted(format!("no longer watching; job {id} goes on"))
            .hint(format!("niwaki jobs watch {id}, niwaki jobs cancel {id}")));
    };
    show(&watched?, output);
    Ok(())
}

fn show(job: &v1::Job, output: Output) {
    output.answer(
        || {
            let mut text = overview(std::slice::from_ref(job));
            if let Some(error) = &job.error {
                text += &format!("error: {}\n", error.message);
            }
            if let Some(result) = &job.result {
                text += &format!("\n{}", result_text(result));
            }
            text
        },
        || to_json(job),
    );
    let id = id(&job.name);
    match job.state() {
        State::Succeeded => output.next([format!("niwaki jobs download {id} --out DIR")]),
        State::Failed | State::Cancelled if !job.partial_artifacts.is_empty() => {
            output.next([format!("niwaki jobs download {id} --out DIR    # the best model so far")]);
        }
        State::Failed | State::Cancelled => output.next(["niwaki jobs ls".into()]),
        State::Cancelling => output.next([format!("niwaki jobs wait {id}")]),
        _ => output.next([format!("niwaki jobs watch {id}"), format!("niwaki jobs cancel {id}")]),
    }
}

async fn list(client: &Client, filter: &str) -> Result<Vec<v1::Job>, Failure> {
    all(|page_token| async move {
        let request =
            v1::ListJobsRequest { parent: client.parent(), page_size: 500, page_token, filter: filter.into() };
        let page = client.jobs().list_jobs(request).await?.into_inner();
        Ok((page.jobs, page.next_page_token))
    })
    .await
}

fn overview(jobs: &[v1::Job]) -> String {
    let rows = jobs.iter().map(|job| {
        let recipe = job.recipe.as_ref().map(|recipe| recipe.name.clone()).unwrap_or_default();
        let now = job.progress.clone().unwrap_or_default();
        let result = job.result.as_ref();
        vec![
            id(&job.name).to_string(),
            state(job),
            recipe,
            if result.is_none() { now.phase } else { String::new() },
            result.map(|r| percent(metrics(r.result.as_ref()).accuracy)).unwrap_or_default(),
            result.map(|r| points(r.accuracy_delta)).unwrap_or_default(),
        ]
    });
    table(&["id", "state", "recipe", "phase", "accuracy", "change"], &["state", "recipe", "phase"], rows)
}

fn is_terminal(state: State) -> bool {
    matches!(state, State::Succeeded | State::Failed | State::Cancelled)
}

/// A job's state as people write it.
fn state(job: &v1::Job) -> String {
    output::state(job.state().as_str_name())
}

fn progress(message: &v1::Progress) -> Progress {
    Progress {
        phase: message.phase.clone(),
        step: message.step,
        step_count: message.step_count,
        done: message.done,
        total: message.total,
        loss: message.loss,
        validation_accuracy: message.validation_accuracy,
    }
}

fn to_json(job: &v1::Job) -> Value {
    api::json::to_value("Job", job)
}
