//! `niwaki.v1.UploadService`: files on their way in.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Caller;
use super::convert::catalogue::upload as to_pb;
use super::filter::UPLOADS;
use super::limits::MAX_CHUNK_BYTES;
use super::names::{Collection, check_file_name};
use super::paging::{Paging, check_request_id};
use super::status::RequestError;
use super::v1::upload_service_server::UploadService;
use super::{Context, v1};
use crate::digest::Digest;
use crate::error::Violation;
use crate::store::{self, Chunk, NewUpload, UploadWriter, now_ms};
use crate::web::metrics::UPLOAD_BYTES;

#[derive(Debug, Clone)]
pub(super) struct Uploads(pub Context);

#[tonic::async_trait]
impl UploadService for Uploads {
    async fn create_upload(&self, request: Request<v1::CreateUploadRequest>) -> Result<Response<v1::Upload>, Status> {
        let (caller, v1::CreateUploadRequest { parent, upload, request_id }) = Caller::of(request)?;
        let new = new_upload(
            caller.parent(&parent)?,
            upload.unwrap_or_default(),
            &request_id,
            self.0.settings.uploads.max_bytes,
        )?;
        let content = (&new.file_name, new.size_bytes, new.digest.to_string());
        let request = store::Request::new(request_id, &content);
        Ok(Response::new(to_pb(self.0.store.uploads.create(&new, &request, now_ms()).await?)))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<v1::WriteUploadRequest>>,
    ) -> Result<Response<v1::WriteUploadResponse>, Status> {
        // When a caller breaks off, this future is dropped; what has arrived must be committed all the same.
        let (caller, stream) = Caller::of(request)?;
        let writing = self.0.tasks.spawn(receive(self.0.clone(), caller, stream));
        let committed_size = writing.await.map_err(super::files::panicked)??;
        Ok(Response::new(v1::WriteUploadResponse { committed_size }))
    }

    async fn complete_upload(
        &self,
        request: Request<v1::CompleteUploadRequest>,
    ) -> Result<Response<v1::Upload>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Uploads, &request.name, "name")?;
        let uploads = self.0.store.uploads.clone();
        // As above: bytes that are published get their row. A few at a time, whether or not their callers are still there.
        let turns = self.0.completions.clone();
        let completing = self.0.tasks.spawn(async move {
            // Nobody closes the semaphore.
            let _turn = turns.acquire().await;
            uploads.complete(&name.tenant, &name.id).await
        });
        Ok(Response::new(to_pb(completing.await.map_err(super::files::panicked)??)))
    }

    async fn get_upload(&self, request: Request<v1::GetUploadRequest>) -> Result<Response<v1::Upload>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Uploads, &request.name, "name")?;
        Ok(Response::new(to_pb(self.0.store.uploads.get(&name.tenant, &name.id).await?)))
    }

    async fn delete_upload(
        &self,
        request: Request<v1::DeleteUploadRequest>,
    ) -> Result<Response<v1::DeleteUploadResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let name = caller.parse(Collection::Uploads, &request.name, "name")?;
        self.0.store.uploads.delete(&name.tenant, &name.id, &request.etag).await?;
        Ok(Response::new(v1::DeleteUploadResponse {}))
    }

    async fn list_uploads(
        &self,
        request: Request<v1::ListUploadsRequest>,
    ) -> Result<Response<v1::ListUploadsResponse>, Status> {
        let (caller, request) = Caller::of(request)?;
        let v1::ListUploadsRequest { parent, page_size, page_token, filter } = request;
        let tenant = caller.parent(&parent)?;
        let paging = Paging::read(Collection::Uploads, &parent, page_size, &page_token, &filter, UPLOADS)?;
        let mut uploads = self.0.store.uploads.list(&tenant, &paging.page).await?;
        let next_page_token = paging.cut(&mut uploads, |upload| &upload.id);
        let uploads = uploads.into_iter().map(to_pb).collect();
        Ok(Response::new(v1::ListUploadsResponse { uploads, next_page_token }))
    }
}

fn new_upload(tenant: String, upload: v1::Upload, request_id: &str, limit: u64) -> Result<NewUpload, RequestError> {
    let mut violations: Vec<Violation> = check_file_name(&upload.file_name, "upload.file_name").into_iter().collect();
    violations.extend(check_request_id(request_id));
    if upload.size_bytes == 0 {
        violations.push(Violation::new("upload.size_bytes", "is 0: a file has at least one byte"));
    }
    let digest = Digest::parse(&upload.digest);
    if digest.is_none() {
        let description = format!("{:?} is not `sha256:` and 64 lower-case hexadecimal digits", upload.digest);
        violations.push(Violation::new("upload.digest", description));
    }
    let (Some(digest), true) = (digest, violations.is_empty()) else {
        return Err(RequestError::Invalid { violations });
    };
    if upload.size_bytes > limit {
        return Err(RequestError::TooLarge { bytes: upload.size_bytes, limit });
    }
    Ok(NewUpload { tenant, file_name: upload.file_name, size_bytes: upload.size_bytes, digest })
}

/// Takes chunks to the end of the stream. However that comes, the chunks before it are kept.
async fn receive(
    context: Context,
    caller: Caller,
    mut stream: Streaming<v1::WriteUploadRequest>,
) -> Result<u64, Status> {
    let Some(first) = next(&context, &mut stream).await? else {
        return Err(RequestError::field("name", "the stream ended before its first message").into());
    };
    let name = caller.parse(Collection::Uploads, &first.name, "name")?;
    let mut writer = context.store.uploads.writer(&name.tenant, &name.id).await?;
    let taken = take(&context, &mut stream, first, &mut writer).await;
    let committed = writer.commit().await?;
    taken?;
    Ok(committed)
}

async fn take(
    context: &Context,
    stream: &mut Streaming<v1::WriteUploadRequest>,
    first: v1::WriteUploadRequest,
    writer: &mut UploadWriter,
) -> Result<(), Status> {
    let name = first.name.clone();
    let mut message = Some(first);
    while let Some(chunk) = message {
        if !chunk.name.is_empty() && chunk.name != name {
            return Err(RequestError::field("name", "one stream writes one upload").into());
        }
        if chunk.data.len() > MAX_CHUNK_BYTES {
            let (size, limit) = (chunk.data.len(), MAX_CHUNK_BYTES);
            return Err(RequestError::field("data", format!("has {size} bytes, a chunk has at most {limit}")).into());
        }
        let bytes = chunk.data.len() as u64;
        writer.append(&Chunk { offset: chunk.offset, crc32c: chunk.crc32c, data: chunk.data }).await?;
        metrics::counter!(UPLOAD_BYTES).increment(bytes);
        message = next(context, stream).await?;
    }
    Ok(())
}

/// The next message, for which a sender does not have for ever: what is silent holds the upload and a place among calls.
async fn next(
    context: &Context,
    stream: &mut Streaming<v1::WriteUploadRequest>,
) -> Result<Option<v1::WriteUploadRequest>, Status> {
    let seconds = context.settings.calls.idle_seconds;
    tokio::select! {
        message = timeout(Duration::from_secs(seconds.into()), stream.message()) => {
            message.map_err(|_| RequestError::Idle { seconds })?
        }
        () = context.stop.cancelled() => Err(RequestError::Stopping.into()),
    }
}
