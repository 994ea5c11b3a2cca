//! A connection to a server, and files on their way there and back.
//!
//! Uploads and downloads survive a lost connection and a killed program. An upload's `request_id` follows from the file,
//! so asking again finds the bytes that have arrived; a download grows in a hidden file named after the artifact's digest
//! and is renamed when the digest is right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::failure::{Exit, Failure};
use super::progress::Transfer;
use crate::api::v1;
use crate::api::v1::artifact_service_client::ArtifactServiceClient;
use crate::api::v1::dataset_service_client::DatasetServiceClient;
use crate::api::v1::job_service_client::JobServiceClient;
use crate::api::v1::model_service_client::ModelServiceClient;
use crate::api::v1::server_service_client::ServerServiceClient;
use crate::api::v1::upload_service_client::UploadServiceClient;
use crate::digest::{Digest, Hasher};
use crate::store::is_file_name;

/// The tenant that everything belongs to as long as there is only one.
pub const TENANT: &str = "tenants/default";

/// Bytes in one chunk of an upload.
const CHUNK: usize = 256 * 1024;
/// How often a broken transfer is taken up again before it fails.
const ATTEMPTS: u32 = 5;

/// A connection to a server.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// The full name of a resource of which people gave the id or the name.
pub fn resource(collection: &str, id: &str) -> String {
    if id.contains('/') { id.to_string() } else { format!("{TENANT}/{collection}/{id}") }
}

/// The last part of a resource's name.
pub fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A key for a request that must not be done twice.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether what broke may work at another try.
pub fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, "UNAVAILABLE" | "ABORTED")
}

/// Waits before try number `attempt`, longer each time: 0.2, 0.4, 0.8 s.
pub async fn back_off(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(100 << attempt.min(6))).await;
}

impl Client {
    /// Connects to `server`: `http://host:port`, or `host:port`.
    pub async fn connect(server: &str) -> Result<Self, Failure> {
        let url = if server.contains("://") { server.to_string() } else { format!("http://{server}") };
        let endpoint = Endpoint::from_shared(url)
            .map_err(|error| Failure::new(Exit::Invalid, "SERVER_URL", format!("--server {server}: {error}")))?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let cause = causes.last().map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::new(Exit::Unavailable, "SERVER_UNAVAILABLE", format!("no server at {server}{cause}"))
                .hint("niwaki serve starts one; --server or NIWAKI_SERVER names another")
        })?;
        Ok(Self { channel })
    }

    /// The service of models.
    pub fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel.clone())
    }

    /// The service of data sets.
    pub fn datasets(&self) -> DatasetServiceClient<Channel> {
        DatasetServiceClient::new(self.channel.clone())
    }

    /// The service of jobs.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// The service that tells of the server.
    pub fn server(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel.clone())
    }

    /// Sends a file under the name `file_name` and gives the complete upload's reference.
    pub async fn upload(&self, path: &Path, file_name: &str) -> Result<v1::FileReference, Failure> {
        let (digest, size_bytes) = digest_of(path).await?;
        let mut uploads = UploadServiceClient::new(self.channel.clone());
        let announced = v1::Upload { file_name: file_name.into(), size_bytes, digest, ..Default::default() };
        let request = v1::CreateUploadRequest {
            parent: TENANT.into(),
            request_id: upload_key(&announced),
            upload: Some(announced),
        };
        let mut upload = uploads.create_upload(request).await?.into_inner();
        let mut bar = Transfer::start(&format!("upload {file_name}"), size_bytes);
        let mut attempt = 0;
        while upload.committed_size < size_bytes && upload.state() != v1::upload::State::Complete {
            bar.at(upload.committed_size);
            let chunks = chunks(path, &upload.name, upload.committed_size, bar.clone()).await?;
            match uploads.write_upload(chunks).await.map_err(Failure::from) {
                Ok(written) => upload.committed_size = written.into_inner().committed_size,
                Err(failure) if is_passing(&failure) && attempt < ATTEMPTS => {
                    attempt += 1;
                    back_off(attempt).await;
                    let request = v1::GetUploadRequest { name: upload.name.clone() };
                    upload = uploads.get_upload(request).await?.into_inner();
                }
                Err(failure) => return Err(failure.within(path.display())),
            }
        }
        bar.finish();
        let request = v1::CompleteUploadRequest { name: upload.name };
        let upload = uploads.complete_upload(request).await.map_err(|e| Failure::from(e).within(path.display()))?;
        Ok(v1::FileReference { upload: upload.into_inner().name, ..Default::default() })
    }

    /// Fetches an artifact into the folder `dir` and gives the path of the file, whose digest has been checked.
    pub async fn download(&self, artifact: &v1::Artifact, dir: &Path) -> Result<PathBuf, Failure> {
        let name = plain_name(&artifact.file_name)?;
        let target = dir.join(name);
        let partial = dir.join(format!(".{name}.{}.part", artifact.digest.trim_start_matches("sha256:")));
        fs::create_dir_all(dir).await.map_err(|e| Failure::io(dir, &e))?;
        let mut bar = Transfer::start(&format!("download {name}"), artifact.bytes);
        let mut attempt = 0;
        while let Err(failure) = self.fetch(artifact, &partial, &mut bar).await {
            if !is_passing(&failure) || attempt == ATTEMPTS {
                return Err(failure.within(&artifact.file_name));
            }
            attempt += 1;
            back_off(attempt).await;
        }
        bar.finish();
        let (digest, _) = digest_of(&partial).await?;
        if digest != artifact.digest {
            // What is kept would be wrong at the next try too.
            fs::remove_file(&partial).await.map_err(|e| Failure::io(&partial, &e))?;
            let message = format!("{name} arrived with digest {digest}, the server announced {}", artifact.digest);
            return Err(Failure::new(Exit::Failure, "DIGEST_MISMATCH", message));
        }
        fs::rename(&partial, &target).await.map_err(|e| Failure::io(&target, &e))?;
        Ok(target)
    }

    /// Appends what is missing of `artifact` to the file `partial`.
    async fn fetch(&self, artifact: &v1::Artifact, partial: &Path, bar: &mut Transfer) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io(partial, &error);
        let mut file = OpenOptions::new().append(true).create(true).open(partial).await.map_err(failed)?;
        let at = file.seek(SeekFrom::End(0)).await.map_err(failed)?;
        if at >= artifact.bytes {
            return Ok(());
        }
        let received = self.receive(artifact, at, &mut file, bar).await;
        // Also what arrived before the connection broke: the next try goes on behind it.
        file.flush().await.map_err(failed)?;
        received
    }

    /// Writes the bytes of `artifact` from `at` on into `file`.
    async fn receive(
        &self,
        artifact: &v1::Artifact,
        mut at: u64,
        file: &mut File,
        bar: &mut Transfer,
    ) -> Result<(), Failure> {
        let request =
            v1::DownloadArtifactRequest { name: artifact.name.clone(), read_offset: at, ..Default::default() };
        let mut artifacts = ArtifactServiceClient::new(self.channel.clone());
        let mut chunks = artifacts.download_artifact(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            if chunk.offset != at || crc32c::crc32c(&chunk.data) != chunk.crc32c {
                return Err(Status::aborted(format!("the chunk at byte {at} arrived damaged")).into());
            }
            let name = Path::new(&artifact.file_name);
            file.write_all(&chunk.data).await.map_err(|error| Failure::io(name, &error))?;
            at += chunk.data.len() as u64;
            bar.at(at);
        }
        if at < artifact.bytes {
            return Err(Status::unavailable(format!("the stream ended at byte {at} of {}", artifact.bytes)).into());
        }
        Ok(())
    }
}

