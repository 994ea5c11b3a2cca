//! Who calls. A layer asks before any service is reached and puts the [`Caller`] into the request; handlers read names of
//! resources through it and through nothing else, so that none of them can forget whose they are.

use axum::extract::Request as HttpRequest;
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use tonic::{Request, Status};

use super::status::RequestError;

/// The tenant that everything belongs to where nobody is asked for a key.
pub const DEFAULT_TENANT: &str = "default";

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Caller {
    /// Takes a request apart into who sent it and what it says.
    pub fn of<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let (_, mut extensions, message) = request.into_parts();
        // Without the layer there is no caller, and nothing is done for nobody.
        let caller = extensions.remove::<Caller>().ok_or(RequestError::NoCaller)?;
        Ok((caller, message))
    }
}

/// The layer: nobody is asked, everybody is the default tenant.
pub(super) async fn authenticate(mut request: HttpRequest, next: Next) -> HttpResponse {
    request.extensions_mut().insert(Caller { tenant: DEFAULT_TENANT.into(), role: Role::Writer });
    next.run(request).await
}
