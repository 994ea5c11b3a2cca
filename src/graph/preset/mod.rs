//! The built-in networks. A preset is a builder and a name; nothing else in niwaki knows a preset.
//!
//! A spec is a name, and behind a colon the options: `mlp:input=1x28x28,hidden=100-100,classes=10`.
//!
//! - `lenet-300-100`: the fully connected network of LeCun et al. 1998, 266,610 parameters.
//! - `lenet5`: the convolutional network of LeCun et al. 1998 in its usual modern form (6-16-120-84, ReLU, max-pooling),
//!   61,706 parameters.
//! - `lenet5-caffe`: Caffe's variant (20-50-500), 431,080 parameters, which the compression papers use.
//! - `resnet-cifar-N`: the residual networks of He et al. 2015 for images of 32 x 32, of N = 6n + 2 layers; `resnet-cifar-20`
//!   has 269,722 parameters. Option `shortcut`: `pad` (as published) or `conv`.
//! - `lstm`: recurrent layers over sequences of different lengths. Options `input` and `classes`, without which there is no
//!   network, and `hidden`, `direction`, `dropout`, `padding`.
//! - `mlp`: fully connected layers. Options `input` and `classes`, without which there is no network, and `hidden`,
//!   `activation`, `dropout`.
//! - `transformer`: an encoder over sequences, with attention. Options `input` and `classes`, without which there is no network,
//!   and `width`, `heads`, `layers`, `hidden`, `dropout`.

mod lenet;
mod mlp;
mod recurrent;
mod resnet;
mod spec;
mod transformer;

use thiserror::Error;

use super::Graph;
use super::builder::GraphBuilder;
use crate::error::{Classify, Kind};
use spec::Options;

/// Why there is no such built-in network.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PresetError {
    /// There is none of that name.
    #[error("there is no built-in network '{name}'; there are {}", names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name, shortened.
        name: String,
    },
    /// A name that is right but for its number.
    #[error("there is no '{name}': resnet-cifar-N has N = 6 n + 2 layers, from 8 to {}", resnet::MAX_LAYERS)]
    Depth {
        /// The name, shortened.
        name: String,
    },
    /// Something that is no option.
    #[error("'{preset}' has no option '{option}'; it has {}", any_of(known))]
    UnknownOption {
        /// The network.
        preset: &'static str,
        /// The option, shortened.
        option: String,
        /// The options there are.
        known: &'static [&'static str],
    },
    /// An option that is given twice.
    #[error("'{preset}': the option '{option}' is given twice")]
    Repeated {
        /// The network.
        preset: &'static str,
        /// The option.
        option: String,
    },
    /// An option without which there is no network.
    #[error("'{preset}' needs the option '{option}': {wanted}")]
    Missing {
        /// The network.
        preset: &'static str,
        /// The option.
        option: &'static str,
        /// What it says.
        wanted: &'static str,
    },
    /// A value that an option does not take.
    #[error("'{preset}': {option} is '{value}', must be {wanted}")]
    Value {
        /// The network.
        preset: &'static str,
        /// The option.
        option: &'static str,
        /// The value, shortened.
        value: String,
        /// What it takes.
        wanted: &'static str,
    },
    /// A network beyond what a name may ask for.
    #[error("'{preset}' would have {params} parameters, at most {} are allowed", mlp::MAX_PARAMS)]
    TooLarge {
        /// The network.
        preset: &'static str,
        /// Its parameters.
        params: u64,
    },
    /// The options do not make a network.
    #[error("'{preset}': {problem}")]
    Graph {
        /// The network.
        preset: &'static str,
        /// What the graph says.
        problem: String,
    },
}

impl Classify for PresetError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        "PRESET"
    }
}

/// Puts a network with these options together.
type Build = fn(&Options) -> Result<GraphBuilder, PresetError>;

/// Names, their options, and what builds them.
const PRESETS: &[(&str, &[&str], Build)] = &[
    ("lenet-300-100", &[], |_| Ok(lenet::lenet_300_100())),
    ("lenet5", &[], |_| Ok(lenet::lenet5())),
    ("lenet5-caffe", &[], |_| Ok(lenet::lenet5_caffe())),
    ("lstm", recurrent::OPTIONS, recurrent::build),
    ("mlp", mlp::OPTIONS, mlp::build),
    ("resnet-cifar-N", resnet::OPTIONS, resnet::build),
    ("transformer", transformer::OPTIONS, transformer::build),
];

/// The names of all presets; `N` in one stands for a number.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, ..)| *name)
}

/// The network that `spec` names, as it is before it is initialised: weights and biases are zero.
///
/// ```
/// use niwaki::graph::{cost, preset};
/// let params = |spec| preset::build(spec).map(|graph| cost::of_graph(&graph).params);
/// assert_eq!(params("lenet5-caffe")?, 431_080);
/// assert_eq!(params("resnet-cifar-20:shortcut=conv")?, 272_474);
/// assert_eq!(params("mlp:input=4,hidden=8,classes=3")?, 67);
/// # Ok::<(), niwaki::graph::preset::PresetError>(())
/// ```
pub fn build(spec: &str) -> Result<Graph, PresetError> {
    let (name, options) = spec.split_once(':').unwrap_or((spec, ""));
    let layers = name.strip_prefix(resnet::PREFIX);
    let wanted = if layers.is_some() { "resnet-cifar-N" } else { name };
    let (preset, known, build) = PRESETS
        .iter()
        .find(|(preset, ..)| *preset == wanted)
        .ok_or_else(|| PresetError::Unknown { name: spec::shorten(name) })?;
    let mut options = Options::read(preset, known, options)?;
    options.layers = layers.map(str::to_string);
    build(&options)?.build().map_err(|error| PresetError::Graph { preset, problem: error.to_string() })
}

