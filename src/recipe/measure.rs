//! Measures two models against each other on the test split: accuracy with its interval, loss, latency.

use std::time::Instant;

use super::error::RecipeError;
use super::run::{Progress, Run};
use crate::data::Subset;
use crate::exec::{Mode, Session};
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

/// Timed single runs of each model, after as many tenths to warm up.
const LATENCY_RUNS: usize = 300;
/// No more time than this is spent on latency; slow models get fewer runs.
const LATENCY_SECONDS: f64 = 20.0;
/// Fewer runs than this give no 95th percentile worth the name.
const LATENCY_MIN_RUNS: usize = 20;

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
    let [before_ms, after_ms] = latency(&mut sessions, test, run)?;

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

/// Milliseconds for one sample at batch 1 of both models, run in turn, so that what disturbs one disturbs the other.
fn latency(sessions: &mut [Session; 2], test: &Subset, run: &mut Run<'_>) -> Result<[Latency; 2], RecipeError> {
    let sample = test.batch([0]).inputs;
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    for round in 0..LATENCY_RUNS + LATENCY_RUNS / 10 {
        if (run.cancelled)() {
            return Err(RecipeError::Cancelled);
        }
        if times[0].len() >= LATENCY_MIN_RUNS && start.elapsed().as_secs_f64() > LATENCY_SECONDS {
            break;
        }
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            let clock = Instant::now();
            session.forward(&sample, 1, Mode::Eval, &[])?;
            let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
            if round >= LATENCY_RUNS / 10 {
                times.push(milliseconds);
            }
        }
        if round % 50 == 0 {
            let (done, total) = (round as u64, (LATENCY_RUNS + LATENCY_RUNS / 10) as u64);
            (run.progress)(&Progress { phase: "measure".into(), done, total, ..Progress::default() });
        }
    }
    Ok(times.map(quantiles))
}

fn quantiles(mut times: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    Latency { p50: at(0.5), p95: at(0.95) }
}
