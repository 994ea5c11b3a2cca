//! From the listener to the end.

use super::raw::Raw;
use super::*;
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

#[tokio::test]
async fn health_and_reflection_name_every_service() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let mut answers = reflection.server_reflection_info(futures::stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("no list of services")
    };
    let ours: Vec<String> =
        service.into_iter().map(|service| service.name).filter(|name| name.starts_with("niwaki.")).collect();
    assert_eq!(ours.len(), 6, "{ours:?}");
    for service in ours.into_iter().chain([String::new()]) {
        let request = HealthCheckRequest { service };
        let health = HealthClient::new(server.channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_says_so_and_ends_the_watches_of_its_health() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let mut client = HealthClient::new(server.channel.clone());
    let mut health = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = |message: Option<HealthCheckResponse>| message.unwrap().status();
    assert_eq!(status(health.message().await.unwrap()), ServingStatus::Serving);
    server.stop().await;
    assert_eq!(status(health.message().await.unwrap()), ServingStatus::NotServing);
    assert_eq!(health.message().await.unwrap(), None, "the watch has ended, it was not broken off");
}

#[tokio::test]
async fn a_stopping_server_ends_although_a_client_keeps_a_stream_open_and_does_not_wait_for_its_limit() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = Settings { data: data.path().into(), ..Settings::default() };
    // The limit is not what ends it: it is further away than the patience of this test.
    settings.calls.stop_seconds = 3600;
    let server = Server::start_set(settings, "/bin/true".into()).await;
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let never = futures::stream::pending::<ServerReflectionRequest>();
    let _answers = reflection.server_reflection_info(never).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    // No key of a field; a number where `name` is a string; a `name` that is no UTF-8; a `name` that is cut off.
    for bytes in [&[0xff; 5][..], &[0x08, 1], &[0x0a, 1, 0xff], &[0x0a, 9, b'x']] {
        let bytes = Bytes::copy_from_slice(bytes);
        client.ready().await.unwrap();
        let get = PathAndQuery::from_static("/niwaki.v1.JobService/GetJob");
        let error = client.unary(Request::new(bytes.clone()), get, Raw).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "UNDECODABLE"), "{bytes:?}");
        client.ready().await.unwrap();
        let write = PathAndQuery::from_static("/niwaki.v1.UploadService/WriteUpload");
        let sent = Request::new(futures::stream::iter([bytes.clone()]));
        let error = client.client_streaming(sent, write, Raw).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "UNDECODABLE"), "{bytes:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings { data: data.path().into(), ..Settings::default() };
    settings.jobs.workers = 0;
    let config = ServerConfig { settings, job_program: "/bin/true".into() };
    let error = serve(listener, config, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    server.stop().await;
}
