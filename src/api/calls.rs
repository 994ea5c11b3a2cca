//! Every call on its way in and out: how many there may be, how long one may take, what is recorded of it.
//!
//! Two layers. [`record`] is the outermost: it gives a call its id and span, and when the call has ended, however that
//! came, it is counted, timed and told to the log, once. [`bound`] comes after the caller is known: a call over the limit
//! is refused at once with the time to try again (work that waits in memory is how servers fall over), one that answers
//! once has a deadline, and a stream ends when its caller's deadline comes ([`super::sending`]).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use super::auth::{Caller, is_grpc, refuse};
use super::json::POOL;
use super::places::{Place, Places};
use super::sending::{LetIn, Terms, send, taken_away, too_late};
use super::status::RequestError;
use crate::settings::Calls;
use crate::web::metrics::{RPC_DURATION, RPCS_IN_FLIGHT};
use crate::web::trace;

/// A deadline is kept so much before the caller's own, so that its end is heard of in our words.
const MARGIN: Duration = Duration::from_millis(10);
/// The header by which a call is found in the log again.
const REQUEST_ID: &str = "x-request-id";
/// Watches of the server's health at once.
const MAX_HEALTH_WATCHES: u32 = 256;
/// What is taken of a caller's own id for a call, in bytes.
const MAX_CALL_ID: usize = 64;

/// How a method's messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One request, one answer.
    Once,
    /// A stream in at least one direction, of bytes or the like: it ends when the work does.
    Transfer,
    /// A stream that lasts as long as somebody looks.
    Watch,
    /// Whether the server lives: never refused.
    Probe,
    /// The same, for as long as somebody looks.
    HealthWatch,
}

/// What calls have to keep to.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    calls: Calls,
    once: Places,
    transfers: Places,
    watches: Places,
    /// Watches of the server's health, which strangers may have: they take no place from those who have a key.
    probes: Places,
    methods: Arc<HashMap<String, Shape>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Bounds {
    /// The bounds of a server that ends when `stop` is cancelled.
    pub(super) fn new(calls: &Calls, stop: CancellationToken) -> Self {
        Self {
            once: Places::new(calls.max_in_flight),
            transfers: Places::new(calls.max_in_flight),
            watches: Places::new(calls.max_watches),
            probes: Places::new(MAX_HEALTH_WATCHES),
            calls: calls.clone(),
            methods: Arc::new(methods()),
            stop,
            // The transport waits for the streams that they send; nobody else does.
            tasks: TaskTracker::new(),
        }
    }

    /// A place among the calls that are worked on, for as long as the call lasts.
    fn place(&self, shape: Shape, tenant: &str) -> Result<Option<Place>, RequestError> {
        let (places, what, limit) = match shape {
            Shape::Probe => return Ok(None),
            Shape::HealthWatch => (&self.probes, "watches of its health", MAX_HEALTH_WATCHES),
            Shape::Watch => (&self.watches, "watches", self.calls.max_watches),
            // A slow sender has a place for long: those who only ask do not wait for it.
            Shape::Transfer => (&self.transfers, "transfers", self.calls.max_in_flight),
            Shape::Once => (&self.once, "calls", self.calls.max_in_flight),
        };
        places.take(tenant).map(Some).ok_or(RequestError::Busy { what, limit })
    }
}

