//! Calls and connections: inputs 80 to 94.

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use tower::ServiceExt;

use super::frames::*;
use super::*;

const GET_JOB: &str = "/niwaki.v1.JobService/GetJob";
/// HTTP/2's word for a client that asks too much.
const ENHANCE_YOUR_CALM: u32 = 11;
/// What an attack may add to the memory of the server.
const ROOM: u64 = 64 << 20;

/// A message with its length before it, as gRPC sends it.
fn message(compressed: u8, bytes: &[u8]) -> Vec<u8> {
    [&[compressed][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// A call with these headers and this body; the headers and trailers of the answer, and its body.
async fn send(channel: &Channel, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (HeaderMap, Vec<u8>) {
    try_send(channel, path, headers, body).await.unwrap()
}

/// The same, where the client may give up by itself.
async fn try_send(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(HeaderMap, Vec<u8>), tonic::transport::Error> {
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(tonic::body::Body::new(Body::from(body))).unwrap();
    let answer = timeout(LIMIT, channel.clone().oneshot(request)).await.expect("an answer")?;
    let (parts, body) = answer.into_parts();
    Ok((parts.headers, to_bytes(Body::new(body), 1 << 20).await.unwrap_or_default().to_vec()))
}

/// The code of an answer that has no message.
fn code(headers: &HeaderMap) -> Code {
    let code = headers.get("grpc-status").expect("a status").to_str().unwrap().parse::<i32>().unwrap();
    Code::from(code)
}

#[tokio::test]
async fn compressed_messages_are_not_taken() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    for encoding in ["gzip", "zstd", "deflate", "br", "x"] {
        let body = message(1, &[0; 100]);
        let (headers, _) = send(&server.channel, GET_JOB, &[("grpc-encoding", encoding)], body).await;
        assert_eq!(code(&headers), Code::Unimplemented, "{encoding}");
    }
    neighbours_are_served(&server.channel).await;
    server.stop().await;
}

#[tokio::test]
async fn messages_that_do_not_end_or_are_nested_deeply_are_the_callers_mistake() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    // Groups (wire types 3 and 4) that no message knows, one in the other.
    let groups = [[0x7b; 100_000], [0x7c; 100_000]].concat();
    let unclosed = vec![0x7b; 1000];
    let mut unknown = Vec::new();
    for _ in 0..500_000 {
        unknown.extend([0x78, 1]);
    }
    for bytes in
        [groups, unclosed, vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0x80; 11], vec![0x00, 0x01], vec![0x0f]]
    {
        let (headers, _) = send(&server.channel, GET_JOB, &[], message(0, &bytes)).await;
        assert_eq!(code(&headers), Code::InvalidArgument, "{:02x?}", &bytes[..bytes.len().min(8)]);
    }
    // Fields of a later version are passed over, however many.
    let (headers, _) = send(&server.channel, GET_JOB, &[], message(0, &unknown)).await;
    assert_eq!(code(&headers), Code::InvalidArgument);
    // A length without so many bytes; a message that says it is compressed although nothing was agreed.
    for body in [vec![0, 0, 0, 0, 9, 1], vec![0, 0], message(1, b"x"), message(7, b"x"), vec![0, 255, 255, 255, 255]] {
        let (headers, _) = send(&server.channel, GET_JOB, &[], body.clone()).await;
        assert_ne!(code(&headers), Code::Ok, "{body:?}");
    }
    neighbours_are_served(&server.channel).await;
    server.stop().await;
}

#[tokio::test]
async fn headers_that_mean_nothing_change_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let body = message(0, b"");
    for (name, value) in [
        ("grpc-timeout", "garbage"),
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", "-1S"),
        ("x-niwaki-bin", "no base64!"),
        ("traceparent", "00-zz"),
        ("x-request-id", "a\u{7f}b"),
        ("user-agent", "${jndi:ldap://localhost/x}"),
        ("host", "elsewhere.example"),
    ] {
        let Ok(_) = http::HeaderValue::from_str(value) else { continue };
        let (headers, _) = send(&server.channel, GET_JOB, &[(name, value)], body.clone()).await;
        assert_eq!(code(&headers), Code::InvalidArgument, "{name}: {value}");
    }
    // Whoever is quick enough answers all the same; the client keeps the time too.
    if let Ok((headers, _)) = try_send(&server.channel, GET_JOB, &[("grpc-timeout", "1n")], body).await {
        let answers = [Code::DeadlineExceeded, Code::Cancelled, Code::InvalidArgument];
        assert!(answers.contains(&code(&headers)), "{headers:?}");
    }
    neighbours_are_served(&server.channel).await;
    server.stop().await;
}

#[tokio::test]
async fn paths_that_are_no_method_are_not_implemented() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    for path in [
        "/",
        "//niwaki.v1.JobService/GetJob",
        "/niwaki.v1.JobService/../JobService/GetJob",
        "/niwaki.v1.JobService/getjob",
        "/niwaki.v1.JobService/GetJob/",
        "/niwaki.v1.JobService%2fGetJob",
        "/niwaki.v1.AdminService/Shutdown",
        "/metrics/../niwaki.v1.JobService/GetJob",
    ] {
        let (headers, _) = send(&server.channel, path, &[], message(0, b"")).await;
        assert_eq!(code(&headers), Code::Unimplemented, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn http_1_is_for_probes_and_never_for_calls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    // A good call, if it came by HTTP/2: `parent: "tenants/default"`.
    let good = "\0\0\0\0\x11\x0a\x0ftenants/default";
    let call = format!("POST /niwaki.v1.JobService/ListJobs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", good.len());
    for (head, body) in [
        (format!("{call}content-type: application/grpc\r\nconnection: close\r\n\r\n"), good),
        (format!("{call}content-type: application/json\r\nconnection: close\r\n\r\n"), good),
        // What a page of another origin can make a browser send.
        (format!("{call}content-type: text/plain\r\norigin: https://elsewhere.example\r\nconnection: close\r\n\r\n"), good),
        // Another way into HTTP/2, past whatever stands before the server.
        (
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"
                .to_string(),
            "",
        ),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&service.address).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A connection that is just closed is an answer too.
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        let refused = ["HTTP/1.1 415 ", "HTTP/1.1 404 "].iter().any(|start| answer.starts_with(start));
        assert!(answer.is_empty() || refused, "{head}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow-origin"), "{answer}");
    }
    neighbours_are_served(&service.channel).await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let before = service.memory();
    let headers = call(GET_JOB);
    let pieces = (0..100_000u32).map(|i| {
        let stream = 2 * i + 1;
        [frame(HEADERS, END_HEADERS, stream, &headers), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let taken = Attacker::connect(&service.address).await.flood(pieces).await;
    assert!(matches!(taken, Taken::Closed(None | Some(ENHANCE_YOUR_CALM))), "{taken:?}");
    neighbours_are_served(&service.channel).await;
    assert!(service.memory() < before + ROOM, "{} -> {}", before, service.memory());
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let before = service.memory();
    let piece = literals(&[("x-more", &[b'x'; 4000])]);
    let begin = frame(HEADERS, 0, 1, &call(GET_JOB));
    let pieces = std::iter::once(begin).chain((0..100_000).map(|_| frame(CONTINUATION, 0, 1, &piece)));
    let taken = Attacker::connect(&service.address).await.flood(pieces).await;
    assert!(matches!(taken, Taken::Closed(_)), "{taken:?}");
    // Nor may they be empty for ever.
    let begin = frame(HEADERS, 0, 1, &call(GET_JOB));
    let pieces = std::iter::once(begin).chain((0..1_000_000).map(|_| frame(CONTINUATION, 0, 1, b"")));
    let taken = Attacker::connect(&service.address).await.flood(pieces).await;
    assert!(matches!(taken, Taken::Closed(_)), "{taken:?}");
    neighbours_are_served(&service.channel).await;
    assert!(service.memory() < before + ROOM, "{} -> {}", before, service.memory());
}

#[tokio::test]
async fn a_header_list_that_is_too_long_is_refused_and_the_next_call_answered() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let before = service.memory();
    let many = (0..10_000).map(|i| (format!("x-{i}"), b"v".to_vec())).collect::<Vec<_>>();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let bomb = [call(GET_JOB), literals(&many)].concat();
    let mut pieces = vec![frame(HEADERS, 0, 1, &bomb[..16_000])];
    let rest: Vec<&[u8]> = bomb[16_000..].chunks(16_000).collect();
    for (i, part) in rest.iter().enumerate() {
        let last = if i + 1 == rest.len() { END_HEADERS } else { 0 };
        pieces.push(frame(CONTINUATION, last, 1, part));
    }
    // Either is right: the stream is refused, or the connection ends.
    let taken = Attacker::connect(&service.address).await.flood(pieces.into_iter()).await;
    assert!(matches!(taken, Taken::Answers | Taken::Closed(_)));
    // One byte in the table's language for a header of 4,000 bytes, again and again (an HPACK bomb).
    let mut bomb = call(GET_JOB);
    bomb.push(0x40);
    let entry = literals(&[("x-bomb", &[b'x'; 4000])]);
    bomb.extend(&entry[1..]);
    bomb.extend([0xbe; 10_000]);
    let taken =
        Attacker::connect(&service.address).await.flood(std::iter::once(frame(HEADERS, END_HEADERS, 1, &bomb))).await;
    assert!(matches!(taken, Taken::Answers | Taken::Closed(_)));
    neighbours_are_served(&service.channel).await;
    assert!(service.memory() < before + ROOM, "{} -> {}", before, service.memory());
}

#[tokio::test]
async fn floods_of_frames_that_say_nothing_cost_no_memory() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let before = service.memory();
    let open = frame(HEADERS, END_HEADERS, 1, &call("/niwaki.v1.UploadService/WriteUpload"));
    let floods: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("empty data", open.clone(), frame(DATA, 0, 1, b"")),
        ("padding", open.clone(), frame(DATA, 8, 1, &[255; 256])),
        ("ping", Vec::new(), frame(PING, 0, 0, b"12345678")),
        ("settings", Vec::new(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("priority", Vec::new(), frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])),
        ("window", open.clone(), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("unknown", Vec::new(), frame(0xbe, 0, 0, &[0; 64])),
    ];
    for (what, begin, piece) in floods {
        // In pieces of a hundred: small writes would be the test's own burden.
        let pieces = std::iter::once(begin).chain((0..1000).map(|_| piece.repeat(100)));
        let taken = Attacker::connect(&service.address).await.flood(pieces).await;
        assert!(matches!(taken, Taken::Answers | Taken::Closed(_)), "{what}");
        neighbours_are_served(&service.channel).await;
        assert!(service.memory() < before + ROOM, "{what}: {} -> {}", before, service.memory());
    }
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("a stream with an even number", frame(HEADERS, END_HEADERS, 2, &call(GET_JOB))),
        ("data for a stream that was never opened", frame(DATA, 0, 5, b"x")),
        ("more headers without any before", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("headers that are no HPACK", frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
        ("settings of a wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a ping of a wrong length", frame(PING, 0, 0, &[0; 7])),
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; 1 << 20])),
    ];
    for (what, bytes) in broken {
        let taken = Attacker::connect(&service.address).await.flood(std::iter::once(bytes)).await;
        assert!(matches!(taken, Taken::Closed(_)), "{what}");
        neighbours_are_served(&service.channel).await;
    }
}

