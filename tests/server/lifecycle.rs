//! From the listener to the end.

use super::*;
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
async fn a_stopping_server_says_so_and_ends_although_a_stream_stays_open() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let mut client = HealthClient::new(server.channel.clone());
    let mut health = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = |message: Option<HealthCheckResponse>| message.unwrap().status();
    assert_eq!(status(health.message().await.unwrap()), ServingStatus::Serving);
    server.stop().await;
    assert_eq!(status(health.message().await.unwrap()), ServingStatus::NotServing);
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ServerConfig { data: data.path().into(), workers: 0, job_program: "/bin/true".into() };
    let error = serve(listener, config, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    server.stop().await;
}
