//! A job and its report to their messages.

use prost_types::Duration;

use super::catalogue::timestamp;
use super::evolve_out::evolution;
use crate::api::names::{Collection, artifact_name};
use crate::api::{json, status, v1};
use crate::jobs::job::{Job, JobKey, JobResult};
use crate::jobs::state::JobState;
use crate::recipe::run::Progress;
use crate::report::{
    ChannelsDetail, EmittedFile, GroupCut, LayerRank, Metrics, Report, Rewrite, Snapshot, StepEffect, TrainDetail,
};
use crate::store::etag;

/// The message of a job.
pub fn job(job: Job) -> v1::Job {
    let state = match job.state {
        JobState::Queued => v1::job::State::Queued,
        JobState::Running => v1::job::State::Running,
        JobState::Cancelling => v1::job::State::Cancelling,
        JobState::Succeeded => v1::job::State::Succeeded,
        JobState::Failed => v1::job::State::Failed,
        JobState::Cancelled => v1::job::State::Cancelled,
    };
    let tenant = &job.key.tenant;
    let model_name = |id: String| Collection::Models.name(tenant, &id);
    v1::Job {
        name: Collection::Jobs.name(tenant, &job.key.id),
        model: job.model.map(model_name).unwrap_or_default(),
        dataset: Collection::Datasets.name(tenant, &job.dataset),
        // The row was written by `to_json`; one that no longer reads is shown without its recipe.
        recipe: json::from_str("Recipe", &job.recipe).ok(),
        state: state as i32,
        revision: job.revision,
        attempt: job.attempt,
        progress: job.progress.map(progress),
        error: job.failure.as_ref().map(status::failure),
        result: job.result.map(|result| self::result(&job.key, result)),
        create_time: Some(timestamp(job.create_ms)),
        start_time: job.start_ms.map(timestamp),
        finish_time: job.finish_ms.map(timestamp),
        extra_models: job.extra_models.into_iter().map(|(name, id)| (name, model_name(id))).collect(),
        partial_artifacts: job.partial.into_iter().map(|file| artifact(&job.key, file)).collect(),
        checkpoint_time: job.checkpoint.map(|checkpoint| timestamp(checkpoint.at_ms)),
        priority: job.priority,
        time_limit: job.time_limit_ms.map(duration),
        etag: etag(job.revision),
    }
}

/// A time span in milliseconds.
fn duration(ms: i64) -> Duration {
    Duration { seconds: ms / 1000, nanos: (ms % 1000 * 1_000_000) as i32 }
}

fn progress(progress: Progress) -> v1::Progress {
    v1::Progress {
        phase: progress.phase,
        step: progress.step,
        step_count: progress.step_count,
        done: progress.done,
        total: progress.total,
        loss: progress.loss,
        validation_accuracy: progress.validation_accuracy,
    }
}

/// The message of what a job produced.
pub fn result(key: &JobKey, JobResult { report, artifacts }: JobResult) -> v1::JobResult {
    let Report { seed, baseline, result, accuracy_delta, test_samples, warnings, machine, .. } = report;
    let [low, high] = report.accuracy_delta_ci95;
    v1::JobResult {
        baseline: Some(metrics(&baseline)),
        result: Some(metrics(&result)),
        accuracy_delta,
        accuracy_delta_ci95: Some(v1::Interval { low, high }),
        test_samples,
        seed,
        classes: (report.classes.iter())
            .map(|class| v1::ClassChange {
                label: class.label,
                samples: class.samples,
                baseline_accuracy: class.baseline_accuracy,
                result_accuracy: class.result_accuracy,
            })
            .collect(),
        steps: report.steps.into_iter().map(step).collect(),
        artifacts: artifacts.into_iter().map(|file| artifact(key, file)).collect(),
        warnings,
        machine: Some(v1::Machine {
            niwaki_version: machine.niwaki_version,
            instruction_set: machine.instruction_set,
            threads: machine.threads,
        }),
        start: report.start.as_ref().map(train),
    }
}

fn artifact(key: &JobKey, file: EmittedFile) -> v1::Artifact {
    v1::Artifact { name: artifact_name(key, &file.name), file_name: file.name, bytes: file.bytes, digest: file.digest }
}

