use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::store::{Chunk, FileRef, NewEntry, NewUpload, Request, Upload, now_ms};

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    (folder, store)
}

/// Stores a blob that nothing names.
async fn stored(store: &Store, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    drop(store.blobs.put_file(file.path(), &Digest::of(bytes)).await.unwrap());
}

async fn announced(store: &Store, bytes: &'static [u8]) -> Upload {
    let new = NewUpload {
        tenant: "default".into(),
        file_name: "m".into(),
        size_bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    store.uploads.create(&new, &Request::new("", &0), now_ms()).await.unwrap()
}

async fn sent(store: &Store, bytes: &'static [u8]) -> Upload {
    let upload = announced(store, bytes).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    let data = Bytes::from_static(bytes);
    writer.append(&Chunk { offset: 0, crc32c: crc32c::crc32c(&data), data }).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    store.uploads.complete("default", &upload.id).await.unwrap()
}

async fn model_of(store: &Store, upload: &Upload) -> String {
    let file = FileRef {
        upload: upload.id.clone(),
        file_name: "m".into(),
        size_bytes: upload.size_bytes,
        digest: upload.digest.to_string(),
    };
    let detail = ModelDetail::default();
    let new = NewEntry { tenant: "default".into(), display_name: String::new(), files: vec![file], detail };
    store.catalogue.create(&new, &Request::new("", &0), now_ms()).await.unwrap().id
}

/// Nothing is kept for longer than it is needed.
const NOW: Retention = Retention { job_days: 1, upload_days: 1, rejected_days: 1, garbage_seconds: 0 };

async fn collect(store: &Store, retention: &Retention, now: i64) -> Collected {
    let none = async || Ok(HashSet::new());
    store.collect(retention, &mut Unnamed::default(), now, none).await.unwrap()
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn after_a_collection_the_disk_has_what_rows_name_and_nothing_else() {
    let (folder, store) = store().await;
    let (kept, unused) = (sent(&store, b"kept").await, sent(&store, b"unused").await);
    let model = model_of(&store, &kept).await;
    // What deaths leave: a blob whose row was not written, one half written, and bytes on their way in without a row.
    stored(&store, b"unnamed").await;
    let shard = folder.path().join("blobs/sha256/00");
    std::fs::create_dir_all(&shard).unwrap();
    std::fs::write(shard.join(format!("{}#1", &Digest::of(b"x").hex()[2..])), "half").unwrap();
    std::fs::write(folder.path().join("uploads/default/0199"), "left").unwrap();

    let collected = collect(&store, &NOW, now_ms()).await;
    assert_eq!((collected.blobs, collected.leftovers, collected.uploads), (1, 2, 0));
    assert_eq!(files_below(&folder.path().join("blobs")), 2);
    assert_eq!(files_below(&folder.path().join("uploads")), 0);

    // Two days later: nothing was made of one upload, and of the other a model, which keeps its bytes without it.
    let later = now_ms() + 2 * DAY_MS;
    assert_eq!(
        collect(&store, &NOW, later).await,
        Collected { uploads: 1, blobs: 1, bytes: 6, ..Collected::default() }
    );
    assert!(store.uploads.get("default", &unused.id).await.is_err());
    store.uploads.delete("default", &kept.id, "").await.unwrap();
    assert_eq!(collect(&store, &NOW, later).await, Collected::default());
    assert_eq!(store.blobs.get(&kept.digest).await.unwrap(), "kept");
    store.catalogue.delete::<ModelDetail>("default", &model, "").await.unwrap();
    assert_eq!(
        collect(&store, &NOW, later).await,
        Collected { entries: 1, blobs: 1, bytes: 4, ..Collected::default() }
    );
    assert_eq!(files_below(&folder.path().join("blobs")), 0);
}

#[tokio::test]
async fn an_upload_that_is_given_up_goes_with_its_bytes() {
    let (folder, store) = store().await;
    let upload = announced(&store, b"0123456789").await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    let data = Bytes::from_static(b"01234");
    writer.append(&Chunk { offset: 0, crc32c: crc32c::crc32c(&data), data }).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    assert_eq!(collect(&store, &NOW, now_ms()).await, Collected::default());
    assert_eq!(collect(&store, &NOW, now_ms() + 2 * DAY_MS).await, Collected { uploads: 1, ..Collected::default() });
    assert_eq!(files_below(&folder.path().join("uploads")), 0);
}

#[tokio::test]
async fn a_blob_without_a_name_has_its_time_of_grace_and_one_that_gets_a_name_stays() {
    let (_folder, store) = store().await;
    stored(&store, b"late").await;
    let patient = Retention { garbage_seconds: 10, ..NOW };
    let mut unnamed = Unnamed::default();
    let mut after = async |seconds: i64| {
        let none = async || Ok(HashSet::new());
        store.collect(&patient, &mut unnamed, seconds * 1000, none).await.unwrap().blobs
    };
    assert_eq!((after(0).await, after(9).await), (0, 0));
    let upload = sent(&store, b"late").await;
    assert_eq!(after(20).await, 0);
    store.uploads.delete("default", &upload.id, "").await.unwrap();
    // Counted anew.
    assert_eq!((after(21).await, after(30).await, after(31).await), (0, 0, 1));
}

#[tokio::test]
async fn what_is_stored_while_a_collection_runs_is_left_alone() {
    let (_folder, store) = store().await;
    stored(&store, b"first").await;
    let again = store.clone();
    // Written anew after the names were read, as by a job that ends with the same bytes.
    let named_late = async move || {
        stored(&again, b"first").await;
        Ok(HashSet::new())
    };
    let collected = store.collect(&NOW, &mut Unnamed::default(), now_ms(), named_late).await.unwrap();
    assert_eq!(collected.blobs, 0);
    assert_eq!(collect(&store, &NOW, now_ms()).await.blobs, 1);
}

#[tokio::test]
async fn a_download_that_has_begun_is_sent_to_its_end() {
    use futures::StreamExt;
    let (_folder, store) = store().await;
    let upload = sent(&store, b"downloaded").await;
    let mut pieces = Box::pin(store.blobs.read(&upload.digest, 0, 0).await.unwrap());
    store.uploads.delete("default", &upload.id, "").await.unwrap();
    assert_eq!(collect(&store, &NOW, now_ms()).await.blobs, 0);
    assert_eq!(pieces.next().await.unwrap().unwrap().1, "downloaded");
}

#[tokio::test]
async fn what_others_put_into_the_folder_is_in_no_collections_way() {
    let (folder, store) = store().await;
    for stray in ["uploads/default/stray", "uploads/lost+found", "blobs/sha256/ab/stray"] {
        std::fs::create_dir_all(folder.path().join(stray)).unwrap();
    }
    stored(&store, b"garbage").await;
    assert_eq!(collect(&store, &NOW, now_ms()).await, Collected { blobs: 1, bytes: 7, ..Collected::default() });
    assert!(folder.path().join("uploads/default/stray").is_dir());
}
