//! How to train: plain configurations. [`super::fit`] follows them.

/// How to train. The model of the epoch with the best validation accuracy is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: u32,
    /// Samples a step.
    pub batch_size: u32,
    /// How parameters follow the gradient.
    pub optimizer: OptimizerConfig,
    /// The learning rate at its highest.
    pub learning_rate: f64,
    /// How the learning rate goes on from there.
    pub schedule: ScheduleConfig,
    /// Steps over which the learning rate first climbs from 0.
    pub warmup_steps: u32,
    /// Bounds on the gradient.
    pub clip: ClipConfig,
    /// When to end before the last epoch.
    pub early_stop: Option<EarlyStop>,
}

/// How parameters follow the gradient.
#[derive(Debug, Clone, PartialEq)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum, in `[0, 1)`.
        momentum: f64,
        /// Whether to step along `g + momentum * v`.
        nesterov: bool,
        /// L2 weight decay.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay of the mean of gradients, in `[0, 1)`.
        beta1: f64,
        /// Decay of the mean of squared gradients, in `[0, 1)`.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleConfig {
    /// Stays.
    Constant,
    /// Is multiplied by `gamma` every `every_epochs` epochs.
    Step {
        /// Epochs between two falls.
        every_epochs: u32,
        /// The factor, in `(0, 1]`.
        gamma: f64,
    },
    /// Falls along half a cosine to `floor` times the highest at the last step.
    Cosine {
        /// The last learning rate as a share of the highest, in `[0, 1]`.
        floor: f64,
    },
}

/// Bounds on the gradient. Values are clipped first, then the norm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClipConfig {
    /// Lower and upper bound on every value.
    pub value: Option<(f64, f64)>,
    /// The largest L2 norm over all parameters.
    pub norm: Option<f64>,
}

/// When to end before the last epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStop {
    /// Epochs without improvement.
    pub patience: u32,
    /// What counts as an improvement of the validation accuracy.
    pub min_delta: f64,
}
