//! Which epoch's model is kept, and when to end early.

use super::config::EarlyStop;
use super::metrics::Evaluation;

/// Remembers the best epoch so far: the highest validation accuracy, of equal ones the lower loss, of equal ones the
/// earlier. Only epochs that are told to it take part.
pub(super) struct Selection {
    best: Option<Best>,
    early_stop: Option<EarlyStop>,
    /// The accuracy that the next improvement is measured from, and the epochs since it was reached.
    plateau: Option<(f64, u32)>,
}

/// The best epoch so far.
pub(super) struct Best {
    /// Counted from 1.
    pub(super) epoch: u32,
    /// The parameters after it.
    pub(super) params: Vec<f32>,
    accuracy: f64,
    loss: f64,
}

/// Whether training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It does.
    GoOn,
    /// There was no improvement for as long as the configuration allows.
    Stop,
}

impl Selection {
    pub(super) fn new(early_stop: Option<EarlyStop>) -> Self {
        Self { best: None, early_stop, plateau: None }
    }

    /// Takes note of an epoch.
    pub(super) fn observe(&mut self, epoch: u32, found: &Evaluation, params: &[f32]) -> Next {
        let better = self.best.as_ref().is_none_or(|best| {
            found.accuracy > best.accuracy || (found.accuracy == best.accuracy && found.loss < best.loss)
        });
        if better {
            let (accuracy, loss) = (found.accuracy, found.loss);
            self.best = Some(Best { epoch, params: params.to_vec(), accuracy, loss });
        }
        let Some(EarlyStop { patience, min_delta }) = self.early_stop else { return Next::GoOn };
        self.plateau = match self.plateau {
            Some((accuracy, epochs)) if found.accuracy <= accuracy + min_delta => Some((accuracy, epochs + 1)),
            _ => Some((found.accuracy, 0)),
        };
        match self.plateau {
            Some((_, epochs)) if epochs >= patience.max(1) => Next::Stop,
            _ => Next::GoOn,
        }
    }

    /// The best epoch, if any took part.
    pub(super) fn into_best(self) -> Option<Best> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(selection: &mut Selection, epochs: &[(f64, f64)]) -> Vec<Next> {
        (1..)
            .zip(epochs)
            .map(|(epoch, &(accuracy, loss))| {
                selection.observe(epoch, &Evaluation { correct: vec![], accuracy, loss }, &[epoch as f32])
            })
            .collect()
    }

    #[test]
    fn the_highest_accuracy_is_kept_and_ties_go_to_the_lower_loss() {
        let mut selection = Selection::new(None);
        observe(&mut selection, &[(0.8, 0.5), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.7, 0.1)]);
        let best = selection.into_best().unwrap();
        assert_eq!((best.epoch, best.params), (3, vec![3.0]));
    }

    #[test]
    fn training_ends_after_as_many_epochs_without_improvement_as_allowed() {
        let mut selection = Selection::new(Some(EarlyStop { patience: 2, min_delta: 0.05 }));
        // 0.84 is too little above 0.8, 0.86 is enough.
        let found = observe(&mut selection, &[(0.8, 1.0), (0.84, 1.0), (0.86, 1.0), (0.9, 1.0), (0.5, 1.0)]);
        assert_eq!(found, [Next::GoOn, Next::GoOn, Next::GoOn, Next::GoOn, Next::Stop]);
        // What is too little for an improvement may still be the best.
        assert_eq!(selection.into_best().unwrap().epoch, 4);
    }
}
