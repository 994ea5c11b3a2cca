//! What of a configuration can be refused before anything runs: numbers out of their range, as they were given or as the
//! 32-bit numbers that training computes with.

use super::TrainError;
use super::config::{Length, ObjectiveConfig, OptimizerConfig, TrainConfig};

impl TrainConfig {
    /// Whether every number is one that a training can follow. The error names the first that is not, by its path in
    /// `niwaki.v1.Train`.
    pub fn check(&self) -> Result<(), TrainError> {
        let length = match self.length {
            Length::Epochs(epochs) => ("epochs", u64::from(epochs)),
            Length::Steps(steps) => ("steps", steps),
        };
        for (field, value) in [("batch_size", u64::from(self.batch_size)), length] {
            require(value > 0, field, "must be at least 1")?;
        }
        positive("learning_rate", self.learning_rate)?;
        match self.optimizer {
            OptimizerConfig::Sgd { momentum, nesterov: _, weight_decay } => {
                below_one("sgd.momentum", momentum)?;
                not_negative("sgd.weight_decay", weight_decay)?;
            }
            OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay } => {
                below_one("adamw.beta1", beta1)?;
                below_one("adamw.beta2", beta2)?;
                positive("adamw.epsilon", epsilon)?;
                not_negative("adamw.weight_decay", weight_decay)?;
            }
        }
        match self.objective {
            ObjectiveConfig::CrossEntropy { label_smoothing } => {
                let share = (0.0..1.0).contains(&label_smoothing);
                require(share, "cross_entropy.label_smoothing", "must be from 0 up to but not including 1")?;
            }
            ObjectiveConfig::Distill { teacher: _, temperature, hard_weight } => {
                let usable = (1e-3..=1e4).contains(&temperature);
                require(usable, "distill.temperature", "must be from 0.001 to 10000")?;
                require((0.0..=1.0).contains(&hard_weight), "distill.hard_weight", "must be from 0 to 1")?;
            }
        }
        let decay = self.ema_decay.is_none_or(|decay| decay > 0.0 && decay < 1.0);
        require(decay, "ema.decay", "must be above 0 and below 1")?;
        let alpha = self.mixup_alpha.is_none_or(|alpha| alpha > 0.0 && alpha <= 100.0);
        require(alpha, "mixup.alpha", "must be above 0 and at most 100")
    }
}

fn require(holds: bool, field: &'static str, problem: &'static str) -> Result<(), TrainError> {
    if holds { Ok(()) } else { Err(TrainError::Config { field, problem }) }
}

fn positive(field: &'static str, value: f64) -> Result<(), TrainError> {
    let rounded = value as f32;
    require(rounded > 0.0 && rounded.is_finite(), field, "must be above 0 and finite as a 32-bit number")
}

/// 0 is allowed, but not what becomes 0 only by rounding: whoever asked for it would not get it.
fn not_negative(field: &'static str, value: f64) -> Result<(), TrainError> {
    if value == 0.0 { Ok(()) } else { positive(field, value) }
}

fn below_one(field: &'static str, value: f64) -> Result<(), TrainError> {
    not_negative(field, value)?;
    require((value as f32) < 1.0, field, "must be below 1 as a 32-bit number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Teacher;

    fn adamw(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> TrainConfig {
        let optimizer = OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay };
        TrainConfig { optimizer, ..TrainConfig::default() }
    }

    fn sgd(momentum: f64, weight_decay: f64) -> TrainConfig {
        let optimizer = OptimizerConfig::Sgd { momentum, nesterov: false, weight_decay };
        TrainConfig { optimizer, ..TrainConfig::default() }
    }

    fn distilled(temperature: f64, hard_weight: f64) -> TrainConfig {
        let objective = ObjectiveConfig::Distill { teacher: Teacher::Baseline, temperature, hard_weight };
        TrainConfig { objective, ..TrainConfig::default() }
    }

    fn smoothed(label_smoothing: f64) -> TrainConfig {
        TrainConfig { objective: ObjectiveConfig::CrossEntropy { label_smoothing }, ..TrainConfig::default() }
    }

    #[test]
    fn usual_numbers_and_zeros_where_they_make_sense_pass() {
        for config in [TrainConfig::default(), adamw(0.9, 0.999, 1e-8, 0.01), adamw(0.0, 0.0, 1e-8, 0.0), sgd(0.0, 0.0)]
        {
            assert!(config.check().is_ok(), "{config:?}");
        }
    }

    #[test]
    fn numbers_that_32_bits_make_nothing_one_or_infinite_are_refused_by_name() {
        let of = |config: TrainConfig| match config.check() {
            Err(TrainError::Config { field, .. }) => field,
            other => panic!("{config:?}: {other:?}"),
        };
        assert_eq!(of(adamw(0.9, 0.999, 1e-50, 0.0)), "adamw.epsilon");
        assert_eq!(of(adamw(0.9, 0.999, 1e50, 0.0)), "adamw.epsilon");
        assert_eq!(of(adamw(0.9, 1.0 - 1e-12, 1e-8, 0.0)), "adamw.beta2");
        assert_eq!(of(adamw(1e-60, 0.9, 1e-8, 0.0)), "adamw.beta1");
        assert_eq!(of(adamw(f64::NAN, 0.9, 1e-8, 0.0)), "adamw.beta1");
        assert_eq!(of(adamw(0.9, 0.9, 1e-8, 1e-60)), "adamw.weight_decay");
        assert_eq!(of(sgd(0.9, 1e60)), "sgd.weight_decay");
        assert_eq!(of(sgd(1.0 - 1e-12, 0.0)), "sgd.momentum");
        assert_eq!(of(sgd(-0.1, 0.0)), "sgd.momentum");
        assert_eq!(of(TrainConfig { learning_rate: 1e-60, ..TrainConfig::default() }), "learning_rate");
        assert_eq!(of(smoothed(1.0)), "cross_entropy.label_smoothing");
        assert_eq!(of(smoothed(f64::NAN)), "cross_entropy.label_smoothing");
        assert_eq!(of(distilled(1e5, 0.5)), "distill.temperature");
        assert_eq!(of(distilled(f64::NAN, 0.5)), "distill.temperature");
        assert_eq!(of(distilled(4.0, 1.1)), "distill.hard_weight");
        for decay in [0.0, 1.0, f64::NAN] {
            assert_eq!(of(TrainConfig { ema_decay: Some(decay), ..TrainConfig::default() }), "ema.decay");
        }
    }
}
