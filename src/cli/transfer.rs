//! Files on their way to a server and back.
//!
//! Uploads and downloads survive a lost connection and a killed program. An upload's `request_id` follows from the file,
//! so asking again finds the bytes that have arrived; a download grows in a hidden file named after the artifact's digest
//! and is renamed when the digest is right.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, SeekFrom};
use tonic::Status;

use super::client::{ATTEMPTS, Client, back_off, is_passing, persist};
use super::failure::{Exit, Failure};
use super::local::plain;
use super::progress::Transfer;
use crate::api::v1;
use crate::digest::{Digest, Hasher};
use crate::store::is_file_name;

/// Bytes in one chunk of an upload.
const CHUNK: usize = 256 * 1024;

impl Client {
    /// Sends a file under the name `file_name` and gives the complete upload's reference. What broke off, now or in a program
    /// before this one, goes on where the server has got to.
    pub async fn upload(&self, path: &Path, file_name: &str) -> Result<v1::FileReference, Failure> {
        let (digest, size_bytes) = digest_of(path).await?;
        let announced = v1::Upload { file_name: file_name.into(), size_bytes, digest, ..Default::default() };
        let request = v1::CreateUploadRequest {
            parent: self.parent(),
            request_id: upload_key(&announced),
            upload: Some(announced),
        };
        let named = |failure: Failure| failure.within(path.display());
        let created = persist(|| async { self.uploads().create_upload(request.clone()).await }).await;
        let mut upload = created.map_err(named)?.into_inner();
        let mut bar = Transfer::start(&format!("upload {file_name}"), size_bytes);
        let mut attempt = 0;
        while upload.committed_size < size_bytes && upload.state() != v1::upload::State::Complete {
            let begun_at = upload.committed_size;
            bar.at(begun_at);
            let chunks = chunks(path, &upload.name, begun_at, bar.clone()).await?;
            match self.uploads().write_upload(chunks).await.map_err(Failure::from) {
                Ok(written) => upload.committed_size = written.into_inner().committed_size,
                Err(failure) if is_passing(&failure) && attempt < ATTEMPTS => {
                    bar.say(&format!("the upload broke off ({}) and goes on", failure.reason));
                    back_off(attempt + 1).await;
                    upload = self.get_upload(&upload.name).await.map_err(named)?;
                }
                Err(failure) => return Err(named(failure)),
            }
            // Only tries in a row that bring nothing count.
            attempt = if upload.committed_size > begun_at { 0 } else { attempt + 1 };
            if attempt > ATTEMPTS {
                let message = format!("the server takes no more than {} of {size_bytes} bytes", upload.committed_size);
                return Err(named(Failure::new(Exit::Unavailable, "UPLOAD_BROKEN", message)));
            }
        }
        bar.finish();
        let request = v1::CompleteUploadRequest { name: upload.name };
        let completed = persist(|| async { self.uploads().complete_upload(request.clone()).await }).await;
        Ok(v1::FileReference { upload: completed.map_err(named)?.into_inner().name, ..Default::default() })
    }

    async fn get_upload(&self, name: &str) -> Result<v1::Upload, Failure> {
        let request = v1::GetUploadRequest { name: name.into() };
        Ok(persist(|| async { self.uploads().get_upload(request.clone()).await }).await?.into_inner())
    }

    /// Fetches an artifact into the folder `dir` and gives the path of the file, whose digest has been checked.
    pub async fn download(&self, artifact: &v1::Artifact, dir: &Path) -> Result<PathBuf, Failure> {
        let name = plain_name(&artifact.file_name)?;
        let target = dir.join(name);
        let partial = dir.join(format!(".{name}.{}.part", artifact.digest.trim_start_matches("sha256:")));
        fs::create_dir_all(dir).await.map_err(|e| Failure::io(dir, &e))?;
        let mut bar = Transfer::start(&format!("download {name}"), artifact.bytes);
        let mut attempt = 0;
        let size = async || fs::metadata(&partial).await.map_or(0, |found| found.len());
        let mut before = size().await;
        while let Err(failure) = self.fetch(artifact, &partial, &mut bar).await {
            let now = size().await;
            // Who gets on has not failed in a row.
            attempt = if now > std::mem::replace(&mut before, now) { 0 } else { attempt };
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
        let mut chunks = self.artifacts().download_artifact(request).await?.into_inner();
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
    plain(path)?;
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
