//! Machines that run out of something, and processes that misbehave: inputs 102 to 114.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_file_handles_serves_on_when_there_are_some_again() {
    let data = tempfile::tempdir().unwrap();
    let mut service = Service::start(data.path(), &["prlimit", "--nofile=64"], &[]).await;
    neighbours_are_served(&service.channel).await;
    let base = service.handles();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(tokio::net::TcpStream::connect(&service.address).await.unwrap());
    }
    // The connection that it has is answered, well or with the word to come again.
    let list = v1::ListJobsRequest { parent: PARENT.into(), ..Default::default() };
    let answer =
        timeout(LIMIT, JobServiceClient::new(service.channel.clone()).list_jobs(list)).await.expect("an answer");
    if let Err(error) = answer {
        assert!(matches!(error.code(), Code::Unavailable | Code::ResourceExhausted), "{error:?}");
    }
    drop(held);
    service.until("handles that are free", |service| service.handles() <= base).await;
    assert!(service.is_alive());
    neighbours_are_served(&service.channel).await;
    let fresh = Channel::from_shared(format!("http://{}", service.address)).unwrap().connect().await.unwrap();
    neighbours_are_served(&fresh).await;
}
