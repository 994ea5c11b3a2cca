//! Files to graphs and back.
//!
//! A model is a `.safetensors` file or an ONNX model. Written by niwaki, a `.safetensors` file carries its graph
//! ([`native`]); from elsewhere it holds weights alone and needs an [`Architecture`]. [`onnx`] is what other frameworks
//! export, its tensors in the file or in others beside it. [`safetensors`] is the container itself, which data sets use as
//! well.

mod error;
mod files;
mod foreign;
pub mod native;
pub mod onnx;
mod pairs;
pub mod safetensors;
pub mod torch;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Op, preset};
use crate::tensor::{DType, TensorData};
use native::GraphText;
use onnx::External;
use safetensors::Container;

pub use error::{FormatError, Origin, TensorProblem};
use files::is_onnx;
pub use files::{MAX_FILES, ModelFiles, named_by, open_model_files};

/// A network's graph, for weights that come without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// A built-in network, by its name with its options; see [`crate::graph::preset`].
    Preset(String),
    /// A graph in niwaki's JSON form.
    GraphJson(String),
}

/// A model as it was read from a file.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph, with the file's weights.
    pub graph: Graph,
    /// The file's other metadata, without the graph.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a model from the bytes of an ONNX model or of a `.safetensors` file. The latter's tensors must be the graph's parameters, one for one, with
/// the same shapes and finite values.
///
/// Weights from elsewhere may come with PyTorch's `num_batches_tracked` counters, which no layer computes with: these are
/// passed over.
///
/// Where the file carries its own graph, an architecture is not needed; one that is given all the same must be the same
/// graph under whatever name, or else one of the two is not what the client thinks it is.
pub fn open_model(bytes: Bytes, architecture: Option<&Architecture>) -> Result<Model, FormatError> {
    if is_onnx(&bytes) {
        return open_onnx(bytes, &mut External::default(), architecture);
    }
    model(safetensors::read(bytes)?, architecture)
}

/// Reads a model as [`open_model`] does, from a file of which no more than its header is read if that is not right.
pub fn open_model_file(path: &Path, architecture: Option<&Architecture>) -> io::Result<Result<Model, FormatError>> {
    Ok(safetensors::open(path)?.and_then(|container| model(container, architecture)))
}

fn open_onnx(bytes: Bytes, files: &mut External, architecture: Option<&Architecture>) -> Result<Model, FormatError> {
    if architecture.is_some() {
        return Err(FormatError::ArchitectureGiven);
    }
    let (graph, metadata) = onnx::open(bytes, files)?;
    check_variances(&graph)?;
    Ok(Model { graph, metadata })
}

fn model(container: Container, architecture: Option<&Architecture>) -> Result<Model, FormatError> {
    let Container { mut tensors, mut metadata } = container;
    for (tensor, data) in &tensors {
        let count = safetensors::non_finite(data);
        if count > 0 {
            return Err(FormatError::NonFinite { tensor: tensor.clone(), count });
        }
    }
    let own = metadata.remove(native::GRAPH_KEY);
    if own.is_none() {
        tensors.retain(|name, data| !is_batch_counter(name, data));
    }
    let own = own.map(|json| native::build(&GraphText::parse(&json, &Origin::Metadata)?, &tensors, &Origin::Metadata));
    let given = architecture.map(|architecture| {
        let (text, origin) = describe(architecture)?;
        Ok::<_, FormatError>((native::build(&text, &tensors, &origin)?, origin))
    });
    let graph = match (own.transpose()?, given.transpose()?) {
        (None, None) => return Err(FormatError::ArchitectureMissing),
        (None, Some((given, _))) => given,
        (Some(own), None) => own,
        (Some(own), Some((given, origin))) => match difference(&own, &given) {
            Some(difference) => return Err(FormatError::Contradiction { origin, difference }),
            None => own,
        },
    };
    check_variances(&graph)?;
    Ok(Model { graph, metadata })
}

/// A running variance is the mean of squares. One below 0 gives no number where it is used.
fn check_variances(graph: &Graph) -> Result<(), FormatError> {
    for node in graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm(_))) {
        let (roles, _) = node.op.roles();
        let place = roles.iter().position(|role| *role == "running_var");
        let Some(param) = place.and_then(|place| node.params.get(place)) else { continue };
        let param = graph.param(*param);
        let values = param.data.to_f32().unwrap_or_default();
        if let Some((index, value)) = values.iter().enumerate().find(|(_, value)| **value < 0.0) {
            return Err(FormatError::Variance { tensor: param.name.clone(), index, value: *value });
        }
    }
    Ok(())
}

/// Whether PyTorch counts a batch normalisation's batches in this tensor.
fn is_batch_counter(name: &str, data: &TensorData) -> bool {
    name.ends_with(".num_batches_tracked") && data.dtype() == DType::I64 && data.shape().is_empty()
}

fn describe(architecture: &Architecture) -> Result<(GraphText, Origin), FormatError> {
    match architecture {
        Architecture::Preset(name) => match preset::build(name) {
            Ok(graph) => Ok((GraphText::of(&graph), Origin::Preset(name.clone()))),
            Err(source) => Err(FormatError::Preset { source }),
        },
        Architecture::GraphJson(json) => Ok((GraphText::parse(json, &Origin::Json)?, Origin::Json)),
    }
}

/// The first thing in which two graphs differ, other than their names and the order in which parameters are listed.
fn difference(own: &Graph, given: &Graph) -> Option<String> {
    if own.input_shape() != given.input_shape() {
        return Some(format!("it takes samples of shape {:?}, not {:?}", own.input_shape(), given.input_shape()));
    }
    for (i, (a, b)) in own.nodes().iter().zip(given.nodes()).enumerate() {
        let params = |graph: &Graph, node: &crate::graph::Node| -> Vec<String> {
            node.params.iter().map(|p| graph.param(*p).name.clone()).collect()
        };
        // Both graphs were built in the order of their texts, so equal nodes have equal value ids.
        if (&a.name, &a.op, &a.inputs, params(own, a)) != (&b.name, &b.op, &b.inputs, params(given, b)) {
            let text = |n: &crate::graph::Node| format!("'{}' ({:?})", n.name, n.op);
            return Some(format!("its node {i} is {}, not {}", text(a), text(b)));
        }
    }
    if own.activations() != given.activations() {
        let (own, given) = (own.activations(), given.activations());
        return Some(format!("its values pass through {own}, not {given}"));
    }
    if own.nodes().len() != given.nodes().len() {
        return Some(format!("it has {} nodes, not {}", own.nodes().len(), given.nodes().len()));
    }
    (own.outputs() != given.outputs()).then(|| "its outputs are others".to_string())
}

#[cfg(test)]
mod tests;
