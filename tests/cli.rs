//! The real program, in a scratch folder: exit codes, output for people and for machines, recipes from the command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use niwaki::api;
use niwaki::format::{native, safetensors};
use niwaki::graph::builder::GraphBuilder;
use niwaki::graph::init;
use niwaki::graph::op::Activation;
use niwaki::seed;
use niwaki::tensor::{DType, TensorData};
use rand::Rng;
use serde_json::{Value, json};

mod bench;
mod interrupted;
mod operator;

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
        self.command(args).output().unwrap()
    }

    /// The program, which is told nothing by the machine it runs on.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_niwaki"));
        command.args(args).current_dir(self.0.path()).env("XDG_CONFIG_HOME", self.path("config"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NIWAKI_")) {
            command.env_remove(name);
        }
        command
    }

    /// A server and its address.
    fn serve(&self, more: &[&str]) -> (Server, String) {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--data", "server"], more].concat();
        let mut child = self.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Server(child), line.trim().to_string())
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
    let bare = Scratch::new().niwaki(&["--json"]);
    assert_eq!(bare.status.code(), Some(2));
    assert!(!text(&bare.stderr).contains("job-child"), "{}", text(&bare.stderr));
    for verb in [
        "serve",
        "demo",
        "run",
        "eval",
        "inspect",
        "models",
        "datasets",
        "uploads",
        "jobs",
        "server",
        "api",
        "keys",
        "config",
        "bench",
        "doctor",
        "completions",
        "man",
    ] {
        let help = text(&Scratch::new().niwaki(&[verb, "--help"]).stdout);
        assert!(help.contains("Examples:"), "{help}");
    }
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
fn files_and_folders_in_the_wrong_place_are_exit_code_2() {
    let scratch = Scratch::new();
    write_task(&scratch);
    scratch.error(2, &["inspect", "data"]);
    let header = vec![b' '; 9 << 20];
    fs::write(scratch.path("huge.safetensors"), [&(header.len() as u64).to_le_bytes()[..], &header].concat()).unwrap();
    assert_eq!(scratch.error(2, &["inspect", "huge.safetensors"])["reason"], "HEADER_TOO_LARGE");
    for out in ["recipe.json", "recipe.json/below"] {
        let error = scratch.error(2, &["run", "recipe.json", "--data", "data", "--out", out]);
        assert!(error["message"].as_str().unwrap().starts_with(&format!("--out {out}: ")), "{error}");
    }
}

#[test]
fn what_has_no_end_or_is_no_plain_file_is_exit_code_2() {
    let scratch = Scratch::new();
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for words in [
        ["inspect", "/dev/zero"].as_slice(),
        &["inspect", "pipe"],
        &["eval", "/dev/zero", "--data", "pipe"],
        &["run", "/dev/zero", "--data", "pipe", "--out", "out"],
    ] {
        assert_eq!(scratch.error(2, words)["reason"], "FILE", "{words:?}");
    }
}

