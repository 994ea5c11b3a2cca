//! `niwaki convert`: a model from one format to another. What is said to be written was read again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::json;

use super::args::ConvertArgs;
use super::failure::{Exit, Failure};
use super::local;
use super::models::file_name;
use super::output::{Output, grouped};
use crate::error::Classify;
use crate::format::onnx::{self, Tensors};
use crate::format::{Model, native, safetensors, torch};

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Safetensors,
    Onnx,
    GraphJson,
    Torch,
}

/// Reads the model, writes it under the new name, and reads it again.
pub fn run(args: &ConvertArgs, output: Output) -> Result<(), Failure> {
    let format = format(&args.out)?;
    if args.external && format != Format::Onnx {
        let message = "--external is for an ONNX model, whose name ends in .onnx";
        return Err(Failure::new(Exit::Invalid, "EXTERNAL", message));
    }
    let weights = match format {
        Format::Torch => Some(weights(args)?),
        Format::Onnx if args.external => Some(weights(args)?),
        _ => None,
    };
    let given = local::model(&args.model, args.graph.as_deref())?;
    let unwritten =
        |error: &dyn Classify| Failure::new(Exit::Invalid, error.reason(), format!("{}: {error}", args.out.display()));
    let Model { graph, metadata } = &given.model;
    let mut written = Vec::new();
    match format {
        Format::Safetensors => {
            let bytes = native::write(graph, metadata).map_err(|error| unwritten(&error))?;
            written.push(put(&args.out, &bytes)?);
        }
        Format::GraphJson => written.push(put(&args.out, native::graph_json(graph).as_bytes())?),
        Format::Torch => {
            let text = torch::loader(graph).map_err(|error| unwritten(&error))?;
            let bytes = native::write(graph, metadata).map_err(|error| unwritten(&error))?;
            if let Some(path) = &weights {
                written.push(put(path, &bytes)?);
            }
            written.push(put(&args.out, text.as_bytes())?);
        }
        Format::Onnx => {
            let (tensors, beside) = match &weights {
                Some(path) => beside(path, &given.model)?,
                None => Default::default(),
            };
            let bytes = onnx::write(graph, &tensors, metadata).map_err(|error| unwritten(&error))?;
            if let (Some(path), Some(bytes)) = (&weights, beside) {
                written.push(put(path, &bytes)?);
            }
            written.push(put(&args.out, &bytes)?);
        }
    }
    if matches!(format, Format::Safetensors | Format::Onnx) {
        // What is said to be written is what can be read.
        local::model(&args.out, None)?;
    }
    let line = |(path, bytes): &(PathBuf, u64)| format!("{}  {} B\n", path.display(), grouped(*bytes));
    let file = |(path, bytes): &(PathBuf, u64)| json!({ "path": path, "bytes": bytes });
    output.answer(
        || written.iter().map(line).collect::<String>(),
        || json!({ "files": written.iter().map(file).collect::<Vec<_>>() }),
    );
    let out = args.out.display();
    match format {
        Format::GraphJson => output.next([format!("niwaki inspect MODEL --graph {out}")]),
        Format::Torch => {
            output.next(["python: load(\"MODEL.safetensors\") of the file gives a torch.nn.Module".into()])
        }
        _ => output.next([format!("niwaki inspect {out}"), format!("niwaki eval {out} --data DATA")]),
    }
    Ok(())
}

fn format(out: &Path) -> Result<Format, Failure> {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Ok(Format::Safetensors),
        Some("onnx") => Ok(Format::Onnx),
        Some("json") => Ok(Format::GraphJson),
        Some("py") => Ok(Format::Torch),
        _ => {
            let message = format!(
                "{}: the name says the format, and ends in .safetensors, .onnx, .py (PyTorch) or .json (the graph without weights)",
                out.display()
            );
            Err(Failure::new(Exit::Invalid, "FORMAT", message))
        }
    }
}

/// The `.safetensors` file for the weights, of the same name as the file to write. Another file of that name is left alone.
fn weights(args: &ConvertArgs) -> Result<PathBuf, Failure> {
    let path = args.out.with_extension("safetensors");
    let name = file_name(&path)?;
    if !onnx::is_plain_name(&name) {
        let message = format!(
            "{}: a model names the file of its weights by letters, digits, '.', '_' and '-', not beginning with a dot",
            path.display()
        );
        return Err(Failure::new(Exit::Invalid, "FILE_NAME", message));
    }
    let is_input = || fs::canonicalize(&path).ok() == fs::canonicalize(&args.model).ok();
    if path.exists() && !is_input() {
        let message = format!("{}: the weights would go there, but there is a file already", path.display());
        return Err(Failure::new(Exit::Invalid, "FILE_EXISTS", message));
    }
    Ok(path)
}

/// The weights as a `.safetensors` file at `path`, and where in it each tensor begins.
fn beside(path: &Path, model: &Model) -> Result<(Tensors, Option<Bytes>), Failure> {
    let bytes = native::write(&model.graph, &model.metadata).map_err(|error| Failure::input(path, error))?;
    let bytes = Bytes::from(bytes);
    let offsets = safetensors::offsets(bytes.clone()).map_err(|error| Failure::input(path, error))?;
    Ok((Tensors::Beside { file: file_name(path)?, offsets }, Some(bytes)))
}

/// Writes a file, which is there whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(PathBuf, u64), Failure> {
    let failed = |error: std::io::Error| Failure::io(path, &error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    part.write_all(bytes).map_err(failed)?;
    let file = part.persist(path).map_err(|error| failed(error.error))?;
    // As a file that anybody makes, not as one that nobody else is to see.
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    Ok((path.to_path_buf(), bytes.len() as u64))
}
