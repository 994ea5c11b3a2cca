//! Files on their way in.

use super::*;

const BYTES: &[u8] = b"twenty bytes of data";

async fn announced(server: &Server) -> String {
    server.announce("data", BYTES.len(), &sha256(BYTES), "").await.unwrap().name
}

async fn committed(server: &Server, name: &str) -> u64 {
    let request = v1::GetUploadRequest { name: name.into() };
    server.uploads().get_upload(request).await.unwrap().into_inner().committed_size
}

#[tokio::test]
async fn a_file_arrives_in_pieces_over_several_streams() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = announced(&server).await;
    assert_eq!(server.write(vec![chunk(&name, 0, &BYTES[..5]), chunk("", 5, &BYTES[5..9])]).await.unwrap(), 9);
    let error = server.complete(&name).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "UPLOAD_INCOMPLETE"));
    assert_eq!(fact(&error, "committed_size"), "9");
    assert_eq!(server.write(vec![chunk(&name, 9, &BYTES[9..])]).await.unwrap(), 20);
    let complete = server.complete(&name).await.unwrap();
    assert_eq!((complete.state(), complete.committed_size), (v1::upload::State::Complete, 20));
    assert_eq!(server.complete(&name).await.unwrap(), complete);
    let error = server.write(vec![chunk(&name, 20, b"")]).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "UPLOAD_COMPLETE"));
    server.stop().await;
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_moves_nothing_and_says_where_to_go_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = announced(&server).await;
    for offset in [0, 3, 7] {
        let chunks = vec![chunk(&name, committed(&server, &name).await as usize, b""), chunk("", offset + 1, b"x")];
        let error = server.write(chunks).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "OFFSET_MISMATCH"));
        assert_eq!(fact(&error, "committed_size"), "0");
    }
    // What came before the bad chunk is kept.
    let mut damaged = chunk("", 5, &BYTES[5..9]);
    damaged.crc32c ^= 1;
    let error = server.write(vec![chunk(&name, 0, &BYTES[..5]), damaged]).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Aborted, "CHUNK_CHECKSUM"));
    assert_eq!(committed(&server, &name).await, 5);
    let error = server.write(vec![chunk(&name, 5, &[0; 16])]).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::OutOfRange, "TOO_MANY_BYTES"));
    assert_eq!(committed(&server, &name).await, 5);
    server.write(vec![chunk(&name, 5, &BYTES[5..])]).await.unwrap();
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn bytes_with_another_digest_are_not_published() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = server.announce("data", BYTES.len(), &sha256(b"something else"), "").await.unwrap().name;
    server.write(vec![chunk(&name, 0, BYTES)]).await.unwrap();
    let error = server.complete(&name).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "DIGEST_MISMATCH"));
    assert_eq!(fact(&error, "actual"), sha256(BYTES));
    let error = server.create_model(&name, "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "UPLOAD_INCOMPLETE"));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_keeps_what_arrived_and_a_new_server_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let name = announced(&server).await;
    let (sender, chunks) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(chunk(&name, 0, &BYTES[..7])).unwrap();
    {
        let mut client = server.uploads();
        let stuck = client.write_upload(chunks);
        tokio::pin!(stuck);
        // The server has the chunk once another writer is refused; then the stream is dropped, half sent.
        loop {
            assert!(timeout(Duration::from_millis(20), &mut stuck).await.is_err());
            match server.write(vec![chunk(&name, 0, b"")]).await {
                Err(error) if reason(&error) == "UPLOAD_BUSY" => break,
                _ => {}
            }
        }
    }
    timeout(LIMIT, async { while committed(&server, &name).await < 7 {} }).await.expect("what arrived is committed");
    server.stop().await;
    let server = Server::start(data.path(), 0).await;
    server.write(vec![chunk(&name, 7, &BYTES[7..])]).await.unwrap();
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_announcement_gives_the_first_upload() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let digest = sha256(BYTES);
    let first = server.announce("data", 20, &digest, "key-1").await.unwrap();
    assert_eq!(server.announce("data", 20, &digest, "key-1").await.unwrap(), first);
    assert_ne!(server.announce("data", 20, &digest, "key-2").await.unwrap().name, first.name);
    for (name, size) in [("other", 20), ("data", 21)] {
        let error = server.announce(name, size, &digest, "key-1").await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    server.stop().await;
}

#[tokio::test]
async fn bad_announcements_name_every_bad_field() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let error = server.announce("../x", 0, "md5:0", "a b").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
    assert_eq!(fields(&error), ["upload.file_name", "request_id", "upload.size_bytes", "upload.digest"]);
    let error = server.announce("data", usize::MAX, &sha256(b""), "").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
    for (name, code) in [
        ("uploads/1", Code::InvalidArgument),
        ("tenants/default/models/1", Code::InvalidArgument),
        ("tenants/other/uploads/1", Code::NotFound),
        ("tenants/default/uploads/1", Code::NotFound),
    ] {
        let request = v1::GetUploadRequest { name: name.into() };
        assert_eq!(server.uploads().get_upload(request).await.unwrap_err().code(), code, "{name}");
        assert_eq!(server.complete(name).await.unwrap_err().code(), code, "{name}");
        assert_eq!(server.write(vec![chunk(name, 0, b"x")]).await.unwrap_err().code(), code, "{name}");
    }
    assert_eq!(server.write(vec![]).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn messages_and_chunks_over_the_limit_are_refused_and_the_server_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let limits = server.info().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner().limits.unwrap();
    let name = server.announce("data", 8 << 20, &sha256(b"x"), "").await.unwrap().name;
    let error = server.write(vec![chunk(&name, 0, &vec![0; limits.max_chunk_bytes as usize + 1])]).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["data".to_string()]));
    let error = server.write(vec![chunk(&name, 0, &vec![0; limits.max_message_bytes as usize])]).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    let largest = vec![0; limits.max_chunk_bytes as usize];
    assert_eq!(server.write(vec![chunk(&name, 0, &largest)]).await.unwrap(), limits.max_chunk_bytes);
    server.stop().await;
}
