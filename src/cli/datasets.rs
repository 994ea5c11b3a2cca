//! `niwaki datasets`: data sets on the server.

use std::path::Path;

use serde_json::Value;

use super::client::{Client, all, id, persist, request_id};
use super::failure::{Exit, Failure};
use super::local;
use super::models::file_name;
use super::output::{Output, grouped, shape, state, table};
use super::verbs::DatasetsVerb;
use crate::api::{json, v1};

/// Does what was asked for.
pub async fn run(client: &Client, verb: DatasetsVerb, output: Output) -> Result<(), Failure> {
    match verb {
        DatasetsVerb::Put { path, name, source } => {
            let source = source.map(|path| read_source(&path)).transpose()?;
            let dataset = put(client, &path, name, source).await?;
            output.answer(|| id(&dataset.name).to_string(), || to_json(&dataset));
            output.note(describe(&dataset));
            output.next([format!("niwaki jobs create RECIPE --dataset {} --watch", id(&dataset.name))]);
        }
        DatasetsVerb::Ls { filter } => {
            let datasets = list(client, &filter).await?;
            output.answer(|| text(&datasets), || Value::Array(datasets.iter().map(to_json).collect()));
            output.next(["niwaki datasets put PATH".into()]);
        }
        DatasetsVerb::Get { dataset } => {
            let request = v1::GetDatasetRequest { name: client.resource("datasets", &dataset) };
            let dataset =
                persist(|| async { client.datasets().get_dataset(request.clone()).await }).await?.into_inner();
            let why = dataset.error.as_ref().map(|error| format!("error: {}\n", error.message)).unwrap_or_default();
            output.answer(|| text(std::slice::from_ref(&dataset)) + &why, || to_json(&dataset));
            if dataset.state() != v1::dataset::State::Ready {
                return Ok(());
            }
            output.next([format!("niwaki jobs create RECIPE --dataset {} --watch", id(&dataset.name))]);
        }
        DatasetsVerb::Rm { dataset } => {
            let request =
                v1::DeleteDatasetRequest { name: client.resource("datasets", &dataset), ..Default::default() };
            client.datasets().delete_dataset(request.clone()).await?;
            output.gone(&request.name);
        }
    }
    Ok(())
}

/// Uploads one file, or the files of a folder and of the folders below it, and makes a data set of them; `source` says which
/// files are what.
pub async fn put(
    client: &Client,
    path: &Path,
    name: Option<String>,
    source: Option<v1::DataSource>,
) -> Result<v1::Dataset, Failure> {
    let mut files = Vec::new();
    for (file_name, file) in &local::files(path)?.0 {
        files.push(client.upload(file, file_name).await?);
    }
    let display_name = name.map_or_else(|| file_name(path), Ok)?;
    let dataset = v1::Dataset { display_name, files, source, ..Default::default() };
    let request = v1::CreateDatasetRequest {
        parent: client.parent(),
        dataset: Some(dataset),
        request_id: request_id(),
        validate_only: false,
    };
    let created = persist(|| async { client.datasets().create_dataset(request.clone()).await }).await;
    Ok(created.map_err(|failure| failure.within(path.display()))?.into_inner())
}

fn read_source(path: &Path) -> Result<v1::DataSource, Failure> {
    json::from_str("DataSource", &local::text(path)?).map_err(|error| {
        let message = format!("{}: not the JSON form of a data source: {error}", path.display());
        Failure::new(Exit::Invalid, "SOURCE_JSON", message)
    })
}

async fn list(client: &Client, filter: &str) -> Result<Vec<v1::Dataset>, Failure> {
    all(|page_token| async move {
        let request =
            v1::ListDatasetsRequest { parent: client.parent(), page_size: 500, page_token, filter: filter.into() };
        let page = client.datasets().list_datasets(request).await?.into_inner();
        Ok((page.datasets, page.next_page_token))
    })
    .await
}

fn to_json(dataset: &v1::Dataset) -> Value {
    json::to_value("Dataset", dataset)
}

fn describe(dataset: &v1::Dataset) -> String {
    let summary = dataset.summary.clone().unwrap_or_default();
    let declared = [
        ("training", summary.train_samples),
        ("validation", summary.validation_samples),
        ("selection", summary.selection_samples),
        ("test", summary.test_samples),
    ];
    // The usual two are told in any case.
    let told = declared.iter().filter(|(split, samples)| *samples > 0 || *split == "test");
    let counts: Vec<String> = told.map(|(split, samples)| format!("{} {split}", grouped(*samples))).collect();
    let (last, others) = counts.split_last().expect("training and test samples are always told");
    format!(
        "{}: {} and {last} samples of {}, {} classes, read as {}",
        dataset.display_name,
        others.join(", "),
        shape(&summary.sample_shape),
        summary.classes,
        summary.source,
    )
}

fn text(datasets: &[v1::Dataset]) -> String {
    let rows = datasets.iter().map(|dataset| {
        let summary = dataset.summary.clone().unwrap_or_default();
        vec![
            id(&dataset.name).to_string(),
            dataset.display_name.clone(),
            state(dataset.state().as_str_name()),
            summary.source,
            grouped(summary.train_samples),
            grouped(summary.test_samples),
            summary.classes.to_string(),
            shape(&summary.sample_shape),
        ]
    });
    let header = ["id", "name", "state", "read as", "train", "test", "classes", "sample"];
    table(&header, &["name", "state", "read as", "sample"], rows)
}
