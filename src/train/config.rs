//! How to train: plain configurations. [`super::fit`] follows them.

/// How to train. The model of the epoch with the best validation accuracy is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// How long.
    pub length: Length,
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
    /// What is made small.
    pub objective: ObjectiveConfig,
    /// Parameters that stay as they are, bit for bit, by name or glob; gradual pruning leaves them alone, too. A batch
    /// normalisation whose running statistics are among them uses those while training too.
    pub frozen: Vec<String>,
    /// Where given, the model that is judged and kept is the moving average of the weights over the steps: after each,
    /// `average = decay * average + (1 - decay) * weights`, with a smaller decay in the first steps so that the average
    /// forgets where it started: in step `t`, counted from 0, at most `(1 + t) / (10 + t)`. In `(0, 1)`.
    pub ema_decay: Option<f64>,
    /// Where given, each sample is blended with another of its batch, with shares from `Beta(alpha, alpha)`; above 0. See
    /// [`Mixed`](crate::data::Mixed).
    pub mixup_alpha: Option<f64>,
}

impl Default for TrainConfig {
    /// One epoch of SGD with momentum 0.9 at rate 0.1 in batches of 128, and nothing else.
    fn default() -> Self {
        Self {
            length: Length::Epochs(1),
            batch_size: 128,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
            learning_rate: 0.1,
            schedule: ScheduleConfig::Constant,
            warmup_steps: 0,
            clip: ClipConfig::default(),
            early_stop: None,
            objective: ObjectiveConfig::default(),
            frozen: Vec::new(),
            ema_decay: None,
            mixup_alpha: None,
        }
    }
}

/// How long a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many passes over the training split.
    Epochs(u32),
    /// So many steps; the last epoch may end within the training split.
    Steps(u64),
}

impl Length {
    /// The epochs that are begun, and the steps in all, where a whole epoch has so many.
    pub(super) fn epochs_and_steps(self, steps_per_epoch: u64) -> (u32, u64) {
        match self {
            Length::Epochs(epochs) => (epochs, steps_per_epoch * u64::from(epochs)),
            Length::Steps(steps) => (u32::try_from(steps.div_ceil(steps_per_epoch)).unwrap_or(u32::MAX), steps),
        }
    }
}

/// What training makes small.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectiveConfig {
    /// Softmax cross entropy with the labels.
    CrossEntropy {
        /// Share of the target that is spread over all classes (Szegedy et al. 2016), in `[0, 1)`.
        label_smoothing: f64,
    },
    /// Knowledge distillation (Hinton et al. 2015): the cross entropy with the softened outputs of a teacher.
    Distill {
        /// The teacher.
        teacher: Teacher,
        /// Both networks' outputs are divided by it before the softmax; the gradient is multiplied by its square, so that
        /// it weighs the same at any temperature. From 0.001 to 10,000.
        temperature: f64,
        /// Share of the cross entropy with the labels in the sum, in `[0, 1]`.
        hard_weight: f64,
    },
}

impl Default for ObjectiveConfig {
    /// Cross entropy without smoothing.
    fn default() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0 }
    }
}

/// Who teaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Teacher {
    /// The model that the recipe's steps start from.
    Baseline,
    /// Another model, by the name under which it is given to the recipe.
    Model(String),
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
