//! The `niwaki` program: reads the command line, sends logs to stderr, does what was asked.

use std::process::ExitCode;

use niwaki::cli::{self, args::Args, log};

fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let _log = log::begin(args.log_level());
    cli::run(args)
}
