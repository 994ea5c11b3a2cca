//! The files that a new model or data set is made of: from the uploads a request names to blobs that can be read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use tokio::task::JoinError;
use tonic::Status;

use super::names::Collection;
use super::status::RequestError;
use super::{Context, v1};
use crate::data::Files;
use crate::error::Violation;
use crate::store::{Digest, FileRef, StoreError, UploadState};

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

    /// Copies files to a folder, compared with their digests, where readers that want paths find them. The folder is
    /// removed with the value.
    pub(super) async fn checked_out(&self, files: &[FileRef]) -> Result<(tempfile::TempDir, Files), Status> {
        let folder = tempfile::tempdir_in(&self.scratch)
            .map_err(|source| StoreError::File { path: self.scratch.clone(), source })?;
        let mut paths = BTreeMap::new();
        for file in files {
            let path = folder.path().join(&file.file_name);
            self.store.blobs.get_to_file(&digest(file)?, &path).await?;
            paths.insert(file.file_name.clone(), path);
        }
        Ok((folder, Files(paths)))
    }
}

/// The digest of a stored file.
pub(super) fn digest(file: &FileRef) -> Result<Digest, StoreError> {
    Digest::parse(&file.digest).ok_or_else(|| StoreError::Row { what: format!("digest {:?}", file.digest) })
}

/// A reader that panicked: a defect of ours that ends this request and nothing else.
pub(super) fn panicked(error: JoinError) -> Status {
    StoreError::Row { what: format!("a file's reader panicked: {error}") }.into()
}
