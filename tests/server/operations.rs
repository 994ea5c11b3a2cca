//! What operators see: probes, figures, and that the manual has all of them.

use niwaki::api::auth::Role;
use niwaki::api::keys;
use niwaki::web::metrics::FIGURES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const MANUAL: &str = include_str!("../../docs/operations.md");

/// The status and the body of a page.
async fn page(address: &str, path: &str, key: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{key}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

#[tokio::test]
async fn probes_answer_over_http_on_the_same_port() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), 0).await;
    let answer = page(&server.address, "/healthz", None).await;
    assert_eq!(answer.0, 200);
    let (status, body) = page(&server.address, "/readyz", None).await;
    assert_eq!((status, body.contains("ready")), (200, true), "{body}");
    assert_eq!(page(&server.address, "/nowhere", None).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn figures_tell_of_calls_and_jobs_and_name_no_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let (_, key) = keys::create(&file, "secret-customer", Role::Writer, None).unwrap();
    let (_, reader) = keys::create(&file, "secret-customer", Role::Reader, None).unwrap();
    let mut settings = Settings { data: folder.path().join("data"), ..Settings::default() };
    settings.jobs.workers = 0;
    settings.auth.keys = Some(file);
    let server = Server::start_set(settings, "/bin/true".into()).await;
    let mut request =
        tonic::Request::new(v1::ListJobsRequest { parent: "tenants/secret-customer".into(), ..Default::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    server.jobs().list_jobs(request).await.unwrap();
    // Whether the server lives is open to all, its figures are not.
    assert_eq!(page(&server.address, "/healthz", None).await.0, 200);
    assert_eq!(page(&server.address, "/metrics", None).await.0, 401);
    assert_eq!(page(&server.address, "/metrics", Some("nwk_x")).await.0, 401);
    let (status, text) = page(&server.address, "/metrics", Some(&reader)).await;
    assert_eq!(status, 200);
    for line in [
        "niwaki_rpc_duration_seconds_count{method=\"niwaki.v1.JobService/ListJobs\",code=\"Ok\"}",
        "niwaki_jobs{state=\"QUEUED\"} 0",
        "niwaki_queue_depth 0",
        "niwaki_build_info{version=",
        "niwaki_data_free_bytes",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("secret-customer"), "{text}");
    server.stop().await;
}

#[test]
fn the_manual_has_every_figure_and_every_setting_with_its_default() {
    for (name, _, what) in FIGURES {
        assert!(MANUAL.contains(&format!("| `{name}` |")) && MANUAL.contains(what), "{name}: {what}");
    }
    fn walk(at: &str, value: &serde_json::Value) {
        if let Some(fields) = value.as_object() {
            for (name, value) in fields {
                walk(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, value);
            }
            return;
        }
        let value = match value {
            serde_json::Value::Null => "none".into(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert!(MANUAL.contains(&format!("| `{at}` | {value} |")), "| `{at}` | {value} | is missing");
    }
    walk("", &serde_json::to_value(Settings::default()).unwrap());
}
