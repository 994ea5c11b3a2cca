//! The ONNX project's own cases, through the importer and the reference evaluator.
//!
//! `tests/conformance/generate.py FOLDER` writes the cases; `NIWAKI_CONFORMANCE=FOLDER cargo test conformance -- --nocapture`
//! runs them and prints the figures that the README has. Without the variable the test says that it was skipped.
//!
//! Inputs are fed where the graph allows it. An input that decides about shapes must be known before a graph of ours runs:
//! it is given as a constant, which is how the cases' other inputs become parameters, too.

mod skips;
mod torch;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use niwaki::format::onnx::{self, External, Given, OnnxError, Tensors};
use niwaki::graph::Graph;
use niwaki::graph::dim::Sizes;
use niwaki::reference::{self, Context};
use niwaki::tensor::TensorData;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    name: String,
    rtol: f64,
    atol: f64,
    listed: bool,
}

/// How a case's inputs came in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fed {
    All,
    First,
    None,
}

#[test]
fn the_onnx_projects_own_cases_pass() {
    let Some(folder) = env::var_os("NIWAKI_CONFORMANCE") else {
        println!("skipped: NIWAKI_CONFORMANCE names no folder with cases");
        return;
    };
    let folder = Path::new(&folder);
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let skipped: BTreeSet<&str> = skips::SKIPPED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let (mut passed, mut failed, mut ways) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut stale = skipped.clone();
    for case in cases.iter().filter(|case| case.listed) {
        stale.remove(case.name.as_str());
        match run(&folder.join(&case.kind).join(&case.name), case) {
            Ok(_) if skipped.contains(case.name.as_str()) => failed.push(format!("{}: skipped, but passes", case.name)),
            Ok(fed) => {
                *passed.entry(case.kind.as_str()).or_insert(0) += 1;
                *ways.entry(fed).or_insert(0) += 1;
            }
            Err(_) if skipped.contains(case.name.as_str()) => {}
            Err(problem) => failed.push(format!("{}: {problem}", case.name)),
        }
    }
    for kind in ["node", "pytorch-converted", "pytorch-operator"] {
        let listed = cases.iter().filter(|case| case.kind == kind && case.listed).count();
        println!("{kind}: {} of {listed} pass", passed.get(kind).unwrap_or(&0));
    }
    println!("inputs fed: {ways:?}");
    for (reason, names) in skips::SKIPPED {
        println!("skipped: {:>3} {reason}", names.len());
    }
    failed.extend(stale.iter().map(|name| format!("{name}: skipped, but there is no such case")));
    if let Some(report) = env::var_os("NIWAKI_CONFORMANCE_REPORT") {
        fs::write(report, failed.join("\n")).unwrap();
    }
    assert!(failed.is_empty(), "{} cases fail:\n{}", failed.len(), failed.join("\n"));
}

fn run(folder: &Path, case: &Case) -> Result<Fed, String> {
    let model = Bytes::from(fs::read(folder.join("model.onnx")).unwrap());
    let (inputs, outputs) = (tensors(folder, "input")?, tensors(folder, "output")?);
    let names = onnx::fed(model.clone()).map_err(|error| error.to_string())?;
    let mut last = String::new();
    for fed in [Fed::All, Fed::First, Fed::None] {
        let count = match fed {
            Fed::All => inputs.len(),
            Fed::First => 1.min(inputs.len()),
            Fed::None => 0,
        };
        let named = || names.iter().cloned().zip(inputs.iter().cloned());
        let given = Given {
            constants: named().skip(count).collect(),
            shapes: Some(named().take(count).map(|(name, data)| (name, data.shape().to_vec())).collect()),
        };
        let graph = match onnx::import(model.clone(), &mut External::default(), &given) {
            Ok(graph) => graph,
            Err(error) => {
                last = error.to_string();
                continue;
            }
        };
        let values = reference::values(&graph, &inputs[..count], None, &Context::eval(Sizes::of_batch(1)));
        let values = values.map_err(|error| format!("{error}"))?;
        for (place, (output, expected)) in graph.outputs().iter().zip(&outputs).enumerate() {
            compare(&values[output.index()], expected, case.rtol, case.atol)
                .map_err(|problem| format!("output {place}: {problem}"))?;
        }
        if let Some(out) = env::var_os("NIWAKI_CONFORMANCE_TORCH")
            && let Err(problem) = torch::write(&Path::new(&out).join(&case.name), &graph, &inputs[..count], &values)
        {
            println!("{}: not for PyTorch: {problem}", case.name);
        }
        return written(&graph, &inputs[..count], &values, &case.name).map(|()| fed);
    }
    Err(last)
}

/// What is written in ONNX and read again is the same graph and computes the same.
fn written(graph: &Graph, inputs: &[TensorData], values: &[TensorData], case: &str) -> Result<(), String> {
    let file = match onnx::export(graph, &Tensors::Inside) {
        Ok(file) => file,
        // Some operators came later than the version that is written.
        Err(error @ OnnxError::Unwritten { .. }) => {
            println!("not written: {error}");
            return Ok(());
        }
        Err(error) => return Err(format!("written: {error}")),
    };
    let named = graph.inputs().iter().zip(inputs);
    let shapes = named.map(|(id, data)| (graph.value(*id).name.clone(), data.shape().to_vec())).collect();
    let given = Given { shapes: Some(shapes), ..Given::default() };
    let again = onnx::import(file.into(), &mut External::default(), &given).map_err(|e| format!("read again: {e}"))?;
    match crate::same::differences(graph, &again).first() {
        Some(difference) if !skips::READ_AS_ANOTHER.contains(&case) => return Err(format!("read again: {difference}")),
        _ => {}
    }
    let found = reference::values(&again, inputs, None, &Context::eval(Sizes::of_batch(1)));
    let found = found.map_err(|error| format!("read again: {error}"))?;
    for (own, new) in graph.outputs().iter().zip(again.outputs()) {
        let (own, new) = (&values[own.index()], &found[new.index()]);
        compare(new, own, 1e-5, 1e-6).map_err(|problem| format!("read again: {problem}"))?;
    }
    Ok(())
}

fn tensors(folder: &Path, what: &str) -> Result<Vec<TensorData>, String> {
    let path = |i: usize| folder.join(format!("{what}_{i}.pb"));
    let files = (0..).map(path).take_while(|path| path.exists());
    files
        .map(|path| onnx::read_tensor(Bytes::from(fs::read(path).unwrap())).map_err(|error| error.to_string()))
        .collect()
}

fn compare(actual: &TensorData, expected: &TensorData, rtol: f64, atol: f64) -> Result<(), String> {
    if (actual.dtype(), actual.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!("{actual:?} is no {expected:?}"));
    }
    let (Ok(a), Ok(b)) = (actual.to_f64(), expected.to_f64()) else {
        return if actual.bytes() == expected.bytes() { Ok(()) } else { Err("other numbers".into()) };
    };
    let close = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= atol + rtol * b.abs();
    match a.iter().zip(&b).position(|(a, b)| !close(*a, *b)) {
        None => Ok(()),
        Some(at) => Err(format!("element {at} is {}, not {}", a[at], b[at])),
    }
}
