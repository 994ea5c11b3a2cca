//! Reading an ONNX file of 100 million parameters: time against reading its bytes and hashing them, and memory against its
//! size.
//!
//! ```text
//! cargo bench --bench onnx_import
//! ```
//!
//! Rounds of both in turn, in one process each, so that each has its own peak of memory; medians and spread are printed. The
//! file is made by niwaki's own writer: a feed-forward part of a transformer, whose matrices exporters write transposed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use niwaki::digest::Digest;
use niwaki::format::onnx::{self, External, Given, Tensors};
use niwaki::graph::builder::GraphBuilder;
use niwaki::graph::op::Activation;

const ROUNDS: usize = 7;
const WIDTH: usize = 1024;
const LAYERS: usize = 12;

fn main() {
    let mut args = env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    match (args.next(), args.next()) {
        (Some(what), Some(file)) => one(&what, Path::new(&file)),
        _ => all(),
    }
}

/// One measurement in this process: seconds and the peak of memory in bytes.
fn one(what: &str, file: &Path) {
    let clock = Instant::now();
    let bytes = fs::read(file).expect("the file that was made");
    if what == "hash" {
        black_box(Digest::of(&bytes));
    } else {
        let graph = onnx::import(bytes.into(), &mut External::default(), &Given::default()).expect("a model");
        black_box(&graph);
    }
    println!("{} {}", clock.elapsed().as_secs_f64(), niwaki::sandbox::peak_bytes());
}

fn all() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.onnx");
    let mut builder = GraphBuilder::new("wide", &[16, WIDTH]);
    for layer in 0..LAYERS {
        builder = builder
            .linear_each(&format!("up{layer}"), 4 * WIDTH)
            .activation(&format!("act{layer}"), Activation::Gelu)
            .linear_each(&format!("down{layer}"), WIDTH);
    }
    let graph = builder.build().expect("a network");
    let params: usize = graph.params().iter().map(|param| param.data.elements()).sum();
    let bytes = onnx::export(&graph, &Tensors::Inside).expect("a file");
    fs::write(&file, &bytes).expect("a file");
    println!("{params} parameters, {} bytes", bytes.len());
    drop((graph, bytes));

    let mut found: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let own = env::current_exe().expect("this program");
    for round in 0..ROUNDS {
        let order = if round % 2 == 0 { ["hash", "import"] } else { ["import", "hash"] };
        for what in order {
            let output = Command::new(&own).arg(what).arg(&file).output().expect("a run");
            let text = String::from_utf8_lossy(&output.stdout).to_string();
            let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<f64>().ok());
            let figures = numbers.next().zip(numbers.next()).expect("two numbers");
            found.entry(what).or_default().push(figures);
        }
    }
    let size = fs::metadata(&file).expect("the file").len() as f64;
    let mut medians = Vec::new();
    for (what, figures) in &found {
        let mut seconds: Vec<f64> = figures.iter().map(|(seconds, _)| *seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let peak = figures.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
        println!(
            "{what:<7} median {:.3} s, {:.3} to {:.3}; peak of memory {:.2} times the file",
            seconds[ROUNDS / 2],
            seconds[0],
            seconds[ROUNDS - 1],
            peak / size
        );
        medians.push(seconds[ROUNDS / 2]);
    }
    println!("ratio import / (read and hash): {:.2}", medians[1] / medians[0]);
}
