//! How sparsity grows in gradual pruning (Zhu and Gupta 2017, "To prune, or not to prune").

use super::{Amount, PruneWeights, Scope};

/// Pruning that goes along with training: at `every` steps between `begin` and `end` (shares of all steps) the sparsity
/// is raised towards `sparsity`.
#[derive(Debug, Clone, PartialEq)]
pub struct GradualPruning {
    /// The sparsity in the end, in `[0, 1)`.
    pub sparsity: f64,
    /// Which weights are compared with which.
    pub scope: Scope,
    /// Parameters left alone, by name or glob.
    pub ignored: Vec<String>,
    /// Where pruning begins, as a share of all training steps.
    pub begin: f64,
    /// Where the full sparsity is reached.
    pub end: f64,
    /// Training steps between two prunings.
    pub every: u32,
}

impl GradualPruning {
    /// The pruning to do before training step `step` (counted from 0) of `total`, if it is the turn of one.
    pub fn at(&self, step: u64, total: u64) -> Option<PruneWeights> {
        let (begin, end) = self.phase(total);
        let due = step >= begin && step <= end && (step == end || (step - begin).is_multiple_of(u64::from(self.every)));
        let t = if end > begin { (step.max(begin) - begin) as f64 / (end - begin) as f64 } else { 1.0 };
        due.then(|| PruneWeights {
            amount: Amount::Sparsity(cubic_sparsity(self.sparsity, t)),
            scope: self.scope,
            ignored: self.ignored.clone(),
        })
    }

    /// Whether the full sparsity has been reached before step `step` of `total`.
    pub fn complete(&self, step: u64, total: u64) -> bool {
        step > self.phase(total).1
    }

    /// First and last pruning step; the last leaves at least one step to train after it, where there is one.
    fn phase(&self, total: u64) -> (u64, u64) {
        let last = total.saturating_sub(1);
        let at = |share: f64| ((share * total as f64).round() as u64).min(last);
        (at(self.begin), at(self.end))
    }
}

/// The sparsity after share `t` of the pruning phase, on the way to `target`: `target * (1 - (1 - t)^3)`. It grows fast
/// while many weights are idle and slowly in the end. `t` outside `[0, 1]` is taken as the nearer end.
pub fn cubic_sparsity(target: f64, t: f64) -> f64 {
    target * (1.0 - (1.0 - t.clamp(0.0, 1.0)).powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_nothing_and_ends_at_the_target() {
        assert_eq!(cubic_sparsity(0.9, 0.0), 0.0);
        assert_eq!(cubic_sparsity(0.9, 1.0), 0.9);
        assert_eq!(cubic_sparsity(0.9, 7.0), 0.9);
        // Half way, seven eighths of the weights that go are gone.
        assert!((cubic_sparsity(0.8, 0.5) - 0.7).abs() < 1e-12);
    }

    #[test]
    fn the_last_pruning_reaches_the_target_whatever_the_interval() {
        let gradual =
            GradualPruning { sparsity: 0.9, scope: Scope::Global, ignored: vec![], begin: 0.1, end: 0.5, every: 7 };
        let turns: Vec<u64> = (0..100).filter(|s| gradual.at(*s, 100).is_some()).collect();
        assert_eq!(turns, [10, 17, 24, 31, 38, 45, 50]);
        assert_eq!(gradual.at(50, 100).unwrap().amount, Amount::Sparsity(0.9));
        assert!(!gradual.complete(50, 100));
        assert!(gradual.complete(51, 100));
    }
}
