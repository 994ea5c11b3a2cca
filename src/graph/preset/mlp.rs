//! `mlp`: fully connected layers of any widths.
//!
//! ```text
//! flatten, then for each hidden width fc1, relu1 (or sigmoid1, tanh1), dropout1 (where there is a rate), and the last fc
//! ```

use super::PresetError;
use super::spec::{Options, whole};
use crate::graph::builder::GraphBuilder;
use crate::graph::op::Activation;

pub(super) const OPTIONS: &[&str] = &["input", "hidden", "classes", "activation", "dropout"];

/// A quarter of a gibibyte of weights: a spec is a few bytes and must not ask for any amount of memory.
pub(super) const MAX_PARAMS: u64 = 1 << 26;
const MAX_WIDTH: usize = 1 << 16;
const MAX_AXES: usize = 4;
const MAX_HIDDEN: usize = 64;

/// Numbers from 1 to [`MAX_WIDTH`] with `between` between them.
pub(super) fn sizes(text: &str, between: char, limit: usize) -> Option<Vec<usize>> {
    let sizes: Option<Vec<usize>> = text.split(between).take(limit + 1).map(whole).collect();
    sizes.filter(|sizes| sizes.len() <= limit && sizes.iter().all(|size| (1..=MAX_WIDTH).contains(size)))
}

pub(super) fn build(options: &Options) -> Result<GraphBuilder, PresetError> {
    let preset = options.preset;
    let missing = |option, wanted| PresetError::Missing { preset, option, wanted };
    let wanted = "1 to 4 sizes from 1 to 65536 with an x between";
    let input = options.take("input", wanted, |text| sizes(text, 'x', MAX_AXES))?;
    let input = input.ok_or_else(|| missing("input", "the shape of a sample, such as 784 or 1x28x28"))?;
    let classes = classes(options)?;
    let wanted = "up to 64 widths from 1 to 65536 with a - between";
    let hidden = options.take("hidden", wanted, |text| sizes(text, '-', MAX_HIDDEN))?.unwrap_or_default();
    let activation = options
        .take("activation", "relu, sigmoid, tanh or another activation such as gelu", activation)?
        .unwrap_or(Activation::Relu);
    let dropout = options.take("dropout", "a number from 0 to below 1", rate)?.unwrap_or(0.0);

    // Axes of up to 2^16 and at most four of them: products fit into 64 bits but for the last, which saturates.
    let first = input.iter().fold(1u64, |product, size| product.saturating_mul(*size as u64));
    let widths: Vec<u64> = std::iter::once(first).chain(hidden.iter().chain([&classes]).map(|w| *w as u64)).collect();
    let of_layer = |pair: &[u64]| pair[0].saturating_add(1).saturating_mul(pair[1]);
    let params = widths.windows(2).map(of_layer).fold(0, u64::saturating_add);
    if params > MAX_PARAMS {
        return Err(PresetError::TooLarge { preset, params });
    }
    let mut builder = GraphBuilder::new("mlp", &input).flatten("flatten");
    for (layer, width) in (1..).zip(&hidden) {
        let name = activation.name().to_lowercase();
        builder = builder.linear(&format!("fc{layer}"), *width).activation(&format!("{name}{layer}"), activation);
        if dropout > 0.0 {
            builder = builder.dropout(&format!("dropout{layer}"), dropout);
        }
    }
    Ok(builder.linear(&format!("fc{}", hidden.len() + 1), classes))
}

/// How many classes there are.
pub(super) fn classes(options: &Options) -> Result<usize, PresetError> {
    let classes = options.take("classes", "a number from 1 to 65536", |text| sizes(text, ' ', 1)?.pop())?;
    let (preset, option) = (options.preset, "classes");
    classes.ok_or(PresetError::Missing { preset, option, wanted: "how many classes there are, from 1 to 65536" })
}

fn activation(text: &str) -> Option<Activation> {
    Activation::ALL.into_iter().find(|activation| activation.name().to_lowercase() == text)
}

pub(super) fn rate(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rate| (0.0..1.0).contains(rate))
}
