//! Who calls. A layer asks before any service is reached and puts the [`Caller`] into the request; handlers read names of
//! resources through it and through nothing else, so that none of them can forget whose they are.
//!
//! Where there are keys, everything needs one but the health of the server: probes have none. Where there are none,
//! everybody is [`DEFAULT_TENANT`]. Keys are never logged.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response as HttpResponse};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tonic::{Request, Status};

use super::keys::Keys;
use super::sending::LetIn;
use super::status::RequestError;
use crate::digest::Digest;
use crate::error::{Classify, Kind};

/// The tenant that everything belongs to where nobody is asked for a key.
pub const DEFAULT_TENANT: &str = "default";

/// How the methods begin that a reader may call.
const READS: [&str; 5] = ["Get", "List", "Watch", "Download", "ServerReflectionInfo"];

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Get, List, Watch and Download.
    Reader,
    /// Everything.
    Writer,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose resources these calls are about.
    pub tenant: String,
    /// What may be done with them.
    pub role: Role,
}

impl Role {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
        }
    }
}

impl Caller {
    /// Takes a request apart into who sent it and what it says.
    pub fn of<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let (_, mut extensions, message) = request.into_parts();
        // Without the layer there is no caller, and nothing is done for nobody.
        let caller = extensions.remove::<Caller>().ok_or(RequestError::NoCaller)?;
        Ok((caller, message))
    }

    /// Whether this caller may use the method at this path.
    fn check(&self, path: &str) -> Result<(), RequestError> {
        let method = path.rsplit('/').next().unwrap_or(path);
        let reads = READS.iter().any(|verb| method.starts_with(verb)) || path == "/metrics";
        if self.role == Role::Reader && !reads {
            return Err(RequestError::Role { method: method.chars().filter(char::is_ascii_alphanumeric).collect() });
        }
        Ok(())
    }
}

/// The layer. `None`: nobody is asked.
pub(super) async fn authenticate(
    State(keys): State<Option<Arc<Keys>>>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let path = request.uri().path();
    if is_open(path) {
        return next.run(request).await;
    }
    let caller = match &keys {
        None => Ok((Caller { tenant: DEFAULT_TENANT.into(), role: Role::Writer }, None)),
        Some(keys) => ask(keys, request.headers()).map(|(caller, let_in)| (caller, Some(let_in))),
    };
    match caller.and_then(|(caller, let_in)| caller.check(path).map(|()| (caller, let_in))) {
        Ok((caller, let_in)) => {
            // A stream ends when its key is taken away.
            if let Some(let_in) = let_in {
                request.extensions_mut().insert(let_in);
            }
            tracing::Span::current().record("tenant", &caller.tenant);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refuse(request.headers(), error),
    }
}

/// Whether everybody may ask: whether the server lives and works is no secret.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || path.starts_with("/grpc.health.v1.Health/")
}

fn ask(keys: &Arc<Keys>, headers: &HeaderMap) -> Result<(Caller, LetIn), RequestError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else { return Err(RequestError::KeyMissing) };
    let (scheme, key) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(RequestError::KeyInvalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(RequestError::KeyInvalid);
    }
    let key = Digest::of(key.trim().as_bytes());
    let caller = keys.opens(&key).ok_or(RequestError::KeyInvalid)?;
    Ok((caller, LetIn { keys: keys.clone(), key }))
}

/// The answer to a call that is not let in, in the words of the protocol it came by.
pub(super) fn refuse(headers: &HeaderMap, error: RequestError) -> HttpResponse {
    if is_grpc(headers) {
        return Status::from(error).into_http();
    }
    let code = match error.kind() {
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    (code, format!("{error}\n")).into_response()
}

/// Whether a request is a call of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_reads() {
        let reader = Caller { tenant: "a".into(), role: Role::Reader };
        for path in ["/niwaki.v1.JobService/GetJob", "/niwaki.v1.ArtifactService/DownloadArtifact", "/metrics"] {
            assert!(reader.check(path).is_ok(), "{path}");
        }
        for path in
            ["/niwaki.v1.JobService/CreateJob", "/niwaki.v1.UploadService/WriteUpload", "/x/", "", "/Get/Delete"]
        {
            let error = reader.check(path).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (Kind::PermissionDenied, "ROLE"), "{path}");
            assert!(Caller { role: Role::Writer, ..reader.clone() }.check(path).is_ok(), "{path}");
        }
    }
}
