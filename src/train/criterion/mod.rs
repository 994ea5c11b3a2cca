//! What a weight matters, by which it is pruned or kept: the criteria that look at data measure it on training samples.
//!
//! With the weight `w` and the gradient `g` of the mean cross entropy at it:
//!
//! | criterion | score | source |
//! |---|---|---|
//! | magnitude | `|w|` | Han et al. 2015 |
//! | taylor | mean over batches of `(w g)^2` | Molchanov et al. 2019 |
//! | snip | `|w mean(g)|`, the mean over batches | Lee et al. 2019 |
//! | fisher | `w^2 mean(g^2) / 2`, the mean over single samples: the saliency of optimal brain damage with the Fisher information in the place of the Hessian's diagonal | LeCun et al. 1990 |
//! | wanda | `|w| ‖x‖`, `x` what the weight is multiplied with | Sun et al. 2023 |
//! | movement | `-sum w g` over the steps of a training | Sanh et al. 2020 |

pub(super) mod gradient;
mod inputs;
#[cfg(test)]
mod tests;

use super::TrainError;
use super::calibrate::Batches;
use crate::data::Subset;
use crate::graph::Graph;
use crate::passes::prune::Scores;

pub use inputs::unread;

/// What a weight matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Criterion {
    /// Its magnitude.
    #[default]
    Magnitude,
    /// How much the loss would change in each batch without it, to first order.
    Taylor(Batches),
    /// How much the loss would change over all batches without it, to first order.
    Snip(Batches),
    /// How much the loss would grow without it, to second order. Each sample has a gradient of its own.
    Fisher(Batches),
    /// Its magnitude and how large its input is.
    Wanda(Batches),
    /// Whether training moves it away from zero; only along a training.
    Movement,
}

impl Criterion {
    /// The field of `niwaki.v1.PruneWeights` that holds it, for paths in errors.
    pub fn field(self) -> &'static str {
        match self {
            Criterion::Magnitude => "magnitude",
            Criterion::Taylor(_) => "taylor",
            Criterion::Snip(_) => "snip",
            Criterion::Fisher(_) => "fisher",
            Criterion::Wanda(_) => "wanda",
            Criterion::Movement => "movement",
        }
    }

    /// On how many samples it measures, if it looks at samples before a pruning.
    pub fn batches(self) -> Option<Batches> {
        match self {
            Criterion::Magnitude | Criterion::Movement => None,
            Criterion::Taylor(how) | Criterion::Snip(how) | Criterion::Fisher(how) | Criterion::Wanda(how) => Some(how),
        }
    }

    /// The scores of all weights of `graph`, measured on batches of `train` that follow from `seed`; `None` where the
    /// criterion measures nothing. Batch normalisations go by their running statistics, and dropouts do not act.
    /// `cancelled` is asked before every batch.
    ///
    /// Errors: a count of 0, no samples, and a score that is no finite number, by the parameter.
    pub fn scores(
        self,
        graph: &Graph,
        train: &Subset,
        seed: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Scores>, TrainError> {
        let scores = match self {
            Criterion::Magnitude | Criterion::Movement => return Ok(None),
            Criterion::Wanda(how) => inputs::scores(graph, train, how, seed, cancelled)?,
            Criterion::Taylor(how) => gradient::scores(graph, gradient::Mean::Squares, train, how, seed, cancelled)?,
            Criterion::Snip(how) => gradient::scores(graph, gradient::Mean::Values, train, how, seed, cancelled)?,
            Criterion::Fisher(how) => {
                let samples = how.batches.saturating_mul(how.batch_size);
                let each = Batches { batches: samples, batch_size: 1 };
                let mut scores = gradient::scores(graph, gradient::Mean::Squares, train, each, seed, cancelled)?;
                scores.values_mut().flatten().for_each(|score| *score /= 2.0);
                scores
            }
        };
        match scores.iter().find(|(_, scores)| scores.iter().any(|score| !score.is_finite())) {
            Some((id, _)) => Err(TrainError::NotFinite { name: graph.param(*id).name.clone() }),
            None => Ok(Some(scores)),
        }
    }
}
