//! The command line. [`args`] says what may be typed, one file a verb does it.
//!
//! Conventions: data goes to stdout, everything else to stderr; `--json` makes stdout one JSON document; every answer
//! ends (on stderr) with the command that comes next; exit codes are those of [`failure::Exit`].

mod analyze;
pub mod args;
mod bench;
mod client;
mod config;
mod convert;
mod datasets;
mod demo;
mod doctor;
mod eval;
pub mod failure;
mod inspect;
mod jobs;
mod keys;
mod local;
pub mod log;
mod models;
mod output;
mod progress;
mod run;
mod serve;
mod server;
mod steps;
mod store;
mod transfer;
mod uploads;
pub mod verbs;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use args::{AccessArgs, Args, Verb};
use clap::CommandFactory;
use client::Client;
use failure::{Exit, Failure};
use output::Output;
use serde_json::json;
use verbs::ApiVerb;

use crate::api;
use crate::exec;

/// Does what the command line asks for.
pub fn run(args: Args) -> ExitCode {
    let output = if args.json { Output::json() } else { Output::text() };
    let server = &args.access;
    let done = match args.verb {
        Verb::Serve(args) => serve::run(&args, output),
        Verb::Demo(args) => demo::run(&args, output),
        Verb::Run(args) => run::run(&args, output),
        Verb::Eval(args) => eval::run(&args, output),
        Verb::Analyze(args) => analyze::run(&args, output),
        Verb::Inspect(args) => inspect::run(&args, output),
        Verb::Convert(args) => convert::run(&args, output),
        Verb::Models(verb) => connected(server, async |client| models::run(&client, verb, output).await),
        Verb::Datasets(verb) => connected(server, async |client| datasets::run(&client, verb, output).await),
        Verb::Jobs(verb) => connected(server, async |client| jobs::run(&client, verb, output).await),
        Verb::Uploads(verb) => connected(server, async |client| uploads::run(&client, verb, output).await),
        Verb::Server(verb) => connected(server, async |client| server::run(&client, verb, output).await),
        Verb::Api(ApiVerb::Proto) => {
            let text: String = api::PROTO.into_iter().map(|(name, text)| format!("// {name}\n\n{text}\n")).collect();
            output.answer(|| text.clone(), || json!(BTreeMap::from(api::PROTO)));
            Ok(())
        }
        Verb::Keys(verb) => keys::run(verb, output),
        Verb::Store(verb) => store::run(verb, output),
        Verb::Config(verb) => config::run(&verb, output),
        Verb::Bench(args) => bench::run(&args, output),
        Verb::Doctor(settings) => doctor::run(&settings, server, output),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut public_verbs(), "niwaki", &mut script);
            let script = String::from_utf8_lossy(&script);
            output.answer(|| script.to_string(), || json!(script));
            Ok(())
        }
        Verb::Man { dir } => man(&dir, output),
        Verb::JobChild { folder } => return crate::jobs::child::main(&folder, read_recipe),
        Verb::ReadChild { folder } => return crate::jobs::reader::child::main(&folder, read_recipe),
    };
    match done.and_then(|()| output.written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

/// Reads a recipe's file form.
fn read_recipe(text: &str) -> Result<crate::recipe::Recipe, String> {
    crate::api::recipe::from_json(text).map_err(|error| error.to_string())
}

/// Connects to the server and lets `verb` talk to it.
fn connected(server: &AccessArgs, verb: impl AsyncFnOnce(Client) -> Result<(), Failure>) -> Result<(), Failure> {
    block_on(async { verb(Client::connect(server).await?).await })
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Failure, "RUNTIME", error.to_string()))?.block_on(future)
}

/// Runs `work`, which computes for long and asks the flag it is given whether Ctrl-C was pressed. Pressed twice,
/// it ends at once.
fn interruptible<T, W>(work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(&AtomicBool) -> Result<T, Failure> + Send + 'static,
{
    let pressed = Arc::new(AtomicBool::new(false));
    let seen = pressed.clone();
    block_on(async move {
        let mut work = tokio::task::spawn_blocking(move || {
            exec::compute_here();
            work(&seen)
        });
        let done = tokio::select! {
            done = &mut work => done,
            _ = tokio::signal::ctrl_c() => {
                pressed.store(true, Ordering::Relaxed);
                tokio::select! {
                    done = work => done,
                    // Pressed again: at once, whatever is still being written down. Nothing half-written has a final name.
                    _ = tokio::signal::ctrl_c() => std::process::exit(Exit::Interrupted as i32),
                }
            }
        };
        match done {
            Ok(Err(failure)) if failure.reason == "INTERRUPTED" => Err(failure),
            Ok(_) if pressed.load(Ordering::Relaxed) => Err(Failure::interrupted("stopped")),
            Ok(result) => result,
            Err(panic) => Err(Failure::new(Exit::Failure, "PANIC", format!("a defect in niwaki: {panic}"))),
        }
    })
}

/// The command line without what only niwaki itself types: shells complete hidden verbs too.
fn public_verbs() -> clap::Command {
    let all = Args::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    clap::Command::new("niwaki").version(env!("CARGO_PKG_VERSION")).args(all.get_arguments()).subcommands(verbs)
}

/// Writes a manual page for every verb.
fn man(dir: &Path, output: Output) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::io(dir, &error))?;
    clap_mangen::generate_to(Args::command(), dir).map_err(|error| Failure::io(dir, &error))?;
    output.answer(|| dir.join("niwaki.1").display().to_string(), || json!({"dir": dir}));
    Ok(())
}

/// The path of this program, which the server starts again for each job.
fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(Exit::Failure, "PROGRAM", error.to_string()))
}
