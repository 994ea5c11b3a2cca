//! What a reader should know before trusting or using a result, in sentences.

use super::{Recipe, StepKind};
use crate::report::{Metrics, Snapshot};

/// A model that does so much better on validation than on test has probably been trained on the validation samples.
const CONTAMINATION_GAP: f64 = 0.03;

pub(super) fn of(
    recipe: &Recipe,
    uploaded: bool,
    validation: Snapshot,
    baseline: &Metrics,
    result: &Metrics,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let gap = validation.validation_accuracy - baseline.accuracy;
    if uploaded && gap > CONTAMINATION_GAP {
        warnings.push(format!(
            "The uploaded model scores {:.1} points higher on the validation split than on the test split: it has probably \
             seen these samples in training, and what was selected on them may be too optimistic. The test figures stand.",
            100.0 * gap
        ));
    }
    let prunes = recipe.flat().any(|s| matches!(s.kind, StepKind::PruneWeights(_)));
    if prunes && result.macs == baseline.macs {
        let zeros = 100.0 * (1.0 - result.nonzero_params as f64 / result.params.max(1) as f64);
        warnings.push(format!(
            "{zeros:.1} % of the parameters are zero. Zeros alone are not compression: the file stores them, and \
             most programs multiply by them as before."
        ));
    }
    if result.bytes >= baseline.bytes && !recipe.steps.is_empty() {
        warnings.push(format!(
            "The emitted file is no smaller than the baseline ({} and {} bytes).",
            result.bytes, baseline.bytes
        ));
    }
    warnings
}
