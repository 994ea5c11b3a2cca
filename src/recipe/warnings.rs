//! What a reader should know before trusting or using a result, in sentences.

use super::{Recipe, StepKind};
use crate::exec;
use crate::report::{GroupCut, Metrics, Snapshot, StepEffect};

/// A model that does so much better on validation than on test has probably been trained on the validation samples.
const CONTAMINATION_GAP: f64 = 0.03;
/// So many standard errors of a difference come about by chance in one of a thousand cases.
const CHANCE_GAPS: f64 = 3.1;

/// What a reader should know of a run; `samples` are those of the validation and the test split.
pub(super) fn of(
    recipe: &Recipe,
    uploaded: bool,
    validation: Snapshot,
    samples: [usize; 2],
    steps: &[StepEffect],
    baseline: &Metrics,
    result: &Metrics,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let gap = validation.validation_accuracy - baseline.accuracy;
    let chance = CHANCE_GAPS * standard_error(validation.validation_accuracy, baseline.accuracy, samples);
    if uploaded && gap > CONTAMINATION_GAP.max(chance) {
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
    let cuts: Vec<&GroupCut> = steps.iter().filter_map(|step| step.channels.as_ref()).flat_map(|d| &d.groups).collect();
    if cuts.iter().any(|cut| cut.after < cut.before) && result.latency_ms.p50 >= baseline.latency_ms.p50 {
        warnings.push(format!(
            "Channels were cut, and one sample takes no less time for it ({:.3} and {:.3} ms).{}",
            baseline.latency_ms.p50,
            result.latency_ms.p50,
            odd_widths(&cuts)
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

/// The groups that are cut to a number of channels which this processor's vectors do not divide, in a sentence; empty if
/// there are none.
fn odd_widths(cuts: &[&GroupCut]) -> String {
    let lanes = exec::lanes();
    let odd = cuts.iter().filter(|cut| cut.after < cut.before && cut.after % lanes > 0);
    let names: Vec<String> = odd.map(|cut| format!("{} ({})", cut.name, cut.after)).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(
        " This processor computes {lanes} channels at once, so that other numbers cost like the next multiple: {}.",
        names.join(", ")
    )
}

/// The standard error of the difference of two shares that are the same but for chance, of so many samples each.
fn standard_error(a: f64, b: f64, [n, m]: [usize; 2]) -> f64 {
    let (n, m) = (n.max(1) as f64, m.max(1) as f64);
    let pooled = (a * n + b * m) / (n + m);
    (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::standard_error;

    #[test]
    fn few_samples_say_little_of_a_difference() {
        // sqrt(0.5 * 0.5 * (1/100 + 1/100)).
        assert!((standard_error(0.5, 0.5, [100, 100]) - 0.0707107).abs() < 1e-6);
        assert!(standard_error(1.0, 0.5, [2, 20]) > 0.35);
        assert!(standard_error(0.95, 0.92, [5000, 10_000]) < 0.005);
    }
}
