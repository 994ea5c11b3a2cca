//! Recipes at work.

use super::*;
use niwaki::jobs::protocol::{self, Line};
use niwaki::jobs::runner::Process;
use niwaki::sandbox::Limits;
use v1::job::State;

const PRUNE: &str = r#"{"version": 1, "name": "prune", "seed": 3, "data": {"transforms": [{"scale": {"factor": 0.004}}]},
    "steps": [{"train": {"epochs": 3, "batch_size": 32}}, {"prune_weights": {"sparsity": 0.5}},
              {"quantize": {"format": "FORMAT_F16"}}]}"#;
/// As many epochs as are allowed: it does not end by itself while a test runs.
const LONG: &str = r#"{"version": 1, "steps": [{"train": {"epochs": 10000, "batch_size": 1}}]}"#;

pub(super) async fn download(server: &Server, artifact: &str, offset: u64, limit: u64) -> Result<Vec<u8>, Status> {
    let request = v1::DownloadArtifactRequest { name: artifact.into(), read_offset: offset, read_limit: limit };
    let mut stream = server.artifacts().download_artifact(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await? {
        assert_eq!(chunk.offset, offset + bytes.len() as u64);
        assert_eq!(chunk.crc32c, crc32c::crc32c(&chunk.data));
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_watched_to_its_end_and_its_files_are_what_its_report_says() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, PRUNE, "once").await.unwrap();
    assert_eq!((job.state(), job.revision, job.model.as_str()), (State::Queued, 1, &*model));

    let mut watch = server.watch(&job.name, 0).await;
    let mut last = v1::Job::default();
    while let Some(message) = timeout(LIMIT, watch.message()).await.unwrap().unwrap() {
        let next = message.job.unwrap();
        assert!(next.revision > last.revision);
        assert!(!matches!(last.state(), State::Succeeded), "nothing follows the terminal state");
        last = next;
    }
    assert_eq!(last.state(), State::Succeeded, "{:?}", last.error);
    assert_eq!(last.attempt, 1);

    let result = last.result.clone().unwrap();
    assert_eq!((result.seed, result.steps.len()), (3, 3));
    let names: Vec<&str> = result.artifacts.iter().map(|artifact| artifact.file_name.as_str()).collect();
    assert_eq!(names, ["model.safetensors", "model.onnx", "report.json"]);
    for artifact in &result.artifacts {
        let bytes = download(&server, &artifact.name, 0, 0).await.unwrap();
        assert_eq!((bytes.len() as u64, sha256(&bytes)), (artifact.bytes, artifact.digest.clone()));
        let half = artifact.bytes / 2;
        assert_eq!(download(&server, &artifact.name, half, 0).await.unwrap(), bytes[half as usize..]);
        assert_eq!(download(&server, &artifact.name, half, 3).await.unwrap(), bytes[half as usize..half as usize + 3]);
        assert_eq!(download(&server, &artifact.name, artifact.bytes, 0).await.unwrap(), b"");
        let error = download(&server, &artifact.name, artifact.bytes + 1, 0).await.unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange);
    }
    let report: serde_json::Value =
        serde_json::from_slice(&download(&server, &result.artifacts[2].name, 0, 0).await.unwrap()).unwrap();
    assert_eq!(report["accuracy_delta"], result.accuracy_delta);
    assert_eq!(report["result"]["nonzero_params"], result.result.unwrap().nonzero_params);

    // Lists leave out what is long.
    let list = v1::ListJobsRequest { parent: PARENT.into(), ..Default::default() };
    let listed = server.jobs().list_jobs(list).await.unwrap().into_inner().jobs.remove(0);
    let (listed_recipe, recipe) = (listed.recipe.unwrap(), last.recipe.clone().unwrap());
    assert_eq!((&listed.name, listed_recipe.name, listed_recipe.steps.len()), (&last.name, recipe.name, 0));
    let listed = listed.result.unwrap();
    assert_eq!((listed.steps.len(), listed.classes.len(), listed.start), (0, 0, None));
    assert_eq!((listed.accuracy_delta, &listed.artifacts), (result.accuracy_delta, &result.artifacts));

    // A watch that begins after the end has nothing to say; one from the start sends the end alone.
    assert!(server.watch(&job.name, last.revision).await.message().await.unwrap().is_none());
    assert_eq!(server.ended(&job.name).await, last);
    // Nor does a call that is repeated after the end start another job.
    assert_eq!(server.create_job(&model, &dataset, PRUNE, "once").await.unwrap(), last);
    let error = server.create_job(&model, &dataset, LONG, "once").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_that_is_cancelled_ends_as_cancelled_and_the_next_one_runs() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let long = server.create_job(&model, &dataset, LONG, "").await.unwrap();
    let next = server.create_job(&model, &dataset, PRUNE, "").await.unwrap();
    let mut watch = server.watch(&long.name, 0).await;
    while let Some(message) = timeout(LIMIT, watch.message()).await.unwrap().unwrap() {
        let job = message.job.unwrap();
        if job.progress.is_some() && job.state() == State::Running {
            break;
        }
    }
    let request = v1::CancelJobRequest { name: long.name.clone() };
    assert_eq!(server.jobs().cancel_job(request).await.unwrap().into_inner().state(), State::Cancelling);
    let ended = server.ended(&long.name).await;
    assert_eq!((ended.state(), ended.result), (State::Cancelled, None));
    assert_eq!(server.ended(&next.name).await.state(), State::Succeeded);
    server.stop().await;
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_its_watchers_hear_of_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, PRUNE, "").await.unwrap();
    let mut watch = server.watch(&job.name, 0).await;
    assert_eq!(watch.message().await.unwrap().unwrap().job, Some(job.clone()));
    let request = v1::CancelJobRequest { name: job.name.clone() };
    let cancelled = server.jobs().cancel_job(request.clone()).await.unwrap().into_inner();
    assert_eq!((cancelled.state(), cancelled.revision), (State::Cancelled, 2));
    assert_eq!(watch.message().await.unwrap().unwrap().job, Some(cancelled.clone()));
    assert!(timeout(LIMIT, watch.message()).await.unwrap().unwrap().is_none());
    assert_eq!(server.jobs().cancel_job(request).await.unwrap().into_inner(), cancelled);
    let list = v1::ListJobsRequest { parent: PARENT.into(), ..Default::default() };
    let named = v1::Recipe { version: 1, name: "prune".into(), seed: 3, ..Default::default() };
    let listed = v1::Job { recipe: Some(named), ..cancelled };
    assert_eq!(server.jobs().list_jobs(list).await.unwrap().into_inner().jobs, [listed]);
    server.stop().await;
}

