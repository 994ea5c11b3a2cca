//! The log of the real program: what it has of every call, and what it never has.

use std::process::{Child, Command, Stdio};

use niwaki::api::auth::Role;
use niwaki::api::keys;
use tonic::Request;

use super::*;

/// A server process that is killed if a test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is logged of calls with keys, good and bad, and with text that would like to steer a terminal.
async fn log_of_calls(format: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let (_, good) = keys::create(&file, "vision", Role::Writer, None).unwrap();
    let (_, ended) = keys::create(&file, "vision", Role::Writer, Some(1)).unwrap();
    let log = folder.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_niwaki"))
        .args(["serve", "--listen", "127.0.0.1:0", "--workers", "0", "--data"])
        .arg(folder.path().join("data"))
        .current_dir(folder.path())
        // Everything there is, also of the libraries below.
        .env("NIWAKI_LOG", "trace")
        .env("NIWAKI_LOG_FORMAT", format)
        .env("NIWAKI_AUTH_KEYS", &file)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let mut process = Process(child);
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        line
    });
    let address = timeout(LIMIT, first).await.expect("it listens").unwrap().trim().to_string();
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let unknown = "nwk_thisKeyIsNobodys".to_string();
    for key in [&good, &ended, &unknown] {
        let mut request = Request::new(v1::ListJobsRequest { parent: "tenants/vision".into(), ..Default::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request.metadata_mut().insert("x-request-id", "my-call-1".parse().unwrap());
        let _ = JobServiceClient::new(channel.clone()).list_jobs(request).await;
    }
    let hostile = "\u{1b}[2Jx\nERROR forged line";
    let mut request = Request::new(v1::GetJobRequest { name: hostile.into() });
    request.metadata_mut().insert("authorization", format!("Bearer {good}").parse().unwrap());
    JobServiceClient::new(channel.clone()).get_job(request).await.unwrap_err();
    let new = v1::Upload { file_name: hostile.into(), size_bytes: 1, digest: hostile.into(), ..Default::default() };
    let parent = "tenants/vision".into();
    let mut request = Request::new(v1::CreateUploadRequest { parent, upload: Some(new), request_id: hostile.into() });
    request.metadata_mut().insert("authorization", format!("Bearer {good}").parse().unwrap());
    UploadServiceClient::new(channel).create_upload(request).await.unwrap_err();
    Command::new("kill").arg(process.0.id().to_string()).status().unwrap();
    let ended_process = tokio::task::spawn_blocking(move || process.0.wait().unwrap());
    assert!(timeout(LIMIT, ended_process).await.expect("it stops").unwrap().success());
    (std::fs::read_to_string(log).unwrap(), vec![good, ended, unknown])
}

#[tokio::test]
async fn calls_are_logged_with_what_finds_them_again_and_without_their_keys() {
    let (log, keys) = log_of_calls("json").await;
    for key in keys {
        // Neither the key nor a good part of it.
        assert!(!log.contains(&key[4..16]), "a key is in the log");
    }
    let calls: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line: &serde_json::Value| line["fields"]["message"] == "call ended")
        .collect();
    let is_told = |code: &str, tenant: Option<&str>| {
        calls.iter().any(|line| {
            line["fields"]["code"] == code
                && line["fields"]["ms"].is_u64()
                && line["span"]["method"] == "niwaki.v1.JobService/ListJobs"
                && line["span"]["request"] == "my-call-1"
                && line["span"]["tenant"].as_str() == tenant
        })
    };
    assert!(is_told("Ok", Some("vision")), "{calls:#?}");
    assert!(is_told("Unauthenticated", None), "{calls:#?}");
    assert_eq!(calls.len(), 5);
}

#[tokio::test]
async fn text_from_outside_cannot_forge_a_line_or_steer_a_terminal() {
    let (log, _) = log_of_calls("text").await;
    assert!(log.contains("call ended"), "{log}");
    assert!(!log.contains('\u{1b}'), "an escape character");
    assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "a line that niwaki did not write");
}
