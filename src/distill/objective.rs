//! The objective: its loss and gradient.

use super::DistillError;
use crate::data::Batch;
use crate::exec::{Activations, ExecError, Mode, Session};
use crate::graph::ValueId;
use crate::train::TrainError;
use crate::train::metrics;
use crate::train::objective::{CrossEntropy, Loss, Objective};

/// The loss of [the module documentation](super) for a student whose first output is compared with the teacher's.
pub struct Distill {
    teacher: Session,
    temperature: f64,
    hard_weight: f64,
}

impl Distill {
    /// Learning from `teacher`. `temperature` and `hard_weight` are within the bounds of
    /// [`ObjectiveConfig::Distill`](crate::train::config::ObjectiveConfig::Distill), which
    /// [`TrainConfig::check`](crate::train::config::TrainConfig::check) holds them to.
    pub fn new(teacher: Session, temperature: f64, hard_weight: f64) -> Self {
        Self { teacher, temperature, hard_weight }
    }

    /// What the teacher makes of the batch: `[n, classes]`. It is computed for as many samples at once as fit into
    /// memory, as the teacher may be far larger than the student.
    fn taught(&mut self, batch: &Batch) -> Result<Vec<f32>, TrainError> {
        let sample = batch.inputs.len() / batch.labels.len().max(1);
        let at_once = metrics::at_once(&self.teacher);
        let mut taught = Vec::new();
        for inputs in batch.inputs.chunks(sample.max(1) * at_once) {
            let samples = inputs.len() / sample.max(1);
            let found = self.teacher.forward(inputs, samples, Mode::Eval, &[]).map_err(|error| match error {
                ExecError::Input { sample: teacher, .. } => misfit(DistillError::Inputs { teacher, student: sample }),
                other => TrainError::from(other),
            })?;
            taught.extend(found.outputs.into_iter().next().unwrap_or_default());
        }
        if taught.iter().any(|v| !v.is_finite()) {
            return Err(misfit(DistillError::NotFinite));
        }
        Ok(taught)
    }
}

impl Objective for Distill {
    fn taps(&self) -> Vec<ValueId> {
        Vec::new()
    }

    fn loss(&mut self, activations: &Activations, batch: &Batch) -> Result<Loss, TrainError> {
        let mut loss = CrossEntropy::default().loss(activations, batch)?;
        let taught = self.taught(batch)?;
        let samples = batch.labels.len();
        // The cross entropy has seen that there is an output whose values divide into the samples.
        let (outputs, gradient) = (&activations.outputs[0], &mut loss.d_outputs[0]);
        if taught.len() != outputs.len() {
            let (teacher, student) = (taught.len() / samples, outputs.len() / samples);
            return Err(misfit(DistillError::Classes { teacher, student }));
        }
        let classes = outputs.len() / samples;
        let (hard, soft) = (self.hard_weight, (1.0 - self.hard_weight) / samples as f64);
        loss.value *= hard;
        let rows = outputs.chunks_exact(classes).zip(taught.chunks_exact(classes));
        for ((row, taught), gradient) in rows.zip(gradient.chunks_exact_mut(classes)) {
            let (log_p, log_q) = (log_softmax(taught, self.temperature), log_softmax(row, self.temperature));
            for ((log_p, log_q), d) in log_p.zip(log_q).zip(gradient) {
                let p = log_p.exp();
                // What the teacher gives no share at all adds nothing.
                let term = if p > 0.0 { p * (log_p - log_q) } else { 0.0 };
                loss.value += soft * self.temperature.powi(2) * term;
                *d = (hard * f64::from(*d) + soft * self.temperature * (log_q.exp() - p)) as f32;
            }
        }
        Ok(loss)
    }
}

/// The logarithms of `softmax(row / temperature)`.
fn log_softmax(row: &[f32], temperature: f64) -> impl Iterator<Item = f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scaled = move |v: &f32| (f64::from(*v) - f64::from(largest)) / temperature;
    let log_sum = row.iter().map(|v| scaled(v).exp()).sum::<f64>().ln();
    row.iter().map(move |v| scaled(v) - log_sum)
}

fn misfit(error: DistillError) -> TrainError {
    TrainError::Objective(Box::new(error))
}
