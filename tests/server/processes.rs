//! Job processes that die, lie, hang or take too much, and the server that goes on.

use std::os::unix::fs::PermissionsExt;

use super::*;
use v1::job::State;

/// A training of some seconds, in whose every step chance has a part.
const TRAIN: &str = r#"{"version": 1, "seed": 5, "data": {"transforms": [{"scale": {"factor": 0.01}}]}, "steps": [
    {"insert_dropout": {"after": ["flatten"], "rate": 0.2}},
    {"train": {"epochs": 60, "batch_size": 2, "ema": {"decay": 0.99}}}, {"fold": {}}]}"#;
/// The same with so many epochs.
fn train(epochs: u32) -> String {
    TRAIN.replace("60", &epochs.to_string())
}

/// As many epochs as are allowed: it does not end by itself while a test runs.
const LONG: &str = r#"{"version": 1, "steps": [{"train": {"epochs": 10000, "batch_size": 8}}]}"#;

/// A program that reads what is given as niwaki does, and whose jobs are this script of `sh`; `$NIWAKI job-child $2` runs
/// the job.
fn program(folder: &Path, job: &str) -> PathBuf {
    let path = folder.join("program");
    let niwaki = env!("CARGO_BIN_EXE_niwaki");
    let script = format!("#!/bin/sh\nNIWAKI={niwaki}\n[ $1 = job-child ] || exec $NIWAKI \"$@\"\n{job}\n");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn settings(data: &Path) -> Settings {
    let mut settings = Settings { data: data.join("data"), ..Settings::default() };
    settings.jobs.checkpoint_seconds = 0;
    settings
}

/// How a job ends whose process is this script: the job, and the reason of its error.
async fn ended_by(script: &str) -> (v1::Job, String) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_set(settings(data.path()), program(data.path(), script)).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, TRAIN, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    // The queue moves on: whatever happened, no process and no folder of it is left.
    assert_eq!(std::fs::read_dir(data.path().join("data/work")).unwrap().count(), 0);
    server.stop().await;
    let reason = ended.error.as_ref().map(|error| {
        let details = String::from_utf8_lossy(&error.details[0].value).into_owned();
        let word = details.split(|c: char| !c.is_ascii_uppercase() && c != '_').find(|word| word.len() > 4);
        word.unwrap_or_default().to_string()
    });
    (ended, reason.unwrap_or_default())
}

/// The digest of the model that a job ended with.
fn digest(job: &v1::Job) -> String {
    assert_eq!(job.state(), State::Succeeded, "{:?}", job.error);
    job.result.as_ref().unwrap().artifacts[0].digest.clone()
}

/// Waits until a job has been saved after `before`, and is running.
async fn saved_again(server: &Server, job: &str, before: Option<prost_types::Timestamp>) -> v1::Job {
    let mut watch = server.watch(job, 0).await;
    loop {
        let message = timeout(LIMIT, watch.message()).await.unwrap().unwrap();
        let job = message.expect("the job has not ended").job.unwrap();
        assert!(!matches!(job.state(), State::Succeeded | State::Failed), "it has ended: {:?}", job.error);
        if job.state() == State::Running && job.checkpoint_time.is_some() && job.checkpoint_time != before {
            return job;
        }
    }
}

