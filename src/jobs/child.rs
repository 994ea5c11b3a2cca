//! A job's process, from inside: reads its folder, runs the recipe, says how far it is.
//!
//! It opens nothing outside its folder. The standard library sets no limits on memory or time, so none are set here;
//! what this process does wrong ends this process, and the worker sees that.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bytes::Bytes;

use super::job::Failure;
use super::protocol::{CANCEL, DATA_FOLDER, JOB_FILE, JobFile, Line, ModelFile, OUT_FOLDER};
use crate::data::{self, Files};
use crate::error::Kind;
use crate::format;
use crate::recipe::run::{self, Progress, Run};
use crate::recipe::{Given, Recipe, Upload};

/// Progress within a phase is said at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// When the worker is gone, a computation that does not stop is ended after this.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// What `niwaki job-child FOLDER` does. `read_recipe` reads a recipe's file form.
pub fn main(folder: &Path, read_recipe: impl Fn(&str) -> Result<Recipe, String>) -> ExitCode {
    let cancelled = Arc::new(AtomicBool::new(false));
    watch_stdin(cancelled.clone());
    let last = match work(folder, read_recipe, &cancelled) {
        Ok(()) => Line::Done,
        Err(Failure { kind: Kind::Cancelled, .. }) => Line::Cancelled,
        Err(failure) => Line::Failed(failure),
    };
    match say(&last) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Waits in a thread of its own for the line that asks to stop, or for the worker's end.
#[allow(clippy::disallowed_methods)] // Nobody joins it: it waits for input, and ends with the process.
fn watch_stdin(cancelled: Arc<AtomicBool>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) if line == CANCEL => cancelled.store(true, Ordering::Relaxed),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        cancelled.store(true, Ordering::Relaxed);
        thread::sleep(ORPHAN_GRACE);
        process::exit(1);
    });
}

fn work(
    folder: &Path,
    read_recipe: impl Fn(&str) -> Result<Recipe, String>,
    cancelled: &AtomicBool,
) -> Result<(), Failure> {
    let job: JobFile = serde_json::from_slice(&read(&folder.join(JOB_FILE))?)
        .map_err(|error| Failure::crashed(format!("{JOB_FILE}: {error}")))?;
    let recipe = read_recipe(&job.recipe).map_err(|message| Failure::new(Kind::InvalidArgument, "RECIPE", message))?;
    let model = job.model.as_ref().map(|file| open(folder, file)).transpose()?;
    let extra = job.extra_models.iter().map(|(name, file)| Ok((name.clone(), open(folder, file)?)));
    let extra: BTreeMap<String, Upload> = extra.collect::<Result<_, Failure>>()?;
    let data = folder.join(DATA_FOLDER);
    let paths = job.data.iter().enumerate().map(|(place, name)| (name.clone(), data.join(place.to_string())));
    let files = Files(paths.collect());
    let dataset =
        data::open(&files, recipe.data.source.as_ref().or(job.data_source.as_ref())).map_err(|e| Failure::of(&e))?;
    let mut teller = Teller::default();
    let mut run = Run {
        cancelled: &|| cancelled.load(Ordering::Relaxed),
        progress: &mut |progress| {
            if teller.tell(progress).is_err() {
                // Nobody listens any more.
                cancelled.store(true, Ordering::Relaxed);
            }
        },
        keep: None,
    };
    let given = Given { model: model.as_ref(), extra: &extra, data: &dataset };
    let result = run::run(&recipe, &given, &folder.join(OUT_FOLDER), &mut run);
    result.map(|_report| ()).map_err(|error| Failure::of(&error))
}

fn open(folder: &Path, file: &ModelFile) -> Result<Upload, Failure> {
    let bytes = Bytes::from(read(&folder.join(&file.path))?);
    let size = bytes.len() as u64;
    let model = format::open_model(bytes, file.architecture.as_ref()).map_err(|e| Failure::of(&e))?;
    Ok(Upload { bytes: size, model })
}

/// Says progress, but not every step of it.
#[derive(Default)]
struct Teller {
    last: Option<(Instant, Progress)>,
}

impl Teller {
    fn tell(&mut self, progress: &Progress) -> io::Result<()> {
        let dull = self.last.as_ref().is_some_and(|(at, last)| {
            at.elapsed() < PROGRESS_EVERY && (last.step, &last.phase) == (progress.step, &progress.phase)
        });
        if dull {
            return Ok(());
        }
        self.last = Some((Instant::now(), progress.clone()));
        say(&Line::Progress(progress.clone()))
    }
}

fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::OutOfMemory => Failure::new(Kind::ResourceExhausted, "OUT_OF_MEMORY", message),
            _ => Failure::crashed(message),
        }
    })
}
