//! `niwaki run`: a recipe, here, without a server.
//!
//! The run's state is kept in a hidden file of the folder for results, so that one that is stopped, by Ctrl-C or worse, can
//! be gone on with. It is removed once there is a result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::args::RunArgs;
use super::failure::{Exit, Failure};
use super::output::{Output, comparison};
use super::progress::Meter;
use super::{interruptible, local, steps};
use crate::recipe::run::{BEST_FILE, MODEL_FILE, REPORT_FILE, Run};
use crate::recipe::{CHECKPOINT_FILE, Given, Keep, Leaving, RecipeError, Upload};
use crate::report::Report;

/// How much work is lost at most when the machine fails.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Runs the recipe and shows what it did.
pub fn run(args: &RunArgs, output: Output) -> Result<(), Failure> {
    local::out(&args.out)?;
    let recipe = local::recipe(&args.recipe)?;
    let upload = args.model.as_deref().map(|path| local::model(path, args.graph.as_deref())).transpose()?;
    let extra = extra_models(args)?;
    let dataset = local::dataset(&args.data, recipe.data.source.as_ref())?;

    let file = args.out.join(format!(".{CHECKPOINT_FILE}"));
    let resume = (args.resume && file.exists()).then(|| file.clone());
    if args.resume && resume.is_none() {
        output.note("There is nothing to go on with: the run begins.");
    }
    let best = args.out.join(BEST_FILE);
    let (out, state, left) = (args.out.clone(), file.clone(), best.clone());
    let report = interruptible(move |pressed| {
        let mut meter = Meter::new(output);
        let leaving = Leaving::default();
        let asked = || {
            if pressed.load(Ordering::Relaxed) {
                leaving.ask();
            }
            &leaving
        };
        let is_kept = AtomicBool::new(resume.is_some());
        let mut kept = || {
            is_kept.store(true, Ordering::Relaxed);
            leaving.saved();
        };
        let keep = Keep {
            file: state,
            owner: "run".into(),
            every: KEEP_EVERY,
            resume,
            at_once: &|| asked().wants_save(),
            kept: &mut kept,
        };
        let (cancelled, mut tell) = (|| asked().may_end(), |progress: &_| meter.update(progress));
        let mut run = Run { keep: Some(keep), ..Run::new(&cancelled, &mut tell) };
        let given = Given { model: upload.as_ref(), extra: &extra, data: &dataset };
        let report = crate::recipe::run::run(&recipe, &given, &out, &mut run);
        meter.finish();
        report.map_err(|error| match error {
            RecipeError::Cancelled if is_kept.load(Ordering::Relaxed) => {
                let best =
                    if left.exists() { format!("; {} is the best so far", left.display()) } else { String::new() };
                Failure::interrupted("stopped").hint(format!("the same command with --resume goes on from here{best}"))
            }
            error => failure(error),
        })
    })?;
    // What was left of an earlier run is of no use any more. It does no harm either, if it stays.
    let _ = (std::fs::remove_file(file), std::fs::remove_file(best));

    output.answer(|| text(&report, &args.out), || json!({"report": report, "files": files(&report, &args.out)}));
    output.next([
        format!("niwaki inspect {}", args.out.join(MODEL_FILE).display()),
        format!("niwaki eval {} --data {}", args.out.join(MODEL_FILE).display(), args.data.display()),
    ]);
    Ok(())
}

/// The models that the recipe speaks of, by name.
fn extra_models(args: &RunArgs) -> Result<BTreeMap<String, Upload>, Failure> {
    let graphs: BTreeMap<&str, &str> = args.extra_graph.iter().map(|(n, g)| (n.as_str(), g.as_str())).collect();
    if let Some(name) = graphs.keys().find(|name| !args.extra_model.iter().any(|(model, _)| model == *name)) {
        let message = format!("--extra-graph {name}: no --extra-model has this name");
        return Err(Failure::new(Exit::Invalid, "EXTRA_GRAPH", message));
    }
    for (place, (name, _)) in args.extra_model.iter().enumerate() {
        if args.extra_model[..place].iter().any(|(other, _)| other == name) {
            let message = format!("--extra-model {name}: the name is given twice");
            return Err(Failure::new(Exit::Invalid, "EXTRA_MODEL", message));
        }
    }
    let open = |(name, path): &(String, String)| {
        Ok((name.clone(), local::model(Path::new(path), graphs.get(name.as_str()).copied())?))
    };
    args.extra_model.iter().map(open).collect()
}

/// There is no server here that could be away, and weights that were no good before the first step were given.
fn failure(error: RecipeError) -> Failure {
    let invalid = matches!(error, RecipeError::NotFinite { step: 0 });
    let mut failure = Failure::from(error);
    match failure.exit {
        _ if invalid => failure.exit = Exit::Invalid,
        Exit::Unavailable => failure.exit = Exit::Failure,
        _ => {}
    }
    failure
}

fn text(report: &Report, out: &Path) -> String {
    let mut text = steps::steps(&report.steps);
    text += &comparison(
        &report.baseline,
        &report.result,
        report.accuracy_delta,
        report.accuracy_delta_ci95,
        report.test_samples,
    );
    for warning in &report.warnings {
        text += &format!("note: {warning}\n");
    }
    for file in files(report, out) {
        text += &format!("{}\n", file.display());
    }
    text
}

/// What was written.
fn files(report: &Report, out: &Path) -> Vec<PathBuf> {
    report.files.iter().map(|file| file.name.as_str()).chain([REPORT_FILE]).map(|name| out.join(name)).collect()
}