fn metrics(metrics: &Metrics) -> v1::Metrics {
    v1::Metrics {
        accuracy: metrics.accuracy,
        loss: metrics.loss,
        bytes: metrics.bytes,
        params: metrics.params,
        nonzero_params: metrics.nonzero_params,
        macs: metrics.macs,
        latency_ms: Some(v1::Latency { p50: metrics.latency_ms.p50, p95: metrics.latency_ms.p95 }),
    }
}

fn step(step: StepEffect) -> v1::StepEffect {
    use v1::step_effect::Detail;
    // A step is of one kind: it has at most one of the two.
    let trained = step.train.as_ref().map(|detail| Detail::Train(train(detail)));
    let quantized = step.quantize.map(|params| {
        let params = params.into_iter().map(|param| v1::ParamPrecision {
            name: param.name,
            dtype: param.dtype,
            relative_error: param.relative_error,
            flushed_to_zero: param.flushed_to_zero,
            kept_because: param.kept_because,
            subnormal: param.subnormal,
        });
        Detail::Quantize(v1::QuantizeDetail { params: params.collect() })
    });
    v1::StepEffect {
        step: step.step,
        round: step.round,
        kind: step.kind,
        name: step.name,
        seconds: step.seconds,
        before: Some(snapshot(&step.before)),
        after: Some(snapshot(&step.after)),
        detail: trained.or(quantized),
        sparsity: (step.sparsity.into_iter())
            .map(|param| v1::ParamSparsity {
                name: param.name,
                values: param.values,
                zeros: param.zeros,
                kept_because: param.kept_because,
            })
            .collect(),
        low_rank: step.low_rank.into_iter().map(layer_rank).collect(),
        channels: step.channels.map(channels),
        evolution: step.evolution.map(evolution),
        rewrite: step.rewrite.map(|Rewrite { added, removed, output_difference }| v1::Rewrite {
            added,
            removed,
            output_difference,
        }),
    }
}

/// The message of what became of a group.
pub(super) fn group_cut(group: GroupCut) -> v1::GroupCut {
    let GroupCut { name, layers, before, after, kept_because } = group;
    v1::GroupCut { name, layers, before, after, kept_because }
}

fn channels(detail: ChannelsDetail) -> v1::ChannelsDetail {
    v1::ChannelsDetail {
        groups: detail.groups.into_iter().map(group_cut).collect(),
        importance: detail.importance,
        masked_difference: detail.masked_difference,
        cut_accuracy: detail.cut_accuracy,
        repair: detail.repair,
        unrepaired: detail.unrepaired,
    }
}

fn layer_rank(layer: LayerRank) -> v1::LayerRank {
    v1::LayerRank {
        name: layer.name,
        method: layer.method,
        full_rank: layer.full_rank,
        rank: layer.rank,
        macs_before: layer.macs_before,
        macs_after: layer.macs_after,
        params_before: layer.params_before,
        params_after: layer.params_after,
        relative_error: layer.relative_error,
        energy: layer.energy,
        kept_because: layer.kept_because,
    }
}

fn snapshot(snapshot: &Snapshot) -> v1::Snapshot {
    v1::Snapshot {
        validation_accuracy: snapshot.validation_accuracy,
        validation_loss: snapshot.validation_loss,
        params: snapshot.params,
        nonzero_params: snapshot.nonzero_params,
        macs: snapshot.macs,
    }
}

fn train(detail: &TrainDetail) -> v1::TrainDetail {
    v1::TrainDetail {
        epochs: (detail.epochs.iter())
            .map(|epoch| v1::Epoch {
                train_loss: epoch.train_loss,
                validation_accuracy: epoch.validation_accuracy,
                validation_loss: epoch.validation_loss,
                gradient_norm: epoch.gradient_norm,
                learning_rate: epoch.learning_rate,
            })
            .collect(),
        best_epoch: detail.best_epoch,
        stopped_early: detail.stopped_early,
        clipped_steps: detail.clipped_steps,
        total_steps: detail.total_steps,
        curve: (detail.curve.iter())
            .map(|point| v1::CurvePoint {
                step: point.step,
                loss: point.loss,
                accuracy: point.accuracy,
                gradient_norm: point.gradient_norm,
                clipped: point.clipped,
            })
            .collect(),
    }
}
