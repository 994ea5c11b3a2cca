//! Uploads: taken up again, refused, expired, and nothing of another tenant's.

use super::*;
use tokio::fs::OpenOptions;

use crate::error::{Classify, Kind};
use crate::store::Store;

const BYTES: &[u8] = b"0123456789";

async fn announced(digest: Digest) -> (tempfile::TempDir, Store, Upload) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let new = NewUpload { tenant: "default".into(), file_name: "digits".into(), size_bytes: 10, digest };
    let upload = store.uploads.create(&new, &Request::new("", &0), now_ms()).await.unwrap();
    (folder, store, upload)
}

fn chunk(offset: usize, end: usize) -> Chunk {
    let data = Bytes::from_static(&BYTES[offset..end]);
    Chunk { offset: offset as u64, crc32c: crc32c::crc32c(&data), data }
}

#[tokio::test]
async fn bytes_of_a_writer_that_died_uncommitted_are_sent_again() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 4)).await.unwrap();
    assert_eq!(writer.commit().await.unwrap(), 4);
    writer.append(&chunk(4, 8)).await.unwrap();
    drop(writer);
    assert_eq!(store.uploads.get("default", &upload.id).await.unwrap().committed_size, 4);
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    let error = writer.append(&chunk(8, 10)).await.unwrap_err();
    assert!(matches!(error, StoreError::OffsetMismatch { offset: 8, committed_size: 4 }));
    writer.append(&chunk(4, 10)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    let complete = store.uploads.complete("default", &upload.id).await.unwrap();
    assert_eq!(complete.state, UploadState::Complete);
    assert_eq!(store.blobs.get(&Digest::of(BYTES)).await.unwrap(), BYTES);
    assert_eq!(store.uploads.complete("default", &upload.id).await.unwrap(), complete);
    let error = store.uploads.writer("default", &upload.id).await.unwrap_err();
    assert!(matches!(error, StoreError::UploadComplete { .. }));
}

#[tokio::test]
async fn a_chunk_that_did_not_reach_the_disk_does_not_count() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.redirect(OpenOptions::new().write(true).open("/dev/full").await.unwrap());
    assert!(matches!(writer.append(&chunk(0, 4)).await, Err(StoreError::DiskFull)));
    assert_eq!(writer.commit().await.unwrap(), 0);
}

#[tokio::test]
async fn one_writes_at_a_time_and_nobody_completes_meanwhile() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let writer = store.uploads.writer("default", &upload.id).await.unwrap();
    assert!(matches!(store.uploads.writer("default", &upload.id).await, Err(StoreError::UploadBusy { .. })));
    assert!(matches!(store.uploads.complete("default", &upload.id).await, Err(StoreError::UploadBusy { .. })));
    drop(writer);
    store.uploads.writer("default", &upload.id).await.unwrap();
}

#[tokio::test]
async fn a_wrong_digest_publishes_nothing_and_the_upload_begins_again() {
    let (_folder, store, upload) = announced(Digest::of(b"something else")).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 10)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    let error = store.uploads.complete("default", &upload.id).await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }));
    let after = store.uploads.get("default", &upload.id).await.unwrap();
    assert_eq!((after.committed_size, after.state), (0, UploadState::Open));
    assert!(store.blobs.get(&Digest::of(BYTES)).await.is_err());
}

#[tokio::test]
async fn another_tenants_upload_does_not_exist() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    assert!(matches!(store.uploads.get("other", &upload.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.uploads.writer("other", &upload.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.uploads.complete("other", &upload.id).await, Err(StoreError::NotFound { .. })));
}

/// A store, and what a tenant announces.
async fn limited(limits: settings::Uploads) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap().limited(limits);
    (folder, store)
}

fn new(tenant: &str, bytes: &[u8]) -> NewUpload {
    let (digest, size_bytes) = (Digest::of(bytes), bytes.len() as u64);
    NewUpload { tenant: tenant.into(), file_name: "digits".into(), size_bytes, digest }
}