/// The chunks of a file from `offset` on, as a stream that reads no faster than the connection takes them.
async fn chunks(
    path: &Path,
    upload: &str,
    offset: u64,
    bar: Transfer,
) -> Result<impl futures::Stream<Item = v1::WriteUploadRequest> + use<>, Failure> {
    let mut file = File::open(path).await.map_err(|e| Failure::io(path, &e))?;
    file.seek(SeekFrom::Start(offset)).await.map_err(|e| Failure::io(path, &e))?;
    let name = upload.to_string();
    Ok(futures::stream::unfold((file, offset, name, bar), |(mut file, offset, name, mut bar)| async move {
        let mut data = Vec::with_capacity(CHUNK);
        // A file that cannot be read any more ends the stream; the server then says which bytes are missing.
        (&mut file).take(CHUNK as u64).read_to_end(&mut data).await.ok().filter(|n| *n > 0)?;
        let end = offset + data.len() as u64;
        bar.at(end);
        let crc32c = crc32c::crc32c(&data);
        let request = v1::WriteUploadRequest { name: name.clone(), offset, data: Bytes::from(data), crc32c };
        Some((request, (file, end, name, bar)))
    }))
}

/// A file's digest, as the API writes it, and its size.
async fn digest_of(path: &Path) -> Result<(String, u64), Failure> {
    let failed = |error: std::io::Error| Failure::io(path, &error);
    let mut file = File::open(path).await.map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut size = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = file.read(&mut buffer).await.map_err(failed)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
    Ok((hasher.finish().to_string(), size))
}

/// The `request_id` of a file's upload: the same for the same file, so that a second program goes on where the first
/// broke off, and nothing is sent twice.
fn upload_key(upload: &v1::Upload) -> String {
    Digest::of(format!("{}\n{}\n{}", upload.file_name, upload.size_bytes, upload.digest).as_bytes()).to_string()
}

/// The server chooses the names of artifacts; only plain ones may become files here.
fn plain_name(name: &str) -> Result<&str, Failure> {
    if !is_file_name(name) {
        let message = format!("the server offers a file named {name:?}, which is not written here");
        return Err(Failure::new(Exit::Failure, "ARTIFACT_NAME", message));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_full_names_are_both_understood() {
        assert_eq!(resource("models", "m1"), "tenants/default/models/m1");
        assert_eq!(resource("models", "tenants/other/models/m1"), "tenants/other/models/m1");
        assert_eq!(id("tenants/default/models/m1"), "m1");
    }

    #[test]
    fn an_artifact_cannot_leave_its_folder() {
        assert_eq!(plain_name("model.safetensors").unwrap(), "model.safetensors");
        for name in ["", "..", ".ssh", "a/b", "/etc/passwd", "a\\b", "a\nb"] {
            assert!(plain_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_same_file_gets_the_same_key_and_another_file_another() {
        let upload = |digest: &str| v1::Upload { digest: digest.into(), ..Default::default() };
        assert_eq!(upload_key(&upload("a")), upload_key(&upload("a")));
        assert_ne!(upload_key(&upload("a")), upload_key(&upload("b")));
    }
}
