//! Bytes to a model's messages.

use bytes::Bytes;
use prost::Message;

use super::error::OnnxError;
use super::proto::ModelProto;
use super::wire;
use crate::format::foreign;

/// Decodes a model whose graph is there, once the walk over the file has found no reason against it. Tensors' `raw_data`
/// share the file's bytes.
pub(super) fn decode(file: Bytes) -> Result<ModelProto, OnnxError> {
    let looks_like = looks_like(&file);
    let foreign = |error| looks_like.map_or(error, |looks_like| OnnxError::Foreign { looks_like });
    wire::scan(&file).map_err(|error| match error {
        OnnxError::Truncated { .. } | OnnxError::Protobuf { .. } => foreign(error),
        _ => error,
    })?;
    let model = ModelProto::decode(file).map_err(|error| OnnxError::Protobuf {
        field: String::new(),
        at: 0,
        problem: error.to_string(),
    })?;
    if model.graph.is_none() { Err(foreign(OnnxError::NoGraph)) } else { Ok(model) }
}

/// What else a file may be, by its first bytes.
fn looks_like(file: &[u8]) -> Option<&'static str> {
    match file {
        // A header's length of less than 2^40, then the header.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Some("a safetensors file"),
        _ => foreign::looks_like(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Classify, Kind};
    use crate::format::onnx::proto::{GraphProto, TensorProto};

    #[test]
    fn bytes_of_tensors_are_those_of_the_file() {
        let tensor = TensorProto { raw_data: vec![7; 100].into(), ..TensorProto::default() };
        let graph = GraphProto { initializer: vec![tensor], ..GraphProto::default() };
        let file = Bytes::from(ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec());
        let raw_data = decode(file.clone()).unwrap().graph.unwrap().initializer.remove(0).raw_data;
        assert_eq!(raw_data.as_ref(), [7; 100]);
        assert!(file.as_ptr_range().contains(&raw_data.as_ptr()));
    }

    #[test]
    fn n33_other_files_are_known_by_their_content() {
        let safetensors = [&60u64.to_le_bytes()[..], b"{\"w\":{}}"].concat();
        let files: [(&[u8], &str); 13] = [
            (b"", "it has no graph"),
            (b"\x08\x0a", "it has no graph"),
            (b"PK\x03\x04\x14\0\0\0\x08\0", "a zip archive"),
            (b"\x80\x02}q\0.", "a Python pickle"),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n.", "a Python pickle"),
            (b"\x1f\x8b\x08\0", "a gzip stream"),
            (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite model"),
            (b"\x93NUMPY\x01\0", "a NumPy array"),
            (b"{\"version\":1}", "a JSON text"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (&safetensors, "a safetensors file"),
        ];
        for (file, words) in files {
            let error = decode(Bytes::copy_from_slice(file)).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (Kind::InvalidArgument, "FORMAT"), "{file:?}: {error}");
            assert!(error.to_string().contains(words), "{file:?}: {error}");
        }
    }
}