async fn create(store: &Store, new: &NewUpload) -> Result<Upload, StoreError> {
    store.uploads.create(new, &Request::new("", &0), now_ms()).await
}

/// Sends all of `BYTES`.
async fn sent(store: &Store, upload: &Upload) -> Upload {
    let mut writer = store.uploads.writer(&upload.tenant, &upload.id).await.unwrap();
    writer.append(&chunk(0, 10)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    store.uploads.complete(&upload.tenant, &upload.id).await.unwrap()
}

fn on_disk(folder: &tempfile::TempDir, upload: &Upload) -> bool {
    folder.path().join("uploads").join(&upload.tenant).join(&upload.id).exists()
}

#[tokio::test]
async fn bytes_that_the_tenant_has_already_need_not_be_sent_again_and_anothers_must_be() {
    let (_folder, store) = limited(settings::Uploads::default()).await;
    let first = create(&store, &new("default", BYTES)).await.unwrap();
    assert_eq!(create(&store, &new("default", BYTES)).await.unwrap().state, UploadState::Open, "none is complete yet");
    sent(&store, &first).await;
    let again = create(&store, &new("default", BYTES)).await.unwrap();
    assert_eq!((again.state, again.committed_size, again.expire_ms), (UploadState::Complete, 10, None));
    assert_ne!(again.id, first.id);
    // Who knows a digest does not have the bytes.
    let theirs = create(&store, &new("other", BYTES)).await.unwrap();
    let never = create(&store, &new("other", b"nobody has these")).await.unwrap();
    assert_eq!((theirs.state, theirs.committed_size), (never.state, never.committed_size));
    // The size is part of what was declared.
    let shorter = NewUpload { size_bytes: 9, ..new("default", BYTES) };
    assert_eq!(create(&store, &shorter).await.unwrap().state, UploadState::Open);
}

#[tokio::test]
async fn a_lost_blob_does_not_stand_in_the_way_of_its_return() {
    let (folder, store) = limited(settings::Uploads::default()).await;
    sent(&store, &create(&store, &new("default", BYTES)).await.unwrap()).await;
    std::fs::remove_dir_all(folder.path().join("blobs/sha256")).unwrap();
    let again = create(&store, &new("default", BYTES)).await.unwrap();
    assert_eq!(again.state, UploadState::Open);
    sent(&store, &again).await;
    assert_eq!(store.blobs.get(&Digest::of(BYTES)).await.unwrap(), BYTES);
}

#[tokio::test]
async fn quotas_are_exact_however_many_ask_at_once_and_come_back_exactly() {
    let limits = settings::Uploads { max_open: 3, max_tenant_bytes: 1000, ..settings::Uploads::default() };
    let (_folder, store) = limited(limits).await;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..12u8 {
        let store = store.clone();
        calls.spawn(async move { create(&store, &new("default", &[i; 10])).await });
    }
    let answers = calls.join_all().await;
    let mine: Vec<&Upload> = answers.iter().flatten().collect();
    assert_eq!(mine.len(), 3);
    let refused = answers.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert_eq!((refused.kind(), refused.reason()), (Kind::ResourceExhausted, "TOO_MANY_UPLOADS"));
    create(&store, &new("other", BYTES)).await.unwrap();

    // 30 bytes are reserved; exactly 970 are left.
    store.uploads.delete("default", &mine[0].id, "").await.unwrap();
    let error = create(&store, &new("default", &[7; 981])).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "TENANT_BYTES"));
    let whole = create(&store, &new("default", &[7; 980])).await.unwrap();
    store.uploads.delete("default", &whole.id, "").await.unwrap();
    create(&store, &new("default", &[7; 980])).await.unwrap();
}

