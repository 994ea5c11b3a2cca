//! The log: to stderr, one event a line, as text or (NIWAKI_LOG_FORMAT=json) as JSON. With the feature `otel` spans go to a
//! collector too.
//!
//! What others have written may stand in an event: a name, a message. JSON escapes it; in text a line break becomes `\n`
//! here, so that nobody writes a line of their own, and tracing-subscriber escapes what steers a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write, stderr};

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// A line of text is cut after so many bytes.
const MAX_LINE: usize = 16 << 10;

/// What must live as long as there is something to log.
#[must_use = "spans are sent to the end when this is dropped"]
pub struct Log {
    #[cfg(feature = "otel")]
    _traces: Option<otel::Traces>,
}

/// Begins to log; `level` holds where NIWAKI_LOG says nothing.
pub fn begin(level: &str) -> Log {
    let filter = EnvFilter::try_from_env("NIWAKI_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let lines = if std::env::var("NIWAKI_LOG_FORMAT").is_ok_and(|format| format == "json") {
        fmt::layer().json().with_writer(stderr).boxed()
    } else {
        fmt::layer().with_ansi(stderr().is_terminal()).with_writer(|| OneLine(stderr())).boxed()
    };
    let subscriber = registry().with(lines.with_filter(filter));
    #[cfg(feature = "otel")]
    {
        let traces = otel::Traces::begin();
        subscriber.with(traces.as_ref().map(otel::Traces::layer)).init();
        Log { _traces: traces }
    }
    #[cfg(not(feature = "otel"))]
    {
        subscriber.init();
        Log {}
    }
}

/// Writes what comes in one call as one line; an event does.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut line = one_line(event).into_owned();
        line.push(b'\n');
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The event without its last line break, with the others escaped.
fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    let event = &event[..event.len().min(MAX_LINE)];
    if !event.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return event.into();
    }
    let escaped = |byte: &u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        byte => vec![*byte],
    };
    event.iter().flat_map(escaped).collect::<Vec<u8>>().into()
}

/// Spans to a collector by OTLP. Everything about it is said by the variables of OpenTelemetry; without
/// OTEL_EXPORTER_OTLP_ENDPOINT nothing is sent.
#[cfg(feature = "otel")]
mod otel {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use tokio::runtime::Runtime;
    use tracing_opentelemetry::OpenTelemetryLayer;
    use tracing_subscriber::filter::{Filtered, LevelFilter};
    use tracing_subscriber::layer::Layer;
    use tracing_subscriber::registry::LookupSpan;

    /// Who collects spans and sends them.
    pub struct Traces {
        provider: SdkTracerProvider,
        /// The connection to the collector lives here, whatever the program does otherwise.
        _runtime: Runtime,
    }

    impl Traces {
        /// Connects, if there is somebody to connect to.
        pub fn begin() -> Option<Self> {
            std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.map_err(unsent).ok()?;
            let exporter = {
                let _inside = runtime.enter();
                SpanExporter::builder().with_tonic().build().map_err(unsent).ok()?
            };
            let mut resource = Resource::builder();
            if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
                resource = resource.with_service_name("niwaki");
            }
            let provider =
                SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
            Some(Self { provider, _runtime: runtime })
        }

        /// The layer that makes spans of spans.
        pub fn layer<S>(&self) -> Filtered<OpenTelemetryLayer<S, SdkTracer>, LevelFilter, S>
        where
            S: tracing::Subscriber + for<'a> LookupSpan<'a>,
        {
            tracing_opentelemetry::layer().with_tracer(self.provider.tracer("niwaki")).with_filter(LevelFilter::INFO)
        }
    }

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Err(error) = self.provider.shutdown() {
                unsent(error);
            }
        }
    }

    /// The log is not there yet, or not any more.
    fn unsent(error: impl std::fmt::Display) {
        eprintln!("traces are not sent: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut written = Vec::new();
        let mut log = OneLine(&mut written);
        log.write_all(b"INFO fine\n").unwrap();
        log.write_all(b"INFO name=a\nERROR forged\r\n").unwrap();
        log.write_all(&[b'x'; MAX_LINE + 5]).unwrap();
        let lines: Vec<&[u8]> = written.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines[..2], [&b"INFO fine"[..], b"INFO name=a\\nERROR forged\\r"]);
        assert_eq!((lines[2].len(), lines.len()), (MAX_LINE, 4));
    }
}