/// The paths of all methods.
fn methods() -> HashMap<String, Shape> {
    let shape = |method: &prost_reflect::MethodDescriptor| match (method.is_server_streaming(), method.name()) {
        (true, "WatchJob") => Shape::Watch,
        (streams, _) if streams || method.is_client_streaming() => Shape::Transfer,
        _ => Shape::Once,
    };
    let path = |method: &prost_reflect::MethodDescriptor| {
        (format!("/{}/{}", method.parent_service().full_name(), method.name()), shape(method))
    };
    let mut methods: HashMap<_, _> =
        POOL.services().flat_map(|service| service.methods().map(|m| path(&m)).collect::<Vec<_>>()).collect();
    methods.insert("/grpc.health.v1.Health/Check".into(), Shape::Probe);
    methods.insert("/grpc.health.v1.Health/Watch".into(), Shape::HealthWatch);
    for version in ["v1", "v1alpha"] {
        methods.insert(format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"), Shape::Watch);
    }
    methods
}

/// The outermost layer: what is known of a call when it has ended.
pub(super) async fn record(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let is_call = is_grpc(request.headers());
    if !is_call && !bounds.methods.contains_key(request.uri().path()) {
        return next.run(request).await;
    }
    // A browser can be made to send what looks like a call, over HTTP/1.1 or of a type that needs no leave of ours.
    if request.version() != Version::HTTP_2 || !is_call {
        let text = "calls come by HTTP/2, as application/grpc\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    // What is no method of ours is not told apart: a label for each would fill the memory.
    let method = match bounds.methods.get_key_value(request.uri().path()) {
        Some((path, _)) => path.trim_start_matches('/').to_string(),
        None => "unknown".into(),
    };
    let id = call_id(request.headers());
    let span = tracing::info_span!("call", method, request = id, tenant = tracing::field::Empty);
    trace::follow(&span, request.headers());
    metrics::gauge!(RPCS_IN_FLIGHT).increment(1);
    let mut call = Call { method, begun: Instant::now(), code: Code::Cancelled, span: span.clone() };
    let mut response = next.run(request).instrument(span).await;
    if is_of_the_library(response.headers()) {
        response = Status::from(RequestError::Unframed).into_http();
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    // An answer that is only a status has it among its headers.
    if let Some(code) = code_of(response.headers()) {
        call.code = code;
        return response;
    }
    response.map(|body| Body::new(Followed { body, call: Some(call), ended: false }))
}

/// The inner layer: bounds.
pub(super) async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some(shape) = bounds.methods.get(path).copied() else { return next.run(request).await };
    let headers = request.headers();
    // Who may look at the server's health is nobody: all of them are one.
    let tenant = request.extensions().get::<Caller>().map_or("", |caller| &caller.tenant);
    let (place, asked) = match (bounds.place(shape, tenant), asked_timeout(headers)) {
        (Ok(place), Ok(asked)) => (place, asked),
        (Err(error), _) | (_, Err(error)) => return refuse(headers, error),
    };
    let allowed = match (shape, asked) {
        (Shape::Once | Shape::Probe, None) => Some(Duration::from_secs(bounds.calls.seconds.into())),
        (Shape::Once | Shape::Probe, Some(asked)) => Some(asked.min(Duration::from_secs(bounds.calls.seconds.into()))),
        // What is long by nature ends when its caller says, or by the rules of its own service.
        (Shape::Transfer | Shape::Watch | Shape::HealthWatch, asked) => asked,
    };
    let request = if path.starts_with("/grpc.reflection.") {
        // A client may keep such a stream open for ever, and it knows nothing of a server that stops.
        let stop = bounds.stop.clone().cancelled_owned();
        request.map(|body| Body::from_stream(body.into_data_stream().take_until(stop)))
    } else {
        request
    };
    let let_in = request.extensions().get::<LetIn>().cloned();
    let deadline = allowed.map(|allowed| (Instant::now() + allowed.saturating_sub(MARGIN), allowed));
    let response = tokio::select! {
        response = next.run(request) => response,
        error = too_late(deadline) => return Status::from(error).into_http(),
        () = taken_away(let_in.clone()) => return Status::from(RequestError::KeyInvalid).into_http(),
    };
    let terms = Terms { deadline, idle_seconds: bounds.calls.idle_seconds, let_in, place };
    response.map(|body| send(&bounds.tasks, body, terms))
}

/// The id of a call: the caller's, if it is one that may stand in a log, or a new one.
fn call_id(headers: &HeaderMap) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given {
        Some(id) if (1..=MAX_CALL_ID).contains(&id.len()) && id.chars().all(plain) => id.into(),
        _ => uuid::Uuid::new_v4().simple().to_string(),
    }
}

/// How long the caller waits: `grpc-timeout`, 1 to 8 digits and a unit.
fn asked_timeout(headers: &HeaderMap) -> Result<Option<Duration>, RequestError> {
    let Some(header) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = header.to_str().map_err(|_| RequestError::TimeoutHeader)?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(RequestError::TimeoutHeader)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(RequestError::TimeoutHeader);
    }
    let n: u64 = digits.parse().map_err(|_| RequestError::TimeoutHeader)?;
    let duration = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return Err(RequestError::TimeoutHeader),
    };
    Ok(Some(duration))
}

