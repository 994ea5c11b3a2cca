//! Accuracy and loss of a network on labelled samples.

use super::TrainError;
use super::objective::{log_sum_exp, rows};
use crate::data::Subset;
use crate::exec::{Activations, Awake, Mode, Session};

/// Samples that are computed at once, of a network of ordinary size.
const BATCH: usize = 256;
/// Numbers that the largest value of a batch may have; larger networks get smaller batches.
const BATCH_NUMBERS: u64 = 1 << 27;

/// How a network does on labelled samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// For each sample of the subset, in order, whether it is classified rightly.
    pub correct: Vec<bool>,
    /// The share that is.
    pub accuracy: f64,
    /// The mean softmax cross entropy, in nats.
    pub loss: f64,
}

/// Runs the network on all samples of `subset`. The class is the largest of the first output's values, the first of
/// equal ones; a sample with a value that is not a number counts as wrong. `cancelled` is asked before every batch.
pub fn evaluate(
    session: &mut Session,
    subset: &Subset,
    cancelled: &dyn Fn() -> bool,
) -> Result<Evaluation, TrainError> {
    if subset.is_empty() {
        return Err(TrainError::Empty { split: "evaluation" });
    }
    let batch_size = at_once(session);
    let _awake = Awake::new();
    let mut correct = Vec::with_capacity(subset.len());
    let mut loss = 0.0;
    for start in (0..subset.len()).step_by(batch_size) {
        if cancelled() {
            return Err(TrainError::Cancelled);
        }
        let batch = subset.batch(start..subset.len().min(start + batch_size));
        let activations = session.forward(&batch.inputs, batch.labels.len(), Mode::Eval, &[])?;
        let logits = activations.outputs.first().map_or(&[][..], |output| output);
        for (row, label) in rows(logits, &batch.labels)? {
            loss += log_sum_exp(row) - f64::from(row[label]);
            correct.push(classify(row) == Some(label));
        }
    }
    let right = correct.iter().filter(|c| **c).count();
    let samples = subset.len() as f64;
    Ok(Evaluation { correct, accuracy: right as f64 / samples, loss: loss / samples })
}

/// How many samples fit into memory at once where only outputs are computed.
pub(crate) fn at_once(session: &Session) -> usize {
    (BATCH_NUMBERS / session.largest_value().max(1)).clamp(1, BATCH as u64) as usize
}

/// How many of a batch's samples are classified rightly.
pub(super) fn correct(activations: &Activations, labels: &[u32]) -> Result<usize, TrainError> {
    let logits = activations.outputs.first().map_or(&[][..], |output| output);
    Ok(rows(logits, labels)?.filter(|(row, label)| classify(row) == Some(*label)).count())
}

/// The first of the largest values, or `None` if one is not a number.
fn classify(row: &[f32]) -> Option<usize> {
    if row.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut best = 0;
    for (class, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = class;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{Affine, Inputs, Part};
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::Activation;

    /// Samples that are their own logits, through a network that hands them on.
    fn evaluated(logits: Vec<f32>, labels: Vec<u32>) -> Result<Evaluation, TrainError> {
        let graph = GraphBuilder::new("identity", &[2]).activation("relu", Activation::Relu).build().unwrap();
        let indices = (0..labels.len() as u32).collect();
        let part = Part { sample_shape: vec![2], inputs: Inputs::F32(logits), labels };
        let subset = Subset::new(Arc::new(part), indices, Affine { channels: vec![(1.0, 0.0); 2] });
        evaluate(&mut Session::new(&graph).unwrap(), &subset, &|| false)
    }

    #[test]
    fn accuracy_and_loss_are_those_of_the_definition() {
        let found = evaluated(vec![0.0, 3f32.ln(), 5.0, 5.0, 5.0, 5.0], vec![1, 0, 1]).unwrap();
        assert_eq!(found.correct, [true, true, false]);
        assert_eq!(found.accuracy, 2.0 / 3.0);
        let expected = ((4f64 / 3.0).ln() + 2.0 * 2f64.ln()) / 3.0;
        assert!((found.loss - expected).abs() < 1e-6);
    }

    #[test]
    fn more_samples_than_a_batch_are_all_seen() {
        let labels: Vec<u32> = (0..600).map(|i| i % 2).collect();
        let logits = labels.iter().flat_map(|l| if *l == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        let found = evaluated(logits, labels).unwrap();
        assert_eq!((found.correct.len(), found.accuracy), (600, 1.0));
    }

    #[test]
    fn what_is_no_number_is_wrong() {
        let found = evaluated(vec![f32::NAN, 0.0], vec![1]).unwrap();
        assert_eq!(found.accuracy, 0.0);
        assert!(found.loss.is_nan());
    }

    #[test]
    fn a_subset_without_samples_is_refused() {
        assert!(matches!(evaluated(vec![], vec![]), Err(TrainError::Empty { .. })));
    }
}
