//! Figures for Prometheus. They are those of the whole process and name no tenant.
//!
//! Whoever has something to count calls `metrics::counter!` with a name from here or, below this module, with one of its own
//! that is described here; nothing is counted before [`install`] has been called.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::jobs::account::{JOB_DURATION, READERS};

/// How long calls took, by `method` and `code`.
pub const RPC_DURATION: &str = "niwaki_rpc_duration_seconds";
/// Calls that are worked on.
pub const RPCS_IN_FLIGHT: &str = "niwaki_rpcs_in_flight";
/// Connections that were closed because there were too many.
pub const CONNECTIONS_REFUSED: &str = "niwaki_connections_refused_total";
/// Jobs by `state`.
pub const JOBS: &str = "niwaki_jobs";
/// Jobs that wait.
pub const QUEUE_DEPTH: &str = "niwaki_queue_depth";
/// Bytes of uploads that were stored.
pub const UPLOAD_BYTES: &str = "niwaki_upload_bytes_total";
/// Free bytes of the data folder.
pub const ROOM: &str = "niwaki_data_free_bytes";
/// 1, with the `version`.
pub const BUILD: &str = "niwaki_build_info";

/// Every figure, what it is, and what it counts: one line each of the table in docs/operations.md.
pub const FIGURES: [(&str, Kind, &str); 10] = [
    (RPC_DURATION, Kind::Histogram, "How long calls took, in seconds, by method and code"),
    (RPCS_IN_FLIGHT, Kind::Gauge, "Calls that are worked on"),
    (CONNECTIONS_REFUSED, Kind::Counter, "Connections that were closed because there were too many"),
    (JOBS, Kind::Gauge, "Jobs by state"),
    (QUEUE_DEPTH, Kind::Gauge, "Jobs that wait for a worker"),
    (JOB_DURATION, Kind::Histogram, "How long attempts of jobs ran, in seconds, by outcome"),
    (UPLOAD_BYTES, Kind::Counter, "Bytes of uploads that were stored"),
    (READERS, Kind::Gauge, "Processes that read what was uploaded"),
    (ROOM, Kind::Gauge, "Free bytes of the data folder"),
    (BUILD, Kind::Gauge, "1, with the version of niwaki"),
];

/// Bounds of the buckets of calls, in seconds.
const RPC_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Bounds of the buckets of jobs, in seconds.
const JOB_BUCKETS: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which size.
    Histogram,
}

/// Begins to count; again changes nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(RPC_DURATION.into()), &RPC_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(JOB_DURATION.into()), &JOB_BUCKETS))
            .expect("the buckets above are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Where a program has a recorder of its own, its figures stay with it.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("this process counts for somebody else already: /metrics stays empty");
        }
        for (name, kind, what) in FIGURES {
            match kind {
                Kind::Counter => describe_counter!(name, what),
                Kind::Gauge => describe_gauge!(name, what),
                Kind::Histogram => describe_histogram!(name, what),
            }
        }
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
        handle
    });
}

/// The figures as Prometheus reads them.
pub(super) fn text() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Drops what histograms keep of single values; to be called every few seconds.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// Sets how many jobs there are in which state.
pub(super) fn set_jobs(states: &BTreeMap<&'static str, u64>) {
    for (state, jobs) in states {
        gauge!(JOBS, "state" => *state).set(*jobs as f64);
    }
    gauge!(QUEUE_DEPTH).set(states.get("QUEUED").copied().unwrap_or_default() as f64);
}
