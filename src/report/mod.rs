//! The report: what a recipe did, in plain structs that serialise to `report.json`.
//!
//! The report knows no graph and no session: whoever measures fills it in. Accuracies are shares between 0 and 1;
//! `accuracy_delta` is result minus baseline, so -0.01 is one point lost.

mod analysis;
mod interval;

use serde::{Deserialize, Serialize};

pub use analysis::{Analysis, Figures, GroupSensitivity, Plan, Point};
pub use interval::{Z_95, paired_interval};

/// What a recipe did to a model, measured on the emitted file. `niwaki.v1.JobResult` holds the same data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// The recipe's seed.
    pub seed: u64,
    /// The model before the steps: the upload, or the trained preset.
    pub baseline: Metrics,
    /// The model after the steps.
    pub result: Metrics,
    /// Result minus baseline, on the test split.
    pub accuracy_delta: f64,
    /// Low and high end of the delta's 95 % interval.
    pub accuracy_delta_ci95: [f64; 2],
    /// Samples in the test split.
    pub test_samples: u64,
    /// What each class gained or lost.
    #[serde(default)]
    pub classes: Vec<ClassChange>,
    /// What the training of a preset did, where the recipe starts from one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<TrainDetail>,
    /// What each step did.
    #[serde(default)]
    pub steps: Vec<StepEffect>,
    /// The emitted files.
    pub files: Vec<EmittedFile>,
    /// What a reader should know before trusting or using the result.
    pub warnings: Vec<String>,
    /// What computed it.
    pub machine: Machine,
}

/// Two models measured on the same test split.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The figures of the first.
    pub baseline: Metrics,
    /// The figures of the second.
    pub result: Metrics,
    /// Accuracy of the second minus that of the first.
    pub delta: f64,
    /// Low and high end of the delta's 95 % interval.
    pub delta_ci95: [f64; 2],
    /// Samples in the test split.
    pub test_samples: u64,
    /// What each class gained or lost.
    pub classes: Vec<ClassChange>,
}

/// The figures of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Share of the test split that is classified rightly.
    pub accuracy: f64,
    /// Mean cross entropy on the test split, in nats.
    pub loss: f64,
    /// Size of the file.
    pub bytes: u64,
    /// Parameters.
    pub params: u64,
    /// Parameters that are not zero.
    pub nonzero_params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
    /// Time for one sample at batch size 1, in milliseconds.
    pub latency_ms: Latency,
}

/// Quantiles of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the runs were faster.
    pub p50: f64,
    /// 95 of 100 runs were faster.
    pub p95: f64,
}

/// What one class gained or lost on the test split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassChange {
    /// The class: its label.
    pub label: u32,
    /// Test samples of the class.
    pub samples: u64,
    /// Share classified rightly by the baseline.
    pub baseline_accuracy: f64,
    /// Share classified rightly by the result.
    pub result_accuracy: f64,
}

/// What one step did; accuracies are of the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct StepEffect {
    /// The step's place among those that are done, counted from 1: each round of a repetition counts.
    pub step: u32,
    /// The round of the repetition that it is in, counted from 1; 0 outside.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub round: u32,
    /// The kind of step, such as `prune-weights`.
    pub kind: String,
    /// The step's label.
    pub name: String,
    /// How long it took; of a step that was broken off and gone on with, the time since then.
    pub seconds: f64,
    /// Before the step.
    pub before: Snapshot,
    /// After the step.
    pub after: Snapshot,
    /// Of a training, or of the training inside a gradual pruning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub train: Option<TrainDetail>,
    /// Of a quantization: every parameter's precision.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quantize: Option<Vec<ParamPrecision>>,
    /// Of a pruning: each weight's zeros.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sparsity: Vec<ParamSparsity>,
    /// Of a factorisation: every layer that was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub low_rank: Vec<LayerRank>,
    /// Of a pruning of channels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channels: Option<ChannelsDetail>,
    /// Of a search by evolution.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evolution: Option<EvolutionDetail>,
    /// Of a step that changes nodes and not the function: what it changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rewrite: Option<Rewrite>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What became of a layer in a factorisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct LayerRank {
    /// The layer's node.
    pub name: String,
    /// `svd` for linear layers and 1x1 convolutions, `spatial-svd` for other convolutions.
    pub method: String,
    /// The largest rank that the layer could have.
    pub full_rank: u64,
    /// The rank it has now; 0 where it was left as it was.
    pub rank: u64,
    /// Multiply-accumulate operations for one sample before.
    pub macs_before: u64,
    /// And after.
    pub macs_after: u64,
    /// Parameters before.
    pub params_before: u64,
    /// And after.
    pub params_after: u64,
    /// `|W - W'| / |W|` in the L2 norm.
    pub relative_error: f64,
    /// The singular values as shares of their squares' sum, added up: entry `i` is the share that rank `i + 1` keeps. At most
    /// 256 entries.
    pub energy: Vec<f64>,
    /// Why it was left as it was; empty otherwise.
    pub kept_because: String,
}