#[tokio::test]
async fn a_tenant_has_so_many_files_complete_ones_and_twins_too() {
    let (_folder, store) = limited(settings::Uploads { max_files: 2, ..settings::Uploads::default() }).await;
    let first = create(&store, &new("default", BYTES)).await.unwrap();
    sent(&store, &first).await;
    create(&store, &new("default", BYTES)).await.unwrap();
    let error = create(&store, &new("default", BYTES)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::ResourceExhausted, "TOO_MANY_UPLOADS"));
    store.uploads.delete("default", &first.id, "").await.unwrap();
    create(&store, &new("default", BYTES)).await.unwrap();
}

#[tokio::test]
async fn a_declared_size_beyond_all_bounds_is_refused_and_reserves_nothing() {
    let (_folder, store) = limited(settings::Uploads::default()).await;
    for size_bytes in [1 << 62, i64::MAX as u64] {
        let huge = NewUpload { size_bytes, ..new("default", BYTES) };
        assert_eq!(create(&store, &huge).await.unwrap_err().reason(), "TENANT_BYTES");
    }
    create(&store, &new("default", BYTES)).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_nothing_is_written_to_expires_and_one_that_is_written_to_does_not() {
    let (folder, store) = limited(settings::Uploads { max_open: 2, ..settings::Uploads::default() }).await;
    let day = 24 * 3_600_000;
    let old = now_ms() - day - 1;
    let call = Request::new("key", &0);
    let abandoned = store.uploads.create(&new("default", BYTES), &call, old).await.unwrap();
    let written =
        store.uploads.create(&new("default", BYTES), &Request::new("", &0), now_ms() - day + 60_000).await.unwrap();
    let mut writer = store.uploads.writer("default", &written.id).await.unwrap();
    writer.append(&chunk(0, 9)).await.unwrap();
    writer.commit().await.unwrap();
    assert!(store.uploads.get("default", &written.id).await.unwrap().expire_ms.unwrap() > now_ms() + day - 60_000);

    for error in [
        store.uploads.get("default", &abandoned.id).await.unwrap_err(),
        store.uploads.writer("default", &abandoned.id).await.unwrap_err(),
        store.uploads.complete("default", &abandoned.id).await.unwrap_err(),
        store.uploads.delete("default", &abandoned.id, "").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }
    let listed = store.uploads.list("default", &Page { size: 9, ..Page::default() }).await.unwrap();
    assert_eq!(listed.iter().map(|upload| &upload.id).collect::<Vec<_>>(), [&written.id]);
    // Its place and its request_id are free at once, collected or not.
    let again = store.uploads.create(&new("default", BYTES), &call, now_ms()).await.unwrap();
    assert_ne!(again.id, abandoned.id);

    // Nobody takes an upload away from its writer.
    let later = now_ms() + 2 * day;
    assert_eq!(store.uploads.remove_expired(later).await.unwrap(), 1);
    drop(writer);
    assert!(on_disk(&folder, &written));
    assert_eq!(store.uploads.remove_expired(later).await.unwrap(), 1);
    assert!(!on_disk(&folder, &written));
}

#[tokio::test]
async fn after_a_failed_sync_a_writer_takes_nothing_more_and_the_next_goes_on_from_what_is_stored() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 4)).await.unwrap();
    writer.commit().await.unwrap();
    writer.append(&chunk(4, 8)).await.unwrap();
    // A pipe takes bytes and cannot be synced.
    let (_reader, pipe) = std::io::pipe().unwrap();
    writer.redirect(tokio::fs::File::from_std(std::fs::File::from(std::os::fd::OwnedFd::from(pipe))));
    let error = writer.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Unavailable, "SYNC_FAILED"));
    assert_eq!(writer.commit().await.unwrap(), 4, "it is not tried again");
    assert!(matches!(writer.append(&chunk(4, 8)).await, Err(StoreError::WriterBroken { .. })));
    drop(writer);
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(4, 10)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    store.uploads.complete("default", &upload.id).await.unwrap();
    assert_eq!(store.blobs.get(&Digest::of(BYTES)).await.unwrap(), BYTES);
}

