//! Whose state a checkpoint is: what must be the same for a run to go on from it to the same bytes.

use std::collections::BTreeMap;

use super::{Given, Recipe, Upload};
use crate::data::{Dataset, Inputs, Part};
use crate::digest::{Digest, Hasher};
use crate::exec;
use crate::format::native;
use crate::format::safetensors::Container;
use crate::tensor::TensorData;

/// The version of the checkpoint's format.
const FORMAT: &str = "1";
/// The key of the digest of everything else.
const SEAL: &str = "sha256";

/// A checkpoint's metadata but for the seal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Identity(BTreeMap<String, String>);

/// The identity of a run.
pub(super) fn of(recipe: &Recipe, given: &Given<'_>, owner: &str) -> Identity {
    let entries = [
        ("niwaki.checkpoint", FORMAT.to_string()),
        ("niwaki.version", env!("CARGO_PKG_VERSION").to_string()),
        ("instruction_set", exec::instruction_set().to_string()),
        ("threads", exec::threads().to_string()),
        // Numbers are written so that they read back as they are.
        ("recipe", Digest::of(format!("{recipe:?}").as_bytes()).to_string()),
        ("inputs", inputs(given).to_string()),
        ("owner", owner.to_string()),
    ];
    Identity(entries.map(|(key, value)| (key.to_string(), value)).into())
}

impl Identity {
    /// The metadata of a checkpoint with these tensors.
    pub(super) fn sealed(&self, tensors: &BTreeMap<String, TensorData>) -> BTreeMap<String, String> {
        let mut metadata = self.0.clone();
        metadata.insert(SEAL.to_string(), seal(&self.0, tensors).to_string());
        metadata
    }

    /// Whether a checkpoint is whole and of this very run, or what is wrong with it.
    pub(super) fn check(&self, container: &Container) -> Result<(), String> {
        let mut metadata = container.metadata.clone();
        let stated = metadata.remove(SEAL).ok_or("it has no digest")?;
        if stated != seal(&metadata, &container.tensors).to_string() {
            return Err("its digest is another: bytes have changed".into());
        }
        let differing = self.0.iter().find(|(key, value)| metadata.get(*key) != Some(value));
        match differing {
            Some((key, ours)) => {
                let theirs = metadata.get(key).map_or("nothing", String::as_str);
                Err(format!("it is of another run: {key} is {theirs}, here it is {ours}"))
            }
            None => Ok(()),
        }
    }
}

fn seal(metadata: &BTreeMap<String, String>, tensors: &BTreeMap<String, TensorData>) -> Digest {
    let mut hasher = Hasher::default();
    for (key, value) in metadata {
        piece(&mut hasher, key.as_bytes());
        piece(&mut hasher, value.as_bytes());
    }
    for (name, tensor) in tensors {
        piece(&mut hasher, name.as_bytes());
        piece(&mut hasher, format!("{tensor:?}").as_bytes());
        piece(&mut hasher, tensor.bytes());
    }
    hasher.finish()
}

/// The digest of models and data set as they are in memory, however they came there.
fn inputs(given: &Given<'_>) -> Digest {
    let mut hasher = Hasher::default();
    for (name, upload) in
        given.extra.iter().map(|(name, upload)| (name.as_str(), upload)).chain(given.model.map(|m| ("", m)))
    {
        piece(&mut hasher, name.as_bytes());
        model(&mut hasher, upload);
    }
    let Dataset { source, classes, class_names, train, validation, selection, test } = given.data;
    piece(&mut hasher, format!("{source} {classes} {class_names:?}").as_bytes());
    part(&mut hasher, train);
    for other in [validation, selection, test] {
        match other {
            Some(other) => part(&mut hasher, other),
            None => piece(&mut hasher, b""),
        }
    }
    hasher.finish()
}

fn model(hasher: &mut Hasher, upload: &Upload) {
    let graph = &upload.model.graph;
    piece(hasher, native::graph_json(graph).as_bytes());
    graph.params().iter().for_each(|param| piece(hasher, param.data.bytes()));
    piece(hasher, format!("{:?} {}", upload.model.metadata, upload.bytes).as_bytes());
}

fn part(hasher: &mut Hasher, part: &Part) {
    piece(hasher, format!("{:?}", part.sample_shape).as_bytes());
    match &part.inputs {
        Inputs::U8(bytes) => piece(hasher, bytes),
        Inputs::F32(values) => piece(hasher, bytemuck::cast_slice(values)),
    }
    piece(hasher, bytemuck::cast_slice(&part.labels));
}

/// Bytes with their length before them, so that no two sequences of pieces are the same bytes.
fn piece(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
