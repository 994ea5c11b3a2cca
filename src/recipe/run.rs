//! Runs a recipe: the engine's single entry, for jobs and for `niwaki run` alike.
//!
//! ```text
//! start (train a preset) or upload ──▶ baseline ──▶ step ──▶ step ──▶ … ──▶ emit ──▶ re-load ──▶ measure ──▶ report
//! ```
//!
//! Where it is asked to, the run keeps its state on the way and goes on from one that an earlier run kept: model and report
//! are the same as of a run that was never broken off, but for the times in the report.
//!
//! Steps are judged on the validation split. The test split is touched once, in the end, by the baseline and by the
//! result as it was re-loaded from the emitted file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::checkpoint::{AtWork, Keep, Keeper, Saved, Standing};
use super::error::RecipeError;
use super::evolve;
use super::files::{self, Staged};
use super::measure::{self, Candidate};
use super::unroll::Unrolled;
use super::{Given, Recipe, Start, StepKind, warnings};
use crate::data::{self, DataSpec, Splits, Transform, labels, transform};
use crate::digest::Digest;
use crate::exec::{self, Session};
use crate::format::{Model, native, onnx};
use crate::graph::{Graph, cost, init, preset};
use crate::passes;
use crate::report::{Comparison, EmittedFile, Machine, Report, Snapshot, TrainDetail};
use crate::train::metrics;

/// The emitted model's file name.
pub const MODEL_FILE: &str = "model.safetensors";
/// The file of the same model in ONNX, its weights in it.
pub const ONNX_FILE: &str = "model.onnx";
/// The report's file name.
pub const REPORT_FILE: &str = "report.json";
/// The name of the file that a cancelled run leaves: the best model so far.
pub const BEST_FILE: &str = "best.safetensors";

/// What a running recipe is given by whoever runs it.
pub struct Run<'a> {
    /// Asked often; once true, the run ends with [`RecipeError::Cancelled`] within a second. What takes longer in one
    /// piece is not interrupted: a training step of a large network, the factorisation of a large layer.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told often what the run is doing.
    pub progress: &'a mut (dyn FnMut(&Progress) + Send),
    /// Where the run keeps its state; `None`: nowhere.
    pub keep: Option<Keep<'a>>,
}

impl<'a> Run<'a> {
    /// A run that keeps no state.
    pub fn new(cancelled: &'a (dyn Fn() -> bool + Sync), progress: &'a mut (dyn FnMut(&Progress) + Send)) -> Self {
        Self { cancelled, progress, keep: None }
    }
}

/// What a running recipe is doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The phase, for example `train`.
    pub phase: String,
    /// The step at work, counted from 1; 0 before the first.
    pub step: u32,
    /// Steps in the recipe.
    pub step_count: u32,
    /// Units of work done in this phase.
    pub done: u64,
    /// Units of work in this phase; 0 where it is not known.
    pub total: u64,
    /// The latest training loss.
    pub loss: Option<f64>,
    /// The latest accuracy on the validation split.
    pub validation_accuracy: Option<f64>,
}

/// What is said of a network whose outputs are probabilities.
pub const SOFTMAX: &str = "The network ends in a softmax. Losses are taken of its outputs as if they came before one, and are \
                           larger than they would be; accuracies are as they should. Export it without the softmax to train it.";

/// Runs `recipe` on what is given; writes [`MODEL_FILE`], [`ONNX_FILE`] and [`REPORT_FILE`] into the folder `out`, which is
/// made when there is something to write, and the front of a search. All are there whole, or not the first, or none. A run that is cancelled writes
/// [`BEST_FILE`] instead, where there is a model: that of the best epoch of the training at work, or else the model as the
/// steps before left it.
///
/// Errors: [`RecipeError::Invalid`] with every violation, before anything is computed; what a step says, with its number.
pub fn run(recipe: &Recipe, given: &Given<'_>, out: &Path, run: &mut Run<'_>) -> Result<Report, RecipeError> {
    let mut course = Course::open(recipe, given, run)?;
    let ended = course.follow(out);
    if matches!(ended, Err(RecipeError::Cancelled)) {
        course.leave(out);
    }
    ended
}