/// What a pruning of channels did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ChannelsDetail {
    /// Every group of channels that some layer writes, in the order of the layers.
    pub groups: Vec<GroupCut>,
    /// The importance by which they were ranked.
    pub importance: String,
    /// The largest difference between the outputs of the network that is cut and of the one with zeros in place, on
    /// validation samples before any repair, as a share of the largest output.
    pub masked_difference: f64,
    /// Accuracy on the validation split after the cut and before any repair.
    pub cut_accuracy: f64,
    /// What was done to what stays: `none`, `compensate`, `reconstruct`.
    pub repair: String,
    /// Layers that could not be fitted anew, and why.
    pub unrepaired: Vec<String>,
}

/// What became of channels that go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct GroupCut {
    /// The first layer that writes them, with `#2` and so on where that has several groups.
    pub name: String,
    /// All layers that write them.
    pub layers: Vec<String>,
    /// Channels before.
    pub before: u64,
    /// Channels after.
    pub after: u64,
    /// Why none may go; empty otherwise.
    pub kept_because: String,
}

/// What a search by evolution found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct EvolutionDetail {
    /// Every group of channels that some layer writes, in the order of the layers, and what the chosen network keeps.
    pub groups: Vec<GroupCut>,
    /// The importance by which channels were ranked.
    pub importance: String,
    /// What was done to what stays: `none`, `compensate`, `reconstruct`.
    pub repair: String,
    /// Layers that could not be fitted anew, and why.
    pub unrepaired: Vec<String>,
    /// What was to be small beside the error: `macs` or `params`.
    pub cost: String,
    /// The split whose samples networks were measured on: `selection` or `validation`.
    pub split: String,
    /// How many of them.
    pub samples: u64,
    /// Accuracy on these samples of the network before.
    pub accuracy: f64,
    /// Generations that were bred.
    pub generations: u32,
    /// Networks that were tried.
    pub evaluations: u64,
    /// The front, the cheapest first.
    pub front: Vec<FrontMember>,
}

/// A network that no other one beats in both accuracy and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct FrontMember {
    /// The name of its file; empty where a later search has taken the names.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// Accuracy on the samples of the search, before any training.
    pub accuracy: f64,
    /// Mean cross entropy on them, in nats.
    pub loss: f64,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
    /// How many channels stay, group by group.
    pub keep: Vec<u64>,
    /// Whether it is the one that went on as the network.
    pub chosen: bool,
}

/// What a step did that changes nodes and not the function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Rewrite {
    /// Nodes that came in.
    pub added: Vec<String>,
    /// Nodes that went out.
    pub removed: Vec<String>,
    /// The largest difference between the network's outputs before and after on validation samples, as a share of the
    /// largest output before.
    pub output_difference: f64,
}

/// A model at one moment of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Snapshot {
    /// Share of the validation split that is classified rightly.
    pub validation_accuracy: f64,
    /// Mean cross entropy on the validation split, in nats.
    pub validation_loss: f64,
    /// Parameters.
    pub params: u64,
    /// Parameters that are not zero.
    pub nonzero_params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
}

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TrainDetail {
    /// Every epoch that ran.
    pub epochs: Vec<Epoch>,
    /// The epoch whose model was kept, counted from 1.
    pub best_epoch: u32,
    /// Whether training ended before the last epoch.
    pub stopped_early: bool,
    /// Training steps in which clipping changed the gradient.
    pub clipped_steps: u64,
    /// All training steps.
    pub total_steps: u64,
    /// How training went, in at most 500 stretches of equally many steps.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub curve: Vec<CurvePoint>,
}

/// Means over a stretch of training steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct CurvePoint {
    /// The last step of the stretch, counted from 1.
    pub step: u64,
    /// Mean training loss.
    pub loss: f64,
    /// Share of the training samples that were classified rightly, as the network stood when it saw them.
    pub accuracy: f64,
    /// Mean L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Share of the steps in which clipping changed the gradient.
    pub clipped: f64,
}

/// One pass over the training split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean training loss.
    pub train_loss: f64,
    /// Accuracy on the validation split after the epoch.
    pub validation_accuracy: f64,
    /// Loss on the validation split after the epoch.
    pub validation_loss: f64,
    /// Mean L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the epoch's last step.
    pub learning_rate: f64,
}

/// One parameter's change of precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamPrecision {
    /// The parameter.
    pub name: String,
    /// The number format it is stored in now.
    pub dtype: String,
    /// `|w - q(w)| / |w|` in the L2 norm.
    pub relative_error: f64,
    /// Share of its non-zero values that became zero.
    pub flushed_to_zero: f64,
    /// Share of its non-zero values that lost bits of precision because they are too small for the format.
    #[serde(default)]
    pub subnormal: f64,
    /// Why it was kept in 32 bits; empty otherwise.
    pub kept_because: String,
}

/// One parameter's zeros.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamSparsity {
    /// The parameter.
    pub name: String,
    /// Its values.
    pub values: u64,
    /// Those that are zero.
    pub zeros: u64,
    /// Why the pruning left it alone; empty otherwise.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub kept_because: String,
}

/// An emitted file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmittedFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// What computed a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// niwaki's version.
    pub niwaki_version: String,
    /// The processor architecture and its widest vector instructions in use.
    pub instruction_set: String,
    /// Threads that computed.
    pub threads: u32,
}
