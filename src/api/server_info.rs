//! `niwaki.v1.ServerService`: what this server is and what it takes.

use tonic::{Request, Response, Status};

use super::limits::{MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES};
use super::v1::server_service_server::ServerService;
use super::{Context, v1};
use crate::format::safetensors::{MAX_HEADER, MAX_TENSORS};
use crate::graph::preset;
use crate::recipe::MAX_STEPS;

#[derive(Debug, Clone)]
pub(super) struct ServerInfo(pub Context);

#[tonic::async_trait]
impl ServerService for ServerInfo {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::ServerInfo>, Status> {
        Ok(Response::new(v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            limits: Some(v1::Limits {
                max_message_bytes: MAX_MESSAGE_BYTES as u64,
                max_chunk_bytes: MAX_CHUNK_BYTES as u64,
                max_upload_bytes: self.0.settings.uploads.max_bytes,
                max_header_bytes: MAX_HEADER,
                max_tensors: MAX_TENSORS as u64,
                max_steps: MAX_STEPS as u32,
            }),
            presets: preset::names().map(str::to_string).collect(),
        }))
    }
}
