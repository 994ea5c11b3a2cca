//! `niwaki datasets`: data sets on the server.

use std::path::Path;

use serde_json::Value;

use super::args::DatasetsVerb;
use super::client::{Client, TENANT, id, request_id, resource};
use super::failure::Failure;
use super::local;
use super::models::file_name;
use super::output::{Output, grouped, shape, table};
use crate::api::{json, v1};

/// Does what was asked for.
pub async fn run(client: &Client, verb: DatasetsVerb, output: Output) -> Result<(), Failure> {
    match verb {
        DatasetsVerb::Put { path, name } => {
            let dataset = put(client, &path, name).await?;
            output.answer(|| id(&dataset.name).to_string(), || to_json(&dataset));
            output.note(describe(&dataset));
            output.next([format!("niwaki jobs create RECIPE --dataset {} --watch", id(&dataset.name))]);
        }
        DatasetsVerb::Ls => {
            let datasets = list(client).await?;
            output.answer(|| text(&datasets), || Value::Array(datasets.iter().map(to_json).collect()));
            output.next(["niwaki datasets put PATH".into()]);
        }
        DatasetsVerb::Get { dataset } => {
            let request = v1::GetDatasetRequest { name: resource("datasets", &dataset) };
            let dataset = client.datasets().get_dataset(request).await?.into_inner();
            output.answer(|| text(std::slice::from_ref(&dataset)), || to_json(&dataset));
            output.next([format!("niwaki jobs create RECIPE --dataset {} --watch", id(&dataset.name))]);
        }
    }
    Ok(())
}

/// Uploads a folder's files, or one file, and makes a data set of them.
pub async fn put(client: &Client, path: &Path, name: Option<String>) -> Result<v1::Dataset, Failure> {
    let mut files = Vec::new();
    for (file_name, file) in &local::files(path)?.0 {
        files.push(client.upload(file, file_name).await?);
    }
    let display_name = name.map_or_else(|| file_name(path), Ok)?;
    let dataset = v1::Dataset { display_name, files, ..Default::default() };
    let request = v1::CreateDatasetRequest { parent: TENANT.into(), dataset: Some(dataset), request_id: request_id() };
    let created = client.datasets().create_dataset(request).await;
    Ok(created.map_err(|status| Failure::from(status).within(path.display()))?.into_inner())
}

async fn list(client: &Client) -> Result<Vec<v1::Dataset>, Failure> {
    let mut datasets = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDatasetsRequest { parent: TENANT.into(), page_size: 500, page_token };
        let page = client.datasets().list_datasets(request).await?.into_inner();
        datasets.extend(page.datasets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(datasets);
        }
    }
}

fn to_json(dataset: &v1::Dataset) -> Value {
    json::to_value("Dataset", dataset)
}

fn describe(dataset: &v1::Dataset) -> String {
    let summary = dataset.summary.clone().unwrap_or_default();
    format!(
        "{}: {} training and {} test samples of {}, {} classes, read as {}",
        dataset.display_name,
        grouped(summary.train_samples),
        grouped(summary.test_samples),
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
            summary.source,
            grouped(summary.train_samples),
            grouped(summary.test_samples),
            summary.classes.to_string(),
            shape(&summary.sample_shape),
        ]
    });
    table(&["id", "name", "read as", "train", "test", "classes", "sample"], &["name", "read as", "sample"], rows)
}
