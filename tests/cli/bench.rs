//! `niwaki bench`: its cases by name, and the form of its answers. No time is looked at.

use serde_json::Value;

use super::{Scratch, text};

/// Every case but those of convolutions; `benches/torch_cases.py` has the same names.
const CASES: [&str; 29] = [
    "peak_fma",
    "copy_100m",
    "matmul_1024x1024x1024",
    "matmul_2048x2048x2048",
    "matmul_128x784x300",
    "matmul_128x300x100",
    "matmul_64x128x512",
    "train_mlp",
    "infer_mlp",
    "pruned90_mlp",
    "train_lenet5",
    "infer_lenet5",
    "pruned90_lenet5",
    "train_resnet20",
    "infer_resnet20",
    "pruned90_resnet20",
    "train_lstm",
    "infer_lstm",
    "train_transformer",
    "infer_transformer",
    "kth_100m",
    "prune_100m",
    "prune_fresh_100m",
    "f16_100m_reused",
    "kmeans_10m",
    "svd_1024x1024",
    "rsvd64_1024x1024",
    "svd_4096x1024",
    "rsvd64_4096x1024",
];
/// Each with `conv_fwd_` and with `conv_fwd_bwd_` before it.
const CONVOLUTIONS: [&str; 13] = [
    "3_16_at32",
    "16_16_at32",
    "16_32_s2",
    "32_32_at16",
    "64_64_at8",
    "64_64_at56",
    "128_128_at28",
    "256_256_at14",
    "1x1_64_256_at28",
    "dw32_at16",
    "dw64_at56",
    "lenet1",
    "lenet2",
];

#[test]
fn the_cases_are_those_that_the_peer_has() {
    let scratch = Scratch::new();
    let listed = text(&scratch.niwaki(&["bench", "--list"]).stdout);
    let mut expected = Vec::from(CASES.map(String::from));
    let convolutions =
        CONVOLUTIONS.iter().flat_map(|name| ["conv_fwd_", "conv_fwd_bwd_"].map(|kind| format!("{kind}{name}")));
    expected.splice(7..7, convolutions);
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    assert_eq!(
        scratch.json(&["bench", "--list", "--filter", "train_l"]),
        serde_json::json!(["train_lenet5", "train_lstm"])
    );
}

#[test]
fn each_result_is_a_line_with_the_fields_that_are_compared() {
    let filters = ["--filter", "matmul_64x", "--filter", "conv_fwd_lenet1"];
    let output = Scratch::new().niwaki(&[["bench", "--json"].as_slice(), &filters].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["matmul_64x128x512", "conv_fwd_lenet1"]);
    for line in &lines {
        let fields: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["items_per_s", "min", "ms", "name"]);
        let number = |field: &str| line[field].as_f64().unwrap();
        assert!(0.0 < number("min") && number("min") <= number("ms") && number("items_per_s") > 0.0, "{line}");
    }
    assert!(text(&output.stderr).contains(" instructions, "), "{}", text(&output.stderr));
}

#[test]
fn the_table_says_which_instructions_and_how_many_threads_computed() {
    let scratch = Scratch::new();
    let args = ["bench", "--filter", "matmul_128x300"];
    let output = scratch.command(&args).env("RAYON_NUM_THREADS", "3").env("NIWAKI_INSTRUCTIONS", "portable").output();
    let table = text(&output.unwrap().stdout);
    assert!(table.starts_with("portable instructions, 3 threads\n"), "{table}");
    assert!(table.contains("matmul_128x300x100") && table.contains("FLOP/s"), "{table}");
}

#[test]
fn far_too_many_threads_are_not_made() {
    let scratch = Scratch::new();
    let output = scratch.command(&["bench", "--filter", "matmul_64x"]).env("RAYON_NUM_THREADS", "100000").output();
    let table = text(&output.unwrap().stdout);
    let threads = table.split(&[',', ' ']).find_map(|word| word.parse::<usize>().ok());
    let most = 4 * std::thread::available_parallelism().unwrap().get();
    assert!(threads.is_some_and(|threads| threads <= most), "{table}");
}

#[test]
fn a_filter_that_no_case_has_is_exit_code_2() {
    assert_eq!(Scratch::new().error(2, &["bench", "--filter", "matmull"])["reason"], "NO_CASE");
}
