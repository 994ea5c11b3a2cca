//! Runs a recipe: the engine's single entry, for jobs and for `niwaki run` alike.
//!
//! ```text
//! start (train a preset) or upload ──▶ baseline ──▶ step ──▶ step ──▶ … ──▶ emit ──▶ re-load ──▶ measure ──▶ report
//! ```
//!
//! Steps are judged on the validation split. The test split is touched once, in the end, by the baseline and by the
//! result as it was re-loaded from the emitted file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::RecipeError;
use super::measure::{self, Candidate};
use super::{Given, Recipe, Start, Upload, warnings};
use crate::data::{self, DataSpec, Splits, Transform, labels, transform};
use crate::digest::Digest;
use crate::exec::{self, Session};
use crate::format::native;
use crate::graph::{Graph, cost, init, preset};
use crate::passes;
use crate::report::{Comparison, EmittedFile, Machine, Report, Snapshot, StepEffect, TrainDetail};
use crate::train::metrics;

/// The emitted model's file name.
pub const MODEL_FILE: &str = "model.safetensors";
/// The report's file name.
pub const REPORT_FILE: &str = "report.json";

/// What a running recipe is given by whoever runs it.
pub struct Run<'a> {
    /// Asked often; once true, the run ends with [`RecipeError::Cancelled`] within a second, but for the
    /// factorisation of large layers, which is not interrupted.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told often what the run is doing.
    pub progress: &'a mut (dyn FnMut(&Progress) + Send),
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

/// Runs `recipe` on what is given; writes [`MODEL_FILE`] and [`REPORT_FILE`] into the folder `out`, which is made when
/// there is something to write.
///
/// Errors: [`RecipeError::Invalid`] with every violation, before anything is computed; what a step says, with its number.
pub fn run(recipe: &Recipe, given: &Given<'_>, out: &Path, run: &mut Run<'_>) -> Result<Report, RecipeError> {
    Course::open(recipe, given, run)?.follow(out)
}

