//! Pruning along a training.
//!
//! What is pruned for good is masked in the network. While it may come back (Guo et al. 2016, "Dynamic Network Surgery"),
//! the network computes with zeros, and the weights it would have are kept beside it: they follow the gradient that there is
//! at the zeros (straight-through, Bengio et al. 2013), and with the others they are what the next decision is taken by. As
//! nothing that they do shows in the gradient, they would grow without bounds: in each step they shrink by `decay`, so that
//! only those come back that the gradient keeps asking for (as in SR-STE, Zhou et al. 2021).
//!
//! ```text
//! y = f(x; w m)     w = (w - rate * dL/d(w m)) (1 - decay (1 - m))     m = [|w| or the score of w is among the largest]
//! ```
//!
//! Movement pruning (Sanh et al. 2020) scores a weight by `S = -sum w dL/d(w m)` over the steps so far: what training moves
//! away from zero gains, what it moves towards zero loses.

use std::sync::Arc;

use super::criterion::Criterion;
use super::fit::Training;
use super::{TrainContext, TrainError};
use crate::exec::Session;
use crate::graph::{Graph, ParamId};
use crate::passes;
use crate::passes::prune::{GradualPruning, Scores};
use crate::seed;

/// How weights are pruned along a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Pruning {
    /// How many, and when.
    pub gradual: GradualPruning,
    /// Which.
    pub criterion: Criterion,
    /// The share of itself that a weight set aside loses in each step, in `[0, 1)`.
    pub decay: f64,
}

/// One flag an element of each parameter that has a mask, in the graph's order.
type Masks = Vec<Option<Arc<[bool]>>>;

/// What of a pruning is no part of the network.
pub(super) struct Pruner {
    /// What was pruned before the training, which does not come back.
    before: Masks,
    /// The weights that would be in the place of those pruned for now, among the session's trained parameters; elsewhere
    /// zero. `None`: nothing comes back.
    pub(super) aside: Option<Vec<f32>>,
    /// What is left of a weight set aside after a step.
    keep: f32,
    /// The scores of the session's trained parameters.
    pub(super) movement: Option<Vec<f32>>,
}

impl Pruner {
    pub(super) fn new(pruning: Option<&Pruning>, graph: &Graph, session: &Session) -> Self {
        let moves = pruning.is_some_and(|pruning| pruning.criterion == Criterion::Movement);
        let keep = pruning.map_or(1.0, |pruning| (1.0 - pruning.decay) as f32);
        Self { before: masks(graph), aside: None, keep, movement: moves.then(|| vec![0.0; session.trained()]) }
    }

    /// Before a step of the optimizer: brings back what is set aside, and follows the movement.
    pub(super) fn before_step(&mut self, params: &mut [f32], gradients: &[f32]) {
        if let Some(aside) = &self.aside {
            // What is not aside is zero there, and what is aside is zero here.
            params.iter_mut().zip(aside).for_each(|(param, aside)| *param += aside);
        }
        if let Some(scores) = &mut self.movement {
            let moved = params.iter().zip(gradients).map(|(param, gradient)| param * gradient);
            scores.iter_mut().zip(moved).for_each(|(score, moved)| *score -= moved);
        }
    }

    /// After a step of the optimizer: masked weights become zero, and those that may come back are set aside.
    pub(super) fn after_step(&mut self, session: &mut Session) {
        match &mut self.aside {
            Some(aside) => {
                set_aside(session, aside, Session::apply_masks);
                aside.iter_mut().for_each(|aside| *aside *= self.keep);
            }
            None => session.apply_masks(),
        }
    }

    /// Goes on from the state of another; `false`, and nothing changes, if that is of another training.
    pub(super) fn load_state(
        &mut self,
        session: &mut Session,
        aside: Option<Vec<f32>>,
        movement: Option<Vec<f32>>,
    ) -> bool {
        let fits = |values: &Option<Vec<f32>>| values.as_ref().is_none_or(|v| v.len() == session.trained());
        let same = fits(&aside) && fits(&movement) && movement.is_some() == self.movement.is_some();
        if same {
            session.let_through(aside.is_some().then(|| self.before.clone()));
            (self.aside, self.movement) = (aside, movement);
        }
        same
    }
}

/// Does `mask`, which makes parameters zero, and writes to `aside` what they were; zero where they stay.
fn set_aside(session: &mut Session, aside: &mut [f32], mask: impl FnOnce(&mut Session)) {
    aside.copy_from_slice(&session.params()[..aside.len()]);
    mask(session);
    for (aside, left) in aside.iter_mut().zip(session.params()) {
        *aside = if *left == *aside { 0.0 } else { *aside };
    }
}

fn masks(graph: &Graph) -> Masks {
    graph.params().iter().map(|param| param.mask.clone()).collect()
}

impl Training {
    /// Prunes before a step, if it is the turn of that. The optimizer's state stays: what it holds for masked weights
    /// never shows.
    pub(super) fn prune(
        &mut self,
        pruning: &Pruning,
        frozen: &[String],
        total: u64,
        cx: &TrainContext<'_>,
    ) -> Result<(), TrainError> {
        let Pruning { gradual, criterion, .. } = pruning;
        let Some(sparsity) = gradual.at(self.step, total) else { return Ok(()) };
        if let Some(aside) = self.pruner.aside.take() {
            self.session.params_mut().iter_mut().zip(&aside).for_each(|(param, aside)| *param += aside);
            self.set_masks(self.pruner.before.clone())?;
        }
        self.session.write_back(&mut self.draft)?;
        let scores = match &self.pruner.movement {
            Some(movement) => Some(by_param(&self.draft, &self.session, movement)?),
            None => {
                let seed = seed::derive(cx.seed, &format!("criterion/{}", self.step));
                criterion.scores(&self.draft, cx.train, seed, cx.cancelled)?
            }
        };
        let mut pass = gradual.to(sparsity, scores);
        pass.ignored.extend_from_slice(frozen);
        passes::apply(&pass, &mut self.draft)?;

        let revises = gradual.revises(self.step, total);
        let (session, draft) = (&mut self.session, &self.draft);
        if revises {
            let mut aside = vec![0.0; session.trained()];
            let mut loaded = Ok(());
            set_aside(session, &mut aside, |session| loaded = session.load(draft));
            loaded?;
            self.pruner.aside = Some(aside);
        } else {
            session.load(draft)?;
        }
        self.session.let_through(revises.then(|| self.pruner.before.clone()));
        Ok(())
    }

    fn set_masks(&mut self, masks: Masks) -> Result<(), TrainError> {
        let mut edit = self.draft.edit();
        let ids: Vec<ParamId> = edit.graph().param_ids().collect();
        ids.into_iter().zip(masks).for_each(|(id, mask)| edit.set_mask(id, mask));
        edit.commit().map_err(passes::PassError::from)?;
        Ok(())
    }
}

/// The session's numbers of all trained weights, by parameter.
fn by_param(graph: &Graph, session: &Session, numbers: &[f32]) -> Result<Scores, TrainError> {
    let weights = session.views().iter().filter(|view| graph.param(view.id).is_weight());
    let mut scores = Scores::new();
    for view in weights {
        let Some(own) = numbers.get(view.range.clone()) else { continue };
        if own.iter().any(|score| !score.is_finite()) {
            return Err(TrainError::NotFinite { name: view.name.clone() });
        }
        scores.insert(view.id, own.iter().map(|score| f64::from(*score)).collect());
    }
    Ok(scores)
}
