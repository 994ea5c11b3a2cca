//! `niwaki run`, stopped and gone on with.

use super::*;

use rustix::process::{Pid, Signal, kill_process};

/// Waits until a process does something of its own when Ctrl-C is pressed.
fn listens_to_ctrl_c(child: &mut Child) {
    let caught = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & (1 << (Signal::INT.as_raw() - 1)) != 0)
    };
    loop {
        assert_eq!(child.try_wait().unwrap(), None, "it is still at work");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if caught(&status) == Some(true) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_run_that_is_stopped_says_how_to_go_on_and_ends_with_the_same_bytes() {
    let scratch = Scratch::new();
    write_task(&scratch);
    let train = json!({"epochs": 300, "batch_size": 8, "adamw": {}, "learning_rate": 0.01, "ema": {}});
    let steps = json!([{"insert_dropout": {"after": ["fc1"], "rate": 0.1}}, {"train": train}, {"fold": {}}]);
    fs::write(scratch.path("long.json"), json!({"version": 1, "seed": 3, "steps": steps}).to_string()).unwrap();
    let run = ["run", "long.json", "--model", "model.safetensors", "--data", "data", "--out"];
    scratch.json(&[&run[..], &["undisturbed"]].concat());

    let mut child = scratch.command(&[&run[..], &["out"]].concat()).stderr(Stdio::piped()).spawn().unwrap();
    listens_to_ctrl_c(&mut child);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{}", text(&stopped.stderr));
    assert!(text(&stopped.stderr).contains("--resume"), "{}", text(&stopped.stderr));
    assert!(scratch.path("out/.checkpoint.safetensors").is_file());
    assert!(!scratch.path("out/model.safetensors").exists() && !scratch.path("out/report.json").exists());

    scratch.json(&[&run[..], &["out", "--resume"]].concat());
    let model = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    assert!(model("out") == model("undisturbed"), "the same bytes");
    assert!(!scratch.path("out/.checkpoint.safetensors").exists(), "nothing is left to go on with");
    // Nothing to go on with is no mistake.
    let again = scratch.niwaki(&[&run[..], &["again", "--resume"]].concat());
    assert!(again.status.success() && text(&again.stderr).contains("nothing to go on with"));
    assert!(model("again") == model("undisturbed"));
}
