//! The files that a new model or data set is made of: from the uploads a request names to
//! what their bytes mean. Few are read at a time, because each needs its size in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use tokio::task::{JoinError, spawn_blocking};
use tonic::Status;

use super::names::Collection;
use super::status::RequestError;
use super::{Context, v1};
use crate::data::{self, DataSource, Dataset, Files};
use crate::digest::Digest;
use crate::error::Violation;
use crate::format::{self, Architecture, Model};
use crate::store::{FileRef, StoreError, UploadState};

impl Context {
    /// The uploads that `files` names, which must be complete, of this tenant, and of different file names.
    pub(super) async fn references(&self, tenant: &str, files: &[v1::FileReference]) -> Result<Vec<FileRef>, Status> {
        let mut found: BTreeMap<String, FileRef> = BTreeMap::new();
        let mut violations = Vec::new();
        let mut order = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let field = format!("files[{i}].upload");
            let name = Collection::Uploads.parse(&file.upload, &field)?;
            if name.tenant != tenant {
                return Err(StoreError::NotFound { what: "upload", id: name.id }.into());
            }
            let upload = self.store.uploads.get(tenant, &name.id).await?;
            if upload.state != UploadState::Complete {
                return Err(RequestError::NotComplete { field, id: upload.id }.into());
            }
            match found.entry(upload.file_name.clone()) {
                Slot::Occupied(_) => {
                    violations.push(Violation::new(field, format!("a second file named {:?}", upload.file_name)));
                }
                Slot::Vacant(slot) => {
                    order.push(upload.file_name.clone());
                    slot.insert(FileRef {
                        upload: upload.id,
                        file_name: upload.file_name,
                        size_bytes: upload.size_bytes,
                        digest: upload.digest.to_string(),
                    });
                }
            }
        }
        if !violations.is_empty() {
            return Err(RequestError::Invalid { violations }.into());
        }
        Ok(order.iter().filter_map(|name| found.remove(name)).collect())
    }

    /// Reads a model; `field` is what the request calls it.
    pub(super) async fn read_model(
        &self,
        file: &FileRef,
        architecture: Option<Architecture>,
        field: &'static str,
    ) -> Result<Model, Status> {
        let _permit = self.readers.acquire().await;
        let bytes = self.store.blobs.get(&digest(file)?).await?;
        let read = spawn_blocking(move || format::open_model(bytes, architecture.as_ref()));
        Ok(read.await.map_err(panicked)?.map_err(|error| RequestError::unreadable(field, &error))?)
    }

    /// Reads a data set; `field` is what the request calls it.
    pub(super) async fn read_dataset(
        &self,
        files: &[FileRef],
        source: Option<DataSource>,
        field: &'static str,
    ) -> Result<Dataset, Status> {
        let _permit = self.readers.acquire().await;
        // The readers want paths: the files are copied to a folder, compared with their digests.
        let folder = tempfile::tempdir_in(&self.scratch)
            .map_err(|source| StoreError::File { path: self.scratch.clone(), source })?;
        let mut paths = BTreeMap::new();
        for file in files {
            let path = folder.path().join(&file.file_name);
            self.store.blobs.get_to_file(&digest(file)?, &path).await?;
            paths.insert(file.file_name.clone(), path);
        }
        let read = spawn_blocking(move || {
            let dataset = data::open(&Files(paths), source.as_ref());
            drop(folder);
            dataset
        });
        Ok(read.await.map_err(panicked)?.map_err(|error| RequestError::unreadable(field, &error))?)
    }
}

/// The digest of a stored file.
fn digest(file: &FileRef) -> Result<Digest, StoreError> {
    Digest::parse(&file.digest).ok_or_else(|| StoreError::Row { what: format!("digest {:?}", file.digest) })
}

/// A task that panicked: a defect of ours that ends this request and nothing else.
pub(super) fn panicked(error: JoinError) -> Status {
    StoreError::Row { what: format!("a request's task panicked: {error}") }.into()
}
