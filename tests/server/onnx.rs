//! Models in ONNX.

use super::*;
use niwaki::format::onnx::{self, Tensors};
use niwaki::format::safetensors;
use niwaki::graph::op::Activation;

const TRAIN: &str = r#"{"version": 1, "data": {"transforms": [{"scale": {"factor": 0.004}}]},
    "steps": [{"train": {"epochs": 2, "batch_size": 32}}]}"#;

/// A network in two files: its structure in ONNX, and its weights in a `.safetensors` file called `weights`.
fn two_files() -> (Vec<u8>, Vec<u8>) {
    let builder = GraphBuilder::new("small", &[1, 4, 4]).flatten("flatten").linear("fc1", 6);
    let mut graph = builder.activation("gelu", Activation::Gelu).linear("fc2", 2).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    let weights = native::write(&graph, &Default::default()).unwrap();
    let offsets = safetensors::offsets(weights.clone().into()).unwrap();
    let model = onnx::export(&graph, &Tensors::Beside { file: "weights".into(), offsets }).unwrap();
    (model, weights)
}

async fn create(server: &Server, files: &[&str], architecture: Option<&str>) -> Result<v1::Model, Status> {
    let architecture =
        architecture.map(|preset| v1::Architecture { kind: Some(v1::architecture::Kind::Preset(preset.into())) });
    let files = files.iter().map(|upload| file(upload)).collect();
    let model = v1::Model { files, display_name: "small".into(), architecture, ..Default::default() };
    let request = v1::CreateModelRequest { parent: PARENT.into(), model: Some(model), ..Default::default() };
    Ok(server.models().create_model(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_two_files_is_read_trained_and_given_back_in_one() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 1).await;
    let (model, weights) = two_files();
    let (model, weights) = (server.put("small.onnx", &model).await, server.put("weights", &weights).await);
    // The order does not matter: what a file is, its content says.
    let model = create(&server, &[&weights, &model], None).await.unwrap();
    let summary = model.summary.clone().unwrap();
    assert_eq!((summary.params, summary.macs, summary.nodes), (16 * 6 + 6 + 6 * 2 + 2, 16 * 6 + 6 * 2, 4));

    let dataset = server.put("stripes.safetensors", &dataset_file(200)).await;
    let dataset = server.create_dataset(&[dataset]).await.unwrap();
    let job = server.create_job(&model.name, &dataset.name, TRAIN, "").await.unwrap();
    let ended = server.ended(&job.name).await;
    assert_eq!(ended.state(), v1::job::State::Succeeded, "{:?}", ended.error);
    let names: Vec<String> = ended.result.unwrap().artifacts.into_iter().map(|artifact| artifact.file_name).collect();
    assert_eq!(names, ["model.safetensors", "model.onnx", "report.json"]);
    server.stop().await;
}

#[tokio::test]
async fn files_that_do_not_go_together_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let (model, weights) = two_files();
    let (model, other) = (server.put("small.onnx", &model).await, server.put("others", &model_file()).await);
    let named = server.put("weights", &weights).await;
    for (files, expected, words) in [
        (vec![&model], "EXTERNAL_DATA_MISSING", "lies in the file 'weights', which did not come with the model"),
        (vec![&model, &other], "EXTERNAL_DATA_MISSING", "with it came 'others'"),
        (vec![&model, &named, &other], "MODEL_FILES", "the model names no tensor in others"),
        (vec![&named, &other], "MODEL_FILES", "0 of 2 files look like an ONNX model"),
    ] {
        let files: Vec<&str> = files.into_iter().map(String::as_str).collect();
        let error = create(&server, &files, None).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, expected), "{error:?}");
        assert!(error.message().contains(words), "{}", error.message());
    }
    let error = create(&server, &[&model, &named], Some("lenet5")).await.unwrap_err();
    assert_eq!(reason(&error), "ARCHITECTURE_GIVEN");
    let error = create(&server, &[&model, &named, &named], None).await.unwrap_err();
    assert_eq!(fields(&error), ["model.files[2].upload"]);
    let many: Vec<&str> = vec![&named; 65];
    let error = create(&server, &many, None).await.unwrap_err();
    assert_eq!(fields(&error), ["model.files"]);
    server.stop().await;
}