#[tokio::test]
async fn chunks_that_do_not_fit_change_nothing_and_say_where_to_go_on() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 4)).await.unwrap();
    for offset in [0, 2, 3, 5, u64::MAX] {
        let error = writer.append(&Chunk { offset, ..chunk(4, 6) }).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::Aborted, "OFFSET_MISMATCH"));
        assert_eq!(error.metadata(), [("committed_size", "4".to_string())]);
    }
    let damaged = Chunk { crc32c: chunk(4, 6).crc32c ^ 1, ..chunk(4, 6) };
    let error = writer.append(&damaged).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Aborted, "CHUNK_CHECKSUM"));
    assert_eq!(error.metadata(), [("committed_size", "4".to_string())]);
    let data = Bytes::from_static(&[0; 7]);
    let long = Chunk { offset: 4, crc32c: crc32c::crc32c(&data), data };
    let error = writer.append(&long).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::OutOfRange, "TOO_MANY_BYTES"));
    assert_eq!(writer.commit().await.unwrap(), 4);
    drop(writer);
    let error = store.uploads.complete("default", &upload.id).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, "UPLOAD_INCOMPLETE"));
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    for place in 4..10 {
        writer.append(&chunk(place, place + 1)).await.unwrap();
    }
    writer.commit().await.unwrap();
    drop(writer);
    store.uploads.complete("default", &upload.id).await.unwrap();
}

#[tokio::test]
async fn two_that_complete_at_once_publish_once() {
    let (_folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 10)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    let complete = || store.uploads.complete("default", &upload.id);
    let (first, second) = tokio::join!(complete(), complete());
    let answers = [first, second];
    let fine: Vec<&Upload> = answers.iter().flatten().collect();
    assert!(
        !fine.is_empty() && fine.iter().all(|upload| upload.state == UploadState::Complete && upload.revision == 3)
    );
    assert!(
        answers.iter().flat_map(|answer| answer.as_ref().err()).all(|e| matches!(e, StoreError::UploadBusy { .. }))
    );
    assert_eq!(complete().await.unwrap().revision, 3);
}

#[tokio::test]
async fn a_deleted_upload_is_gone_with_its_file_and_only_as_the_caller_saw_it() {
    let (folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 4)).await.unwrap();
    writer.commit().await.unwrap();
    assert!(matches!(store.uploads.delete("default", &upload.id, "").await, Err(StoreError::UploadBusy { .. })));
    drop(writer);
    let stale = crate::store::etag(upload.revision);
    let error = store.uploads.delete("default", &upload.id, &stale).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Aborted, "ETAG_MISMATCH"));
    assert!(matches!(store.uploads.delete("other", &upload.id, "").await, Err(StoreError::NotFound { .. })));
    let now = store.uploads.get("default", &upload.id).await.unwrap();
    store.uploads.delete("default", &upload.id, &crate::store::etag(now.revision)).await.unwrap();
    assert!(!on_disk(&folder, &upload));
    assert!(matches!(store.uploads.writer("default", &upload.id).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn an_upload_whose_file_is_lost_begins_again_and_says_so() {
    let (folder, store, upload) = announced(Digest::of(BYTES)).await;
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    writer.append(&chunk(0, 4)).await.unwrap();
    writer.commit().await.unwrap();
    drop(writer);
    std::fs::remove_file(folder.path().join("uploads/default").join(&upload.id)).unwrap();
    let mut writer = store.uploads.writer("default", &upload.id).await.unwrap();
    let error = writer.append(&chunk(4, 8)).await.unwrap_err();
    assert!(matches!(error, StoreError::OffsetMismatch { committed_size: 0, .. }));
    assert_eq!(store.uploads.get("default", &upload.id).await.unwrap().committed_size, 0);
}
