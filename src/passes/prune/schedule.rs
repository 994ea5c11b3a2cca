//! How sparsity grows in gradual pruning (Zhu and Gupta 2017, "To prune, or not to prune"), and until when it may be thought
//! better of (Guo et al. 2016, "Dynamic Network Surgery").

use super::{Amount, PruneWeights, Scope, Scores};

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
    /// Where given, pruned weights may come back: which are pruned is decided anew each time, of all weights as they would
    /// be unpruned, and for the last time at this share of all steps, `end` or later.
    pub settle: Option<f64>,
}

impl GradualPruning {
    /// The sparsity to prune to before training step `step` (counted from 0) of `total`, if it is the turn of a pruning.
    pub fn at(&self, step: u64, total: u64) -> Option<f64> {
        let [begin, end, last] = self.phase(total);
        let turn =
            step == end || step == last || (step >= begin && (step - begin).is_multiple_of(u64::from(self.every)));
        let due = (begin..=last).contains(&step) && turn;
        let t = if end > begin { (step.max(begin) - begin) as f64 / (end - begin) as f64 } else { 1.0 };
        due.then(|| cubic_sparsity(self.sparsity, t))
    }

    /// The pruning to a sparsity, by these scores or else by magnitude.
    pub fn to(&self, sparsity: f64, scores: Option<Scores>) -> PruneWeights {
        PruneWeights { amount: Amount::Sparsity(sparsity), scope: self.scope, ignored: self.ignored.clone(), scores }
    }

    /// Whether the full sparsity has been reached, and what is pruned is decided, before step `step` of `total`.
    pub fn complete(&self, step: u64, total: u64) -> bool {
        step > self.phase(total)[2]
    }

    /// Whether what is pruned from step `step` of `total` on may come back.
    pub fn revises(&self, step: u64, total: u64) -> bool {
        self.settle.is_some() && step < self.phase(total)[2]
    }

    /// The first pruning step, that of the full sparsity, and the last; the last leaves at least one step to train after
    /// it, where there is one.
    fn phase(&self, total: u64) -> [u64; 3] {
        let last = total.saturating_sub(1);
        let at = |share: f64| ((share * total as f64).round() as u64).min(last);
        [self.begin, self.end, self.settle.unwrap_or(self.end).max(self.end)].map(at)
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

    fn gradual(settle: Option<f64>) -> GradualPruning {
        let scope = Scope::Global;
        GradualPruning { sparsity: 0.9, scope, ignored: vec![], begin: 0.1, end: 0.5, every: 7, settle }
    }

    fn turns(gradual: &GradualPruning, total: u64) -> Vec<u64> {
        (0..total).filter(|s| gradual.at(*s, total).is_some()).collect()
    }

    #[test]
    fn the_last_pruning_reaches_the_target_whatever_the_interval() {
        let gradual = gradual(None);
        assert_eq!(turns(&gradual, 100), [10, 17, 24, 31, 38, 45, 50]);
        assert_eq!(gradual.at(50, 100), Some(0.9));
        assert!(!gradual.complete(50, 100));
        assert!(gradual.complete(51, 100));
        assert!(!gradual.revises(20, 100));
    }

    #[test]
    fn what_may_come_back_is_decided_anew_until_it_settles() {
        let gradual = gradual(Some(0.7));
        assert_eq!(turns(&gradual, 100), [10, 17, 24, 31, 38, 45, 50, 52, 59, 66, 70]);
        assert!([50, 52, 70].iter().all(|step| gradual.at(*step, 100) == Some(0.9)));
        assert!(gradual.revises(69, 100) && !gradual.revises(70, 100));
        assert!(!gradual.complete(70, 100) && gradual.complete(71, 100));
        // However short the training is, one step is left.
        assert_eq!(turns(&GradualPruning { settle: Some(1.0), ..gradual }, 3), [0, 2]);
    }
}