/// The course of one recipe: everything that its steps share.
pub(super) struct Course<'a, 'r> {
    pub(super) recipe: &'a Recipe,
    pub(super) given: &'a Given<'a>,
    pub(super) splits: Splits,
    pub(super) run: &'a mut Run<'r>,
    /// The step at work, counted from 1; 0 before the first.
    pub(super) step: u32,
    /// The network that the steps start from, once it is there.
    pub(super) baseline: Option<Graph>,
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
        Ok(Self { recipe, given, splits, run, step: 0, baseline: None, transforms, warnings })
    }

    fn follow(mut self, out: &Path) -> Result<Report, RecipeError> {
        let (baseline, start) = self.start()?;
        let mut graph = baseline.graph.clone();
        self.baseline = Some(graph.clone());
        if self.recipe.changes_weights() && self.widen(&mut graph)? {
            let text = "The model came in half precision. Its weights were brought to 32 bits, for what is trained would be \
                        rounded away otherwise; `quantize` at the end makes them small again.";
            self.warnings.push(text.to_string());
        }
        let first = self.snapshot(&graph)?;
        let mut before = first;
        let mut steps = Vec::new();
        for step in &self.recipe.steps {
            self.step += 1;
            let clock = Instant::now();
            let mut effect = self.apply(&mut graph, &step.kind)?;
            effect.before = before;
            effect.after = self.snapshot(&graph)?;
            effect.seconds = clock.elapsed().as_secs_f64();
            effect.name = if step.name.is_empty() { effect.kind.clone() } else { step.name.clone() };
            before = effect.after;
            steps.push(effect);
        }
        self.report("measure", 0, 0);
        let (result, file) = self.emit(&graph, out)?;
        let path = out.join(MODEL_FILE);
        let report = self.measure(Measured { baseline, result, first, start, steps, file });
        let written = report.and_then(|report| {
            let json = serde_json::to_vec_pretty(&report).expect("a report is plain numbers and strings");
            write(&out.join(REPORT_FILE), &json).map(|()| report)
        });
        if written.is_err() {
            // A model without a report is no result.
            let _ = fs::remove_file(path);
        }
        written
    }

    /// Measures the emitted model against the baseline, and reports.
    fn measure(mut self, measured: Measured) -> Result<Report, RecipeError> {
        let Measured { baseline, result, first, start, steps, file } = measured;
        let Comparison { baseline, result, delta, delta_ci95, test_samples, classes } =
            measure::compare(&baseline, &result, &self.splits.test, self.run)?;
        // JSON has no such numbers: a report with one could not be read again.
        if !baseline.loss.is_finite() || !result.loss.is_finite() {
            return Err(RecipeError::NotFinite { step: self.step });
        }
        self.warnings.extend(warnings::of(self.recipe, self.given.model.is_some(), first, &baseline, &result));
        Ok(Report {
            recipe: self.recipe.name.clone(),
            seed: self.recipe.seed,
            baseline,
            result,
            accuracy_delta: delta,
            accuracy_delta_ci95: delta_ci95,
            test_samples,
            classes,
            start,
            steps,
            files: vec![file],
            warnings: self.warnings,
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

    /// Writes the model and reads it again: what is measured is the file.
    fn emit(&self, graph: &Graph, out: &Path) -> Result<(Candidate, EmittedFile), RecipeError> {
        let path = out.join(MODEL_FILE);
        fs::create_dir_all(out).map_err(|source| RecipeError::io(out, source))?;
        write(&path, &native::write(graph, &self.metadata())?)?;
        let bytes = Bytes::from(fs::read(&path).map_err(|source| RecipeError::io(&path, source))?);
        let file = EmittedFile {
            name: MODEL_FILE.to_string(),
            bytes: bytes.len() as u64,
            digest: Digest::of(&bytes).to_string(),
        };
        Ok((Candidate::of_file(bytes)?, file))
    }

    /// What the model was trained on: its transforms, and its labels where they are not the data set's own.
    fn metadata(&self) -> BTreeMap<String, String> {
        let transforms = (transform::METADATA_KEY.to_string(), transform::to_json(&self.transforms));
        let labels = labels::to_json(&self.recipe.data).map(|json| (labels::METADATA_KEY.to_string(), json));
        [transforms].into_iter().chain(labels).collect()
    }

    pub(super) fn report(&mut self, phase: &str, done: u64, total: u64) {
        (self.run.progress)(&Progress {
            phase: phase.to_string(),
            step: self.step,
            step_count: self.recipe.steps.len() as u32,
            done,
            total,
            ..Progress::default()
        });
    }
}

/// What is to be measured and reported when all steps are done.
struct Measured {
    baseline: Candidate,
    result: Candidate,
    /// How the baseline stands on the validation split.
    first: Snapshot,
    start: Option<TrainDetail>,
    steps: Vec<StepEffect>,
    file: EmittedFile,
}

/// The transforms that the recipe declares, or else those that the model says its input has been through.
fn transforms(recipe: &Recipe, given: &Given<'_>, warnings: &mut Vec<String>) -> Result<Vec<Transform>, RecipeError> {
    let declared = &recipe.data.transforms;
    let used = match given.model {
        Some(upload) if declared.is_empty() => stored(upload)?.unwrap_or_default(),
        _ => declared.clone(),
    };
    let teachers = recipe.teachers();
    let others = given.extra.iter().filter(|(name, _)| teachers.contains(name.as_str()));
    let others = others.map(|(name, upload)| (format!("the model '{name}'"), upload));
    let all = given.model.map(|upload| ("the model".to_string(), upload)).into_iter().chain(others);
    for (name, upload) in all {
        if stored(upload)?.is_some_and(|stored| stored != used) {
            warnings.push(format!(
                "The transforms in use, {}, are not those that the file of {name} says it was trained with.",
                if declared.is_empty() { "the model's" } else { "the recipe's" }
            ));
        }
    }
    Ok(used)
}

/// The transforms that a model's file says its input has been through.
fn stored(upload: &Upload) -> Result<Option<Vec<Transform>>, RecipeError> {
    let channels = upload.model.graph.input_shape().first().copied().unwrap_or(1);
    Ok(transform::of_model(&upload.model.metadata, channels)?)
}

fn machine() -> Machine {
    Machine {
        niwaki_version: env!("CARGO_PKG_VERSION").to_string(),
        instruction_set: exec::instruction_set().to_string(),
        threads: exec::threads() as u32,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RecipeError> {
    fs::write(path, bytes).map_err(|source| RecipeError::io(path, source))
}