/// The course of one recipe: everything that its steps share.
pub(super) struct Course<'a, 'r> {
    pub(super) recipe: &'a Recipe,
    /// The steps, with every round of a repetition.
    pub(super) steps: Vec<Unrolled<'a>>,
    pub(super) given: &'a Given<'a>,
    pub(super) splits: Splits,
    pub(super) run: &'a mut Run<'r>,
    /// The step at work, counted from 1; 0 before the first.
    pub(super) step: u32,
    /// The network that the steps start from, once it is there.
    pub(super) baseline: Option<Graph>,
    pub(super) keeper: Option<Keeper<'r>>,
    /// What the step goes on from that was at work when an earlier run ended.
    pub(super) resume: Option<AtWork>,
    /// What is left of a run that is cancelled.
    pub(super) best: Option<Graph>,
    transforms: Vec<Transform>,
    warnings: Vec<String>,
}

impl<'a, 'r> Course<'a, 'r> {
    fn open(recipe: &'a Recipe, given: &'a Given<'a>, run: &'a mut Run<'r>) -> Result<Self, RecipeError> {
        let violations = recipe.validate(given);
        if !violations.is_empty() {
            return Err(RecipeError::Invalid { violations });
        }
        let mut warnings = Vec::new();
        let transforms = transforms(recipe, given, &mut warnings)?;
        let spec = DataSpec { transforms: transforms.clone(), ..recipe.data.clone() };
        let splits = data::split(given.data, &spec, recipe.seed)?;
        let keeper = run.keep.take().map(|keep| Keeper::new(keep, recipe, given));
        let (steps, step) = (recipe.unrolled(), 0);
        let (baseline, resume, best) = (None, None, None);
        Ok(Self { recipe, steps, given, splits, run, step, baseline, keeper, resume, best, transforms, warnings })
    }

    fn follow(&mut self, out: &Path) -> Result<Report, RecipeError> {
        let saved = self.keeper.as_ref().and_then(|keeper| keeper.resume(self.given));
        let Saved { standing, work, warnings } = saved.unwrap_or_default();
        self.resume = work;
        let mut at = match standing {
            Some(at) => {
                self.warnings = warnings;
                at
            }
            None => self.begin()?,
        };
        self.baseline = Some(at.baseline.graph.clone());
        let followed = self.follow_steps(&mut at);
        let followed = followed.and_then(|()| {
            self.report("measure", 0, 0);
            self.finish(&at, out)
        });
        if matches!(followed, Err(RecipeError::Cancelled)) && self.best.is_none() && at.trained {
            self.best = Some(at.graph);
        }
        followed
    }

    /// What the steps start from.
    fn begin(&mut self) -> Result<Standing, RecipeError> {
        if let Some(keeper) = &mut self.keeper {
            keeper.note(None, &self.warnings);
        }
        let (baseline, start) = self.start()?;
        let mut graph = baseline.graph.clone();
        if self.recipe.changes_weights() && self.widen(&mut graph)? {
            let text = "The model came in half precision. Its weights were brought to 32 bits, for what is trained would be \
                        rounded away otherwise; `quantize` at the end makes them small again.";
            self.warnings.push(text.to_string());
        }
        let first = self.snapshot(&graph).inspect_err(|_| self.best = Some(graph.clone()))?;
        Ok(Standing { baseline, start, first, graph, trained: true, mark: None, evolved: None, steps: Vec::new() })
    }

    fn follow_steps(&mut self, at: &mut Standing) -> Result<(), RecipeError> {
        loop {
            self.step = at.steps.len() as u32;
            if let Some(keeper) = &mut self.keeper {
                keeper.note(Some(at), &self.warnings);
                // What is at work is still to be gone on from, and that is in the file already.
                if self.resume.is_none() {
                    keeper.pause(None);
                }
            }
            if (self.run.cancelled)() {
                return Err(RecipeError::Cancelled);
            }
            let Some(Unrolled { step, round, .. }) = self.steps.get(at.steps.len()).cloned() else { return Ok(()) };
            self.step += 1;
            let clock = Instant::now();
            let mut effect = self.apply(at, &step.kind)?;
            at.trained = match &step.kind {
                StepKind::Student(_) | StepKind::Initialise(_) => false,
                StepKind::Train(_) => true,
                StepKind::Rewind => at.mark.as_ref().is_some_and(|mark| mark.trained),
                _ => at.trained || effect.train.is_some(),
            };
            effect.round = round;
            effect.before = at.steps.last().map_or(at.first, |step| step.after);
            effect.after = self.snapshot(&at.graph)?;
            effect.seconds = clock.elapsed().as_secs_f64();
            effect.name = if step.name.is_empty() { effect.kind.clone() } else { step.name.clone() };
            at.steps.push(effect);
        }
    }

