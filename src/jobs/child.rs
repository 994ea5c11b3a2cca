//! A job's process, from inside: reads its folder, runs the recipe, says how far it is.
//!
//! It locks itself into its folder ([`crate::sandbox`]) before it reads anything that came from outside. What it does
//! wrong ends this process, and the worker sees that.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::job::Failure;
use super::protocol::{CANCEL, DATA_FOLDER, JOB_FILE, JobFile, LEAVE, Line, ModelFile, OUT_FOLDER};
use crate::data::{self, Files};
use crate::error::Kind;
use crate::exec;
use crate::format;
use crate::recipe::run::{self, Progress, Run};
use crate::recipe::{CHECKPOINT_FILE, Given, Keep, Leaving, Recipe, Upload};
use crate::sandbox;

/// Progress within a phase is said at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How much a job steps back behind whoever else wants the processors, from 0 to 19.
const NICENESS: i32 = 10;
/// Of a failure at most so much is said, in bytes a text and in violations: JSON may make six bytes of one, and a line has
/// at most [`MAX_LINE`](super::protocol::MAX_LINE).
const MAX_TEXT: usize = 400;
const MAX_VIOLATIONS: usize = 12;
/// When the worker is gone, a computation that does not stop is ended after this.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// What `niwaki job-child FOLDER` does. `read_recipe` reads a recipe's file form.
pub fn main(folder: &Path, read_recipe: impl Fn(&str) -> Result<Recipe, String>) -> ExitCode {
    let last = match enter(folder).and_then(|job| {
        let asked = Arc::new(Asked::default());
        watch_stdin(asked.clone());
        work(folder, &job, read_recipe, &asked)
    }) {
        Ok(()) => Line::Done,
        Err(Failure { kind: Kind::Cancelled, .. }) => Line::Cancelled,
        Err(failure) => Line::Failed(short(failure)),
    };
    match say(&last) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A failure that fits into a line.
fn short(mut failure: Failure) -> Failure {
    let cut = |text: &mut String| text.truncate(text.floor_char_boundary(MAX_TEXT));
    cut(&mut failure.message);
    failure.violations.truncate(MAX_VIOLATIONS);
    for violation in &mut failure.violations {
        cut(&mut violation.field);
        cut(&mut violation.description);
    }
    failure
}

/// What the worker asks for.
#[derive(Default)]
struct Asked {
    /// To stop.
    stop: AtomicBool,
    /// To save the work and stop.
    leave: Leaving,
}

impl Asked {
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.leave.may_end()
    }
}

/// Reads what is to be done, which the worker wrote, and locks this process in: before it has a second thread.
fn enter(folder: &Path) -> Result<JobFile, Failure> {
    let job: JobFile = serde_json::from_slice(&read(&folder.join(JOB_FILE))?)
        .map_err(|error| Failure::crashed(format!("{JOB_FILE}: {error}")))?;
    // Whoever answers calls comes first.
    let _ = rustix::process::nice(NICENESS);
    let room = sandbox::enter(folder, &job.limits).map_err(|error| {
        Failure::new(Kind::Internal, "INTERNAL", format!("the process could not be limited: {error}"))
    })?;
    for gap in room.gaps() {
        tracing::debug!(gap, "a wall is missing");
    }
    Ok(job)
}

/// Waits in a thread of its own for the lines that ask to stop, or for the worker's end.
#[allow(clippy::disallowed_methods)] // Nobody joins it: it waits for input, and ends with the process.
fn watch_stdin(asked: Arc<Asked>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) if line == CANCEL => asked.stop(),
                Ok(line) if line == LEAVE => asked.leave.ask(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        asked.stop();
        thread::sleep(ORPHAN_GRACE);
        process::exit(1);
    });
}

fn work(
    folder: &Path,
    job: &JobFile,
    read_recipe: impl Fn(&str) -> Result<Recipe, String>,
    asked: &Asked,
) -> Result<(), Failure> {
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
    let mut kept = || {
        asked.leave.saved();
        if say(&Line::Checkpoint).is_err() {
            asked.stop();
        }
    };
    let keep = Keep {
        file: folder.join(CHECKPOINT_FILE),
        owner: job.job.clone(),
        every: Duration::from_secs(job.checkpoint_seconds.into()),
        resume: job.checkpoint.as_ref().map(|file| folder.join(file)),
        at_once: &|| asked.leave.wants_save(),
        kept: &mut kept,
    };
    let mut run = Run {
        cancelled: &|| asked.ends(),
        progress: &mut |progress| {
            if teller.tell(progress).is_err() {
                // Nobody listens any more.
                asked.stop();
            }
        },
        keep: Some(keep),
    };
    let given = Given { model: model.as_ref(), extra: &extra, data: &dataset };
    exec::compute_here();
    let result = run::run(&recipe, &given, &folder.join(OUT_FOLDER), &mut run);
    result.map(|_report| ()).map_err(|error| Failure::of(&error))
}

fn open(folder: &Path, file: &ModelFile) -> Result<Upload, Failure> {
    let opened = format::open_model_files(&file.files(folder), file.architecture.as_ref());
    let (bytes, model) = opened.map_err(|error| unreadable(&file.folder, &error))?.map_err(|e| Failure::of(&e))?;
    Ok(Upload { bytes, model })
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
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::OutOfMemory => Failure::new(Kind::ResourceExhausted, "OUT_OF_MEMORY", message),
        _ => Failure::crashed(message),
    }
}
