//! The files that a new model or data set is made of: from the uploads a request names to
//! what their bytes mean. Few are read at a time, because each needs its size in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, spawn_blocking};
use tonic::Status;

use super::auth::Caller;
use super::names::Collection;
use super::status::RequestError;
use super::{Context, v1};
use crate::data::{self, DataSource, Dataset, Files};
use crate::error::Violation;
use crate::format::{self, Architecture, Model};
use crate::store::{FileRef, StoreError, UploadState, stored_digest};

/// The right to have files in memory. Whoever works on them has a share of it, so that it ends when the last of them has
/// ended: a caller that breaks off does not stop a thread that reads.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Context {
    /// The uploads that `files` names, which must be complete, of the caller, and of different file names; `at` is where
    /// the request has them.
    pub(super) async fn references(
        &self,
        caller: &Caller,
        files: &[v1::FileReference],
        at: &str,
    ) -> Result<Vec<FileRef>, Status> {
        let mut found: Vec<FileRef> = Vec::new();
        let mut names = HashSet::new();
        let mut violations = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let field = format!("{at}[{i}].upload");
            let name = caller.parse(Collection::Uploads, &file.upload, &field)?;
            let upload = self.store.uploads.get(&name.tenant, &name.id).await?;
            if upload.state != UploadState::Complete {
                return Err(RequestError::NotComplete { field, id: upload.id }.into());
            }
            if !names.insert(upload.file_name.clone()) {
                violations.push(Violation::new(field, format!("a second file named {:?}", upload.file_name)));
            }
            found.push(FileRef {
                upload: upload.id,
                file_name: upload.file_name,
                size_bytes: upload.size_bytes,
                digest: upload.digest.to_string(),
            });
        }
        if !violations.is_empty() {
            return Err(RequestError::Invalid { violations }.into());
        }
        Ok(found)
    }

    /// Waits until files may be read into memory.
    pub(super) async fn reading(&self) -> Result<Reading, Status> {
        let permit = self.readers.clone().acquire_owned().await.map_err(|_| RequestError::Stopping)?;
        Ok(Reading { _permit: Arc::new(permit) })
    }

    /// Reads a model; `in_request` says where the request has what the reader calls bad (empty: the whole file).
    pub(super) async fn read_model(
        &self,
        reading: &Reading,
        file: &FileRef,
        architecture: Option<Architecture>,
        in_request: impl Fn(&str) -> String,
    ) -> Result<Model, Status> {
        let bytes = self.store.blobs.get(&stored_digest(&file.digest)?).await?;
        let reading = reading.clone();
        let read = spawn_blocking(move || {
            let model = format::open_model(bytes, architecture.as_ref());
            drop(reading);
            model
        });
        Ok(read.await.map_err(panicked)?.map_err(|error| RequestError::unreadable(&error, in_request))?)
    }

    /// Reads a data set; `in_request` says where the request has what the reader calls bad (empty: the whole set).
    pub(super) async fn read_dataset(
        &self,
        reading: &Reading,
        files: &[FileRef],
        source: Option<DataSource>,
        in_request: impl Fn(&str) -> String,
    ) -> Result<Dataset, Status> {
        // The readers want paths: the files are copied to a folder, compared with their digests. They are numbered there, so
        // that no name that a client chose is ever a path.
        let folder = tempfile::tempdir_in(&self.scratch)
            .map_err(|source| StoreError::File { path: self.scratch.clone(), source })?;
        let mut paths = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            let path = folder.path().join(place.to_string());
            self.store.blobs.get_to_file(&stored_digest(&file.digest)?, &path).await?;
            paths.insert(file.file_name.clone(), path);
        }
        let reading = reading.clone();
        let read = spawn_blocking(move || {
            let dataset = data::open(&Files(paths), source.as_ref());
            drop((folder, reading));
            dataset
        });
        Ok(read.await.map_err(panicked)?.map_err(|error| RequestError::unreadable(&error, in_request))?)
    }
}

/// What a request hears whose task panicked.
pub(super) fn panicked(error: JoinError) -> Status {
    RequestError::Panicked { error }.into()
}