    /// Writes model and report. The model gets its name last: a model without a report is no result.
    fn finish(&mut self, at: &Standing, out: &Path) -> Result<Report, RecipeError> {
        let (model, report, onnx) = (out.join(MODEL_FILE), out.join(REPORT_FILE), out.join(ONNX_FILE));
        let (result, file, staged) = self.emit(&at.graph, &model, out)?;
        let other = self.emit_onnx(&result.graph, &onnx)?;
        let (other_file, other) = other.unzip();
        let (front_files, front): (Vec<EmittedFile>, Vec<Staged>) = match &at.evolved {
            Some(evolved) => self.emit_front(evolved, out)?.into_iter().unzip(),
            None => Default::default(),
        };
        let emitted = [Some(file), other_file].into_iter().flatten().chain(front_files).collect();
        let measured = self.measure(at, result, emitted)?;
        let json = serde_json::to_vec_pretty(&measured).expect("a report is plain numbers and strings");
        files::remove(&model).map_err(|source| RecipeError::io(&model, source))?;
        files::remove(&onnx).map_err(|source| RecipeError::io(&onnx, source))?;
        evolve::remove(out)?;
        files::replace(&report, &json).map_err(|source| RecipeError::io(&report, source))?;
        if let Some(other) = other {
            other.publish().map_err(|source| RecipeError::io(&onnx, source))?;
        }
        front.into_iter().try_for_each(Staged::publish).map_err(|source| RecipeError::io(out, source))?;
        staged.publish().map_err(|source| RecipeError::io(&model, source))?;
        Ok(measured)
    }

    /// Writes the best model so far, if there is one. The run has ended already: what goes wrong here is told to the log.
    fn leave(&mut self, out: &Path) {
        let Some(graph) = self.best.take() else { return };
        let written = native::write(&graph, &self.metadata()).map_err(RecipeError::from).and_then(|bytes| {
            let path = out.join(BEST_FILE);
            let write = fs::create_dir_all(out).and_then(|()| files::replace(&path, &bytes));
            write.map_err(|source| RecipeError::io(&path, source))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the best model so far could not be written");
        }
    }

    /// Measures the emitted model against the baseline, and reports.
    fn measure(&mut self, at: &Standing, result: Candidate, files: Vec<EmittedFile>) -> Result<Report, RecipeError> {
        let Comparison { baseline, result, delta, delta_ci95, test_samples, classes } =
            measure::compare(&at.baseline, &result, &self.splits.test, self.run)?;
        // JSON has no such numbers: a report with one could not be read again.
        if !baseline.loss.is_finite() || !result.loss.is_finite() {
            return Err(RecipeError::NotFinite { step: self.step });
        }
        let mut warnings = self.warnings.clone();
        if at.graph.ends_in_softmax() {
            warnings.push(SOFTMAX.to_string());
        }
        let samples = [self.splits.validation.len(), self.splits.test.len()];
        let uploaded = self.given.model.is_some();
        warnings.extend(warnings::of(self.recipe, uploaded, at.first, samples, &at.steps, &baseline, &result));
        Ok(Report {
            recipe: self.recipe.name.clone(),
            seed: self.recipe.seed,
            baseline,
            result,
            accuracy_delta: delta,
            accuracy_delta_ci95: delta_ci95,
            test_samples,
            classes,
            start: at.start.clone(),
            steps: at.steps.clone(),
            files,
            warnings,
            machine: machine(),
        })
    }

    /// The model that the steps start from, and what its training did if it is a preset.
    fn start(&mut self) -> Result<(Candidate, Option<TrainDetail>), RecipeError> {
        if let Some(start) = &self.recipe.start {
            let (graph, detail) = self.train_preset(start)?;
            let file = native::write(&graph, &self.metadata())?;
            return Ok((Candidate::of_file(file.into())?, Some(detail)));
        }
        let upload = self.given.model.expect("a recipe with neither start nor model is invalid");
        Ok((Candidate { graph: upload.model.graph.clone(), bytes: upload.bytes }, None))
    }

    fn train_preset(&mut self, start: &Start) -> Result<(Graph, TrainDetail), RecipeError> {
        let mut graph = preset::build(&start.preset).expect("an unknown preset is invalid");
        init::initialise(&mut graph, start.init, self.recipe.seed).map_err(passes::PassError::from)?;
        let detail = self.train(&mut graph, "start", &start.train, None)?;
        Ok((graph, detail))
    }

    /// How the model stands on the validation split.
    fn snapshot(&mut self, graph: &Graph) -> Result<Snapshot, RecipeError> {
        let cancelled = self.run.cancelled;
        let mut session = Session::new(graph)?;
        let evaluation = metrics::evaluate(&mut session, &self.splits.validation, &|| cancelled())
            .map_err(|source| RecipeError::of_training(self.step, source))?;
        if !evaluation.loss.is_finite() {
            return Err(RecipeError::NotFinite { step: self.step });
        }
        let cost = cost::of_graph(graph);
        Ok(Snapshot {
            validation_accuracy: evaluation.accuracy,
            validation_loss: evaluation.loss,
            params: cost.params,
            nonzero_params: cost.nonzero_params,
            macs: cost.macs,
        })
    }

    /// Writes the model and reads it again: what is measured is the file. It does not have its name yet.
    fn emit(&self, graph: &Graph, path: &Path, out: &Path) -> Result<(Candidate, EmittedFile, Staged), RecipeError> {
        fs::create_dir_all(out).map_err(|source| RecipeError::io(out, source))?;
        let staged = Staged::write(path, &native::write(graph, &self.metadata())?);
        let staged = staged.map_err(|source| RecipeError::io(path, source))?;
        let bytes = Bytes::from(fs::read(staged.part()).map_err(|source| RecipeError::io(path, source))?);
        let file = EmittedFile {
            name: MODEL_FILE.to_string(),
            bytes: bytes.len() as u64,
            digest: Digest::of(&bytes).to_string(),
        };
        Ok((Candidate::of_file(bytes)?, file, staged))
    }

    /// Writes the emitted model in ONNX, too. It does not have its name yet. A network that ONNX has no words for goes
    /// without, and the report says so.
    fn emit_onnx(&mut self, graph: &Graph, path: &Path) -> Result<Option<(EmittedFile, Staged)>, RecipeError> {
        let bytes = match onnx::write(graph, &onnx::Tensors::Inside, &self.metadata()) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.warnings.push(format!("There is no {ONNX_FILE}: {error}."));
                return Ok(None);
            }
        };
        let staged = Staged::write(path, &bytes).map_err(|source| RecipeError::io(path, source))?;
        let (name, digest) = (ONNX_FILE.to_string(), Digest::of(&bytes).to_string());
        Ok(Some((EmittedFile { name, bytes: bytes.len() as u64, digest }, staged)))
    }

    /// What the model was trained on: its transforms, and its labels where they are not the data set's own.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let transforms = (transform::METADATA_KEY.to_string(), transform::to_json(&self.transforms));
        let labels = labels::to_json(&self.recipe.data).map(|json| (labels::METADATA_KEY.to_string(), json));
        [transforms].into_iter().chain(labels).collect()
    }

    /// A place from which the step at work may go on later.
    pub(super) fn pause(&mut self, work: &dyn Fn() -> AtWork) {
        if let Some(keeper) = &mut self.keeper {
            keeper.pause(Some(work));
        }
    }

    pub(super) fn report(&mut self, phase: &str, done: u64, total: u64) {
        (self.run.progress)(&Progress {
            phase: phase.to_string(),
            step: self.step,
            step_count: self.steps.len() as u32,
            done,
            total,
            ..Progress::default()
        });
    }
}

