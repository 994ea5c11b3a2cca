//! Networks as PyTorch exports them: read, run, written and read again.
//!
//! `tests/zoo/export.py FOLDER` writes them; `NIWAKI_ZOO=FOLDER cargo test zoo -- --nocapture` reads them, and
//! `tests/zoo/check.py FOLDER` lets ONNX Runtime and PyTorch compute what was written. Without the variable the test says
//! that it was skipped.

mod cut;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use niwaki::exec::{Mode, Session};
use niwaki::format::onnx::{self, External, Given, Tensors};
use niwaki::format::{native, torch};
use niwaki::graph::{Dim, Graph};
use niwaki::reference::{self, Context};
use niwaki::tensor::{DType, TensorData};
use serde::Deserialize;

use crate::same::differences;

/// A difference from ONNX Runtime of so much of the largest value is rounding.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    folder: String,
    model: String,
    exporter: String,
    /// Whether the number of steps is open.
    steps: bool,
    /// Nodes in the file.
    nodes: usize,
    /// What PyTorch calls the parameters.
    names: Vec<String>,
    /// The inputs' seeds.
    sets: Vec<u32>,
}

/// What the table says of a case.
struct Row {
    nodes: usize,
    params: usize,
    /// Parameters that have PyTorch's names.
    named: usize,
    /// The largest difference from ONNX Runtime, in parts of the largest value.
    error: f64,
    /// In what the graph that was written and read again is another one.
    differences: Vec<String>,
}