#[test]
fn a_file_of_authorities_without_any_is_exit_code_2() {
    let scratch = Scratch::new();
    fs::write(scratch.path("ca.pem"), "-----BEGIN PRIVATE KEY-----").unwrap();
    let words = ["--server", "https://127.0.0.1:1", "--ca", "ca.pem", "jobs", "ls"];
    assert_eq!(scratch.error(2, &words)["reason"], "NO_CA");
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
    let error = Scratch::new().error(78, &["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(error["reason"], "UNSAFE_SETTINGS");
}

#[test]
fn an_unknown_field_in_a_recipe_is_named() {
    let scratch = Scratch::new();
    fs::write(scratch.path("recipe.json"), r#"{"version": 1, "steps": [{"prune": {}}]}"#).unwrap();
    let error = scratch.error(2, &["run", "recipe.json", "--data", ".", "--out", "out"]);
    assert!(error.to_string().contains("prune"), "{error}");
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_refused_recipe_leaves_no_folder_behind() {
    let scratch = Scratch::new();
    write_task(&scratch);
    fs::write(scratch.path("other.json"), r#"{"version": 1, "steps": [{"evaluate": {}}]}"#).unwrap();
    scratch.error(2, &["run", "other.json", "--data", "data", "--out", "out"]);
    assert!(!scratch.path("out").exists());
}

#[test]
fn eval_needs_no_training_samples_and_says_which_shape_does_not_fit() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let data = |name: &str, shape: &[usize]| {
        let (count, size) = (shape[0], shape.iter().product());
        let tensors = BTreeMap::from([
            ("inputs".to_string(), TensorData::new(DType::U8, shape.to_vec(), vec![7u8; size]).unwrap()),
            ("labels".to_string(), TensorData::new(DType::U8, vec![count], vec![1u8; count]).unwrap()),
        ]);
        fs::write(scratch.path(name), safetensors::write(&tensors, &BTreeMap::new()).unwrap()).unwrap();
    };
    data("data/train.safetensors", &[1, 1, 4, 4]);
    let eval = scratch.json(&["eval", "model.safetensors", "--data", "data"]);
    assert_eq!(eval["test_samples"], 100);
    data("wrong.safetensors", &[20, 1, 5, 5]);
    let error = scratch.error(2, &["eval", "model.safetensors", "--data", "wrong.safetensors"]);
    assert_eq!(error["message"], "a sample has shape [1, 5, 5], the network takes [1, 4, 4]");
}

#[test]
fn analyze_tells_what_each_group_can_do_without_and_what_a_plan_makes_of_it() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let plan = r#"{"version": 1, "steps": [{"prune_channels": {"ratio": 0.5, "round_to": 1}}]}"#;
    fs::write(scratch.path("plan.json"), plan).unwrap();
    let found = scratch.json(&["analyze", "model.safetensors", "--data", "data", "--recipe", "plan.json"]);
    assert_eq!(found["groups"][0]["name"], "fc1");
    assert_eq!(found["plan"]["groups"][0]["after"], 6);
    assert!(found["plan"]["figures"]["accuracy"].is_number());
    let output = scratch.niwaki(&["analyze", "model.safetensors", "--ratios", "0.5"]);
    let text = text(&output.stdout);
    assert!(text.contains("MACs at -50.00 %") && text.contains("it is an output of the network"), "{text}");
    let error = scratch.error(2, &["analyze", "model.safetensors", "--ratios", "0.5,1.5"]);
    assert_eq!(error["violations"][0]["field"], "ratios[1]");
    let error = scratch.error(2, &["analyze", "model.safetensors", "--data", "data", "--samples", "0"]);
    assert_eq!(error["violations"][0]["field"], "samples");
}

#[test]
fn analyze_reads_samples_as_the_model_says_it_was_trained() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let recipe = r#"{"version": 1, "data": {"transforms": [{"scale": {"factor": -3}}]}, "steps": [{"evaluate": {}}]}"#;
    fs::write(scratch.path("turned.json"), recipe).unwrap();
    let data = ["--data", "data"];
    scratch.json(&[&["run", "turned.json", "--model", "model.safetensors", "--out", "turned"], &data[..]].concat());
    let loss = |args: &[&str]| scratch.json(&[&["analyze"], args, &data].concat())["whole"]["loss"].as_f64().unwrap();
    let told = loss(&["model.safetensors", "--recipe", "turned.json"]);
    assert_eq!(loss(&["turned/model.safetensors"]), told);
    assert_ne!(loss(&["model.safetensors"]), told);
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_that_cannot_be_written_is_exit_code_1() {
    let scratch = Scratch::new();
    write_task(&scratch);
    for args in [&["inspect", "model.safetensors"][..], &["--json", "inspect", "model.safetensors"], &["--help"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_niwaki"));
        let output = command.args(args).current_dir(scratch.0.path()).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("stdout cannot be written"), "{}", text(&output.stderr));
    }
}

/// Writes what a job needs: a data set in `data/`, a model in `model.safetensors`, a recipe in `recipe.json`.
fn write_task(scratch: &Scratch) {
    fs::create_dir(scratch.path("data")).unwrap();
    for (name, count) in [("train", 300), ("test", 100)] {
        // Pictures of 4 by 4 pixels; the class says which row is bright.
        let mut rng = seed::stream(5, name);
        let labels: Vec<u8> = (0..count).map(|_| rng.random_range(0..3)).collect();
        let pixels: Vec<u8> = labels
            .iter()
            .flat_map(|label| (0..16).map(|i| if i / 4 == *label { 120 } else { 60 }).collect::<Vec<u8>>())
            .map(|level| level + rng.random_range(0..100))
            .collect();
        let tensors = BTreeMap::from([
            ("inputs".to_string(), TensorData::new(DType::U8, vec![count, 1, 4, 4], pixels).unwrap()),
            ("labels".to_string(), TensorData::new(DType::U8, vec![count], labels).unwrap()),
        ]);
        let file = safetensors::write(&tensors, &BTreeMap::new()).unwrap();
        fs::write(scratch.path(&format!("data/{name}.safetensors")), file).unwrap();
    }
    let builder = GraphBuilder::new("small", &[1, 4, 4]).flatten("flatten").linear("fc1", 12);
    let mut graph = builder.activation("relu1", Activation::Relu).linear("fc2", 3).build().unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    fs::write(scratch.path("model.safetensors"), native::write(&graph, &BTreeMap::new()).unwrap()).unwrap();
    let weights: BTreeMap<String, TensorData> =
        graph.params().iter().map(|param| (param.name.clone(), param.data.clone())).collect();
    let bare = safetensors::write(&weights, &BTreeMap::new()).unwrap();
    fs::write(scratch.path("bare.safetensors"), bare).unwrap();
    let train = json!({"epochs": 3, "batch_size": 16, "adamw": {}, "learning_rate": 0.01});
    let recipe = json!({
        "version": 1,
        "name": "small",
        "seed": 9,
        "data": {"transforms": [{"scale": {"factor": 0.01}}]},
        "steps": [
            {"train": train},
            {"prune_weights": {"sparsity": 0.5, "cubic": {"train": train, "every": 5}}},
            {"quantize": {"format": "FORMAT_F16"}},
        ],
    });
    fs::write(scratch.path("recipe.json"), recipe.to_string()).unwrap();
}

#[test]
fn a_recipe_runs_without_a_server_and_its_claims_can_be_checked() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let run = ["run", "recipe.json", "--model", "model.safetensors", "--data", "data", "--out"];
    let answer = scratch.json(&[&run[..], &["out"]].concat());
    let report: Value = serde_json::from_slice(&fs::read(scratch.path("out/report.json")).unwrap()).unwrap();
    assert_eq!(answer["report"], report);
    assert!(report["result"]["accuracy"].as_f64().unwrap() > 0.6, "{report}");

    let eval = scratch.json(&["eval", "out/model.safetensors", "--data", "data"]);
    assert_eq!(eval["accuracy"], report["result"]["accuracy"]);
    assert_eq!(eval["bytes"], report["result"]["bytes"]);

    let inspect = scratch.json(&["inspect", "out/model.safetensors"]);
    assert_eq!(inspect["nonzero_params"], report["result"]["nonzero_params"]);
    assert_eq!(inspect["layers"][1]["dtypes"], json!(["F16"]));

    scratch.json(&[&run[..], &["again"]].concat());
    let model = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    assert!(model("out") == model("again"), "the same recipe gives the same bytes");
}

#[test]
fn a_model_of_some_classes_is_measured_against_the_labels_it_was_trained_on() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let recipe: Value = serde_json::from_slice(&fs::read(scratch.path("recipe.json")).unwrap()).unwrap();
    for (out, classes, relabel) in [
        ("kept", json!([2, 0]), json!([])),
        ("renamed", json!([]), json!([1, 0, 1])),
        ("both", json!([1, 2, 0]), json!([1, 0, 0])),
    ] {
        let mut recipe = recipe.clone();
        recipe["data"]["classes"] = classes.clone();
        recipe["data"]["relabel"] = relabel.clone();
        fs::write(scratch.path("some.json"), recipe.to_string()).unwrap();
        let run = scratch.json(&["run", "some.json", "--model", "model.safetensors", "--data", "data", "--out", out]);
        let report = &run["report"];
        assert!(report["result"]["accuracy"].as_f64().unwrap() > 0.6, "{report}");

        let model = format!("{out}/model.safetensors");
        let eval = scratch.json(&["eval", &model, "--data", "data"]);
        assert_eq!(eval["accuracy"], report["result"]["accuracy"], "{out}");
        assert_eq!(eval["test_samples"], report["test_samples"], "{out}");
        let stored = &scratch.json(&["inspect", &model])["metadata"]["niwaki.labels"];
        assert_eq!(*stored, json!({"classes": classes, "relabel": relabel}).to_string());
    }
    // Without test samples of its own, the data set's test split is drawn as the recipe drew it.
    fs::remove_file(scratch.path("data/test.safetensors")).unwrap();
    let run = scratch.json(&["run", "some.json", "--model", "model.safetensors", "--data", "data", "--out", "drawn"]);
    let eval = scratch.json(&["eval", "drawn/model.safetensors", "--data", "data", "--seed", "9"]);
    assert_eq!(eval["accuracy"], run["report"]["result"]["accuracy"]);
}

#[test]
fn weights_without_a_graph_need_one_and_take_the_one_that_inspect_prints() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let refused = scratch.niwaki(&["inspect", "bare.safetensors"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("hint: --graph PRESET|FILE"), "{}", text(&refused.stderr));
    let graph = scratch.niwaki(&["inspect", "model.safetensors", "--graph-json"]);
    fs::write(scratch.path("graph.json"), graph.stdout).unwrap();
    let inspect = scratch.json(&["inspect", "bare.safetensors", "--graph", "graph.json"]);
    assert_eq!(inspect["params"], 12 * 16 + 12 + 3 * 13);
    let error = scratch.error(2, &["inspect", "bare.safetensors", "--graph", "lenet6"]);
    assert!(error["message"].as_str().unwrap().contains("lenet5"), "{error}");
}

/// A server, killed when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_verbs_lead_from_files_to_a_smaller_model_on_a_server() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let (_server, url) = scratch.serve(&[]);
    let url = url.as_str();
    let id = |args: &[&str]| {
        let output = scratch.niwaki(&[&["--server", url], args].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    };
    let dataset = id(&["datasets", "put", "data"]);
    let model = id(&["models", "put", "model.safetensors"]);
    let job = id(&["jobs", "create", "recipe.json", "--model", &model, "--dataset", &dataset]);
    let done = scratch.json(&["--server", url, "jobs", "watch", &job]);
    assert_eq!(done["state"], "STATE_SUCCEEDED");
    let files = scratch.json(&["--server", url, "jobs", "download", &job, "--out", "out"]);
    assert_eq!(files["files"].as_array().unwrap().len(), 3);
    for file in ["out/model.safetensors", "out/model.onnx"] {
        let eval = scratch.json(&["eval", file, "--data", "data"]);
        assert_eq!(eval["accuracy"], done["result"]["result"]["accuracy"], "{file}");
    }

    assert_eq!(scratch.json(&["--server", url, "jobs", "wait", &job])["state"], "STATE_SUCCEEDED");
    let again = scratch.json(&["--server", url, "jobs", "retry", &job, "--watch"]);
    assert_eq!(again["result"]["result"]["accuracy"], done["result"]["result"]["accuracy"]);
    assert_ne!(again["name"], done["name"]);
    for (listing, count) in [("datasets", 1), ("models", 1), ("jobs", 2)] {
        assert_eq!(scratch.json(&["--server", url, listing, "ls"]).as_array().unwrap().len(), count);
    }
    assert_eq!(scratch.json(&["--server", url, "server", "info"])["version"], env!("CARGO_PKG_VERSION"));
    let bad = json!({"version": 1, "steps": [{"quantize": {}}]});
    fs::write(scratch.path("bad.json"), bad.to_string()).unwrap();
    let create = ["--server", url, "jobs", "create", "bad.json", "--model", &model, "--dataset", &dataset];
    let error = scratch.error(2, &create);
    assert!(error["violations"][0]["field"].as_str().unwrap().ends_with("steps[0].quantize.format"), "{error}");
    assert_eq!(scratch.error(5, &["--server", url, "jobs", "get", "none"])["code"], "NOT_FOUND");
    assert_eq!(scratch.error(5, &["--server", url, "models", "get", "none"])["code"], "NOT_FOUND");
}
