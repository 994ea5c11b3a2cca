//! Files that only their owner, and the group that may run the server, should be able to read: keys, private keys of TLS.
//! A secret that everybody on the machine can read is none, and the server does not start with it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// No secret is longer, in bytes.
const LIMIT: u64 = 1 << 20;
/// Others may do anything, or the group may write.
const TOO_OPEN: u32 = 0o027;

/// Why a secret was not read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Too many people can read or change it.
    #[error(
        "{}: its mode is {mode:o}: others may reach the file, or its group may write it; `chmod 600` closes it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads a secret, if it is one.
pub fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::File { path: path.into(), source };
    // Asked of what was opened: the file behind a path may be another a moment later.
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(SecretError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn what_everybody_can_read_is_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "key").unwrap();
        for (mode, is_read) in
            [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o601, false)]
        {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(file.path()).is_ok(), is_read, "{mode:o}");
        }
    }
}
