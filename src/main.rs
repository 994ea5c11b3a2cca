//! The `niwaki` program: reads the command line, sends logs to stderr, does what was asked.

use std::process::ExitCode;

use niwaki::cli::{self, args::Args};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let filter = EnvFilter::try_from_env("NIWAKI_LOG").unwrap_or_else(|_| EnvFilter::new(args.log_level()));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("NIWAKI_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.init();
    }
    cli::run(args)
}
