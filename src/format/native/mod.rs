//! niwaki's own files: a safetensors file whose metadata carry the graph, so that the one file is the whole model and
//! every reader of safetensors still gets at the weights.
//!
//! `__metadata__["niwaki.graph"]` is this JSON, and `__metadata__["format"]` is `pt`, as other tools expect of PyTorch's
//! layout and names:
//!
//! ```json
//! {"version":1,"name":"mlp",
//! "inputs":[
//! {"name":"input","shape":[1,28,28]}],
//! "params":[
//! {"name":"fc1.weight","shape":[10,784]},
//! {"name":"fc1.bias","shape":[10]}],
//! "nodes":[
//! {"name":"flatten","op":"Flatten","inputs":["input"]},
//! {"name":"fc1","op":"Linear","inputs":["flatten"],"params":{"weight":"fc1.weight","bias":"fc1.bias"}}],
//! "outputs":["fc1"]}
//! ```
//!
//! Shapes are those of one sample, without the batch axis. Nodes stand in execution order, and what a node writes goes by
//! the node's name. Beside `name` may stand `"activations":"F16"` (or `BF16`): the number format that values pass through
//! between nodes, [`Graph::activations`]; without it that is `F32`. A node has exactly the attributes of its operator:
//!
//! | operator | inputs | `params` | `attributes` |
//! |---|---|---|---|
//! | `Linear` | 1 | `weight`, `bias` (optional) | |
//! | `Conv2d` | 1 | `weight`, `bias` (optional) | `stride`, `padding`, `dilation`, `groups` |
//! | `BatchNorm` | 1 | `weight`, `bias`, `running_mean`, `running_var` | `epsilon`, `momentum` |
//! | `MaxPool2d` | 1 | | `kernel`, `stride`, `padding`, `dilation` |
//! | `AvgPool2d` | 1 | | as `MaxPool2d`, and `count_padding` |
//! | `Pad` | 1 | | `axis`, `before`, `after` |
//! | `Slice` | 1 | | `axis`, `start`, `end`, `step` |
//! | `Dropout` | 1 | | `rate` |
//! | `Relu`, `Sigmoid`, `Tanh`, `Flatten`, `GlobalAvgPool` | 1 | | |
//! | `Add` | 2 | | |
//!
//! Axes are counted with the batch as axis 0. What the attributes mean is said at [`crate::graph::Op`].
//!
//! The same JSON, as a file, describes the architecture of weights that come without one.
//!
//! The JSON is never trusted: it is read strictly, its parameters must be the file's tensors one for one, and the graph is
//! built anew from it, so that every shape but the inputs' is inferred. Masks are not stored: weights that are zero are
//! zero in the file, but whether they are to stay so is the recipe's business.

mod build;
mod text;

use std::collections::BTreeMap;

use super::{FormatError, Origin, safetensors};
use crate::graph::Graph;
use crate::tensor::TensorData;

pub(super) use build::build;
pub(super) use text::GraphText;

/// The metadata key of the graph.
pub const GRAPH_KEY: &str = "niwaki.graph";

/// Writes a graph with its weights and this additional metadata. The keys `niwaki.graph` and `format` are set here,
/// whatever `metadata` has under them.
pub fn write(graph: &Graph, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, FormatError> {
    let mut metadata = metadata.clone();
    metadata.insert("format".into(), "pt".into());
    metadata.insert(GRAPH_KEY.into(), graph_json(graph));
    let tensors: BTreeMap<String, TensorData> =
        graph.params().iter().map(|p| (p.name.clone(), p.data.clone())).collect();
    safetensors::write(&tensors, &metadata)
}

/// The graph without its weights, as JSON with one line a parameter and a node.
///
/// ```
/// use niwaki::format::{Architecture, native, open_model, safetensors};
/// use niwaki::graph::preset;
/// let lenet = preset::build("lenet5").unwrap();
/// let weights = lenet.params().iter().map(|p| (p.name.clone(), p.data.clone())).collect();
/// let file = safetensors::write(&weights, &Default::default())?;
/// let architecture = Architecture::GraphJson(native::graph_json(&lenet));
/// assert_eq!(open_model(file.into(), Some(&architecture))?.graph, lenet);
/// # Ok::<(), niwaki::format::FormatError>(())
/// ```
pub fn graph_json(graph: &Graph) -> String {
    GraphText::of(graph).to_json()
}

/// The graph that [`graph_json`] describes; `tensor` has its parameters, by their places in the graph's list.
pub fn from_json(json: &str, tensor: impl Fn(usize) -> Option<TensorData>) -> Result<Graph, FormatError> {
    let text = GraphText::parse(json, &Origin::Json)?;
    let tensors =
        text.params.iter().enumerate().filter_map(|(place, param)| Some((param.name.clone(), tensor(place)?)));
    build(&text, &tensors.collect(), &Origin::Json)
}

#[cfg(test)]
mod tests;
