//! The moving average of the weights over the training steps, which is often better than the last weights (Polyak and
//! Juditsky 1992).
//!
//! ```text
//! d_t = min(decay, (1 + t) / (10 + t))          t = 0, 1, ...: the steps before this one
//! average = d_t * average + (1 - d_t) * weights
//! ```
//!
//! The average starts as the weights before the first step. With the plain decay these would show for about
//! `1 / (1 - decay)` steps, in a short training up to its end; the smaller decay of the first steps, which is TensorFlow's
//! warm-up, makes the average one over about the last tenth of the steps until the full decay is reached.
//!
//! Only trained parameters are averaged. Running statistics are taken as they are: they are averages already.

use crate::exec::Session;

/// The average so far.
pub(super) struct Average {
    decay: f64,
    steps: u64,
    /// One number for each of the session's trained ones, which come first in its buffer.
    values: Vec<f32>,
}

impl Average {
    /// Starts with the session's parameters.
    pub(super) fn new(decay: f64, session: &Session) -> Self {
        Self { decay, steps: 0, values: session.params()[..session.trained()].to_vec() }
    }

    /// The steps taken in, and the average so far.
    pub(super) fn state(&self) -> (u64, &[f32]) {
        (self.steps, &self.values)
    }

    /// Goes on from the state of another average of the same decay; `false`, and nothing changes, if that had another
    /// length.
    pub(super) fn load_state(&mut self, steps: u64, values: Vec<f32>) -> bool {
        let fits = values.len() == self.values.len();
        if fits {
            (self.steps, self.values) = (steps, values);
        }
        fits
    }

    /// Takes in the parameters after a step.
    pub(super) fn follow(&mut self, session: &Session) {
        self.take_in(&session.params()[..self.values.len()]);
    }

    /// Exchanges the average and the session's parameters; a second time it undoes that. Masked values are zero in both
    /// from then on.
    pub(super) fn swap(&mut self, session: &mut Session) {
        let trained = self.values.len();
        session.params_mut()[..trained].swap_with_slice(&mut self.values);
        session.apply_masks();
    }

    fn take_in(&mut self, weights: &[f32]) {
        let t = self.steps as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        let share = (1.0 - decay) as f32;
        for (average, weight) in self.values.iter_mut().zip(weights) {
            *average += share * (weight - *average);
        }
        self.steps += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The averages of one weight after it was these.
    fn averages(decay: f64, first: f32, weights: &[f32]) -> Vec<f32> {
        let mut average = Average { decay, steps: 0, values: vec![first] };
        let after = |w: &f32| {
            average.take_in(&[*w]);
            average.values[0]
        };
        weights.iter().map(after).collect()
    }

    #[test]
    fn the_first_steps_forget_the_start() {
        // Decays 1/10, 2/11, 3/12.
        let found = averages(0.999, 10.0, &[0.0, 11.0, 4.0]);
        let expected = [1.0, 2.0 / 11.0 + 9.0, 0.25 * (2.0 / 11.0 + 9.0) + 3.0];
        assert!(found.iter().zip(expected).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-5), "{found:?} {expected:?}");
        // Of a start of 1, nothing is left after 100 steps with weight 0; 0.999^100 is 0.9.
        assert!(averages(0.999, 1.0, &[0.0; 100])[99] < 1e-9);
    }

    #[test]
    fn the_decay_is_never_more_than_the_one_asked_for() {
        // (1 + t) / (10 + t) is above 1/2 from t = 9 on.
        let found = averages(0.5, 0.0, &[1.0; 12]);
        assert!(found.windows(2).skip(8).all(|w| (w[1] - (0.5 * w[0] + 0.5)).abs() < 1e-6));
    }
}
