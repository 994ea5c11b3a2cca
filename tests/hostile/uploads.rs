//! Uploads: inputs 54 to 69.

use super::*;

const BYTES: &[u8] = b"twenty bytes of data";

async fn announced(server: &Server) -> String {
    server.announce("data", BYTES.len(), &sha256(BYTES), "").await.unwrap().name
}

#[tokio::test]
async fn chunks_ahead_behind_or_over_what_is_there_change_no_byte() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = announced(&server).await;
    server.write(vec![chunk(&name, 0, &BYTES[..8])]).await.unwrap();
    for offset in [0, 4, 9, 20, usize::MAX] {
        let error = server.write(vec![chunk(&name, offset, b"xxxx")]).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "OFFSET_MISMATCH"), "{offset}");
        assert_eq!(fact(&error, "committed_size"), "8");
    }
    server.write(vec![chunk(&name, 8, &BYTES[8..])]).await.unwrap();
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_second_of_two_writers_is_told_to_come_again() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = announced(&server).await;
    let (sender, chunks) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(chunk(&name, 0, &BYTES[..8])).unwrap();
    let mut uploads = server.uploads();
    let first = uploads.write_upload(chunks);
    let second = async {
        // The first has the upload once a writer is refused.
        let refused = loop {
            match server.write(vec![chunk(&name, 0, b"")]).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "UPLOAD_BUSY"));
        assert_eq!(refusal(server.complete(&name).await), (Code::Aborted, "UPLOAD_BUSY".into()));
        sender.unbounded_send(chunk("", 8, &BYTES[8..])).unwrap();
        drop(sender);
    };
    let (first, ()) = timeout(LIMIT, async { tokio::join!(first, second) }).await.unwrap();
    assert_eq!(first.unwrap().into_inner().committed_size, 20);
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn files_of_any_declared_size_cost_nothing_before_they_are_sent() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    for size in [1usize << 63, usize::MAX, (4 << 30) + 1] {
        let answer = server.announce("data", size, &sha256(BYTES), "").await;
        assert_eq!(refusal(answer), (Code::ResourceExhausted, "TOO_LARGE".into()));
    }
    let error = server.announce("data", 0, &sha256(b""), "").await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["upload.size_bytes".to_string()]));
    server.announce("data", 4 << 30, &sha256(BYTES), "").await.unwrap();
    assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_file_may_come_byte_by_byte() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let bytes: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    let name = server.announce("data", bytes.len(), &sha256(&bytes), "").await.unwrap().name;
    let chunks = bytes.chunks(1).enumerate().map(|(i, byte)| chunk(&name, i, byte)).collect();
    assert_eq!(server.write(chunks).await.unwrap(), 10_000);
    // Nor do chunks without a byte move anything.
    assert_eq!(server.write(vec![chunk(&name, 10_000, b""); 1000]).await.unwrap(), 10_000);
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_complete_or_gone_takes_no_bytes() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = server.put("data", BYTES).await;
    let answer = server.write(vec![chunk(&name, 20, b"")]).await;
    assert_eq!(refusal(answer), (Code::FailedPrecondition, "UPLOAD_COMPLETE".into()));
    for name in [name, announced(&server).await] {
        let delete = v1::DeleteUploadRequest { name: name.clone(), etag: String::new() };
        server.uploads().delete_upload(delete.clone()).await.unwrap();
        assert_eq!(refusal(server.write(vec![chunk(&name, 0, b"x")]).await), (Code::NotFound, "NOT_FOUND".into()));
        assert_eq!(refusal(server.complete(&name).await), (Code::NotFound, "NOT_FOUND".into()));
        assert_eq!(refusal(server.uploads().delete_upload(delete).await), (Code::NotFound, "NOT_FOUND".into()));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_names_of_files_are_labels_or_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let long = "x".repeat(256);
    let deep = ["x"; 9].join("/");
    for name in [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "C:\\x",
        "a\nb",
        ".bashrc",
        "%00/x",
        "a\0b",
        "a b",
        "\u{202e}gpj.exe",
        "é",
        &*long,
        &*deep,
    ] {
        let error = server.announce(name, 1, &sha256(b"x"), "").await.unwrap_err();
        let field = vec!["upload.file_name".to_string()];
        assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, field), "{name:?}");
    }
    for name in ["data", "con", "train/cat/001.png", "x--"] {
        server.announce(name, 1, &sha256(b"x"), "").await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn digests_in_any_other_form_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let good = sha256(b"x");
    let hex = good.trim_start_matches("sha256:").to_string();
    let bad = [
        String::new(),
        hex.clone(),
        good.to_uppercase(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("{good}0"),
        good[..70].into(),
        format!("blake3:{hex}"),
        format!("sha256:../{}", &hex[3..]),
        format!("{good}\n"),
    ];
    for digest in bad {
        let error = server.announce("data", 1, &digest, "").await.unwrap_err();
        let field = vec!["upload.digest".to_string()];
        assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, field), "{digest:?}");
    }
    server.stop().await;
}