#[test]
fn networks_that_pytorch_exports_are_read_run_and_written() {
    let Some((folder, cases)) = zoo() else { return };
    let mut problems = Vec::new();
    println!("| model | exporter | open | nodes in the file | nodes | parameters | names kept | largest difference |");
    println!("|---|---|---|---|---|---|---|---|");
    for case in &cases {
        let open = if case.steps { "batch, steps" } else { "batch" };
        let before = format!("| {} | {} | {open} | {} |", case.model, case.exporter, case.nodes);
        match run(&folder.join(&case.folder), case) {
            Ok(row) => {
                let names = format!("{} of {}", row.named, case.names.len());
                println!("{before} {} | {} | {names} | {:.1e} |", row.nodes, row.params, row.error);
                if row.error.is_nan() || row.error > TOLERANCE {
                    problems.push(format!("{}: differs by {:.1e}", case.folder, row.error));
                }
                problems.extend(row.differences.iter().map(|d| format!("{}: read again, {d}", case.folder)));
            }
            Err(problem) => {
                println!("{before} fails ||||");
                problems.push(format!("{}: {problem}", case.folder));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The folder with exported networks, if there is one, and those of its cases that are asked for.
fn zoo() -> Option<(PathBuf, Vec<Case>)> {
    let Some(folder) = env::var_os("NIWAKI_ZOO") else {
        println!("skipped: NIWAKI_ZOO names no folder with exported networks");
        return None;
    };
    let folder = PathBuf::from(folder);
    let mut cases: Vec<Case> = serde_json::from_slice(&fs::read(folder.join("zoo.json")).unwrap()).unwrap();
    let only = env::var("NIWAKI_ZOO_ONLY").unwrap_or_default();
    cases.retain(|case| case.folder.starts_with(&only));
    Some((folder, cases))
}

fn run(folder: &Path, case: &Case) -> Result<Row, String> {
    let file = Bytes::from(fs::read(folder.join("model.onnx")).unwrap());
    let graph = onnx::import(file, &mut beside(folder), &Given::default()).map_err(|e| e.to_string())?;
    fs::write(folder.join("graph.txt"), graph.to_string()).unwrap();
    if let Some(id) = graph.inputs().iter().find(|id| graph.value(**id).shape().first() != Some(&Dim::Batch)) {
        return Err(format!("input {:?} has no open batch", graph.value(*id)));
    }
    let mut error = 0.0;
    for seed in &case.sets {
        error = f64::max(error, compared(&graph, &folder.join(format!("set_{seed}")))?);
    }
    let written = onnx::export(&graph, &Tensors::Inside).map_err(|e| format!("is not written: {e}"))?;
    fs::write(folder.join("again.onnx"), &written).unwrap();
    let again = onnx::import(written.into(), &mut External::default(), &Given::default());
    let again = again.map_err(|e| format!("is not read again: {e}"))?;
    let half = onnx::export(&halved(&graph), &Tensors::Inside).map_err(|e| format!("is not written in half: {e}"))?;
    fs::write(folder.join("half.onnx"), half).unwrap();
    let loader = torch::loader(&graph).map_err(|e| format!("is not written for PyTorch: {e}"))?;
    fs::write(folder.join("network.py"), loader).unwrap();
    fs::write(folder.join("network.safetensors"), native::write(&graph, &Default::default()).unwrap()).unwrap();
    let params = graph.params().iter().filter(|p| !p.fixed).map(|p| p.data.elements()).sum();
    let named = case.names.iter().filter(|name| graph.param_id(name).is_some()).count();
    Ok(Row { nodes: graph.nodes().len(), params, named, error, differences: differences(&graph, &again) })
}

/// The files with tensors that lie beside the model.
fn beside(folder: &Path) -> External {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let data = entries.filter(|path| path.extension().is_some_and(|ext| ext == "data"));
    let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    External::new(data.map(|path| (named(&path), Bytes::from(fs::read(&path).unwrap()))).collect())
}

/// How far the outputs are from those of ONNX Runtime, in parts of the largest value.
fn compared(graph: &Graph, folder: &Path) -> Result<f64, String> {
    let tensor = |name: String| onnx::read_tensor(Bytes::from(fs::read(folder.join(name)).unwrap())).unwrap();
    let inputs: Vec<TensorData> = (0..graph.inputs().len()).map(|i| tensor(format!("input_{i}.pb"))).collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(TensorData::shape).collect();
    let sizes = graph.sizes(&shapes).ok_or_else(|| format!("inputs of shapes {shapes:?} do not fit"))?;
    // By the definitions, and by what runs and trains networks.
    let values = reference::values(graph, &inputs, None, &Context::eval(sizes)).map_err(|e| e.to_string())?;
    let mut session = Session::new(graph).map_err(|e| e.to_string())?;
    let run = session.run(&inputs, Mode::Eval, &[]).map_err(|e| e.to_string())?.outputs;
    let mut error = 0.0;
    for (place, id) in graph.outputs().iter().enumerate() {
        let file = format!("output_{place}.pb");
        if place > 0 && !folder.join(&file).exists() {
            continue;
        }
        let expected = tensor(file);
        for found in [&values[id.index()], &run[place]] {
            error = f64::max(error, difference(found, &expected)?);
        }
    }
    Ok(error)
}

/// The largest difference, in parts of the largest value.
fn difference(found: &TensorData, expected: &TensorData) -> Result<f64, String> {
    if found.shape() != expected.shape() {
        return Err(format!("an output is {found:?}, not {expected:?}"));
    }
    let (found, expected) = (found.to_f64().unwrap(), expected.to_f64().unwrap());
    let largest = expected.iter().fold(0.0, |m, y| f64::max(m, y.abs()));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / largest);
    // What is no number is no agreement.
    Ok(differences.fold(0.0, |m, d| if d.is_nan() || d > m { d } else { m }))
}

/// The graph with weights and values of half precision.
fn halved(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let mut edit = graph.edit();
    edit.set_activations(DType::F16);
    for id in edit.graph().param_ids() {
        let param = edit.graph().param(id);
        if param.is_weight() && param.data.dtype() == DType::F32 {
            let half = param.data.to_float(DType::F16).unwrap();
            edit.set_param(id, half);
        }
    }
    edit.commit().unwrap();
    graph
}
