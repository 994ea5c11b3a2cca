//! The files that a new model or data set is made of: the uploads that a request names.

use std::collections::HashSet;

use tokio::task::JoinError;
use tonic::Status;

use super::auth::Caller;
use super::names::Collection;
use super::status::RequestError;
use super::{Context, v1};
use crate::error::Violation;
use crate::store::{FileRef, UploadState};

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
}

/// The uploads as a request names them.
pub(super) fn named(files: &[v1::FileReference]) -> Vec<&str> {
    files.iter().map(|file| file.upload.as_str()).collect()
}

/// What a request hears whose task panicked.
pub(super) fn panicked(error: JoinError) -> Status {
    RequestError::Panicked { error }.into()
}
