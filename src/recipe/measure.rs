//! Measures two models against each other on the test split: accuracy with its interval, loss, latency.

use std::time::Instant;

use bytes::Bytes;

use super::error::RecipeError;
use super::run::{Progress, Run};
use crate::data::Subset;
use crate::exec::{Awake, Mode, Session};
use crate::format;
use crate::graph::{Graph, cost};
use crate::report::{ClassChange, Comparison, Latency, Metrics, paired_interval};
use crate::train::metrics::{self, Evaluation};

/// A model as it was read from its file.
pub(super) struct Candidate {
    /// The graph with its weights.
    pub graph: Graph,
    /// Size of the file.
    pub bytes: u64,
}

impl Candidate {
    /// Reads a model that niwaki wrote.
    pub fn of_file(bytes: Bytes) -> Result<Self, RecipeError> {
        let size = bytes.len() as u64;
        Ok(Self { graph: format::open_model(bytes, None)?.graph, bytes: size })
    }
}

/// Both models are loaded anew so many times, each as often first as second: where in memory a small model comes to lie
/// decides over a tenth of its time.
const LATENCY_ROUNDS: usize = 10;
/// Runs of each model in a round, at least; fewer give no 95th percentile worth the name.
const LATENCY_MIN_RUNS: usize = 2;
/// As many runs in a round are enough of a model that takes milliseconds.
const LATENCY_RUNS: usize = 30;
/// A model that takes microseconds is run for as long as this in a round, so that one disturbance does not decide.
const LATENCY_MIN_SECONDS: f64 = 0.1;
/// No more time than this is spent in a round; slow models get fewer runs.
const LATENCY_MAX_SECONDS: f64 = 2.0;
/// Runs of each model in a round before the clock starts.
const WARM_UP: usize = 3;

/// The figures of both models on the test split, and the difference of their accuracies with its interval.
pub(super) fn compare(
    baseline: &Candidate,
    result: &Candidate,
    test: &Subset,
    run: &mut Run<'_>,
) -> Result<Comparison, RecipeError> {
    let mut sessions = [Session::new(&baseline.graph)?, Session::new(&result.graph)?];
    let cancelled = run.cancelled;
    let evaluate = |session: &mut Session| {
        metrics::evaluate(session, test, &|| cancelled()).map_err(|source| RecipeError::of_training(0, source))
    };
    let before = evaluate(&mut sessions[0])?;
    let after = evaluate(&mut sessions[1])?;
    let [before_ms, after_ms] = latency([&baseline.graph, &result.graph], test, run)?;

    let n = test.len() as u64;
    let pairs = || before.correct.iter().zip(&after.correct);
    let lost = pairs().filter(|(b, a)| **b && !**a).count() as u64;
    let gained = pairs().filter(|(b, a)| !**b && **a).count() as u64;
    Ok(Comparison {
        baseline: figures(baseline, &before, before_ms),
        result: figures(result, &after, after_ms),
        delta: (gained as f64 - lost as f64) / n as f64,
        delta_ci95: paired_interval(n, lost, gained),
        test_samples: n,
        classes: classes(test, &before, &after),
    })
}

fn figures(candidate: &Candidate, evaluation: &Evaluation, latency_ms: Latency) -> Metrics {
    let cost = cost::of_graph(&candidate.graph);
    Metrics {
        accuracy: evaluation.accuracy,
        loss: evaluation.loss,
        bytes: candidate.bytes,
        params: cost.params,
        nonzero_params: cost.nonzero_params,
        macs: cost.macs,
        latency_ms,
    }
}

fn classes(test: &Subset, before: &Evaluation, after: &Evaluation) -> Vec<ClassChange> {
    let mut counts: Vec<[u64; 3]> = Vec::new();
    for i in 0..test.len() {
        let label = test.label(i) as usize;
        if label >= counts.len() {
            counts.resize(label + 1, [0; 3]);
        }
        counts[label][0] += 1;
        counts[label][1] += u64::from(before.correct[i]);
        counts[label][2] += u64::from(after.correct[i]);
    }
    counts
        .into_iter()
        .enumerate()
        .filter(|(_, [samples, ..])| *samples > 0)
        .map(|(label, [samples, before, after])| ClassChange {
            label: label as u32,
            samples,
            baseline_accuracy: before as f64 / samples as f64,
            result_accuracy: after as f64 / samples as f64,
        })
        .collect()
}

/// Milliseconds for one sample at batch 1 of both models, run in turn and each first as often as second, so that what
/// disturbs one disturbs the other.
fn latency(graphs: [&Graph; 2], test: &Subset, run: &mut Run<'_>) -> Result<[Latency; 2], RecipeError> {
    let sample = test.batch([0]).inputs;
    let mut times = [Vec::new(), Vec::new()];
    let _awake = Awake::new();
    for round in 0..LATENCY_ROUNDS {
        let (done, total) = (round as u64, LATENCY_ROUNDS as u64);
        (run.progress)(&Progress { phase: "measure".into(), done, total, ..Progress::default() });
        // A session lays its weights out at its first run, so it is warmed up before the other is made.
        let mut sessions = [warm(graphs[round % 2], &sample)?, warm(graphs[1 - round % 2], &sample)?];
        sessions.rotate_left(round % 2);
        let start = Instant::now();
        for runs in 0.. {
            let seconds = start.elapsed().as_secs_f64();
            let enough = runs >= LATENCY_RUNS && seconds >= LATENCY_MIN_SECONDS;
            if enough || (runs >= LATENCY_MIN_RUNS && seconds >= LATENCY_MAX_SECONDS) {
                break;
            }
            if (run.cancelled)() {
                return Err(RecipeError::Cancelled);
            }
            let order = if runs % 2 == 0 { [0, 1] } else { [1, 0] };
            for model in order {
                let clock = Instant::now();
                sessions[model].forward(&sample, 1, Mode::Eval, &[])?;
                times[model].push(clock.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(quantiles))
}

fn warm(graph: &Graph, sample: &[f32]) -> Result<Session, RecipeError> {
    let mut session = Session::new(graph)?;
    for _ in 0..WARM_UP {
        session.forward(sample, 1, Mode::Eval, &[])?;
    }
    Ok(session)
}

fn quantiles(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    Latency { p50: at(0.5), p95: at(0.95) }
}
