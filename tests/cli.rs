//! The real program, in a scratch folder: exit codes, output for people and for machines, recipes from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use niwaki::api;
use serde_json::Value;

/// A folder with the program.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn niwaki(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_niwaki"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("NIWAKI_SERVER")
            .env_remove("NIWAKI_LISTEN")
            .env_remove("NIWAKI_ALLOW_REMOTE")
            .output()
            .unwrap()
    }

    /// Runs the program, which must do well, with `--json`.
    fn json(&self, args: &[&str]) -> Value {
        let output = self.niwaki(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the program, which must fail with `code`; gives the error that `--json` prints.
    fn error(&self, code: i32, args: &[&str]) -> Value {
        let output = self.niwaki(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["error"].clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn recipes() -> impl Iterator<Item = PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}

#[test]
fn every_example_recipe_can_be_read_and_says_what_it_needs_and_promises() {
    for path in recipes() {
        let recipe =
            api::recipe::from_json(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(recipe.name.as_str()));
        assert!(recipe.description.contains("Data: ") && recipe.description.contains("Promise: "), "{path:?}");
    }
    assert!(recipes().count() >= 5);
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let output = Scratch::new().niwaki(&["--help"]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    assert!(help.contains("Exit codes: 0 done") && help.contains("Examples:"), "{help}");
    assert!(!help.contains("job-child"), "{help}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let scratch = Scratch::new();
    let output = scratch.niwaki(&["inspct"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("inspect"), "clap proposes the verb that was meant");
    assert_eq!(scratch.error(2, &["eval"])["reason"], "USAGE");
}

#[test]
fn a_truncated_model_is_exit_code_2_and_the_message_says_what_is_wrong() {
    let scratch = Scratch::new();
    fs::write(scratch.path("model.safetensors"), 1_000_000u64.to_le_bytes()).unwrap();
    let output = scratch.niwaki(&["inspect", "model.safetensors"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = text(&output.stderr);
    assert!(message.contains("model.safetensors") && message.contains("header"), "{message}");

    let error = scratch.error(2, &["inspect", "model.safetensors"]);
    assert_eq!(error["code"], "INVALID_ARGUMENT");
    let fields: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["code", "message", "reason", "violations"]);
}

#[test]
fn what_is_not_there_is_exit_code_5() {
    let scratch = Scratch::new();
    let error = scratch.error(5, &["inspect", "missing.safetensors"]);
    assert!(error["message"].as_str().unwrap().contains("missing.safetensors"));
}

#[test]
fn a_server_that_is_away_is_exit_code_7() {
    // Port 9 (discard) is reserved; nothing listens there on a test machine.
    let error = Scratch::new().error(7, &["--server", "http://127.0.0.1:9", "jobs", "ls"]);
    assert_eq!(error["reason"], "SERVER_UNAVAILABLE");
}

#[test]
fn the_server_does_not_listen_to_other_machines_unasked() {
    let error = Scratch::new().error(2, &["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(error["reason"], "REMOTE_ADDRESS");
}

#[test]
fn an_unknown_field_in_a_recipe_is_named() {
    let scratch = Scratch::new();
    fs::write(scratch.path("recipe.json"), r#"{"version": 1, "steps": [{"prune": {}}]}"#).unwrap();
    let error = scratch.error(2, &["run", "recipe.json", "--data", ".", "--out", "out"]);
    assert!(error.to_string().contains("prune"), "{error}");
    assert!(!scratch.path("out").exists());
}
