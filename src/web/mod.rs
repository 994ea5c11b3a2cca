//! HTTP beside gRPC, on the same port: `/healthz` (alive), `/readyz` (fit for work) and `/metrics`.

pub mod metrics;
pub mod trace;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::jobs::census;
use crate::store::Store;

/// A data folder with less room than this, in bytes, takes no more work.
pub const MIN_ROOM: u64 = 64 << 20;

/// So long the database may take to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Probes {
    /// What is asked whether it can be written.
    pub store: Store,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

/// The three answers.
pub fn router(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(probes)
}

/// Bytes that are free where `path` lies.
pub fn room(path: &Path) -> std::io::Result<u64> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

async fn readyz(State(probes): State<Probes>) -> Response {
    let mut reasons = Vec::new();
    if probes.stop.is_cancelled() {
        reasons.push("the server is stopping".to_string());
    }
    match timeout(PATIENCE, census::check_writable(&probes.store.database)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            reasons.push("the database cannot be written".into());
        }
        Err(_) => reasons.push(format!("the database could not be written within {PATIENCE:?}")),
    }
    match room(&probes.store.work) {
        Ok(bytes) if bytes < MIN_ROOM => reasons.push(format!("the data folder has room for {bytes} bytes only")),
        Ok(_) => {}
        Err(error) => reasons.push(format!("the data folder cannot be looked at: {error}")),
    }
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn metrics_text(State(probes): State<Probes>) -> Response {
    match census::count(&probes.store.database).await {
        Ok(states) => metrics::set_jobs(&states),
        Err(error) => tracing::warn!(%error, "jobs could not be counted"),
    }
    if let Ok(bytes) = room(&probes.store.work) {
        ::metrics::gauge!(metrics::ROOM).set(bytes as f64);
    }
    ([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::text()).into_response()
}
