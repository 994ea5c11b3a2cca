//! What training makes small: a loss and its gradient at the network's outputs.

use super::TrainError;
use crate::data::Batch;
use crate::exec::Activations;
use crate::graph::ValueId;

/// A loss of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The mean over the batch.
    pub value: f64,
    /// Its gradient at each of the graph's outputs.
    pub d_outputs: Vec<Vec<f32>>,
    /// Its gradient at each tapped value.
    pub d_taps: Vec<Vec<f32>>,
}

/// Something to be made small by training.
pub trait Objective {
    /// The values inside the network that the loss looks at, beside the outputs.
    fn taps(&self) -> Vec<ValueId>;

    /// The loss of a batch and its gradient, given what the network made of the batch.
    fn loss(&mut self, activations: &Activations, batch: &Batch) -> Result<Loss, TrainError>;
}

/// Softmax cross entropy of the first output `[n, classes]`, the mean over the batch, in nats. With label smoothing `e`
/// (Szegedy et al. 2016, as `torch.nn.CrossEntropyLoss` has it), the share `e` of the target is spread over all classes:
///
/// ```text
/// t_ij = (1 - e) [j = label_i] + e / classes
/// loss = 1/n sum_i ( log sum_j exp(x_ij) - sum_j t_ij x_ij )        d loss / d x_ij = (softmax(x_i)_j - t_ij) / n
/// ```
///
/// A sample that was blended with another ([`Mixed`](crate::data::Mixed)) has both labels, each by its share.
///
/// The largest value of a row is taken off first, so that no exponential overflows.
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropy {
    /// The share `e`, in `[0, 1)`.
    pub label_smoothing: f64,
}

impl Objective for CrossEntropy {
    fn taps(&self) -> Vec<ValueId> {
        Vec::new()
    }

    fn loss(&mut self, activations: &Activations, batch: &Batch) -> Result<Loss, TrainError> {
        let labels = &batch.labels;
        // The other label of a blend, and the share of its own.
        let blend = |sample: usize, label: usize| match &batch.mixed {
            Some(mixed) => (mixed.labels[sample] as usize, f64::from(mixed.shares[sample])),
            None => (label, 1.0),
        };
        let logits = activations.outputs.first().map_or(&[][..], |output| output);
        let samples = labels.len() as f64;
        let mut value = 0.0;
        let mut d_outputs: Vec<Vec<f32>> = activations.outputs.iter().map(|o| vec![0.0; o.len()]).collect();
        let mut gradient = d_outputs.first_mut().map_or(&mut [][..], |d| d).iter_mut();
        for (sample, (row, label)) in rows(logits, labels)?.enumerate() {
            let (other, share) = blend(sample, label);
            let log_sum = log_sum_exp(row);
            let spread = self.label_smoothing / row.len() as f64;
            for (class, (x, d)) in row.iter().zip(gradient.by_ref()).enumerate() {
                let log_share = f64::from(*x) - log_sum;
                let own = share * f64::from(class == label) + (1.0 - share) * f64::from(class == other);
                let target = spread + (1.0 - self.label_smoothing) * own;
                // A class that is no part of the target adds nothing, even if its share is zero and the logarithm infinite.
                value -= if target > 0.0 { target * log_share / samples } else { 0.0 };
                *d = ((log_share.exp() - target) / samples) as f32;
            }
        }
        let d_taps = activations.taps.iter().map(|tap| vec![0.0; tap.len()]).collect();
        Ok(Loss { value, d_outputs, d_taps })
    }
}

/// Each sample's row of `logits [n, classes]` with its label, which is checked to be one of the classes.
pub(crate) fn rows<'a>(
    logits: &'a [f32],
    labels: &'a [u32],
) -> Result<impl Iterator<Item = (&'a [f32], usize)>, TrainError> {
    let classes = logits.len() / labels.len().max(1);
    if classes == 0 || classes * labels.len() != logits.len() {
        return Err(TrainError::Outputs { outputs: logits.len(), samples: labels.len() });
    }
    if let Some(&label) = labels.iter().find(|l| **l as usize >= classes) {
        return Err(TrainError::Label { label, classes });
    }
    Ok(logits.chunks_exact(classes).zip(labels.iter().map(|l| *l as usize)))
}

