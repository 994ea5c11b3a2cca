//! HTTP beside gRPC, on the same port: `/healthz` (alive), `/readyz` (fit for work) and `/metrics`.

pub mod metrics;
pub mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::jobs::census;
use crate::store::Store;

/// A data folder with less room than this, in bytes, takes no more work.
pub const MIN_ROOM: u64 = 64 << 20;

/// So long the database may take to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer is given again for so long: everybody may ask, as often as they like, and each question costs the database.
const FRESH: Duration = Duration::from_secs(1);

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Probes {
    /// What is asked whether it can be written.
    store: Store,
    /// Cancelled when the server stops.
    stop: CancellationToken,
    /// What the database said last about being written, and when. Whoever asks meanwhile waits for the same answer.
    writable: Arc<Mutex<Option<Asked>>>,
    /// When jobs were counted last.
    counted: Arc<Mutex<Option<Instant>>>,
}

/// When the database was asked, and why it could not be written, if it could not.
type Asked = (Instant, Option<String>);

impl Probes {
    /// Probes of a server that `stop` ends.
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        Self { store, stop, writable: Arc::default(), counted: Arc::default() }
    }

    /// Why the database cannot be written.
    async fn unwritable(&self) -> Option<String> {
        let mut last = self.writable.lock().await;
        if let Some((_, reason)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return reason.clone();
        }
        let reason = match timeout(PATIENCE, census::check_writable(&self.store.database)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready");
                Some("the database cannot be written".to_string())
            }
            Err(_) => Some(format!("the database could not be written within {PATIENCE:?}")),
        };
        *last = Some((Instant::now(), reason.clone()));
        reason
    }

    async fn count_jobs(&self) {
        let mut last = self.counted.lock().await;
        if last.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match census::count(&self.store.database).await {
            Ok(states) => metrics::set_jobs(&states),
            Err(error) => tracing::warn!(%error, "jobs could not be counted"),
        }
        *last = Some(Instant::now());
    }
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
    reasons.extend(probes.unwritable().await);
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
    probes.count_jobs().await;
    if let Ok(bytes) = room(&probes.store.work) {
        ::metrics::gauge!(metrics::ROOM).set(bytes as f64);
    }
    ([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::text()).into_response()
}
