//! A real server on a real socket, with the generated client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use niwaki::api::server::{ServeError, ServerConfig, serve};
use niwaki::api::v1;
use niwaki::api::v1::artifact_service_client::ArtifactServiceClient;
use niwaki::api::v1::dataset_service_client::DatasetServiceClient;
use niwaki::api::v1::job_service_client::JobServiceClient;
use niwaki::api::v1::model_service_client::ModelServiceClient;
use niwaki::api::v1::server_service_client::ServerServiceClient;
use niwaki::api::v1::upload_service_client::UploadServiceClient;
use niwaki::digest::Digest;
use niwaki::format::native;
use niwaki::graph::builder::GraphBuilder;
use niwaki::graph::init;
use niwaki::settings::Settings;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

mod analyze;
mod auth;
mod bounds;
mod catalogue;
#[path = "hostile/mod.rs"]
mod hostile;
mod jobs;
mod lifecycle;
mod logs;
mod onnx;
mod operations;
mod processes;
mod raw;
mod steps;
mod tls;
mod uploads;
mod validation;

const PARENT: &str = "tenants/default";
/// Nothing here takes this long; a test that hangs should say so.
const LIMIT: Duration = Duration::from_secs(60);

/// A server on a free port, and a channel to it.
struct Server {
    channel: Channel,
    /// Its address and port.
    address: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(data: &Path, workers: u32) -> Self {
        Self::start_with(data, workers, env!("CARGO_BIN_EXE_niwaki").into()).await
    }

    async fn start_with(data: &Path, workers: u32, job_program: PathBuf) -> Self {
        let mut settings = Settings { data: data.into(), ..Settings::default() };
        settings.jobs.workers = workers;
        Self::start_set(settings, job_program).await
    }