/// The transforms that the recipe declares, or else those that the model says its input has been through.
fn transforms(recipe: &Recipe, given: &Given<'_>, warnings: &mut Vec<String>) -> Result<Vec<Transform>, RecipeError> {
    let declared = &recipe.data.transforms;
    let used = match given.model {
        Some(upload) if declared.is_empty() => stored_transforms(&upload.model)?.unwrap_or_default(),
        _ => declared.clone(),
    };
    let teachers = recipe.teachers();
    let others = given.extra.iter().filter(|(name, _)| teachers.contains(name.as_str()));
    let others = others.map(|(name, upload)| (format!("the model '{name}'"), upload));
    let all = given.model.map(|upload| ("the model".to_string(), upload)).into_iter().chain(others);
    for (name, upload) in all {
        if stored_transforms(&upload.model)?.is_some_and(|stored| stored != used) {
            warnings.push(format!(
                "The transforms in use, {}, are not those that the file of {name} says it was trained with.",
                if declared.is_empty() { "the model's" } else { "the recipe's" }
            ));
        }
    }
    Ok(used)
}

/// The transforms that a model's file says its input has been through.
pub(super) fn stored_transforms(model: &Model) -> Result<Option<Vec<Transform>>, RecipeError> {
    Ok(transform::of_model(&model.metadata, &model.graph.input_shape())?)
}

fn machine() -> Machine {
    Machine {
        niwaki_version: env!("CARGO_PKG_VERSION").to_string(),
        instruction_set: exec::instruction_set().to_string(),
        threads: exec::threads() as u32,
    }
}
