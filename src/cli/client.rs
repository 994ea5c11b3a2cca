//! A connection to a server: where it is, who calls, and how calls that may be repeated are.

use std::future::Future;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;

use super::args::AccessArgs;
use super::failure::{Exit, Failure};
use crate::api::secret;
use crate::api::v1::artifact_service_client::ArtifactServiceClient;
use crate::api::v1::dataset_service_client::DatasetServiceClient;
use crate::api::v1::job_service_client::JobServiceClient;
use crate::api::v1::model_service_client::ModelServiceClient;
use crate::api::v1::server_service_client::ServerServiceClient;
use crate::api::v1::upload_service_client::UploadServiceClient;

/// How often in a row what broke is tried again before it has failed.
pub const ATTEMPTS: u32 = 6;
/// Bytes that may be on their way: at 30 ms of round trip the usual window would allow 60 MB/s.
const WINDOW: u32 = 8 << 20;

/// A connection, with the key on every call.
pub type Line = InterceptedService<Channel, Bearer>;

/// A connection to a server.
#[derive(Debug, Clone)]
pub struct Client {
    line: Line,
    tenant: String,
}

/// Puts the key into every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// The last part of a resource's name.
pub fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A key for a request that must not be done twice.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether what broke may work at another try.
pub fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, "UNAVAILABLE" | "ABORTED" | "DEADLINE_EXCEEDED")
}

/// Waits before try number `attempt`, longer each time: 0.2, 0.4, 0.8 s, at most 6.4 s.
pub async fn back_off(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(100 << attempt.min(6))).await;
}

/// Does what may be done twice, again and again while it breaks for reasons that pass.
pub async fn persist<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> Result<T, Failure> {
    let mut attempt = 0;
    loop {
        match call().await.map_err(Failure::from) {
            Err(failure) if is_passing(&failure) && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
        back_off(attempt).await;
    }
}

/// All of a list: `page` is asked with the token of each page after the other.
pub async fn all<T, F: Future<Output = Result<(Vec<T>, String), Status>>>(
    page: impl Fn(String) -> F,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let (entries, next) = persist(|| page(token.clone())).await?;
        found.extend(entries);
        if next.is_empty() {
            return Ok(found);
        }
        token = next;
    }
}

impl Client {
    /// Connects to a server: `http://host:port`, `https://host:port`, or `host:port`.
    pub async fn connect(access: &AccessArgs) -> Result<Self, Failure> {
        let server = &access.server;
        let url = if server.contains("://") { server.clone() } else { format!("http://{server}") };
        let is_encrypted = url.starts_with("https://");
        let wrong = |error| Failure::new(Exit::Invalid, "SERVER_URL", format!("--server {server}: {error}"));
        let mut endpoint = Endpoint::from_shared(url)
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        if is_encrypted {
            endpoint = endpoint.tls_config(tls(access)?).map_err(|error| wrong(error.to_string()))?;
        } else if access.ca.is_some() || access.cert.is_some() {
            return Err(wrong("certificates are of use for https only".into()));
        }
        let bearer = bearer(access)?;
        let channel = endpoint.connect().await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let cause = causes.last().map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::new(Exit::Unavailable, "SERVER_UNAVAILABLE", format!("no server at {server}{cause}"))
                .hint("niwaki serve starts one; --server or NIWAKI_SERVER names another")
        })?;
        Ok(Self { line: InterceptedService::new(channel, bearer), tenant: access.tenant.clone() })
    }

    /// The name of the tenant whose resources these are.
    pub fn parent(&self) -> String {
        format!("tenants/{}", self.tenant)
    }

    /// The full name of a resource of which people gave the id or the name.
    pub fn resource(&self, collection: &str, id: &str) -> String {
        if id.contains('/') { id.to_string() } else { format!("tenants/{}/{collection}/{id}", self.tenant) }
    }

    /// The service of uploads.
    pub fn uploads(&self) -> UploadServiceClient<Line> {
        UploadServiceClient::new(self.line.clone())
    }

    /// The service of models.
    pub fn models(&self) -> ModelServiceClient<Line> {
        ModelServiceClient::new(self.line.clone())
    }

    /// The service of data sets.
    pub fn datasets(&self) -> DatasetServiceClient<Line> {
        DatasetServiceClient::new(self.line.clone())
    }

    /// The service of jobs.
    pub fn jobs(&self) -> JobServiceClient<Line> {
        JobServiceClient::new(self.line.clone())
    }

    /// The service of artifacts.
    pub fn artifacts(&self) -> ArtifactServiceClient<Line> {
        ArtifactServiceClient::new(self.line.clone())
    }

    /// The service that says whether the server takes calls.
    pub fn health(&self) -> HealthClient<Line> {
        HealthClient::new(self.line.clone())
    }

    /// The service that tells of the server.
    pub fn server(&self) -> ServerServiceClient<Line> {
        ServerServiceClient::new(self.line.clone())
    }
}

fn tls(access: &AccessArgs) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &std::path::Path| std::fs::read(path).map_err(|error| Failure::io(path, &error));
    let Some(ca) = &access.ca else {
        let message = "https needs --ca, the certificates of which one signed the server's";
        return Err(Failure::new(Exit::Invalid, "NO_CA", message)
            .hint("for a public certificate: --ca /etc/ssl/certs/ca-certificates.crt"));
    };
    let authorities = read(ca)?;
    if !String::from_utf8_lossy(&authorities).contains("-----BEGIN CERTIFICATE-----") {
        let message = format!("--ca {}: holds no certificate in PEM form", ca.display());
        return Err(Failure::new(Exit::Invalid, "NO_CA", message));
    }
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
    if let (Some(certificate), Some(key)) = (&access.cert, &access.cert_key) {
        config = config.identity(Identity::from_pem(read(certificate)?, secret_text(key)?));
    }
    Ok(config)
}

/// The key of NIWAKI_KEY, or of the file. It is in no flag: whoever lists processes would read it.
fn bearer(access: &AccessArgs) -> Result<Bearer, Failure> {
    let key = match (&access.key_file, std::env::var("NIWAKI_KEY")) {
        (Some(path), _) => secret_text(path)?,
        (None, Ok(key)) => key,
        (None, Err(_)) => return Ok(Bearer(None)),
    };
    let wrong = |_| Failure::new(Exit::Invalid, "KEY", "the API key has characters that no key has");
    let mut header: MetadataValue<Ascii> = format!("Bearer {}", key.trim()).parse().map_err(wrong)?;
    header.set_sensitive(true);
    Ok(Bearer(Some(header)))
}

fn secret_text(path: &std::path::Path) -> Result<String, Failure> {
    secret::read(path).map_err(|error| Failure::new(Exit::Invalid, "SECRET", error.to_string()))
}
