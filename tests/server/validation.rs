//! VALIDATING, READY, REJECTED: what becomes of files that are read by a process of their own.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// Settings for a server without workers.
fn settings(data: &Path) -> Settings {
    let mut settings = Settings { data: data.into(), ..Settings::default() };
    settings.jobs.workers = 0;
    settings
}

/// The program, but before it reads anything it waits until the file `go` is in the data folder.
fn waiting_program(data: &Path) -> PathBuf {
    let (program, go) = (data.join("program"), data.join("go"));
    let wait = format!("[ $1 = read-child ] && until [ -e {} ]; do sleep 0.01; done", go.display());
    std::fs::write(&program, format!("#!/bin/sh\n{wait}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_niwaki"))).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

async fn listed(server: &Server) -> Vec<v1::Model> {
    let list = v1::ListModelsRequest { parent: PARENT.into(), ..Default::default() };
    server.models().list_models(list).await.unwrap().into_inner().models
}

async fn get(server: &Server, name: &str) -> v1::Model {
    server.models().get_model(v1::GetModelRequest { name: name.into() }).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_model_that_is_refused_stays_with_its_reasons_and_the_call_repeated_has_the_same_answer() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let garbage = server.put("garbage", &[255; 100]).await;
    let first = server.create_model(&garbage, "key").await.unwrap_err();
    let again = server.create_model(&garbage, "key").await.unwrap_err();
    assert_eq!((first.code(), first.message(), first.details()), (again.code(), again.message(), again.details()));
    assert_eq!(fields(&again), ["model.files[0]"]);
    let [model] = &listed(&server).await[..] else { panic!("one model") };
    assert_eq!(model.state(), v1::model::State::Rejected);
    let error = model.error.clone().unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::InvalidArgument as i32, first.message()));
    assert!(model.summary.is_none());

    let (_, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"train": {"epochs": 1, "batch_size": 4}}]}"#;
    let error = server.create_job(&model.name, &dataset, recipe, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "NOT_READY"));
    server.stop().await;
}

#[tokio::test]
async fn validate_only_reads_the_files_and_makes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (good, bad) = (server.put("small", &model_file()).await, server.put("bad", &[255; 100]).await);
    let model = |upload: &str| v1::CreateModelRequest {
        parent: PARENT.into(),
        model: Some(v1::Model { files: vec![file(upload)], ..Default::default() }),
        request_id: "key".into(),
        validate_only: true,
    };
    let told = server.models().create_model(model(&good)).await.unwrap().into_inner();
    assert_eq!((told.name.as_str(), told.summary.unwrap().params), ("", 34));
    assert_eq!(server.models().create_model(model(&bad)).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(listed(&server).await.is_empty());

    let upload = server.put("stripes", &dataset_file(20)).await;
    let dataset = v1::Dataset { files: vec![file(&upload)], ..Default::default() };
    let request = v1::CreateDatasetRequest {
        parent: PARENT.into(),
        dataset: Some(dataset),
        request_id: String::new(),
        validate_only: true,
    };
    let told = server.datasets().create_dataset(request).await.unwrap().into_inner();
    assert_eq!((told.name.as_str(), told.summary.unwrap().classes), ("", 2));
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_check() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_set(settings(data.path()), waiting_program(data.path())).await;
    let upload = server.put("small", &model_file()).await;
    let gone = timeout(Duration::from_millis(300), server.create_model(&upload, "key")).await;
    assert!(gone.is_err(), "nothing is read yet");
    let [model] = &listed(&server).await[..] else { panic!("one model") };
    assert_eq!(model.state(), v1::model::State::Validating);
    std::fs::write(data.path().join("go"), "").unwrap();
    // The same call waits for the same check.
    let made = server.create_model(&upload, "key").await.unwrap();
    assert_eq!((made.name.as_str(), made.state()), (model.name.as_str(), v1::model::State::Ready));
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_checks_and_the_next_one_begins_them_anew() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_set(settings(data.path()), waiting_program(data.path())).await;
    let upload = server.put("small", &model_file()).await;
    let mut models = server.models();
    let request = v1::CreateModelRequest {
        parent: PARENT.into(),
        model: Some(v1::Model { files: vec![file(&upload)], ..Default::default() }),
        ..Default::default()
    };
    let create = models.create_model(request);
    let stop = async {
        let name = loop {
            match &listed(&server).await[..] {
                [model] => break model.name.clone(),
                _ => tokio::task::yield_now().await,
            }
        };
        server.stop().await;
        name
    };
    let (answer, name) = tokio::join!(create, stop);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);

    std::fs::write(data.path().join("go"), "").unwrap();
    let server = Server::start(data.path(), 0).await;
    let settled = async {
        loop {
            let model = get(&server, &name).await;
            if model.state() != v1::model::State::Validating {
                break model;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(LIMIT, settled).await.unwrap().state(), v1::model::State::Ready);
    server.stop().await;
}

#[tokio::test]
async fn time_and_memory_of_a_reader_are_limits_that_are_told() {
    let data = tempfile::tempdir().unwrap();
    let mut slow = settings(data.path());
    slow.reader.seconds = 1;
    let server = Server::start_set(slow, waiting_program(data.path())).await;
    let upload = server.put("small", &model_file()).await;
    let error = server.create_model(&upload, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::ResourceExhausted, "READER_TIME"));
    server.stop().await;

    let mut small = settings(data.path());
    small.reader.memory_bytes = 16 << 20;
    let server = Server::start_set(small, env!("CARGO_BIN_EXE_niwaki").into()).await;
    let mut graph = GraphBuilder::new("large", &[1, 64, 64]).flatten("flatten").linear("fc", 2048).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    let large = native::write(&graph, &Default::default()).unwrap();
    let error = server.create_model(&server.put_in("large", &large, 1 << 20).await, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::ResourceExhausted, "READER_MEMORY"));
    assert!(error.message().contains("'large'") && error.message().contains("16777216"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn n16_bytes_that_the_store_has_lost_are_no_models_mistake() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let upload = server.put("small", &model_file()).await;
    let hex = Digest::of(&model_file()).hex();
    let blob = data.path().join("blobs/sha256").join(&hex[..2]).join(&hex[2..]);
    // Cut while nobody looks: what is read is a copy that was compared with its digest.
    std::fs::OpenOptions::new().write(true).open(blob).unwrap().set_len(50).unwrap();
    let error = server.create_model(&upload, "").await.unwrap_err();
    assert_eq!(error.code(), Code::DataLoss);
    server.stop().await;
}

#[tokio::test]
async fn n53_a_data_set_has_so_many_files_and_their_names_are_short() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let error = server.announce(&"n".repeat(4096), 1, &sha256(b"x"), "").await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["upload.file_name".to_string()]));
    let upload = server.put("small", &dataset_file(20)).await;
    let error = server.create_dataset(&vec![upload; 10_001]).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["dataset.files".to_string()]));
    server.stop().await;
}
