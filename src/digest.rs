//! SHA-256, the one digest that niwaki knows things by: every language has it and processors compute it in hardware.

use sha2::{Digest, Sha256};

/// The digest of `bytes` as it is written everywhere: `sha256:` and 64 lower-case hexadecimal digits.
///
/// ```
/// let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(niwaki::digest::sha256(b""), empty);
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    text(Sha256::digest(bytes).into())
}

/// Writes a finished hash.
pub fn text(hash: [u8; 32]) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::from("sha256:"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}