    #[allow(clippy::disallowed_methods)] // `stop` waits for it; a test that fails ends its runtime.
    async fn start_set(settings: Settings, job_program: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = ServerConfig { settings, job_program };
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, config, async {
            let _ = stopped.await;
        }));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, address, stop, served }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.served).await.expect("the server stops in time").unwrap().unwrap();
    }

    fn uploads(&self) -> UploadServiceClient<Channel> {
        UploadServiceClient::new(self.channel.clone())
    }

    fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel.clone())
    }

    fn datasets(&self) -> DatasetServiceClient<Channel> {
        DatasetServiceClient::new(self.channel.clone())
    }

    fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    fn artifacts(&self) -> ArtifactServiceClient<Channel> {
        ArtifactServiceClient::new(self.channel.clone())
    }

    fn info(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel.clone())
    }

    async fn announce(
        &self,
        file_name: &str,
        size: usize,
        digest: &str,
        request_id: &str,
    ) -> Result<v1::Upload, Status> {
        let upload = v1::Upload {
            file_name: file_name.into(),
            size_bytes: size as u64,
            digest: digest.into(),
            ..Default::default()
        };
        let request =
            v1::CreateUploadRequest { parent: PARENT.into(), upload: Some(upload), request_id: request_id.into() };
        Ok(self.uploads().create_upload(request).await?.into_inner())
    }

    async fn write(&self, chunks: Vec<v1::WriteUploadRequest>) -> Result<u64, Status> {
        let response = self.uploads().write_upload(futures::stream::iter(chunks)).await?;
        Ok(response.into_inner().committed_size)
    }

    async fn complete(&self, name: &str) -> Result<v1::Upload, Status> {
        let request = v1::CompleteUploadRequest { name: name.into() };
        Ok(self.uploads().complete_upload(request).await?.into_inner())
    }

    /// Uploads a whole file and returns the upload's name.
    async fn put(&self, file_name: &str, bytes: &[u8]) -> String {
        self.put_in(file_name, bytes, 1000).await
    }

    /// Uploads a whole file in pieces of that size and returns the upload's name.
    async fn put_in(&self, file_name: &str, bytes: &[u8], size: usize) -> String {
        let upload = self.announce(file_name, bytes.len(), &sha256(bytes), "").await.unwrap();
        let pieces = bytes.chunks(size).enumerate();
        let chunks = pieces.map(|(i, piece)| chunk(&upload.name, i * size, piece)).collect();
        assert_eq!(self.write(chunks).await.unwrap(), bytes.len() as u64);
        self.complete(&upload.name).await.unwrap().name
    }

    async fn create_model(&self, upload: &str, request_id: &str) -> Result<v1::Model, Status> {
        let model = v1::Model { files: vec![file(upload)], display_name: "small".into(), ..Default::default() };
        let request = v1::CreateModelRequest {
            parent: PARENT.into(),
            model: Some(model),
            request_id: request_id.into(),
            validate_only: false,
        };
        Ok(self.models().create_model(request).await?.into_inner())
    }

    async fn create_dataset(&self, uploads: &[String]) -> Result<v1::Dataset, Status> {
        let dataset = v1::Dataset { files: uploads.iter().map(|u| file(u)).collect(), ..Default::default() };
        let request = v1::CreateDatasetRequest {
            parent: PARENT.into(),
            dataset: Some(dataset),
            request_id: String::new(),
            validate_only: false,
        };
        Ok(self.datasets().create_dataset(request).await?.into_inner())
    }

    async fn create_job(&self, model: &str, dataset: &str, recipe: &str, request_id: &str) -> Result<v1::Job, Status> {
        let recipe = niwaki::api::json::from_str("Recipe", recipe).unwrap();
        let job = v1::Job { model: model.into(), dataset: dataset.into(), recipe: Some(recipe), ..Default::default() };
        self.send_job(job, request_id, false).await
    }

    async fn send_job(&self, job: v1::Job, request_id: &str, validate_only: bool) -> Result<v1::Job, Status> {
        let (parent, request_id) = (PARENT.into(), request_id.into());
        let request = v1::CreateJobRequest { parent, job: Some(job), request_id, validate_only };
        Ok(self.jobs().create_job(request).await?.into_inner())
    }

    /// A small model and a small data set, by their names.
    async fn inputs(&self) -> (String, String) {
        let model = self.create_model(&self.put("small.safetensors", &model_file()).await, "").await.unwrap();
        let dataset = self.create_dataset(&[self.put("stripes.safetensors", &dataset_file(240)).await]).await.unwrap();
        (model.name, dataset.name)
    }

    async fn watch(&self, job: &str, after_revision: u64) -> tonic::Streaming<v1::WatchJobResponse> {
        let request = v1::WatchJobRequest { name: job.into(), after_revision };
        self.jobs().watch_job(request).await.unwrap().into_inner()
    }

    /// Watches a job to its end.
    async fn ended(&self, job: &str) -> v1::Job {
        let stream = self.watch(job, 0).await;
        let last = timeout(LIMIT, stream.fold(None, |_, message| async move { message.unwrap().job })).await;
        last.expect("the watch ends").expect("a watch from 0 has a message")
    }
}

fn chunk(upload: &str, offset: usize, data: &[u8]) -> v1::WriteUploadRequest {
    v1::WriteUploadRequest {
        name: upload.into(),
        offset: offset as u64,
        data: Bytes::copy_from_slice(data),
        crc32c: crc32c::crc32c(data),
    }
}

fn file(upload: &str) -> v1::FileReference {
    v1::FileReference { upload: upload.into(), ..Default::default() }
}

/// Pictures of 4 by 4 pixels whose class says which pair of rows is bright.
fn dataset_file(samples: usize) -> Vec<u8> {
    let label = |i: usize| (i * 7 % 2) as u8;
    let pixel = |i: usize, p: usize| (i * 31 + p * 17) as u8 % 90 + if p / 8 == label(i) as usize { 120 } else { 0 };
    let mut data: Vec<u8> = (0..samples).flat_map(|i| (0..16).map(move |p| pixel(i, p))).collect();
    data.extend((0..samples).map(label));
    let header = json!({
        "inputs": {"dtype": "U8", "shape": [samples, 1, 4, 4], "data_offsets": [0, samples * 16]},
        "labels": {"dtype": "U8", "shape": [samples], "data_offsets": [samples * 16, samples * 17]},
    });
    let mut text = header.to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &data].concat()
}

fn model_file() -> Vec<u8> {
    let mut graph = GraphBuilder::new("small", &[1, 4, 4]).flatten("flatten").linear("fc", 2).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    native::write(&graph, &Default::default()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// The stable word of an error.
fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every error carries an ErrorInfo").reason
}

/// A fact of an error.
fn fact(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata[key].clone()
}

/// The bad fields that an error names.
fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
