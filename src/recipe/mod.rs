//! A recipe: what to do with a model, step by step, and the engine's single entry, [`run`](fn@run::run).
//!
//! These types are what a recipe *means*; its file form is the proto3 JSON mapping of `niwaki.v1.Recipe`, read by
//! `api::recipe`.

pub mod analyze;
mod channels;
mod checkpoint;
mod error;
mod evolve;
mod files;
mod identity;
mod measure;
mod outline;
pub mod run;
mod step;
mod unroll;
mod validate;
mod warnings;

pub use channels::PruneChannelsStep;
pub use checkpoint::{CHECKPOINT_FILE, Keep, Leaving};
pub use error::RecipeError;
pub use evolve::{Choose, EvolveChannelsStep};
pub use validate::misfits;

use std::collections::{BTreeMap, BTreeSet};

use crate::data::{DataSpec, Dataset};
use crate::format;
use crate::graph::init::Init;
use crate::passes::insert_batch_norm::InsertBatchNorm;
use crate::passes::insert_dropout::InsertDropout;
use crate::passes::low_rank::LowRank;
use crate::passes::prune::{Amount, Scope};
use crate::passes::quantize::Quantize;
use crate::train::calibrate::Batches;
use crate::train::config::{ObjectiveConfig, Teacher, TrainConfig};
use crate::train::criterion::Criterion;

/// The version of the recipe format that this niwaki reads.
pub const VERSION: u32 = 1;
/// More steps than any sensible recipe has.
pub const MAX_STEPS: usize = 64;
/// More steps than any sensible recipe does, those of every round of a repetition counted.
pub const MAX_UNROLLED: usize = 512;

/// What a recipe is applied to.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The model to start from; `None`: the recipe starts from a built-in network.
    pub model: Option<&'a Upload>,
    /// Other models that the recipe speaks of, by the names it has for them.
    pub extra: &'a BTreeMap<String, Upload>,
    /// The data set.
    pub data: &'a Dataset,
}

/// A model as it was given.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Size of its file.
    pub bytes: u64,
    /// What was read from it.
    pub model: format::Model,
}

/// What to do with a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The format's version; [`VERSION`].
    pub version: u32,
    /// A short name.
    pub name: String,
    /// What it needs and promises, for people.
    pub description: String,
    /// All randomness follows from it.
    pub seed: u64,
    /// How the data set is read, transformed and split.
    pub data: DataSpec,
    /// Starts from a built-in network instead of a given model.
    pub start: Option<Start>,
    /// What to do, in this order.
    pub steps: Vec<Step>,
}

impl Recipe {
    /// The trainings in the recipe.
    fn trainings(&self) -> impl Iterator<Item = &TrainConfig> {
        let steps = self.flat().filter_map(|step| match &step.kind {
            StepKind::Train(train) => Some(train),
            StepKind::PruneWeights(prune) => prune.schedule.train(),
            _ => None,
        });
        self.start.iter().map(|start| &start.train).chain(steps)
    }

    /// Whether a step draws or trains weights.
    fn changes_weights(&self) -> bool {
        let draws = |step: &Step| {
            matches!(step.kind, StepKind::Initialise(_) | StepKind::PruneChannels(_) | StepKind::EvolveChannels(_))
        };
        self.trainings().next().is_some() || self.flat().any(draws)
    }

    /// The names of the models that teach.
    fn teachers(&self) -> BTreeSet<&str> {
        let objectives = self.trainings().map(|train| &train.objective);
        objectives
            .filter_map(|objective| match objective {
                ObjectiveConfig::Distill { teacher: Teacher::Model(name), .. } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// Starts from a built-in network, trained from fresh weights: the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its name with its options; see [`crate::graph::preset`].
    pub preset: String,
    /// How its weights are drawn.
    pub init: Init,
    /// How to train it.
    pub train: TrainConfig,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// A label; empty: the kind.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// Measures the model as it stands.
    Evaluate,
    /// Sets weights to zero.
    PruneWeights(PruneWeightsStep),
    /// Trains.
    Train(TrainConfig),
    /// Stores weights in fewer bits.
    Quantize(Quantize),
    /// Replaces layers by two thinner ones each.
    LowRank(LowRank),
    /// Puts batch normalisations in.
    InsertBatchNorm(InsertBatchNormStep),
    /// Puts dropouts in.
    InsertDropout(InsertDropout),
    /// Works batch normalisations into the layers beside them, and takes dropouts out.
    Fold,
    /// Measures the running statistics of batch normalisations anew.
    RecalibrateBatchNorm(Batches),
    /// Draws all weights anew.
    Initialise(Init),
    /// Goes on with another network, with fresh weights.
    Student(Student),
    /// Does some steps several times.
    Repeat(Repeat),
    /// Remembers the present parameters.
    Mark,
    /// Sets all learned parameters back to those that were marked last; masks stay.
    Rewind,
    /// Cuts channels, units and heads out.
    PruneChannels(PruneChannelsStep),
    /// Searches for how many channels, units and heads stay.
    EvolveChannels(EvolveChannelsStep),
}

/// Does some steps several times. None of them is a repetition.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeat {
    /// Rounds.
    pub times: u32,
    /// What each round does, in this order.
    pub steps: Vec<Step>,
}

/// Goes on with another network, with fresh weights: one that learns from those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Student {
    /// The network.
    pub network: Network,
    /// How its weights are drawn.
    pub init: Init,
}

/// Where a step's network comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A built-in one, by its name with its options.
    Preset(String),
    /// The graph of a model that is given to the recipe, by its name there; its weights are not used.
    Model(String),
}