fn any_of(options: &[&str]) -> String {
    if options.is_empty() { "none".into() } else { options.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::cost;

    #[test]
    fn every_preset_is_a_valid_graph_with_the_published_number_of_parameters() {
        for (spec, params) in [
            ("lenet-300-100", 266_610),
            ("lenet5", 61_706),
            ("lenet5-caffe", 431_080),
            ("resnet-cifar-20", 269_722),
            ("resnet-cifar-32", 464_154),
            ("resnet-cifar-44", 658_586),
            ("resnet-cifar-56", 853_018),
            ("resnet-cifar-110", 1_727_962),
            ("resnet-cifar-1202", 19_421_274),
            ("mlp:input=1x28x28,hidden=300-100,classes=10", 266_610),
            // PyTorch: nn.LSTM(12, 64, bidirectional=True) and nn.Linear(128, 9).
            ("lstm:input=29x12,hidden=64,direction=both,classes=9", 39_936 + 1_161),
            ("lstm:input=29x12,hidden=64,direction=both,classes=9,padding=none", 39_936 + 1_161),
            // PyTorch: nn.Linear(12, 64), two nn.TransformerEncoderLayer(64, 4, 256), nn.LayerNorm(64) and nn.Linear(64, 9).
            ("transformer:input=29x12,classes=9", 832 + 2 * 49_984 + 128 + 585),
        ] {
            assert_eq!(cost::of_graph(&build(spec).unwrap()).params, params, "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_spec_is_told_with_what_there_is() {
        let long = "x".repeat(10_000);
        for (spec, expected) in [
            (
                "lenet6",
                "there is no built-in network 'lenet6'; there are lenet-300-100, lenet5, lenet5-caffe, lstm, mlp, \
                 resnet-cifar-N, transformer",
            ),
            ("lenet5:dropout=0.2", "'lenet5' has no option 'dropout'; it has none"),
            ("resnet-cifar-20:pad", "'resnet-cifar-N' has no option 'pad'; it has shortcut"),
            ("resnet-cifar-20:shortcut=none", "'resnet-cifar-N': shortcut is 'none', must be pad or conv"),
            ("resnet-cifar-20:shortcut=pad,shortcut=pad", "'resnet-cifar-N': the option 'shortcut' is given twice"),
            ("resnet-cifar-2", "there is no 'resnet-cifar-2': resnet-cifar-N has N = 6 n + 2 layers, from 8 to 1202"),
            ("resnet-cifar-N", "there is no 'resnet-cifar-N': resnet-cifar-N has N = 6 n + 2 layers, from 8 to 1202"),
            ("mlp", "'mlp' needs the option 'input': the shape of a sample, such as 784 or 1x28x28"),
            ("mlp:input=4", "'mlp' needs the option 'classes': how many classes there are, from 1 to 65536"),
            (
                "mlp:input=0x2,classes=3",
                "'mlp': input is '0x2', must be 1 to 4 sizes from 1 to 65536 with an x between",
            ),
            (
                "mlp:input=4,classes=3,activation=step",
                "'mlp': activation is 'step', must be relu, sigmoid, tanh or another activation such as gelu",
            ),
            ("lstm:classes=3", "'lstm' needs the option 'input': steps and channels of a sample, such as 29x12"),
            ("lstm:input=29,classes=3", "'lstm': input is '29', must be steps and channels, such as 29x12"),
            ("lstm:input=29x12,classes=3,direction=back", "'lstm': direction is 'back', must be forward or both"),
            ("lstm:input=29x12,classes=3,padding=ones", "'lstm': padding is 'ones', must be zeros or none"),
            (
                "transformer:input=29x12,classes=3,width=12,heads=5",
                "'transformer': heads is '5', must be a number from 1 to 1024 that divides the width",
            ),
            (
                "transformer:input=29x12,classes=3,width=9",
                "'transformer': width is '9', must be an even number from 2 to 65536",
            ),
            (
                "transformer:input=29x12,classes=3,width=4096,layers=2",
                "'transformer' would have 402952195 parameters, at most 67108864 are allowed",
            ),
            ("mlp:input=4,classes=3,dropout=1", "'mlp': dropout is '1', must be a number from 0 to below 1"),
            (
                "mlp:input=65536,hidden=65536,classes=10",
                "'mlp' would have 4295688202 parameters, at most 67108864 are allowed",
            ),
        ] {
            assert_eq!(build(spec).unwrap_err().to_string(), expected);
        }
        for spec in ["", ":", "mlp:=", "resnet-cifar-", "resnet-cifar--4", "resnet-cifar-020", "mlp:input=4,,classes=3"]
        {
            assert!(build(spec).is_err(), "{spec}");
        }
        assert!(build(&long).unwrap_err().to_string().len() < 400);
        assert!(build(&format!("mlp:input={long}")).unwrap_err().to_string().len() < 400);
    }
}
