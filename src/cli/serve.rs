//! `niwaki serve`: the server, until Ctrl-C or SIGTERM.

use std::future::Future;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ServeArgs;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{config, this_program};
use crate::api::server::{ServeError, Server, ServerConfig};
use crate::error::Classify;
use crate::store::StoreError;

/// When a server has stopped, so long what still waits for a disk may take.
const BLOCKED_LIMIT: Duration = Duration::from_secs(1);

/// Serves until it is told to stop.
pub fn run(args: &ServeArgs, output: Output) -> Result<(), Failure> {
    let settings = config::load(&args.settings)?.settings;
    let failed = |error: std::io::Error| Failure::new(Exit::Failure, "RUNTIME", error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let served = runtime.block_on(async {
        let (listen, data) = (settings.listen, settings.data.clone());
        let scheme = if settings.tls.certificate.is_some() { "https" } else { "http" };
        let server = Server::open(ServerConfig { settings, job_program: this_program()? }).await.map_err(refused)?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Failure::new(Exit::Failure, "LISTEN", format!("listen {listen}: {error}")))?;
        let address = listener.local_addr().map_err(failed)?;
        let url = format!("{scheme}://{address}");
        let stop = stop().map_err(failed)?;
        output.answer(|| url.clone(), || json!({"listening": &url, "data": &data}));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), url, ?data, "listening");
        // Where nobody looks, stderr is the log alone, in its own form.
        if output.draws() {
            output.note("until Ctrl-C");
            output.next([
                format!("niwaki --server {url} server info"),
                format!("niwaki --server {url} datasets put PATH"),
            ]);
        }
        Ok(server.serve(listener, stop).await?)
    });
    // A disk that hangs must not keep a server that has stopped.
    runtime.shutdown_timeout(BLOCKED_LIMIT);
    served
}

/// A server that would not be safe has settings that cannot be used.
fn refused(error: ServeError) -> Failure {
    match error {
        ServeError::Unsafe(error) => Failure::new(Exit::Settings, "UNSAFE_SETTINGS", error.to_string()),
        ServeError::Store(error @ StoreError::Folder { .. }) => {
            Failure::new(Exit::Settings, error.reason(), error.to_string())
        }
        other => other.into(),
    }
}

/// Ends at the first Ctrl-C or SIGTERM.
fn stop() -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
