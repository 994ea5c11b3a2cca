//! How a training went, in a few hundred points however long it is: means over stretches of equally many steps.

use serde::{Deserialize, Serialize};

use crate::report::{CurvePoint, Epoch};

/// The most points that a curve has.
const MOST_POINTS: u64 = 500;

/// What a training step found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The mean loss of the batch.
    pub(super) loss: f64,
    /// Samples of the batch.
    pub(super) samples: usize,
    /// Those that the network classified rightly before the step.
    pub(super) correct: usize,
    /// L2 norm of the gradient before clipping.
    pub(super) norm: f64,
    /// Whether clipping changed it.
    pub(super) clipped: bool,
}

/// Sums over some steps: a stretch of the curve, or an epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    loss: f64,
    samples: usize,
    correct: usize,
    norm: f64,
    clipped: u64,
    steps: u64,
}

impl Sums {
    pub(super) fn add(&mut self, seen: Seen) {
        // The loss is a mean over the batch, and the last batch may be smaller.
        self.loss += seen.loss * seen.samples as f64;
        self.samples += seen.samples;
        self.correct += seen.correct;
        self.norm += seen.norm;
        self.clipped += u64::from(seen.clipped);
        self.steps += 1;
    }

    /// The epoch that these steps make up.
    pub(super) fn epoch(&self, validation_accuracy: f64, validation_loss: f64, learning_rate: f64) -> Epoch {
        Epoch {
            train_loss: self.loss / self.samples as f64,
            validation_accuracy,
            validation_loss,
            gradient_norm: self.norm / self.steps as f64,
            learning_rate,
        }
    }

    fn point(&self, step: u64) -> CurvePoint {
        CurvePoint {
            step,
            loss: self.loss / self.samples as f64,
            accuracy: self.correct as f64 / self.samples as f64,
            gradient_norm: self.norm / self.steps as f64,
            clipped: self.clipped as f64 / self.steps as f64,
        }
    }
}

/// The curve of a training in the making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    /// Steps of a stretch.
    stretch: u64,
    sums: Sums,
    /// Steps so far.
    step: u64,
    points: Vec<CurvePoint>,
}

impl Curve {
    /// For a training of at most `total` steps.
    pub(super) fn new(total: u64) -> Self {
        Self { stretch: total.div_ceil(MOST_POINTS).max(1), sums: Sums::default(), step: 0, points: Vec::new() }
    }

    pub(super) fn add(&mut self, seen: Seen) {
        self.sums.add(seen);
        self.step += 1;
        if self.sums.steps == self.stretch {
            self.close();
        }
    }

    /// The points; the last stands for the steps that are left over.
    pub(super) fn into_points(mut self) -> Vec<CurvePoint> {
        if self.sums.steps > 0 {
            self.close();
        }
        self.points
    }

    fn close(&mut self) {
        self.points.push(self.sums.point(self.step));
        self.sums = Sums::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(total: u64, steps: &[Seen]) -> Vec<CurvePoint> {
        let mut curve = Curve::new(total);
        steps.iter().for_each(|seen| curve.add(*seen));
        curve.into_points()
    }

    fn seen(loss: f64, samples: usize, correct: usize) -> Seen {
        Seen { loss, samples, correct, norm: 10.0 * loss, clipped: loss > 1.5 }
    }

    #[test]
    fn a_point_holds_the_means_of_its_stretch_and_the_rest_has_one_of_its_own() {
        // 1200 steps make stretches of 3; the training ends after 4.
        let found = curve(1200, &[seen(1.0, 10, 5), seen(2.0, 10, 10), seen(3.0, 5, 0), seen(0.5, 4, 1)]);
        let first = CurvePoint { step: 3, loss: 1.8, accuracy: 0.6, gradient_norm: 20.0, clipped: 2.0 / 3.0 };
        let rest = CurvePoint { step: 4, loss: 0.5, accuracy: 0.25, gradient_norm: 5.0, clipped: 0.0 };
        assert_eq!(found, [first, rest]);
    }

    #[test]
    fn there_are_never_more_than_500_points() {
        for (total, points) in [(0, 0), (1, 1), (500, 500), (501, 251), (50_001, 496)] {
            let found = curve(total, &vec![seen(1.0, 1, 1); total as usize]);
            assert_eq!(found.len(), points, "{total} steps");
            assert_eq!(found.last().map_or(0, |p| p.step), total);
        }
    }
}
