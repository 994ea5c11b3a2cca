//! `niwaki serve`: the server, until Ctrl-C or SIGTERM.

use std::future::Future;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ServeArgs;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::this_program;
use crate::api::server::{Server, ServerConfig};
use crate::settings::Settings;

/// Serves until it is told to stop.
pub fn run(args: &ServeArgs, output: Output) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        let message = format!(
            "--listen {}: other machines could reach this address, and there is no authentication yet",
            args.listen
        );
        return Err(Failure::new(Exit::Invalid, "REMOTE_ADDRESS", message)
            .hint("--allow-remote allows it, for networks where everybody may use the server"));
    }
    let failed = |error: std::io::Error| Failure::new(Exit::Failure, "RUNTIME", error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen)
            .await
            .map_err(|error| Failure::new(Exit::Failure, "LISTEN", format!("--listen {}: {error}", args.listen)))?;
        let address = listener.local_addr().map_err(failed)?;
        let mut settings = Settings { listen: args.listen, data: args.data.clone(), ..Settings::default() };
        settings.jobs.workers = args.workers.into();
        let config = ServerConfig { settings, job_program: this_program()? };
        let server = Server::open(config).await?;
        let stop = stop().map_err(failed)?;
        output.answer(
            || format!("http://{address}"),
            || json!({"listening": format!("http://{address}"), "data": args.data}),
        );
        output.note(format!("niwaki {} listens until Ctrl-C", env!("CARGO_PKG_VERSION")));
        output.next([
            format!("niwaki --server http://{address} server info"),
            format!("niwaki --server http://{address} datasets put PATH"),
        ]);
        Ok(server.serve(listener, stop).await?)
    })
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
