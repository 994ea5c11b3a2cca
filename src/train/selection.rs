//! Which epoch's model is kept, and when to end early.

use serde::{Deserialize, Serialize};

use super::config::EarlyStop;
use super::metrics::Evaluation;

/// Remembers the best epoch so far: the highest validation accuracy, of equal ones the lower loss, of equal ones the
/// earlier. Only epochs that are told to it take part.
pub(super) struct Selection {
    best: Option<Best>,
    early_stop: Option<EarlyStop>,
    plateau: Option<Plateau>,
}

/// The best epoch so far.
pub(super) struct Best {
    /// Which it was, and how well it did.
    pub(super) figures: Figures,
    /// The parameters after it.
    pub(super) params: Vec<f32>,
}

/// How well an epoch did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Counted from 1.
    pub(super) epoch: u32,
    accuracy: f64,
    loss: f64,
}

/// The accuracy that the next improvement is measured from, and the epochs since it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Plateau {
    accuracy: f64,
    epochs: u32,
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
        let figures = Figures { epoch, accuracy: found.accuracy, loss: found.loss };
        let better = self.best.as_ref().is_none_or(|Best { figures: best, .. }| {
            figures.accuracy > best.accuracy || (figures.accuracy == best.accuracy && figures.loss < best.loss)
        });
        if better {
            self.best = Some(Best { figures, params: params.to_vec() });
        }
        let Some(EarlyStop { patience, min_delta }) = self.early_stop else { return Next::GoOn };
        self.plateau = match self.plateau {
            Some(Plateau { accuracy, epochs }) if found.accuracy <= accuracy + min_delta => {
                Some(Plateau { accuracy, epochs: epochs + 1 })
            }
            _ => Some(Plateau { accuracy: found.accuracy, epochs: 0 }),
        };
        match self.plateau {
            Some(Plateau { epochs, .. }) if epochs >= patience.max(1) => Next::Stop,
            _ => Next::GoOn,
        }
    }

    /// What it remembers.
    pub(super) fn state(&self) -> (Option<&Best>, Option<Plateau>) {
        (self.best.as_ref(), self.plateau)
    }

    /// Goes on from what another one remembered.
    pub(super) fn load_state(&mut self, best: Option<Best>, plateau: Option<Plateau>) {
        (self.best, self.plateau) = (best, plateau);
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
        assert_eq!((best.figures.epoch, best.params), (3, vec![3.0]));
    }

    #[test]
    fn training_ends_after_as_many_epochs_without_improvement_as_allowed() {
        let mut selection = Selection::new(Some(EarlyStop { patience: 2, min_delta: 0.05 }));
        // 0.84 is too little above 0.8, 0.86 is enough.
        let found = observe(&mut selection, &[(0.8, 1.0), (0.84, 1.0), (0.86, 1.0), (0.9, 1.0), (0.5, 1.0)]);
        assert_eq!(found, [Next::GoOn, Next::GoOn, Next::GoOn, Next::GoOn, Next::Stop]);
        // What is too little for an improvement may still be the best.
        assert_eq!(selection.into_best().unwrap().figures.epoch, 4);
    }
}