/// The code in a header or a trailer.
fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// Whether an answer blames the server, and not in our words, which have details: what came was no message of gRPC.
fn is_of_the_library(headers: &HeaderMap) -> bool {
    matches!(code_of(headers), Some(Code::Internal | Code::Unknown))
        && !headers.contains_key(Status::GRPC_STATUS_DETAILS)
}

/// A call at work. When it is dropped it has ended: counted, timed, told to the log.
struct Call {
    method: String,
    begun: Instant,
    /// How it ended; a call that is dropped before it has an answer was given up by its caller.
    code: Code,
    span: Span,
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        metrics::gauge!(RPCS_IN_FLIGHT).decrement(1);
        let code = format!("{:?}", self.code);
        metrics::histogram!(RPC_DURATION, "method" => self.method.clone(), "code" => code.clone()).record(took);
        let _in_span = self.span.enter();
        tracing::info!(code, ms = took.as_millis() as u64, "call ended");
    }
}

/// An answer's body that holds what its call holds, until it has ended.
struct Followed {
    body: Body,
    call: Option<Call>,
    ended: bool,
}

impl Followed {
    fn end(&mut self, code: Option<Code>) {
        self.ended = true;
        if let Some(mut call) = self.call.take() {
            call.code = code.unwrap_or(Code::Unknown);
        }
    }
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().map(code_of) {
                    self.end(code);
                }
            }
            Poll::Ready(None | Some(Err(_))) => self.end(None),
            Poll::Pending => {}
        }
        frame
    }

    /// An answer without a body must end with its headers: gRPC reads a status there only if nothing follows.
    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(text: &str) -> Result<Option<Duration>, RequestError> {
        asked_timeout(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]))
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(timeout_of("1n").unwrap(), Some(Duration::from_nanos(1)));
        assert_eq!(timeout_of("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(timeout_of("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(asked_timeout(&HeaderMap::new()).unwrap(), None);
        for text in ["", "S", "1", "999999999S", "-1S", "1.5S", "1s", "soon", "1ä"] {
            assert!(timeout_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_callers_id_is_kept_only_if_it_cannot_disturb_a_log() {
        let of = |text: &str| {
            call_id(&HeaderMap::from_iter([(http::HeaderName::from_static(REQUEST_ID), text.parse().unwrap())]))
        };
        assert_eq!(of("build-7.a_b"), "build-7.a_b");
        for text in ["", "a b", "a\tb", "\u{e4}", &"x".repeat(65)] {
            assert_eq!(of(text).len(), 32, "{text}");
        }
    }

    #[test]
    fn every_method_has_a_shape() {
        let methods = methods();
        for (path, shape) in [
            ("/niwaki.v1.JobService/WatchJob", Shape::Watch),
            ("/niwaki.v1.JobService/GetJob", Shape::Once),
            ("/niwaki.v1.UploadService/WriteUpload", Shape::Transfer),
            ("/niwaki.v1.ArtifactService/DownloadArtifact", Shape::Transfer),
            ("/grpc.health.v1.Health/Check", Shape::Probe),
        ] {
            assert_eq!(methods.get(path), Some(&shape), "{path}");
        }
    }
}
