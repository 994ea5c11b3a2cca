//! `niwaki.v1.ArtifactService`: results on their way out.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::v1::artifact_service_server::ArtifactService;
use super::{Context, v1};
use crate::store::{StoreError, stored_digest};

#[derive(Debug, Clone)]
pub(super) struct Artifacts(pub Context);

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    type DownloadArtifactStream = Pin<Box<dyn Stream<Item = Result<v1::DownloadArtifactResponse, Status>> + Send>>;

    async fn download_artifact(
        &self,
        request: Request<v1::DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let (caller, v1::DownloadArtifactRequest { name, read_offset, read_limit }) = Caller::of(request)?;
        let (key, file_name) = caller.artifact(&name)?;
        let job = self.0.queue.get(&key).await?;
        let result = job.result.map(|result| result.artifacts).unwrap_or_default();
        let artifact = result.into_iter().chain(job.partial).find(|file| file.name == file_name);
        let artifact = artifact.ok_or(StoreError::NotFound { what: "artifact", id: file_name })?;
        let digest = stored_digest(&artifact.digest)?;
        let pieces = self.0.store.blobs.read(&digest, read_offset, read_limit).await?;
        let chunks = pieces.map(|piece| {
            let (offset, data) = piece?;
            Ok(v1::DownloadArtifactResponse { offset, crc32c: crc32c::crc32c(&data), data })
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
