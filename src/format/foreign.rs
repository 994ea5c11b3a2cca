//! What a file may be that is not what was asked for. Its name says nothing, and nothing of it is read but its beginning.

/// Beginnings of files that people mistake for models.
const MAGICS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive, as PyTorch's .pt and .pth files and NumPy's .npz files are"),
    (b"\x80\x02", "a Python pickle, as old PyTorch files are"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x1f\x8b", "a gzip stream; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x7fELF", "an executable"),
    (b"\x89PNG", "a PNG picture"),
    (b"version https://git-lfs", "a Git LFS pointer, which stands for the file; `git lfs pull` fetches it"),
    (b"{", "a JSON text"),
];

/// What a file looks like, in words. Asked only where it is not what it should be.
pub(super) fn looks_like(file: &[u8]) -> Option<&'static str> {
    if let [_, _, _, _, b'T', b'F', b'L', b'3', ..] = file {
        return Some("a TensorFlow Lite model");
    }
    MAGICS.iter().find(|(magic, _)| file.starts_with(magic)).map(|(_, name)| *name)
}
