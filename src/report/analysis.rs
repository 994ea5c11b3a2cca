//! What can be cut from a model and what that would cost, before anything is trained.

use serde::{Deserialize, Serialize};

use super::GroupCut;

/// What can be cut from a model. `niwaki.v1.AnalyzeModelResponse` holds the same data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Analysis {
    /// The model as it is.
    pub whole: Figures,
    /// Samples on which accuracies were measured, of the validation split; 0: none were.
    pub samples: u64,
    /// Every group of channels that some layer writes, in the order of the layers.
    pub groups: Vec<GroupSensitivity>,
    /// What a plan would make of the model, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Plan>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// The figures of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Figures {
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
    /// Size of its file, as niwaki writes it.
    pub bytes: u64,
    /// Share of the samples that is classified rightly; `None`: not measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accuracy: Option<f64>,
    /// Mean cross entropy, in nats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<f64>,
}

/// What a group can do without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct GroupSensitivity {
    /// The first layer that writes it, with `#2` and so on where that has several groups.
    pub name: String,
    /// All layers that write it.
    pub layers: Vec<String>,
    /// Its channels.
    pub channels: u64,
    /// Why none may go; empty otherwise.
    pub kept_because: String,
    /// The network without some of this group's channels and with all of the others', by rising ratio.
    pub points: Vec<Point>,
}

/// A network that lacks some channels of one group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Point {
    /// The share of the group's channels that is gone.
    pub ratio: f64,
    /// Channels that stay.
    pub keep: u64,
    /// The network's figures; its `bytes` are left at 0.
    pub figures: Figures,
}

/// What a plan would make of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Plan {
    /// What would become of every group.
    pub groups: Vec<GroupCut>,
    /// The network's figures after the cut and before any training, with the weights as they are.
    pub figures: Figures,
}
