//! What the local verbs read: a model file, a `--graph`, a recipe, a data set.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::failure::{Exit, Failure};
use super::models::file_name;
use crate::api;
use crate::data::{DataSource, Dataset, Files};
use crate::format::{Architecture, ModelFiles, named_by, open_model_files};
use crate::graph::preset;
use crate::recipe::{Recipe, Upload};

/// The longest recipe or graph that is read, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// Reads a model; `graph` is what `--graph` said.
pub fn model(path: &Path, graph: Option<&str>) -> Result<Upload, Failure> {
    let files = model_files(path)?;
    let architecture = graph.map(architecture).transpose()?;
    let opened = open_model_files(&files, architecture.as_ref()).map_err(|error| Failure::io(path, &error))?;
    let (size, model) = opened.map_err(|error| {
        let failure = Failure::input(path, error);
        match failure.reason.as_str() {
            "ARCHITECTURE_MISSING" => failure.hint("--graph PRESET|FILE gives the graph of a file that has none"),
            _ => failure,
        }
    })?;
    Ok(Upload { bytes: size, model })
}

/// A model's file, and those beside it that it names. Only files that lie in the same folder are looked at, by what the
/// folder says that they are called.
pub fn model_files(path: &Path) -> Result<ModelFiles, Failure> {
    plain(path)?;
    let failed = |error: std::io::Error| Failure::io(path, &error);
    let mut files = ModelFiles::from([(file_name(path)?, path.to_path_buf())]);
    let named = named_by(path).map_err(failed)?.map_err(|error| Failure::input(path, error))?;
    if named.is_empty() {
        return Ok(files);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if named.contains(&name) && entry.file_type().map_err(failed)?.is_file() {
            files.insert(name, entry.path());
        }
    }
    Ok(files)
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
    if !std::fs::metadata(path).map_err(|error| Failure::io(path, &error))?.is_dir() {
        plain(path)?;
    }
    Files::from_path(path).map_err(|error| Failure::input(path, error))
}

/// Refuses a folder for results that cannot become one, before anything is computed. It is made by those who fill it.
pub fn out(path: &Path) -> Result<(), Failure> {
    // The folder, or the nearest one above it that exists.
    let existing = path.ancestors().find_map(|folder| Some((folder, std::fs::metadata(folder).ok()?)));
    let Some((nearest, metadata)) = existing else { return Ok(()) };
    let refused = |why: String| Failure::new(Exit::Invalid, "OUT", format!("--out {}: {why}", path.display()));
    if !metadata.is_dir() {
        return Err(refused(format!("{} is a file, no folder", nearest.display())));
    }
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    tempfile::tempfile_in(nearest)
        .map(|_| ())
        .map_err(|error| refused(format!("nothing can be written in {}: {error}", nearest.display())))
}

/// Refuses what is no plain file: a device may have no end, and a pipe can be read only once.
pub fn plain(path: &Path) -> Result<(), Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| Failure::io(path, &error))?;
    if metadata.is_file() {
        return Ok(());
    }
    Err(Failure::new(Exit::Invalid, "FILE", format!("{}: not a plain file", path.display())))
}

/// Reads a text, from a file or a pipe.
pub fn text(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::io(path, &error);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_TEXT {
        let message = format!("{}: longer than {MAX_TEXT} bytes", path.display());
        return Err(Failure::new(Exit::Invalid, "FILE", message));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Invalid, "NOT_UTF8", format!("{}: the file is no UTF-8 text", path.display())))
}
