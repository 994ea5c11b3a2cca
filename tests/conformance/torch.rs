//! Each case as a Python file for PyTorch, which `tests/conformance/torch.py` runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use niwaki::format::{native, safetensors, torch};
use niwaki::graph::Graph;
use niwaki::tensor::TensorData;

/// Writes the network, its weights, the inputs and what the reference computes of them. Says why where that cannot be.
pub fn write(folder: &Path, graph: &Graph, inputs: &[TensorData], values: &[TensorData]) -> Result<(), String> {
    let network = torch::loader(graph).map_err(|error| error.to_string())?;
    let named = |what: &str, at: usize| format!("{what}.{at}");
    let mut tensors: BTreeMap<String, TensorData> =
        inputs.iter().enumerate().map(|(at, data)| (named("input", at), data.clone())).collect();
    tensors
        .extend(graph.outputs().iter().enumerate().map(|(at, id)| (named("output", at), values[id.index()].clone())));
    let values = safetensors::write(&tensors, &BTreeMap::new()).map_err(|error| error.to_string())?;
    let weights = native::write(graph, &BTreeMap::new()).map_err(|error| error.to_string())?;
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("network.py"), network).unwrap();
    fs::write(folder.join("network.safetensors"), weights).unwrap();
    fs::write(folder.join("values.safetensors"), values).unwrap();
    Ok(())
}