#[tokio::test]
async fn a_reader_who_takes_nothing_costs_one_window() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let before = service.memory();
    let mut attacker = Attacker::connect(&service.address).await;
    // No byte may be sent on any stream; a hundred calls are asked all the same.
    attacker.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await.unwrap();
    let ask = message(0, b"");
    for _ in 0..100 {
        let stream = attacker.stream();
        attacker.send(HEADERS, END_HEADERS, stream, &call("/niwaki.v1.ServerService/GetServerInfo")).await.unwrap();
        attacker.send(DATA, END_STREAM, stream, &ask).await.unwrap();
    }
    neighbours_are_served(&service.channel).await;
    assert!(service.memory() < before + ROOM, "{} -> {}", before, service.memory());
    drop(attacker);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_the_others_served() {
    let data = tempfile::tempdir().unwrap();
    let mut service = Service::start(data.path(), &[], &[]).await;
    neighbours_are_served(&service.channel).await;
    let base = service.handles();
    let mut idle = Vec::new();
    // More than `calls.max_connections`, half of them without a word.
    for i in 0..1500 {
        let Ok(mut stream) = tokio::net::TcpStream::connect(&service.address).await else { break };
        if i % 2 == 0 {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        }
        idle.push(stream);
    }
    assert_eq!(idle.len(), 1500);
    neighbours_are_served(&service.channel).await;
    assert!(service.handles() < base + 1024 + 64, "{}", service.handles());
    drop(idle);
    service.until("the end of connections that are gone", |service| service.handles() <= base).await;
    neighbours_are_served(&service.channel).await;
    let fresh = Channel::from_shared(format!("http://{}", service.address)).unwrap().connect().await.unwrap();
    neighbours_are_served(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_dropped_while_they_are_handled_leave_nothing_open() {
    let data = tempfile::tempdir().unwrap();
    let mut service = Service::start(data.path(), &[], &[]).await;
    neighbours_are_served(&service.channel).await;
    let base = service.handles();
    // A client that drops so many calls may be told to calm down; that is its own connection's end.
    let attack = Channel::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
    for round in 0..50u64 {
        let calls = (0..40u64).map(|i| {
            let channel = attack.clone();
            let upload =
                v1::Upload { file_name: "data".into(), size_bytes: 5, digest: sha256(b"x"), ..Default::default() };
            let request = v1::CreateUploadRequest {
                parent: PARENT.into(),
                upload: Some(upload),
                request_id: format!("{round}-{i}"),
            };
            // Dropped at any of its steps.
            timeout(Duration::from_micros(i * 100), async move {
                UploadServiceClient::new(channel).create_upload(request).await
            })
        });
        futures::future::join_all(calls).await;
    }
    drop(attack);
    neighbours_are_served(&service.channel).await;
    service.until("the end of dropped calls", |service| service.handles() <= base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_have_no_time_are_made_again_and_converge() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let mut names = std::collections::BTreeSet::new();
    for i in 0..50 {
        let upload = v1::Upload { file_name: "data".into(), size_bytes: 5, digest: sha256(b"x"), ..Default::default() };
        let mut request = tonic::Request::new(v1::CreateUploadRequest {
            parent: PARENT.into(),
            upload: Some(upload),
            request_id: "the-same".into(),
        });
        request.set_timeout(Duration::from_micros(100 + 50 * i));
        match server.uploads().create_upload(request).await {
            Ok(upload) => drop(names.insert(upload.into_inner().name)),
            Err(error) => assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}"),
        }
    }
    names.insert(server.announce("data", 5, &sha256(b"x"), "the-same").await.unwrap().name);
    assert_eq!(names.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_messages_are_the_callers_mistake_whoever_reads_them() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    let methods =
        ["JobService/ListJobs", "JobService/WatchJob", "ArtifactService/DownloadArtifact", "JobService/GetJob"];
    let paths = methods.map(|method| format!("/niwaki.v1.{method}"));
    for path in paths.iter().map(String::as_str).chain(["/grpc.health.v1.Health/Check"]) {
        for body in
            [b"".as_slice(), b"\x07\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x20abc", b"abc", b"\0\0\0\0\x02\xff\xff"]
        {
            let body = tonic::body::Body::new(Body::from(body));
            let request = http::Request::post(path).header("content-type", "application/grpc").body(body).unwrap();
            let answer = service.channel.clone().oneshot(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).expect("a status before any answer");
            assert_eq!(refusal::<()>(Err(status)), (Code::InvalidArgument, "UNDECODABLE".into()), "{path}");
        }
    }
    neighbours_are_served(&service.channel).await;
}

#[tokio::test]
async fn what_comes_back_of_what_was_sent_is_short() {
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[], &[]).await;
    for name in ["y".repeat(1 << 20), "\u{1b}".repeat(1 << 20), format!("tenants/{}/models/x", "\u{e4}".repeat(20_000))]
    {
        let get = v1::GetModelRequest { name };
        let error = ModelServiceClient::new(service.channel.clone()).get_model(get).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().len() <= 1003 && error.details().len() < 4096, "{}", error.details().len());
    }
    let steps = vec![v1::Step::default(); 3000];
    let job = v1::Job { recipe: Some(v1::Recipe { steps, ..Default::default() }), ..Default::default() };
    let create = v1::CreateJobRequest { parent: PARENT.into(), job: Some(job), ..Default::default() };
    let error = JobServiceClient::new(service.channel.clone()).create_job(create).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.details().len() < 8000 && fields(&error).len() > 5, "{}", error.details().len());
    neighbours_are_served(&service.channel).await;
}