/// `log sum exp(x)`, stably; NaN if any of `x` is.
pub(crate) fn log_sum_exp(x: &[f32]) -> f64 {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    largest + x.iter().map(|v| (f64::from(*v) - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::Mixed;

    fn smoothed(logits: &[f32], labels: &[u32], label_smoothing: f64) -> Result<Loss, TrainError> {
        let batch = Batch { inputs: vec![], labels: labels.to_vec(), mixed: None };
        let activations = Activations { outputs: vec![logits.to_vec()], taps: vec![] };
        CrossEntropy { label_smoothing }.loss(&activations, &batch)
    }

    fn loss(logits: &[f32], labels: &[u32]) -> Result<Loss, TrainError> {
        smoothed(logits, labels, 0.0)
    }

    /// By the definition, in `f64`, with no care for overflow: `1 - smoothing` times the label's term and `smoothing`
    /// times the mean of all classes'.
    fn naive(logits: &[f64], labels: &[u32], smoothing: f64) -> f64 {
        let classes = logits.len() / labels.len();
        let row = |(row, label): (&[f64], &u32)| {
            let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            let all = row.iter().map(|x| log_sum - x).sum::<f64>() / classes as f64;
            (1.0 - smoothing) * (log_sum - row[*label as usize]) + smoothing * all
        };
        logits.chunks(classes).zip(labels).map(row).sum::<f64>() / labels.len() as f64
    }

    proptest! {
        #[test]
        fn the_gradient_is_the_central_difference(
            logits in prop::collection::vec(-8f32..8.0, 12), labels in prop::collection::vec(0u32..4, 3),
            smoothing in prop_oneof![Just(0.0), 0f64..0.9],
        ) {
            const STEP: f64 = 1e-5;
            let found = smoothed(&logits, &labels, smoothing).unwrap();
            let mut x: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
            prop_assert!((found.value - naive(&x, &labels, smoothing)).abs() < 1e-9);
            for i in 0..x.len() {
                let at = x[i];
                x[i] = at + STEP;
                let above = naive(&x, &labels, smoothing);
                x[i] = at - STEP;
                let expected = (above - naive(&x, &labels, smoothing)) / (2.0 * STEP);
                x[i] = at;
                // The gradient is rounded to f32; the difference's own error is about 1e-10.
                prop_assert!((f64::from(found.d_outputs[0][i]) - expected).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn smoothing_adds_the_mean_over_all_classes() {
        // Shares 1/4, 1/4 and 1/2: 0.7 ln 4 + 0.3 (ln 4 + ln 4 + ln 2) / 3.
        let found = smoothed(&[0.0, 0.0, 2f32.ln()], &[0], 0.3).unwrap();
        assert!((found.value - (0.7 * 4f64.ln() + 0.1 * 32f64.ln())).abs() < 1e-7);
        let expected = [0.25 - 0.8, 0.25 - 0.1, 0.5 - 0.1];
        assert!(found.d_outputs[0].iter().zip(expected).all(|(d, e)| (f64::from(*d) - e).abs() < 1e-7));
    }

    #[test]
    fn a_blend_has_both_labels_by_their_shares() {
        let logits = [0.5f32, -1.0, 2.0, 0.25, 0.0, -3.0];
        let (labels, others, shares) = (vec![0, 2], vec![2, 1], vec![0.75, 0.5]);
        let mixed = Some(Mixed { labels: others.clone(), shares: shares.clone() });
        let batch = Batch { inputs: vec![], labels: labels.clone(), mixed };
        let activations = Activations { outputs: vec![logits.to_vec()], taps: vec![] };
        let found = CrossEntropy { label_smoothing: 0.2 }.loss(&activations, &batch).unwrap();
        // Of each sample alone, with each label alone.
        let mut value = 0.0;
        for sample in 0..2 {
            let row = &logits[sample * 3..][..3];
            let [own, other] = [&labels, &others].map(|labels| smoothed(row, &[labels[sample]], 0.2).unwrap());
            let share = f64::from(shares[sample]);
            value += (share * own.value + (1.0 - share) * other.value) / 2.0;
            for class in 0..3 {
                let [own, other] = [&own, &other].map(|loss| f64::from(loss.d_outputs[0][class]));
                let expected = (share * own + (1.0 - share) * other) / 2.0;
                assert!((f64::from(found.d_outputs[0][sample * 3 + class]) - expected).abs() < 1e-7);
            }
        }
        assert!((found.value - value).abs() < 1e-12);
    }

    #[test]
    fn large_values_do_not_overflow() {
        let found = loss(&[1e4, -1e4, 0.0, -1e4, 1e4, 0.0], &[0, 0]).unwrap();
        assert_eq!(found.value, 1e4);
        assert_eq!(found.d_outputs[0], [0.0, 0.0, 0.0, -0.5, 0.5, 0.0]);
    }

    #[test]
    fn a_label_without_output_is_named() {
        let error = loss(&[0.0; 6], &[0, 3]).unwrap_err();
        assert!(matches!(error, TrainError::Label { label: 3, classes: 3 }), "{error}");
    }

    #[test]
    fn not_a_number_shows_in_the_loss() {
        assert!(loss(&[0.0, f32::NAN, 1.0], &[0]).unwrap().value.is_nan());
    }
}
