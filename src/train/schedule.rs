//! The learning rate as a function of the step alone, so that going on after a break needs no state.

use super::config::{ScheduleConfig, TrainConfig};

/// The learning rate of every step of a training.
///
/// ```text
///   peak        ______                constant, steps or half a cosine
///             /       \___
///           /             \__
///   0     /                  \___     floor
///         0  warmup              total
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    peak: f64,
    warmup: u64,
    steps_per_epoch: u64,
    total: u64,
}

impl Schedule {
    /// The schedule of `config` for a training of so many steps.
    pub fn new(config: &TrainConfig, steps_per_epoch: u64, total: u64) -> Self {
        Self {
            config: config.schedule.clone(),
            peak: config.learning_rate,
            warmup: u64::from(config.warmup_steps),
            steps_per_epoch,
            total,
        }
    }

    /// The learning rate of step `step`, counted from 0. The warm-up is a straight line from 0, which would stand one
    /// step before the first, to the peak at step `warmup`.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        match self.config {
            ScheduleConfig::Constant => self.peak,
            ScheduleConfig::Step { every_epochs, gamma } => {
                let falls = step / self.steps_per_epoch.max(1) / u64::from(every_epochs.max(1));
                self.peak * gamma.powf(falls as f64)
            }
            ScheduleConfig::Cosine { floor } => {
                let (done, last) = (step - self.warmup, self.total.saturating_sub(1 + self.warmup));
                let t = if last == 0 { 1.0 } else { (done as f64 / last as f64).min(1.0) };
                self.peak * (floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * t).cos()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(config: ScheduleConfig, warmup: u64) -> Schedule {
        Schedule { config, peak: 0.8, warmup, steps_per_epoch: 10, total: 41 }
    }

    fn assert_rates(schedule: &Schedule, expected: &[(u64, f64)]) {
        for (step, lr) in expected {
            assert!((schedule.lr(*step) - lr).abs() < 1e-12, "step {step}: {}, expected {lr}", schedule.lr(*step));
        }
    }

    #[test]
    fn the_warm_up_climbs_in_a_straight_line_to_the_peak() {
        let schedule = schedule(ScheduleConfig::Constant, 3);
        assert_rates(&schedule, &[(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (40, 0.8)]);
    }

    #[test]
    fn steps_fall_at_the_ends_of_epochs() {
        let schedule = schedule(ScheduleConfig::Step { every_epochs: 2, gamma: 0.5 }, 0);
        assert_rates(&schedule, &[(0, 0.8), (19, 0.8), (20, 0.4), (39, 0.4), (40, 0.2)]);
    }

    #[test]
    fn the_cosine_goes_from_the_peak_to_the_floor_at_the_last_step() {
        let flat = schedule(ScheduleConfig::Cosine { floor: 0.0 }, 0);
        assert_rates(&flat, &[(0, 0.8), (20, 0.4), (40, 0.0)]);
        let raised = schedule(ScheduleConfig::Cosine { floor: 0.25 }, 20);
        assert_rates(&raised, &[(20, 0.8), (30, 0.5), (40, 0.2)]);
    }

    #[test]
    fn a_warm_up_as_long_as_the_training_leaves_no_cosine() {
        let schedule = schedule(ScheduleConfig::Cosine { floor: 0.5 }, 40);
        assert!(schedule.lr(39) < 0.8);
        assert_rates(&schedule, &[(40, 0.4)]);
    }
}