/// Waits until a file says something else than `before`.
async fn another(path: &Path, before: &str) -> String {
    let changed = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') && text != before => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(LIMIT, changed).await.expect("the file changes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_process_is_killed_again_and_again_ends_with_the_bytes_of_one_that_was_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let script = program(data.path(), "echo $$ > $2/../../../pid\nexec $NIWAKI job-child $2");
    let server = Server::start_set(settings(data.path()), script).await;
    let (model, dataset) = server.inputs().await;
    let undisturbed = server.create_job(&model, &dataset, &train(1500), "").await.unwrap();
    let expected = digest(&server.ended(&undisturbed.name).await);

    let mut last = std::fs::read_to_string(data.path().join("data/pid")).unwrap();
    let job = server.create_job(&model, &dataset, &train(1500), "").await.unwrap();
    // More often than a job may be lost that does not get on.
    for kill in 1..=5 {
        let pid = another(&data.path().join("data/pid"), &last).await;
        let get = v1::GetJobRequest { name: job.name.clone() };
        let before = server.jobs().get_job(get).await.unwrap().into_inner().checkpoint_time;
        assert_eq!(saved_again(&server, &job.name, before).await.attempt, kill);
        let process = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        last = pid;
    }
    let ended = server.ended(&job.name).await;
    assert_eq!((digest(&ended), ended.attempt), (expected, 6));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_saves_its_jobs_and_the_next_one_ends_them_with_the_same_bytes() {
    let data = tempfile::tempdir().unwrap();
    let niwaki = || PathBuf::from(env!("CARGO_BIN_EXE_niwaki"));
    // Saved on the way only when the server stops.
    let seldom = || {
        let mut settings = settings(data.path());
        settings.jobs.checkpoint_seconds = 3600;
        settings
    };
    let server = Server::start_set(seldom(), niwaki()).await;
    let (model, dataset) = server.inputs().await;
    let long = train(3000);
    let undisturbed = server.create_job(&model, &dataset, &long, "").await.unwrap();
    let expected = digest(&server.ended(&undisturbed.name).await);
    let job = server.create_job(&model, &dataset, &long, "").await.unwrap();
    let mut watch = server.watch(&job.name, 0).await;
    while timeout(LIMIT, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .job
        .unwrap()
        .progress
        .is_none_or(|p| p.done == 0)
    {}
    server.stop().await;
    let server = Server::start_set(seldom(), niwaki()).await;
    let taken_up = server.jobs().get_job(v1::GetJobRequest { name: job.name.clone() }).await.unwrap().into_inner();
    assert!(taken_up.checkpoint_time.is_some(), "the work was saved: {taken_up:?}");
    let ended = server.ended(&job.name).await;
    assert_eq!((digest(&ended), ended.attempt), (expected, 2));
    assert!(ended.error.is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_keeps_the_best_model_so_far() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, LONG, "").await.unwrap();
    let mut watch = server.watch(&job.name, 0).await;
    let measured = |job: &v1::Job| job.progress.as_ref().is_some_and(|p| p.validation_accuracy.is_some());
    while !measured(&timeout(LIMIT, watch.message()).await.unwrap().unwrap().unwrap().job.unwrap()) {}
    server.jobs().cancel_job(v1::CancelJobRequest { name: job.name.clone() }).await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!((ended.state(), ended.result), (State::Cancelled, None));
    let names: Vec<&str> = ended.partial_artifacts.iter().map(|artifact| artifact.file_name.as_str()).collect();
    assert_eq!(names, ["best.safetensors"]);
    let best = &ended.partial_artifacts[0];
    let request = v1::DownloadArtifactRequest { name: best.name.clone(), ..Default::default() };
    let mut chunks = server.artifacts().download_artifact(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        bytes.extend_from_slice(&chunk.data);
    }
    assert_eq!(sha256(&bytes), best.digest);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_longer_than_its_limit_has_failed_and_keeps_the_best_model_so_far() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(data.path());
    settings.jobs.max_seconds = 2;
    let server = Server::start_set(settings, env!("CARGO_BIN_EXE_niwaki").into()).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, LONG, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!((ended.state(), ended.attempt), (State::Failed, 1));
    assert_eq!(ended.error.unwrap().code, Code::DeadlineExceeded as i32);
    assert_eq!(ended.partial_artifacts.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_104_a_job_that_allocates_without_end_is_out_of_memory_and_the_next_one_runs() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(data.path());
    settings.jobs.memory_bytes = 48 << 20;
    let server = Server::start_set(settings, env!("CARGO_BIN_EXE_niwaki").into()).await;
    let (_, dataset) = server.inputs().await;
    // Forty million weights.
    let start = r#""start": {"preset": "mlp:input=1x4x4,hidden=6000-6000,classes=2", "train": {"epochs": 1}}"#;
    let job = server.create_job("", &dataset, &format!(r#"{{"version": 1, {start}, "steps": []}}"#), "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!((ended.state(), ended.attempt), (State::Failed, 3), "{:?}", ended.error);
    let error = ended.error.unwrap();
    assert_eq!(error.code, Code::ResourceExhausted as i32, "{}", error.message);
    assert!(error.message.contains("50331648 bytes"), "{}", error.message);
    let small = r#""start": {"preset": "mlp:input=1x4x4,hidden=4,classes=2", "train": {"epochs": 1}}"#;
    let next =
        server.create_job("", &dataset, &format!(r#"{{"version": 1, {small}, "steps": []}}"#), "").await.unwrap();
    assert_eq!(server.ended(&next.name).await.state(), State::Succeeded);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_106_processes_that_die_or_lie_are_tried_three_times_and_then_have_failed() {
    for (script, word, says) in [
        ("kill -SEGV $$", "JOB_CRASHED", "SIGSEGV"),
        ("kill -KILL $$", "OUT_OF_MEMORY", "was killed"),
        ("exit 3", "JOB_CRASHED", "exit status: 3"),
        ("echo 'memory allocation of 17 bytes failed' >&2; kill -ABRT $$", "OUT_OF_MEMORY", "ran out of memory"),
        ("echo '\"cancelled\"'", "JOB_CRASHED", "ended early"),
        ("echo '{\"progress\": 7}'; sleep 60", "JOB_CRASHED", "no line of the protocol"),
        ("head -c 4000000000 /dev/zero", "JOB_CRASHED", "a line of more than"),
        // A gigabyte of log is read and dropped.
        ("head -c 1000000000 /dev/zero >&2; exit 1", "JOB_CRASHED", "exit status: 1"),
    ] {
        let (job, reason) = ended_by(script).await;
        let seen = (job.state(), job.attempt, reason.as_str());
        assert_eq!(seen, (State::Failed, 3, word), "{script}: {:?}", job.error);
        let message = job.error.unwrap().message;
        assert!(message.contains(says), "{script}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_106_a_process_that_is_frozen_ends_with_its_time_limit() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(data.path());
    settings.jobs.max_seconds = 1;
    let server = Server::start_set(settings, program(data.path(), "kill -STOP $$")).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, LONG, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!((ended.state(), ended.partial_artifacts.len()), (State::Failed, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_106_what_a_process_leaves_is_what_it_says_or_it_has_failed() {
    for (script, says) in [
        ("echo '\"done\"'", "left no report.json"),
        ("ln -s /etc/passwd out/report.json; echo '\"done\"'", "no plain file"),
        ("mkfifo out/report.json; echo '\"done\"'", "no plain file"),
        ("rmdir out; ln -s /etc out; echo '\"done\"'", "cannot be read"),
    ] {
        let (job, reason) = ended_by(script).await;
        assert_eq!((job.state(), job.attempt, reason.as_str()), (State::Failed, 1, "JOB_CRASHED"), "{:?}", job.error);
        let message = job.error.unwrap().message;
        assert!(message.contains(says), "{script}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_108_checkpoints_that_are_none_are_put_aside_and_the_job_ends_as_any_other() {
    let data = tempfile::tempdir().unwrap();
    let expected = {
        let server = Server::start_set(settings(data.path()), env!("CARGO_BIN_EXE_niwaki").into()).await;
        let (model, dataset) = server.inputs().await;
        let job = server.create_job(&model, &dataset, TRAIN, "").await.unwrap();
        let ended = server.ended(&job.name).await;
        server.stop().await;
        digest(&ended)
    };
    for hostile in [
        "true",
        "echo garbage > checkpoint.safetensors",
        "ln -s /etc/passwd checkpoint.safetensors",
        "mkfifo checkpoint.safetensors",
        "mkdir checkpoint.safetensors",
        "head -c 100000 /dev/urandom > checkpoint.safetensors",
    ] {
        // The first process says that it has saved its work, and dies; the next one does the job.
        let script = format!(
            "cd $2; if [ -e ../../../once ]; then exec $NIWAKI job-child $2; fi
             touch ../../../once; {hostile}; echo '\"checkpoint\"'; kill -KILL $$"
        );
        let (job, _) = ended_by(&script).await;
        assert_eq!((digest(&job), job.attempt), (expected.clone(), 2), "{hostile}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_109_a_job_computes_with_the_threads_that_it_is_given() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(data.path());
    settings.jobs.threads = 1;
    let script = "echo $RAYON_NUM_THREADS > $2/../../../threads\nexec $NIWAKI job-child $2";
    let server = Server::start_set(settings, program(data.path(), script)).await;
    let (model, dataset) = server.inputs().await;
    let job = server.create_job(&model, &dataset, TRAIN, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!(ended.result.unwrap().machine.unwrap().threads, 1);
    assert_eq!(std::fs::read_to_string(data.path().join("data/threads")).unwrap(), "1\n");
    server.stop().await;
}
