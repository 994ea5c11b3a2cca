//! `niwaki uploads`: files on their way to the server.

use serde_json::Value;

use super::client::{Client, all, id, persist};
use super::failure::Failure;
use super::output::{Output, grouped, table};
use super::verbs::UploadsVerb;
use crate::api::{json, v1};

/// Does what was asked for.
pub async fn run(client: &Client, verb: UploadsVerb, output: Output) -> Result<(), Failure> {
    match verb {
        UploadsVerb::Ls { filter } => {
            let uploads = list(client, &filter).await?;
            output.answer(|| text(&uploads), || Value::Array(uploads.iter().map(to_json).collect()));
        }
        UploadsVerb::Get { upload } => {
            let request = v1::GetUploadRequest { name: client.resource("uploads", &upload) };
            let upload = persist(|| async { client.uploads().get_upload(request.clone()).await }).await?.into_inner();
            output.answer(|| text(std::slice::from_ref(&upload)), || to_json(&upload));
        }
        UploadsVerb::Rm { upload } => {
            let request = v1::DeleteUploadRequest { name: client.resource("uploads", &upload), ..Default::default() };
            client.uploads().delete_upload(request.clone()).await?;
            output.gone(&request.name);
        }
    }
    Ok(())
}

async fn list(client: &Client, filter: &str) -> Result<Vec<v1::Upload>, Failure> {
    all(|page_token| async move {
        let request =
            v1::ListUploadsRequest { parent: client.parent(), page_size: 500, page_token, filter: filter.into() };
        let page = client.uploads().list_uploads(request).await?.into_inner();
        Ok((page.uploads, page.next_page_token))
    })
    .await
}

fn text(uploads: &[v1::Upload]) -> String {
    let rows = uploads.iter().map(|upload| {
        vec![
            id(&upload.name).to_string(),
            upload.state().as_str_name().trim_start_matches("STATE_").to_lowercase(),
            upload.file_name.clone(),
            grouped(upload.committed_size),
            grouped(upload.size_bytes),
        ]
    });
    table(&["id", "state", "file", "arrived", "bytes"], &["state", "file"], rows)
}

fn to_json(upload: &v1::Upload) -> Value {
    json::to_value("Upload", upload)
}
