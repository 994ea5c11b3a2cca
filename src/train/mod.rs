//! Supervised training: [`fit`] is one loop, readable on one screen.
//!
//! What it puts together has a file each: the loss and its gradient at the outputs ([`objective`]), how parameters follow
//! the gradient ([`optim`]), the learning rate ([`schedule`]), bounds on the gradient ([`clip`]), accuracy and loss on a
//! split ([`metrics`]), the moving average of the weights, pruning along the way, the curve for the report, and which
//! epoch's model is kept. What is measured on training samples without learning from them is in [`calibrate`] and [`gram`],
//! what a weight or a channel matters by such measures in [`criterion`] and [`importance`]. Everything random follows from
//! the seed and sums are taken in a fixed order, so the same training on the same machine gives the same bits. A training
//! that was broken off goes on from its last [`TrainState`] and ends with the bits of one that was not.

pub mod calibrate;
mod check;
mod checkpoint;
pub mod clip;
pub mod config;
pub mod criterion;
mod curve;
mod ema;
mod fit;
pub mod gram;
pub mod importance;
pub mod metrics;
pub mod objective;
pub mod optim;
mod order;
mod plan;
mod pruning;
pub mod schedule;
mod selection;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::data::Subset;
use crate::error::{Classify, Kind, Violation};
use crate::exec::ExecError;
use crate::graph::Graph;
use crate::passes::PassError;

pub use checkpoint::TrainState;
pub use fit::fit;
pub use plan::check;
pub use pruning::Pruning;

/// Asked whether to keep the place where a training is; calling what it is given copies that place.
pub type KeepState<'a> = dyn FnMut(&dyn Fn() -> TrainState) + 'a;

/// What a training is given beside the graph and its configuration.
pub struct TrainContext<'a> {
    /// The samples to learn from.
    pub train: &'a Subset,
    /// The samples by which the best epoch is chosen.
    pub validation: &'a Subset,
    /// The order of the samples, their augmentation and what dropouts leave out follow from it.
    pub seed: u64,
    /// Asked before every step; once true, the training ends with [`TrainError::Cancelled`].
    pub cancelled: &'a dyn Fn() -> bool,
    /// Told about a hundred times in a training, and after every epoch, how far it is.
    pub progress: &'a mut dyn FnMut(&TrainProgress),
    /// Asked before every step and every validation, where the training may go on from later. Whoever wants to keep that
    /// place calls what comes with the question, which copies all there is.
    pub keep: Option<&'a mut KeepState<'a>>,
    /// Where an earlier call with the same arguments was.
    pub resume: Option<TrainState>,
    /// Set when the training is cancelled and an epoch has been fit to be chosen: the network of the best one.
    pub best: Option<Graph>,
}

impl<'a> TrainContext<'a> {
    /// A training from the beginning, of which nothing is kept on the way.
    pub fn new(
        train: &'a Subset,
        validation: &'a Subset,
        seed: u64,
        cancelled: &'a dyn Fn() -> bool,
        progress: &'a mut dyn FnMut(&TrainProgress),
    ) -> Self {
        Self { train, validation, seed, cancelled, progress, keep: None, resume: None, best: None }
    }
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrainProgress {
    /// The epoch at work, counted from 1.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// The loss of the latest step.
    pub loss: Option<f64>,
    /// The accuracy on the validation split after the latest epoch.
    pub validation_accuracy: Option<f64>,
}

/// Why a training did not end well.
#[derive(Debug, Error)]
pub enum TrainError {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Loss or gradient are no finite numbers any more.
    #[error("the training diverged in epoch {epoch}, step {step}: try a lower learning rate, a warm-up or clipping")]
    Diverged {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The step of the whole training, counted from 1.
        step: u64,
    },
    /// A number in the configuration that makes no sense.
    #[error("{field} {problem}")]
    Config {
        /// The field of [`config::TrainConfig`].
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name or glob among the frozen parameters that fits none.
    #[error("'{pattern}' in `frozen` fits no parameter of the model")]
    NoSuchParam {
        /// The name or glob.
        pattern: String,
    },
    /// A split without samples.
    #[error("the {split} split has no samples")]
    Empty {
        /// `training`, `validation` or, where samples are only measured on, `evaluation`.
        split: &'static str,
    },
    /// A label for which the network has no output.
    #[error("label {label} is out of range: the network has {classes} outputs")]
    Label {
        /// The label.
        label: u32,
        /// Outputs a sample.
        classes: usize,
    },
    /// The network's output does not divide into the samples.
    #[error("{outputs} output values do not belong to {samples} samples")]
    Outputs {
        /// Values of the first output.
        outputs: usize,
        /// Labels of the batch.
        samples: usize,
    },
    /// What is measured on training samples is no finite number.
    #[error("'{name}' is not finite on the training samples")]
    NotFinite {
        /// The value or running statistic.
        name: String,
    },
    /// An objective could not be computed, and says why.
    #[error("{0}")]
    Objective(Box<dyn Classify + Send + Sync>),
    /// The graph did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The pruning within the training failed.
    #[error(transparent)]
    Pass(#[from] PassError),
}

impl Classify for TrainError {
    fn kind(&self) -> Kind {
        match self {
            TrainError::Cancelled => Kind::Cancelled,
            TrainError::Diverged { .. } | TrainError::NotFinite { .. } => Kind::FailedPrecondition,
            TrainError::Config { .. }
            | TrainError::NoSuchParam { .. }
            | TrainError::Empty { .. }
            | TrainError::Label { .. } => Kind::InvalidArgument,
            TrainError::Outputs { .. } => Kind::Internal,
            TrainError::Objective(error) => error.kind(),
            TrainError::Exec(error) => error.kind(),
            TrainError::Pass(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            TrainError::Cancelled => "CANCELLED",
            TrainError::Diverged { .. } => "DIVERGED",
            TrainError::Config { .. } => "TRAIN_CONFIG",
            TrainError::NoSuchParam { .. } => "NO_SUCH_PARAMETER",
            TrainError::NotFinite { .. } => "NON_FINITE",
            TrainError::Objective(error) => error.reason(),
            TrainError::Empty { .. } => "EMPTY_SPLIT",
            TrainError::Label { .. } => "LABEL_OUT_OF_RANGE",
            TrainError::Outputs { .. } => "TRAIN_FAILED",
            TrainError::Exec(error) => error.reason(),
            TrainError::Pass(error) => error.reason(),
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            TrainError::Config { field, problem } => vec![Violation::new(*field, *problem)],
            TrainError::NoSuchParam { .. } => vec![Violation::new("frozen", self.to_string())],
            TrainError::Objective(error) => error.violations(),
            TrainError::Pass(error) => error.violations(),
            _ => Vec::new(),
        }
    }
}
