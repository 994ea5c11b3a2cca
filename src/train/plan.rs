//! What a training comes to, before anything runs: its length, and whether the network can be trained so at all.

use std::collections::HashSet;

use super::config::{Length, TrainConfig};
use super::{TrainError, order};
use crate::graph::{Graph, ParamId, glob};

/// The most epochs, each of which is validated and reported; a training of many steps over few samples may come to more.
const MOST_EPOCHS: u32 = 10_000;

/// What follows from network, configuration and data before anything runs.
pub(super) struct Plan {
    pub(super) frozen: HashSet<ParamId>,
    pub(super) steps_per_epoch: u64,
    pub(super) epochs: u32,
    pub(super) total: u64,
}

/// Whether `graph` can be trained so on so many samples. Nothing is computed; the error's violations name the field of
/// `niwaki.v1.Train`.
pub fn check(graph: &Graph, config: &TrainConfig, samples: usize) -> Result<(), TrainError> {
    Plan::new(graph, config, samples).map(|_plan| ())
}

impl Plan {
    /// Makes the plan, and refuses what cannot be trained.
    pub(super) fn new(graph: &Graph, config: &TrainConfig, samples: usize) -> Result<Self, TrainError> {
        let refuse = |field, problem| Err(TrainError::Config { field, problem });
        config.check()?;
        if samples == 0 {
            return Err(TrainError::Empty { split: "training" });
        }
        let frozen = glob::select(graph, &config.frozen);
        let frozen = frozen.map_err(|pattern| TrainError::NoSuchParam { pattern: pattern.to_string() })?;
        let frozen: HashSet<ParamId> = frozen.into_iter().collect();
        let statistics = graph.statistics();
        if graph.param_ids().all(|id| frozen.contains(&id) || statistics.contains(&id)) {
            return refuse("frozen", "leaves no parameter to train");
        }
        let smallest = order::smallest_batch(graph, &frozen);
        let batch_size = samples.min(config.batch_size as usize);
        if batch_size < smallest {
            return refuse("batch_size", "must be at least 2: a batch normalisation needs a variance over samples");
        }
        // A last batch that is too small for the network is left out; the next epoch's order is another.
        let steps_per_epoch = (samples / batch_size + usize::from(samples % batch_size >= smallest)) as u64;
        let (epochs, total) = config.length.epochs_and_steps(steps_per_epoch);
        if epochs > MOST_EPOCHS {
            let field = if matches!(config.length, Length::Steps(_)) { "steps" } else { "epochs" };
            return refuse(field, "come to more than 10000 epochs");
        }
        Ok(Plan { frozen, steps_per_epoch, epochs, total })
    }
}
