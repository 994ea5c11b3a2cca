//! A training to `niwaki.v1.Train`.

use crate::api::v1;
use crate::train::config::{Length, ObjectiveConfig, OptimizerConfig, ScheduleConfig, Teacher, TrainConfig};

pub(super) fn train(config: &TrainConfig) -> v1::Train {
    use v1::train::{Optimizer, Schedule};
    let optimizer = match config.optimizer {
        OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
            Optimizer::Sgd(v1::Sgd { momentum: Some(momentum), nesterov, weight_decay })
        }
        OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay } => {
            Optimizer::Adamw(v1::AdamW { beta1: Some(beta1), beta2: Some(beta2), epsilon: Some(epsilon), weight_decay })
        }
    };
    let schedule = match config.schedule {
        ScheduleConfig::Constant => Schedule::Constant(v1::ConstantSchedule {}),
        ScheduleConfig::Step { every_epochs, gamma } => {
            Schedule::Step(v1::StepSchedule { every_epochs, gamma: Some(gamma) })
        }
        ScheduleConfig::Cosine { floor } => Schedule::Cosine(v1::CosineSchedule { floor }),
    };
    let clip = &config.clip;
    let (epochs, steps) = match config.length {
        Length::Epochs(epochs) => (epochs, 0),
        Length::Steps(steps) => (0, steps),
    };
    v1::Train {
        epochs,
        steps,
        batch_size: Some(config.batch_size),
        optimizer: Some(optimizer),
        learning_rate: Some(config.learning_rate),
        schedule: Some(schedule),
        warmup_steps: config.warmup_steps,
        clip: (clip.value.is_some() || clip.norm.is_some()).then(|| v1::GradientClip {
            value: clip.value.map(|(min, max)| v1::ClipValue { min, max }),
            norm: clip.norm.map(|max| v1::ClipNorm { max }),
        }),
        early_stop: config.early_stop.map(|stop| v1::EarlyStop { patience: stop.patience, min_delta: stop.min_delta }),
        objective: Some(objective(&config.objective)),
        frozen: config.frozen.clone(),
        ema: config.ema_decay.map(|decay| v1::Ema { decay: Some(decay) }),
        mixup: config.mixup_alpha.map(|alpha| v1::Mixup { alpha: Some(alpha) }),
    }
}

fn objective(objective: &ObjectiveConfig) -> v1::train::Objective {
    use v1::train::Objective;
    match objective {
        ObjectiveConfig::CrossEntropy { label_smoothing } => {
            Objective::CrossEntropy(v1::CrossEntropy { label_smoothing: *label_smoothing })
        }
        ObjectiveConfig::Distill { teacher, temperature, hard_weight } => Objective::Distill(v1::Distill {
            teacher: match teacher {
                Teacher::Baseline => String::new(),
                Teacher::Model(name) => name.clone(),
            },
            temperature: Some(*temperature),
            hard_weight: Some(*hard_weight),
        }),
    }
}
