//! What a process is to read, put where it may read it.

use std::path::{Path, PathBuf};

use super::protocol::{MODELS_FOLDER, ModelFile};
use crate::format::Architecture;
use crate::store::{FileRef, Store, StoreError, stored_digest};

/// Puts files into a folder, under their numbers, compared with their digests.
pub(super) async fn stage(store: &Store, files: &[FileRef], folder: &Path) -> Result<(), StoreError> {
    tokio::fs::create_dir_all(folder).await.map_err(StoreError::file(folder))?;
    for (place, file) in files.iter().enumerate() {
        store.blobs.get_to_file(&stored_digest(&file.digest)?, &folder.join(place.to_string())).await?;
    }
    Ok(())
}

/// Puts a model's files into a room, under the number `place`.
pub(super) async fn stage_model(
    store: &Store,
    files: &[FileRef],
    architecture: Option<Architecture>,
    place: usize,
    room: &Path,
) -> Result<ModelFile, StoreError> {
    let own = PathBuf::from(MODELS_FOLDER).join(place.to_string());
    stage(store, files, &room.join(&own)).await?;
    let names = files.iter().map(|file| file.file_name.clone()).collect();
    Ok(ModelFile { folder: own, names, architecture })
}
