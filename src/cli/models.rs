//! `niwaki models`: models on the server.

use std::path::Path;

use serde_json::Value;

use super::client::{Client, all, id, persist, request_id};
use super::failure::{Exit, Failure};
use super::output::{Output, grouped, shape, state, table};
use super::verbs::ModelsVerb;
use super::{analyze, local};
use crate::api::convert::catalogue;
use crate::api::{json, v1};

/// Does what was asked for.
pub async fn run(client: &Client, verb: ModelsVerb, output: Output) -> Result<(), Failure> {
    match verb {
        ModelsVerb::Put { file, graph, name } => {
            let model = put(client, &file, graph.as_deref(), name).await?;
            output.answer(|| id(&model.name).to_string(), || to_json(&model));
            output.note(describe(&model));
            output.next([format!("niwaki jobs create RECIPE --model {} --dataset DATASET --watch", id(&model.name))]);
        }
        ModelsVerb::Ls { filter } => {
            let models = list(client, &filter).await?;
            output.answer(|| text(&models), || Value::Array(models.iter().map(to_json).collect()));
            output.next(["niwaki models put FILE".into()]);
        }
        ModelsVerb::Get { model } => {
            let request = v1::GetModelRequest { name: client.resource("models", &model) };
            let model = persist(|| async { client.models().get_model(request.clone()).await }).await?.into_inner();
            let why = model.error.as_ref().map(|error| format!("error: {}\n", error.message)).unwrap_or_default();
            output.answer(|| text(std::slice::from_ref(&model)) + &why, || to_json(&model));
            if model.state() != v1::model::State::Ready {
                return Ok(());
            }
            output.next([format!("niwaki jobs create RECIPE --model {} --dataset DATASET --watch", id(&model.name))]);
        }
        ModelsVerb::Analyze { model, dataset, question } => {
            analyze::remote(client, &model, dataset.as_deref(), question, output).await?;
        }
        ModelsVerb::Rm { model } => {
            let request = v1::DeleteModelRequest { name: client.resource("models", &model), ..Default::default() };
            client.models().delete_model(request.clone()).await?;
            output.gone(&request.name);
        }
    }
    Ok(())
}

/// Uploads a file and makes a model of it; `graph` is what `--graph` said.
pub async fn put(
    client: &Client,
    file: &Path,
    graph: Option<&str>,
    name: Option<String>,
) -> Result<v1::Model, Failure> {
    let architecture = graph.map(local::architecture).transpose()?.map(catalogue::architecture);
    let file_name = file_name(file)?;
    let mut files = Vec::new();
    for (name, path) in local::model_files(file)? {
        files.push(client.upload(&path, &name).await?);
    }
    let model = v1::Model { display_name: name.unwrap_or(file_name), files, architecture, ..Default::default() };
    let request = v1::CreateModelRequest {
        parent: client.parent(),
        model: Some(model),
        request_id: request_id(),
        validate_only: false,
    };
    let created = persist(|| async { client.models().create_model(request.clone()).await }).await;
    Ok(created.map_err(|failure| failure.within(file.display()))?.into_inner())
}

/// The last part of a path, as uploads are named.
pub fn file_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_string)
        .ok_or_else(|| Failure::new(Exit::Invalid, "FILE_NAME", format!("{}: no file name in UTF-8", path.display())))
}

async fn list(client: &Client, filter: &str) -> Result<Vec<v1::Model>, Failure> {
    all(|page_token| async move {
        let request =
            v1::ListModelsRequest { parent: client.parent(), page_size: 500, page_token, filter: filter.into() };
        let page = client.models().list_models(request).await?.into_inner();
        Ok((page.models, page.next_page_token))
    })
    .await
}

fn to_json(model: &v1::Model) -> Value {
    json::to_value("Model", model)
}

fn describe(model: &v1::Model) -> String {
    let summary = model.summary.clone().unwrap_or_default();
    format!(
        "{}: {} parameters of which {} are not zero, {} MACs, input {}",
        model.display_name,
        grouped(summary.params),
        grouped(summary.nonzero_params),
        grouped(summary.macs),
        shape(&summary.input_shape),
    )
}

fn text(models: &[v1::Model]) -> String {
    let rows = models.iter().map(|model| {
        let summary = model.summary.clone().unwrap_or_default();
        vec![
            id(&model.name).to_string(),
            model.display_name.clone(),
            state(model.state().as_str_name()),
            grouped(model.files.iter().map(|file| file.size_bytes).sum()),
            grouped(summary.params),
            grouped(summary.nonzero_params),
            grouped(summary.macs),
            shape(&summary.input_shape),
            shape(&summary.output_shape),
        ]
    });
    let header = ["id", "name", "state", "bytes", "params", "not zero", "MACs", "input", "output"];
    table(&header, &["name", "state", "input", "output"], rows)
}
