//! How much comes in at once, and for how long.

use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

async fn bounded(change: impl FnOnce(&mut Settings)) -> (tempfile::TempDir, Server) {
    let data = tempfile::tempdir().unwrap();
    let mut settings = Settings { data: data.path().into(), ..Settings::default() };
    settings.jobs.workers = 0;
    change(&mut settings);
    let server = Server::start_set(settings, env!("CARGO_BIN_EXE_niwaki").into()).await;
    (data, server)
}

/// Begins to send a file and falls silent; the call, which goes on, and the upload's name.
async fn begun(server: &Server) -> (JoinHandle<Result<u64, Status>>, String) {
    let upload = server.announce("a.bin", 10, &sha256(b"0123456789"), "").await.unwrap();
    loop {
        let first = futures::stream::iter([chunk(&upload.name, 0, b"01234")]);
        let silent = first.chain(futures::stream::pending());
        let mut client = server.uploads();
        #[allow(clippy::disallowed_methods)] // Each test waits for it.
        let call = tokio::spawn(async move { Ok(client.write_upload(silent).await?.into_inner().committed_size) });
        // It has begun when nobody else can have the upload; unless the one who asks had it first.
        let has_begun = until(async || {
            let is_busy = reason(&server.complete(&upload.name).await.unwrap_err()) == "UPLOAD_BUSY";
            (is_busy || call.is_finished()).then_some(!call.is_finished())
        });
        if has_begun.await {
            return (call, upload.name);
        }
    }
}

/// Asks until the answer is one that is waited for.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, asking).await.expect("it comes")
}

async fn info(server: &Server) -> Result<(), Status> {
    server.info().get_server_info(v1::GetServerInfoRequest {}).await.map(|_| ())
}

#[tokio::test]
async fn a_call_over_the_limit_is_refused_with_the_time_to_try_again() {
    let (_data, server) = bounded(|settings| settings.calls.max_in_flight = 1).await;
    let (call, name) = begun(&server).await;
    let refusal = server.write(vec![chunk(&name, 0, b"01234")]).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::Unavailable, "SERVER_BUSY"));
    assert!(refusal.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // Whether the server lives can be asked all the while.
    let health = HealthClient::new(server.channel.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok());
    // And whoever only asks does not wait for those who send.
    info(&server).await.unwrap();
    call.abort();
    until(async || server.write(vec![chunk(&name, 5, b"56789")]).await.ok()).await;
    server.stop().await;
}

#[tokio::test]
async fn watches_have_places_of_their_own() {
    let (_data, server) = bounded(|settings| settings.calls.max_watches = 1).await;
    let (model, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"evaluate": {}}]}"#;
    let job = server.create_job(&model, &dataset, recipe, "").await.unwrap().name;
    let mut first = server.watch(&job, 0).await;
    first.message().await.unwrap().unwrap();
    let second = server.jobs().watch_job(v1::WatchJobRequest { name: job.clone(), after_revision: 0 }).await;
    assert_eq!(reason(&second.unwrap_err()), "SERVER_BUSY");
    info(&server).await.unwrap();
    drop(first);
    until(async || server.jobs().watch_job(v1::WatchJobRequest { name: job.clone(), after_revision: 0 }).await.ok())
        .await;
    server.stop().await;
}

#[tokio::test]
async fn an_upload_that_falls_silent_ends_and_may_be_taken_up_again() {
    let (_data, server) = bounded(|settings| settings.calls.idle_seconds = 1).await;
    let (call, name) = begun(&server).await;
    let error = timeout(LIMIT, call).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::DeadlineExceeded, "STREAM_IDLE"));
    let upload = server.uploads().get_upload(v1::GetUploadRequest { name: name.clone() }).await.unwrap().into_inner();
    assert_eq!(upload.committed_size, 5);
    assert_eq!(server.write(vec![chunk(&name, 5, b"56789")]).await.unwrap(), 10);
    server.complete(&name).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_callers_deadline_ends_a_call_and_a_stream_on_the_servers_side() {
    let (_data, server) = bounded(|_| {}).await;
    // Set by hand: the client of this test keeps no deadline, the server does.
    let timed = |request: Request<v1::WatchJobRequest>| {
        let mut request = request;
        request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
        request
    };
    let (model, dataset) = server.inputs().await;
    let recipe = r#"{"version": 1, "steps": [{"evaluate": {}}]}"#;
    let job = server.create_job(&model, &dataset, recipe, "").await.unwrap();
    let request = timed(Request::new(v1::WatchJobRequest { name: job.name, after_revision: job.revision }));
    let watched = async {
        let mut changes = server.jobs().watch_job(request).await?.into_inner();
        while changes.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    let error = timeout(LIMIT, watched).await.expect("the stream ends").unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));

    let upload = server.announce("a.bin", 10, &sha256(b"0123456789"), "").await.unwrap();
    let mut request =
        Request::new(futures::stream::iter([chunk(&upload.name, 0, b"01234")]).chain(futures::stream::pending()));
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let error = timeout(LIMIT, server.uploads().write_upload(request)).await.expect("the call ends").unwrap_err();
    // The client's own clock may be faster.
    assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}");
    for nonsense in ["soon", "1", "-5S", "1000000000S"] {
        let mut request = Request::new(v1::GetServerInfoRequest {});
        request.metadata_mut().insert("grpc-timeout", nonsense.parse().unwrap());
        let error = server.info().get_server_info(request).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "TIMEOUT_HEADER"), "{nonsense}");
    }
    server.stop().await;
}
