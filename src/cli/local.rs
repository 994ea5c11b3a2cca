//! What the local verbs read: a model file, a `--graph`, a recipe, a data set.

use std::path::Path;

use bytes::Bytes;

use super::failure::{Exit, Failure};
use crate::api;
use crate::data::{DataSource, Dataset, Files};
use crate::format::{Architecture, open_model};
use crate::graph::preset;
use crate::recipe::{Recipe, Upload};

/// Reads a model; `graph` is what `--graph` said.
pub fn model(path: &Path, graph: Option<&str>) -> Result<Upload, Failure> {
    let bytes = Bytes::from(read(path)?);
    let architecture = graph.map(architecture).transpose()?;
    let size = bytes.len() as u64;
    let model = open_model(bytes, architecture.as_ref()).map_err(|error| {
        let failure = Failure::input(path, error);
        match failure.reason.as_str() {
            "ARCHITECTURE_MISSING" => failure.hint("--graph PRESET|FILE gives the graph of a file that has none"),
            _ => failure,
        }
    })?;
    Ok(Upload { bytes: size, model })
}

/// What `--graph` names: an existing file holds graph JSON, everything else is a built-in network.
pub fn architecture(graph: &str) -> Result<Architecture, Failure> {
    let path = Path::new(graph);
    if path.is_file() {
        return Ok(Architecture::GraphJson(text(path)?));
    }
    match preset::build(graph) {
        Ok(_) => Ok(Architecture::Preset(graph.to_string())),
        Err(error) => {
            let message = format!("--graph {graph}: no such file, and {error}");
            Err(Failure::new(Exit::Invalid, "UNKNOWN_GRAPH", message))
        }
    }
}

/// Reads a recipe.
pub fn recipe(path: &Path) -> Result<Recipe, Failure> {
    api::recipe::from_json(&text(path)?).map_err(|error| Failure::input(path, error))
}

/// Reads a data set from a folder or a file.
pub fn dataset(path: &Path, source: Option<&DataSource>) -> Result<Dataset, Failure> {
    let files = files(path)?;
    crate::data::open(&files, source).map_err(|error| Failure::input(path, error))
}

/// The files that `path` stands for: itself, or what lies in the folder.
pub fn files(path: &Path) -> Result<Files, Failure> {
    std::fs::metadata(path).map_err(|error| Failure::io(path, &error))?;
    Files::from_path(path).map_err(|error| Failure::input(path, error))
}

/// Refuses a folder for results that cannot become one, before anything is computed. It is made by those who fill it.
pub fn out(path: &Path) -> Result<(), Failure> {
    // The folder, or the nearest one above it that exists.
    let existing = path.ancestors().find_map(|folder| Some((folder, std::fs::metadata(folder).ok()?)));
    match existing {
        Some((file, metadata)) if !metadata.is_dir() => {
            let message = format!("--out {}: {} is a file, no folder", path.display(), file.display());
            Err(Failure::new(Exit::Invalid, "OUT", message))
        }
        _ => Ok(()),
    }
}

/// Reads a text file.
pub fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::new(Exit::Invalid, "NOT_UTF8", format!("{}: the file is no UTF-8 text", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::io(path, &error))
}
