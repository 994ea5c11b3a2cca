//! Encryption: what the settings name becomes what the transport is given.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use thiserror::Error;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::secret::{self, SecretError};
use crate::settings::Tls;

/// So long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why connections cannot be encrypted as the settings say.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One of the two is missing.
    #[error("tls.certificate and tls.key belong together: one of them is missing")]
    Half,
    /// Without a certificate of the server's own, clients cannot be asked for theirs.
    #[error("tls.client_ca needs tls.certificate and tls.key")]
    ClientsOnly,
    /// The key is no secret.
    #[error("tls.key: {0}")]
    Key(#[from] SecretError),
    /// A certificate cannot be read.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the transport is given; `None`: connections are not encrypted.
pub(super) fn server(settings: &Tls) -> Result<Option<ServerTlsConfig>, TlsError> {
    let (certificate, key) = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => (read(certificate)?, secret::read(key)?),
        (None, None) if settings.client_ca.is_some() => return Err(TlsError::ClientsOnly),
        (None, None) => return Ok(None),
        _ => return Err(TlsError::Half),
    };
    let mut config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(HANDSHAKE);
    if let Some(ca) = &settings.client_ca {
        config = config.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(Some(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Certificate { path: path.into(), source })
}