/// Puts batch normalisations before or after activations.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertBatchNormStep {
    /// Where, and with which constants.
    pub insert: InsertBatchNorm,
    /// How the statistics are measured that leave the network's function as it was.
    pub calibrate: Batches,
}

impl StepKind {
    /// The kind's name in reports, such as `prune-weights`.
    pub fn name(&self) -> &'static str {
        match self {
            StepKind::Evaluate => "evaluate",
            StepKind::PruneWeights(_) => "prune-weights",
            StepKind::Train(_) => "train",
            StepKind::Quantize(_) => "quantize",
            StepKind::LowRank(_) => "low-rank",
            StepKind::InsertBatchNorm(_) => "insert-batch-norm",
            StepKind::InsertDropout(_) => "insert-dropout",
            StepKind::Fold => "fold",
            StepKind::RecalibrateBatchNorm(_) => "recalibrate-batch-norm",
            StepKind::Initialise(_) => "initialise",
            StepKind::Student(_) => "student",
            StepKind::Repeat(_) => "repeat",
            StepKind::Mark => "mark",
            StepKind::Rewind => "rewind",
            StepKind::PruneChannels(_) => "prune-channels",
            StepKind::EvolveChannels(_) => "evolve-channels",
        }
    }

    /// The field of `niwaki.v1.Step` that holds it, for paths in errors.
    pub fn field(&self) -> String {
        self.name().replace('-', "_")
    }
}

/// Sets weights to zero, at once or little by little.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneWeightsStep {
    /// How many weights go.
    pub amount: Amount,
    /// Which weights are compared with which.
    pub scope: Scope,
    /// What a weight matters.
    pub criterion: Criterion,
    /// Parameters left alone, by name or glob.
    pub ignored: Vec<String>,
    /// When they go.
    pub schedule: PruneSchedule,
}

/// When weights go.
#[derive(Debug, Clone, PartialEq)]
pub enum PruneSchedule {
    /// At once.
    OneShot,
    /// Little by little while training, for good. Only with [`Amount::Sparsity`].
    Cubic(Cubic),
    /// Little by little while training, and may come back. Only with [`Amount::Sparsity`].
    Surgery {
        /// How the sparsity grows; which weights are pruned is decided anew each time.
        cubic: Cubic,
        /// Where it is decided for the last time, as a share of the training's steps.
        settle: f64,
        /// The share of itself that a weight at zero loses in each step, in `[0, 1)`.
        decay: f64,
    },
}

impl PruneSchedule {
    /// The training that goes with it.
    pub fn train(&self) -> Option<&TrainConfig> {
        match self {
            PruneSchedule::OneShot => None,
            PruneSchedule::Cubic(cubic) | PruneSchedule::Surgery { cubic, .. } => Some(&cubic.train),
        }
    }

    /// The field of `niwaki.v1.PruneWeights` that holds it, for paths in errors.
    pub fn field(&self) -> &'static str {
        match self {
            PruneSchedule::OneShot => "one_shot",
            PruneSchedule::Cubic(_) => "cubic",
            PruneSchedule::Surgery { .. } => "surgery",
        }
    }
}

/// Prunes while training: after share `t` of the phase from `begin` to `end` the sparsity is `s * (1 - (1 - t)^3)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cubic {
    /// The training that goes with it.
    pub train: TrainConfig,
    /// Where pruning begins, as a share of the training's steps.
    pub begin: f64,
    /// Where it ends.
    pub end: f64,
    /// Training steps between two prunings.
    pub every: u32,
}
