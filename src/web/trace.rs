//! The caller's trace: with the feature `otel` a call's span is part of the one that `traceparent` names.

use http::HeaderMap;
use tracing::Span;

/// Puts a call's span below its caller's.
#[cfg(feature = "otel")]
pub fn follow(span: &Span, headers: &HeaderMap) {
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }

    // A header that is none leaves the span where it is.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
}

/// Does nothing, in this build.
#[cfg(not(feature = "otel"))]
pub fn follow(_span: &Span, _headers: &HeaderMap) {}