#[tokio::test]
async fn a_recipe_that_does_not_fit_is_refused_by_the_path_of_its_fields() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let refused = async |model: &str, dataset: &str, recipe: &str| {
        let error = server.create_job(model, dataset, recipe, "").await.unwrap_err();
        (error.code(), fields(&error))
    };
    let bad = r#"{"version": 1, "steps": [{"evaluate": {}}, {"prune_weights": {"sparsity": 1.5}}, {}]}"#;
    let paths =
        ["job.dataset", "job.recipe.steps[1].prune_weights.sparsity", "job.recipe.steps[2]"].map(String::from).to_vec();
    assert_eq!(refused(&model, "x", bad).await, (Code::InvalidArgument, paths));
    let stranger = r#"{"version": 1, "steps": [{"prune_weights": {"sparsity": 0.5, "ignored": ["conv9.*"]}}]}"#;
    let (code, paths) = refused(&model, &dataset, stranger).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(paths[0].starts_with("job.recipe.steps[0].prune_weights.ignored"), "{paths:?}");
    let none = r#"{"version": 1, "steps": [{"evaluate": {}}]}"#;
    assert_eq!(refused("", &dataset, none).await, (Code::InvalidArgument, vec!["job.recipe.start".to_string()]));
    assert_eq!(refused("tenants/default/models/none", &dataset, none).await.0, Code::NotFound);
    assert_eq!(refused(&model, "tenants/default/datasets/none", none).await.0, Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_process_crashes_has_failed_and_the_server_goes_on() {
    let data = tempfile::tempdir().unwrap();
    // A program that reads what is given, but whose jobs end at once and say nothing.
    let program = data.path().join("program");
    let script = format!("#!/bin/sh\n[ $1 = job-child ] || exec {} \"$@\"\n", env!("CARGO_BIN_EXE_niwaki"));
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let server = Server::start_with(data.path(), 1, program).await;
    let (model, dataset) = server.inputs().await;
    for _ in 0..2 {
        let job = server.create_job(&model, &dataset, PRUNE, "").await.unwrap();
        let ended = server.ended(&job.name).await;
        assert_eq!((ended.state(), ended.attempt), (State::Failed, 3));
        let details = ended.error.unwrap().details;
        assert_eq!(details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        assert!(String::from_utf8_lossy(&details[0].value).contains("JOB_CRASHED"));
    }
    assert_eq!(std::fs::read_dir(data.path().join("work")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_job_process_ends_with_the_process_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in [protocol::DATA_FOLDER, protocol::MODELS_FOLDER, protocol::OUT_FOLDER] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("models/0")).unwrap();
    std::fs::write(folder.path().join("models/0/0"), model_file()).unwrap();
    std::fs::write(folder.path().join("data/0"), dataset_file(240)).unwrap();
    let limits = Limits { memory_bytes: 4 << 30, cpu_seconds: 600, file_bytes: 1 << 30, open_files: 256 };
    let job = protocol::JobFile {
        job: "default/job".into(),
        limits,
        checkpoint_seconds: 10,
        checkpoint: None,
        recipe: LONG.into(),
        model: Some(protocol::ModelFile {
            folder: "models/0".into(),
            names: vec!["model.safetensors".into()],
            architecture: None,
        }),
        extra_models: Default::default(),
        data: vec!["stripes.safetensors".into()],
        data_source: None,
    };
    std::fs::write(folder.path().join(protocol::JOB_FILE), serde_json::to_vec(&job).unwrap()).unwrap();
    let mut process = Process::start(env!("CARGO_BIN_EXE_niwaki").as_ref(), folder.path()).unwrap();
    assert!(matches!(process.next().await, Some(Ok(Line::Progress(_)))), "it is at work");
    process.close();
    let last = timeout(LIMIT, async {
        let mut last = None;
        while let Some(line) = process.next().await {
            last = Some(line.unwrap());
        }
        last
    });
    assert_eq!(last.await.expect("it ends"), Some(Line::Cancelled));
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test]
async fn unknown_jobs_and_files_are_not_found() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, PRUNE, "").await.unwrap();
    for name in ["tenants/default/jobs/none".to_string(), job.name.replace("default", "other")] {
        let get = v1::GetJobRequest { name: name.clone() };
        assert_eq!(server.jobs().get_job(get).await.unwrap_err().code(), Code::NotFound);
        let watch = v1::WatchJobRequest { name: name.clone(), after_revision: 0 };
        assert_eq!(server.jobs().watch_job(watch).await.unwrap_err().code(), Code::NotFound);
        let cancel = v1::CancelJobRequest { name };
        assert_eq!(server.jobs().cancel_job(cancel).await.unwrap_err().code(), Code::NotFound);
    }
    let model = format!("{}/artifacts/model.safetensors", job.name);
    assert_eq!(download(&server, &model, 0, 0).await.unwrap_err().code(), Code::NotFound);
    let elsewhere = format!("{}/artifacts/../x", job.name);
    assert_eq!(download(&server, &elsewhere, 0, 0).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_its_watches_and_gives_its_jobs_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, LONG, "").await.unwrap();
    let mut watch = server.watch(&job.name, 0).await;
    while timeout(LIMIT, watch.message()).await.unwrap().unwrap().unwrap().job.unwrap().state() != State::Running {}
    server.stop().await;
    let error = loop {
        match timeout(LIMIT, watch.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some(), "the job has not ended, so the watch must not"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
    let server = Server::start(data.path(), 0).await;
    let get = v1::GetJobRequest { name: job.name };
    let job = server.jobs().get_job(get).await.unwrap().into_inner();
    assert_eq!((job.state(), job.attempt), (State::Queued, 1));
    server.stop().await;
}
