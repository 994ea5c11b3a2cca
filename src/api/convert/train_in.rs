//! `niwaki.v1.Train` to what it means. The bounds and defaults are those of the comments in `train.proto`.

use super::{ANY, BELOW_ONE, BETWEEN, Checks, FACTOR, NOT_NEGATIVE, Numbers, POSITIVE, Path, SHARE, patterns};
use crate::api::v1;
use crate::train::config::{
    ClipConfig, EarlyStop, Length, ObjectiveConfig, OptimizerConfig, ScheduleConfig, Teacher, TrainConfig,
};

/// Shares of blends that are all but equal, and above.
const ALPHA: Numbers = Numbers("above 0, at most 100", |v| v > 0.0 && v <= 100.0);
/// A training of more steps takes months.
const MAX_TRAIN_STEPS: u64 = 100_000_000;

pub(super) fn train(pb: v1::Train, at: &Path, checks: &mut Checks) -> TrainConfig {
    let optimizer = optimizer(pb.optimizer, at, checks);
    let usual_rate = match optimizer {
        OptimizerConfig::Sgd { .. } => 0.1,
        OptimizerConfig::AdamW { .. } => 0.001,
    };
    TrainConfig {
        length: length(pb.epochs, pb.steps, at, checks),
        batch_size: checks.whole(&at.field("batch_size"), pb.batch_size.unwrap_or(128), 1, 65_536),
        optimizer,
        learning_rate: checks.number(&at.field("learning_rate"), pb.learning_rate.unwrap_or(usual_rate), &POSITIVE),
        schedule: schedule(pb.schedule, at, checks),
        objective: objective(pb.objective, at, checks),
        frozen: patterns(pb.frozen, &at.field("frozen"), checks),
        ema_decay: pb
            .ema
            .map(|ema| checks.number(&at.field("ema").field("decay"), ema.decay.unwrap_or(0.999), &BETWEEN)),
        mixup_alpha: pb
            .mixup
            .map(|mixup| checks.number(&at.field("mixup").field("alpha"), mixup.alpha.unwrap_or(1.0), &ALPHA)),
        warmup_steps: pb.warmup_steps,
        clip: pb.clip.map(|clip| self::clip(clip, &at.field("clip"), checks)).unwrap_or_default(),
        early_stop: pb.early_stop.map(|stop| {
            let at = at.field("early_stop");
            EarlyStop {
                patience: checks.whole(&at.field("patience"), stop.patience, 1, u32::MAX),
                min_delta: checks.number(&at.field("min_delta"), stop.min_delta, &SHARE),
            }
        }),
    }
}

fn length(epochs: u32, steps: u64, at: &Path, checks: &mut Checks) -> Length {
    match (epochs, steps) {
        (0, 0) => {
            checks.refuse(&at.field("epochs"), "is missing, and so is steps: one of the two says how long");
            Length::Epochs(1)
        }
        (epochs, 0) => Length::Epochs(checks.whole(&at.field("epochs"), epochs, 1, 10_000)),
        (0, steps @ 1..=MAX_TRAIN_STEPS) => Length::Steps(steps),
        (0, steps) => {
            checks.refuse(&at.field("steps"), format!("must be from 1 to {MAX_TRAIN_STEPS}, is {steps}"));
            Length::Steps(1)
        }
        _ => {
            checks.refuse(&at.field("steps"), "goes without epochs: one of the two says how long");
            Length::Epochs(1)
        }
    }
}

fn objective(pb: Option<v1::train::Objective>, at: &Path, checks: &mut Checks) -> ObjectiveConfig {
    use v1::train::Objective;
    match pb {
        None => ObjectiveConfig::default(),
        Some(Objective::CrossEntropy(pb)) => {
            let at = at.field("cross_entropy").field("label_smoothing");
            ObjectiveConfig::CrossEntropy { label_smoothing: checks.number(&at, pb.label_smoothing, &BELOW_ONE) }
        }
        Some(Objective::Distill(pb)) => {
            let at = at.field("distill");
            ObjectiveConfig::Distill {
                teacher: match pb.teacher.is_empty() {
                    true => Teacher::Baseline,
                    false => Teacher::Model(checks.name(&at.field("teacher"), pb.teacher)),
                },
                temperature: checks.number(&at.field("temperature"), pb.temperature.unwrap_or(4.0), &POSITIVE),
                hard_weight: checks.number(&at.field("hard_weight"), pb.hard_weight.unwrap_or(0.1), &SHARE),
            }
        }
    }
}

fn optimizer(pb: Option<v1::train::Optimizer>, at: &Path, checks: &mut Checks) -> OptimizerConfig {
    use v1::train::Optimizer;
    match pb.unwrap_or(Optimizer::Sgd(v1::Sgd::default())) {
        Optimizer::Sgd(sgd) => {
            let at = at.field("sgd");
            let momentum = checks.number(&at.field("momentum"), sgd.momentum.unwrap_or(0.9), &BELOW_ONE);
            if sgd.nesterov && momentum == 0.0 {
                checks.refuse(&at.field("nesterov"), "needs a momentum above 0");
            }
            OptimizerConfig::Sgd {
                momentum,
                nesterov: sgd.nesterov,
                weight_decay: checks.number(&at.field("weight_decay"), sgd.weight_decay, &NOT_NEGATIVE),
            }
        }
        Optimizer::Adamw(adamw) => {
            let at = at.field("adamw");
            OptimizerConfig::AdamW {
                beta1: checks.number(&at.field("beta1"), adamw.beta1.unwrap_or(0.9), &BELOW_ONE),
                beta2: checks.number(&at.field("beta2"), adamw.beta2.unwrap_or(0.999), &BELOW_ONE),
                epsilon: checks.number(&at.field("epsilon"), adamw.epsilon.unwrap_or(1e-8), &POSITIVE),
                weight_decay: checks.number(&at.field("weight_decay"), adamw.weight_decay, &NOT_NEGATIVE),
            }
        }
    }
}

fn schedule(pb: Option<v1::train::Schedule>, at: &Path, checks: &mut Checks) -> ScheduleConfig {
    use v1::train::Schedule;
    match pb {
        None | Some(Schedule::Constant(v1::ConstantSchedule {})) => ScheduleConfig::Constant,
        Some(Schedule::Step(step)) => {
            let at = at.field("step");
            ScheduleConfig::Step {
                every_epochs: checks.whole(&at.field("every_epochs"), step.every_epochs, 1, u32::MAX),
                gamma: checks.number(&at.field("gamma"), step.gamma.unwrap_or(0.1), &FACTOR),
            }
        }
        Some(Schedule::Cosine(cosine)) => {
            ScheduleConfig::Cosine { floor: checks.number(&at.field("cosine").field("floor"), cosine.floor, &SHARE) }
        }
    }
}

fn clip(pb: v1::GradientClip, at: &Path, checks: &mut Checks) -> ClipConfig {
    ClipConfig {
        value: pb.value.map(|v1::ClipValue { min, max }| {
            let at = at.field("value");
            checks.number(&at.field("min"), min, &ANY);
            checks.number(&at.field("max"), max, &ANY);
            if min >= max {
                checks.refuse(&at.field("min"), format!("{min} is not below max, {max}"));
            }
            (min, max)
        }),
        norm: pb.norm.map(|norm| checks.number(&at.field("norm").field("max"), norm.max, &POSITIVE)),
    }
}
