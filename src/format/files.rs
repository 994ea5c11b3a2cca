//! A model's files: one that is the model, and for an ONNX model those that its tensors lie in.
//!
//! What a file is, its content says. Names matter only where a model names another file: they are keys to what came with
//! it, and no paths.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::onnx::{self, External};
use super::{Architecture, FormatError, Model, open_model_file};

/// The files of a model and where they are, by the names they go by.
pub type ModelFiles = BTreeMap<String, PathBuf>;

/// The most files that a model may have.
pub const MAX_FILES: usize = 64;

/// Whether a file that begins so is an ONNX model: a protobuf whose first field is the version. A safetensors file begins
/// with the length of its header.
pub(super) fn is_onnx(start: &[u8]) -> bool {
    start.first() == Some(&0x08) && start.get(8) != Some(&b'{')
}

/// Reads a model, and says how many bytes its files have.
pub fn open_model_files(
    files: &ModelFiles,
    architecture: Option<&Architecture>,
) -> io::Result<Result<(u64, Model), FormatError>> {
    let mut size = 0;
    for path in files.values() {
        size += fs::metadata(path)?.len();
    }
    let main = match main(files)? {
        Ok(main) => main,
        Err(problem) => return Ok(Err(FormatError::Files { problem })),
    };
    let path = &files[main];
    if !is_onnx(&start(path)?) {
        return Ok(open_model_file(path, architecture)?.map(|model| (size, model)));
    }
    let mut others = BTreeMap::new();
    for (name, path) in files.iter().filter(|(name, _)| *name != main) {
        others.insert(name.clone(), Bytes::from(fs::read(path)?));
    }
    let mut external = External::new(others);
    let read = super::open_onnx(fs::read(path)?.into(), &mut external, architecture);
    let unread: Vec<&str> = external.unread().take(5).collect();
    Ok(match read {
        Ok(_) if !unread.is_empty() => {
            Err(FormatError::Files { problem: format!("the model names no tensor in {}", unread.join(", ")) })
        }
        read => read.map(|model| (size, model)),
    })
}

/// The file that is the model.
fn main(files: &ModelFiles) -> io::Result<Result<&String, String>> {
    if files.len() == 1 {
        return Ok(files.keys().next().ok_or_else(String::new));
    }
    let mut named = files.keys().filter(|name| name.ends_with(".onnx"));
    if let (Some(one), None) = (named.next(), named.next()) {
        return Ok(Ok(one));
    }
    let mut models = Vec::new();
    for (name, path) in files {
        if is_onnx(&start(path)?) {
            models.push(name);
        }
    }
    Ok(match models[..] {
        [one] => Ok(one),
        _ => Err(format!(
            "{} of {} files look like an ONNX model; a model is one file, or one ONNX file with those of its tensors",
            models.len(),
            files.len()
        )),
    })
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut start)?;
    Ok(start)
}

/// The names of the files that a model's tensors lie in, as far as they are plain names. Only an ONNX model is read.
pub fn named_by(path: &Path) -> io::Result<Result<Vec<String>, FormatError>> {
    if !is_onnx(&start(path)?) {
        return Ok(Ok(Vec::new()));
    }
    Ok(onnx::beside(fs::read(path)?.into()).map_err(FormatError::from))
}
