//! `niwaki eval`: a model's accuracy and loss on the test split of a data set.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::args::EvalArgs;
use super::failure::{Exit, Failure};
use super::output::{Output, grouped, percent, table};
use super::{interruptible, local};
use crate::data::labels::{self, Labels};
use crate::data::{self, DataSpec, Dataset, Subset, Transform, transform};
use crate::exec::Session;
use crate::graph::{Graph, cost};
use crate::recipe::run::SOFTMAX;
use crate::recipe::{Upload, misfits};
use crate::report::Z_95;
use crate::train::metrics;

/// Measures and shows.
pub fn run(args: &EvalArgs, output: Output) -> Result<(), Failure> {
    let task = Task {
        model: args.model.clone(),
        graph: args.graph.clone(),
        data: args.data.clone(),
        transforms: transforms(args),
        seed: args.seed,
    };
    let measured = interruptible(move |pressed| task.measure(pressed))?;
    if measured.transforms.is_empty() {
        output
            .note("note: no transforms are known of this model; its input is the data as it is (see --scale, --mean)");
    }
    if measured.ends_in_softmax {
        output.note(format!("note: {SOFTMAX}"));
    }
    if !measured.loss.is_finite() {
        output.note("warning: outputs are infinite or no numbers for some samples, which count as wrong");
    }
    output.answer(|| measured.text(), || measured.to_json());
    output.next([format!("niwaki inspect {}", args.model.display())]);
    Ok(())
}

/// What is to be measured.
pub struct Task {
    /// The model file.
    pub model: PathBuf,
    /// What `--graph` said.
    pub graph: Option<String>,
    /// The data set: a folder or a file.
    pub data: PathBuf,
    /// What happens to the input; empty: what the model's file says.
    pub transforms: Vec<Transform>,
    /// Chooses the test split where the data set has no test samples of its own.
    pub seed: u64,
}

/// What was measured.
pub struct Measured {
    /// Samples in the test split.
    pub samples: usize,
    /// Share classified rightly.
    pub accuracy: f64,
    /// The accuracy's 95 % interval.
    pub interval: [f64; 2],
    /// Mean cross entropy in nats.
    pub loss: f64,
    bytes: u64,
    params: u64,
    nonzero_params: u64,
    transforms: Vec<Transform>,
    ends_in_softmax: bool,
}

impl Task {
    /// Measures; `stop` ends it early.
    pub fn measure(&self, stop: &AtomicBool) -> Result<Measured, Failure> {
        let Upload { bytes, model } = local::model(&self.model, self.graph.as_deref())?;
        let transforms = match model.metadata.get(transform::METADATA_KEY) {
            Some(stored) if self.transforms.is_empty() => transform::from_json(stored)?,
            _ => self.transforms.clone(),
        };
        let Labels { classes, relabel } = labels::of_model(&model.metadata)?;
        let spec = DataSpec { transforms, classes, relabel, ..DataSpec::default() };
        let dataset = local::dataset(&self.data, None)?;
        let test = test_split(&model.graph, &dataset, &spec, self.seed)?;
        let mut session = Session::new(&model.graph)?;
        let evaluation = metrics::evaluate(&mut session, &test, &|| stop.load(Ordering::Relaxed))?;
        let right = evaluation.correct.iter().filter(|right| **right).count();
        let cost = cost::of_graph(&model.graph);
        Ok(Measured {
            samples: evaluation.correct.len(),
            accuracy: evaluation.accuracy,
            interval: wilson(right, evaluation.correct.len()),
            loss: evaluation.loss,
            bytes,
            params: cost.params,
            nonzero_params: cost.nonzero_params,
            transforms: spec.transforms,
            ends_in_softmax: model.graph.ends_in_softmax(),
        })
    }
}

impl Measured {
    fn text(&self) -> String {
        let [low, high] = self.interval;
        let row = |name: &str, value: String| vec![name.to_string(), value];
        table(
            &["test split", ""],
            &[""],
            [
                row("samples", grouped(self.samples as u64)),
                row("accuracy", format!("{} [{}, {}]", percent(self.accuracy), percent(low), percent(high))),
                row("loss", format!("{:.4}", self.loss)),
                row("bytes", grouped(self.bytes)),
                row("parameters", grouped(self.params)),
                row("not zero", grouped(self.nonzero_params)),
            ],
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "test_samples": self.samples,
            "accuracy": self.accuracy,
            "accuracy_ci95": self.interval,
            "loss": self.loss,
            "bytes": self.bytes,
            "params": self.params,
            "nonzero_params": self.nonzero_params,
        })
    }
}

/// The test split that a recipe with this seed has.
fn test_split(graph: &Graph, dataset: &Dataset, spec: &DataSpec, seed: u64) -> Result<Subset, Failure> {
    let classes = labels::classes(spec, dataset.classes)?;
    let violations = misfits(graph, &dataset.train.sample_shape, classes);
    if !violations.is_empty() {
        let problems: Vec<&str> = violations.iter().map(|v| v.description.as_str()).collect();
        let failure = Failure::new(Exit::Invalid, "DATASET_MISMATCH", problems.join("; "));
        return Err(Failure { violations, ..failure });
    }
    Ok(data::test_split(dataset, spec, seed)?)
}

/// The transforms that the command line gives.
fn transforms(args: &EvalArgs) -> Vec<Transform> {
    let mut transforms = Vec::new();
    if let Some(factor) = args.scale {
        transforms.push(Transform::Scale { factor });
    }
    if !args.mean.is_empty() {
        transforms.push(Transform::Normalize { mean: args.mean.clone(), std: args.std.clone() });
    }
    transforms
}

/// The 95 % interval of a share (Wilson 1927): unlike the plain normal one it holds near 100 % too.
fn wilson(right: usize, samples: usize) -> [f64; 2] {
    if samples == 0 {
        return [0.0, 1.0];
    }
    let (n, z) = (samples as f64, Z_95);
    let share = right as f64 / n;
    let centre = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    [((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of Newcombe 1998, table I.
    #[test]
    fn the_interval_is_the_published_one() {
        for (right, samples, low, high) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
        {
            let [l, h] = wilson(right, samples);
            assert!((l - low).abs() < 5e-5 && (h - high).abs() < 5e-5, "{right}/{samples}: [{l}, {h}]");
        }
    }
}
