//! What operators type: settings, keys, the report on a machine; and how the command line bears a connection that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

#[test]
fn settings_say_where_they_come_from_and_bad_ones_start_no_server() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("config/niwaki")).unwrap();
    fs::write(scratch.path("config/niwaki/config.toml"), "[jobs]\nworkers = 2\nmax_losses = 7\n").unwrap();
    fs::write(scratch.path("niwaki.toml"), "[jobs]\nworkers = 3\nlease_seconds = 9\n").unwrap();
    let output = scratch
        .command(&["config", "show", "--origin", "--json", "--set", "calls.seconds=5"])
        .env("NIWAKI_JOBS_LEASE_SECONDS", "10")
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, value, origin) in [
        ("jobs.max_losses", json!(7), scratch.path("config/niwaki/config.toml").to_str().unwrap()),
        ("jobs.workers", json!(3), "niwaki.toml"),
        ("jobs.lease_seconds", json!(10), "NIWAKI_JOBS_LEASE_SECONDS"),
        ("calls.seconds", json!(5), "--set"),
        ("calls.max_streams", json!(256), "default"),
    ] {
        assert_eq!(shown[name], json!({"value": value, "origin": origin}), "{name}");
    }
    fs::write(scratch.path("other.toml"), "[jobs]\nworker = 1\n").unwrap();
    for verb in ["serve", "config"] {
        let args: &[&str] = if verb == "serve" { &["serve"] } else { &["config", "show"] };
        let error = scratch.error(78, &[args, &["--config", "other.toml"]].concat());
        assert!(error["message"].as_str().unwrap().contains("is jobs.workers meant?"), "{error}");
    }
    assert!(!scratch.path("niwaki-data").exists());
}

#[test]
fn keys_are_made_shown_once_and_revoked() {
    let scratch = Scratch::new();
    let made = scratch.json(&["keys", "create", "--file", "keys.toml", "--tenant", "vision", "--role", "reader"]);
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(key.starts_with("nwk_") && key.len() == 47, "256 bits in base 64");
    let mode = fs::metadata(scratch.path("keys.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let listed = scratch.json(&["keys", "ls", "--file", "keys.toml"]);
    assert_eq!(listed, json!([{"id": id, "tenant": "vision", "role": "reader", "expires": null}]));

    let (_server, url) = scratch.serve(&["--set", "auth.keys=keys.toml", "--workers", "0"]);
    let ask = |key: Option<&str>, args: &[&str]| {
        let mut command = scratch.command(&[&["--server", &url, "--tenant", "vision", "--json"], args].concat());
        if let Some(key) = key {
            command.env("NIWAKI_KEY", key);
        }
        let output = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), answer["error"]["reason"].as_str().unwrap_or_default().to_string())
    };
    assert_eq!(ask(None, &["jobs", "ls"]), (4, "KEY_MISSING".into()));
    assert_eq!(ask(None, &["server", "health"]), (0, String::new()));
    assert_eq!(ask(Some("nwk_no"), &["jobs", "ls"]), (4, "KEY_INVALID".into()));
    assert_eq!(ask(Some(key), &["jobs", "ls"]), (0, String::new()));
    assert_eq!(ask(Some(key), &["jobs", "cancel", "x"]), (4, "ROLE".into()));
    fs::write(scratch.path("key"), key).unwrap();
    fs::set_permissions(scratch.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ask(None, &["--key-file", "key", "jobs", "ls"]), (2, "SECRET".into()));
    fs::set_permissions(scratch.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(ask(None, &["--key-file", "key", "jobs", "ls"]), (0, String::new()));

    assert_eq!(scratch.error(5, &["keys", "revoke", "--file", "keys.toml", "nobody"])["reason"], "KEY_NOT_FOUND");
    scratch.json(&["keys", "revoke", "--file", "keys.toml", id]);
    // A server that runs looks at the file every half second.
    let mut answer = ask(Some(key), &["jobs", "ls"]);
    while answer.0 == 0 {
        answer = ask(Some(key), &["jobs", "ls"]);
    }
    assert_eq!(answer, (4, "KEY_INVALID".into()));
}

#[test]
fn a_report_on_the_machine_can_always_be_made() {
    let scratch = Scratch::new();
    let report = scratch.json(&["--server", "http://127.0.0.1:9", "doctor"]);
    let found: BTreeMap<&str, &str> =
        report.as_array().unwrap().iter().map(|f| (f["what"].as_str().unwrap(), f["mark"].as_str().unwrap())).collect();
    assert_eq!((found["settings"], found["server"], found["data folder"]), ("ok", "warn", "ok"));
    fs::write(scratch.path("niwaki.toml"), "x = 1").unwrap();
    let report = text(&scratch.niwaki(&["doctor"]).stdout);
    assert!(report.contains("there is no setting"), "{report}");
}

#[test]
fn shells_manuals_and_other_clients_get_their_texts() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&scratch.niwaki(&["completions", shell]).stdout);
        assert!(script.contains("datasets") && !script.contains("job-child"), "{shell}");
    }
    assert!(scratch.niwaki(&["man", "man"]).status.success());
    for page in ["niwaki.1", "niwaki-jobs-create.1", "niwaki-keys.1"] {
        assert!(scratch.path("man").join(page).is_file(), "{page}");
    }
    let proto = text(&scratch.niwaki(&["api", "proto"]).stdout);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/niwaki/v1");
    for file in fs::read_dir(folder).unwrap() {
        assert!(proto.contains(&fs::read_to_string(file.unwrap().path()).unwrap()));
    }
}

/// Stands between a client and a server, cuts every connection after so many bytes to the server, and counts them all.
struct Cutter {
    url: String,
    sent: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
}

impl Cutter {
    fn before(server: &str, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sent, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (all, cut, server) = (sent.clone(), cuts.clone(), server.trim_start_matches("http://").to_string());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut answers, &mut back));
                let (all, cut) = (all.clone(), cut.clone());
                thread::spawn(move || {
                    let (mut left, mut bytes) = (limit, [0; 16 << 10]);
                    while let Ok(n @ 1..) = client.read(&mut bytes) {
                        all.fetch_add(n as u64, Ordering::Relaxed);
                        left = left.saturating_sub(n as u64);
                        if left == 0 || server.write_all(&bytes[..n]).is_err() {
                            break;
                        }
                    }
                    if left == 0 {
                        cut.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                });
            }
        });
        Self { url, sent, cuts }
    }
}

#[test]
fn an_upload_goes_on_where_a_connection_broke_and_sends_little_twice() {
    const SIZE: usize = 6 << 20;
    let scratch = Scratch::new();
    let (_server, url) = scratch.serve(&["--workers", "0"]);
    let cutter = Cutter::before(&url, 2 << 20);
    fs::write(scratch.path("big.safetensors"), vec![7; SIZE]).unwrap();
    // It arrives; that it is no model is what the server says then.
    let error = scratch.error(2, &["--server", &cutter.url, "models", "put", "big.safetensors"]);
    assert_eq!(error["code"], "INVALID_ARGUMENT", "{error}");
    let (sent, cuts) = (cutter.sent.load(Ordering::Relaxed), cutter.cuts.load(Ordering::Relaxed));
    assert!(cuts >= 3, "{cuts} cuts");
    // At each cut what was on its way, in sockets and windows, is lost.
    assert!(sent < SIZE as u64 + cuts * (1 << 20), "{sent} bytes sent for {SIZE}, over {cuts} cuts");
}
