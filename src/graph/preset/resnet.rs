//! `resnet-cifar-N`: the residual networks of He et al. 2015, section 4.2, for images of 32 x 32 in ten classes.
//!
//! ```text
//!   conv1 3x3, 16   bn1   relu
//!   layer1: n blocks of 16 channels at 32 x 32        block:  x ─ conv1 3x3 ─ bn1 ─ relu ─ conv2 3x3 ─ bn2 ─ add ─ relu
//!   layer2: n blocks of 32 channels at 16 x 16                └───────────────── shortcut ─────────────────┘
//!   layer3: n blocks of 64 channels at 8 x 8
//!   mean of each channel   linear 10                          N = 6 n + 2 layers with weights
//! ```
//!
//! The first block of layer 2 and of layer 3 halves the image and doubles the channels. Its shortcut has no weights
//! (`shortcut=pad`, option A: every other pixel, zeros for the new channels, half of them on each side) or is a convolution
//! 1x1 with a batch normalisation (`shortcut=conv`, option B). Parameter names are those of the best-known PyTorch
//! implementation, by Yerlan Idelbayev.

use super::PresetError;
use super::spec::{Options, shorten, whole};
use crate::graph::builder::{GraphBuilder, Place};
use crate::graph::op::{Activation, Conv2d, Pad, Slice};

pub(super) const PREFIX: &str = "resnet-cifar-";
pub(super) const OPTIONS: &[&str] = &["shortcut"];
/// The deepest that was published.
pub(super) const MAX_LAYERS: usize = 1202;

/// How a block's input reaches its end where the shape changes.
#[derive(Debug, Clone, Copy)]
enum Shortcut {
    Pad,
    Conv,
}

pub(super) fn build(options: &Options) -> Result<GraphBuilder, PresetError> {
    let shortcut = options.take("shortcut", "pad or conv", |text| match text {
        "pad" => Some(Shortcut::Pad),
        "conv" => Some(Shortcut::Conv),
        _ => None,
    })?;
    let layers = options.layers.as_deref().unwrap_or_default();
    let number = whole(layers).filter(|n| (8..=MAX_LAYERS).contains(n) && n % 6 == 2);
    let number = number.ok_or_else(|| PresetError::Depth { name: format!("{PREFIX}{}", shorten(layers)) })?;
    Ok(network(number, shortcut.unwrap_or(Shortcut::Pad)))
}

fn network(layers: usize, shortcut: Shortcut) -> GraphBuilder {
    let mut builder = GraphBuilder::new(&format!("{PREFIX}{layers}"), &[3, 32, 32])
        .conv_without_bias("conv1", 16, 3, three(1))
        .batch_norm("bn1")
        .activation("relu", Activation::Relu);
    for (layer, channels) in [(1, 16), (2, 32), (3, 64)] {
        for i in 0..(layers - 2) / 6 {
            builder = block(builder, &format!("layer{layer}.{i}"), channels, shortcut);
        }
    }
    builder.global_avg_pool("pool").flatten("flatten").linear("linear", 10)
}

/// A 3x3 convolution's configuration that keeps the image's size, but for the stride.
fn three(stride: usize) -> Conv2d {
    Conv2d { stride: [stride; 2], padding: [1; 4], ..Conv2d::default() }
}

fn block(builder: GraphBuilder, name: &str, channels: usize, shortcut: Shortcut) -> GraphBuilder {
    let node = |part: &str| format!("{name}.{part}");
    let (input, shape) = (builder.top(), builder.top_shape());
    let stride = if shape[0] == channels { 1 } else { 2 };
    let builder = builder
        .conv_without_bias(&node("conv1"), channels, 3, three(stride))
        .batch_norm(&node("bn1"))
        .activation(&node("relu1"), Activation::Relu)
        .conv_without_bias(&node("conv2"), channels, 3, three(1))
        .batch_norm(&node("bn2"));
    let end = builder.top();
    let (builder, beside) = match (stride, shortcut) {
        (1, _) => (builder, input),
        (_, Shortcut::Pad) => by_padding(builder.on(input), &node("shortcut"), &shape),
        (_, Shortcut::Conv) => by_convolution(builder.on(input), &node("shortcut"), channels),
    };
    builder.on(end).add(&node("add"), beside).activation(&node("relu2"), Activation::Relu)
}

fn by_padding(builder: GraphBuilder, name: &str, shape: &[usize]) -> (GraphBuilder, Place) {
    let every_other = |axis: usize| Slice::places(axis, 0, shape[axis - 1], 2);
    let builder = builder
        .slice(&format!("{name}.rows"), every_other(2))
        .slice(&format!("{name}.columns"), every_other(3))
        .pad(&format!("{name}.channels"), Pad::zeros(1, shape[0] / 2, shape[0] / 2));
    let place = builder.top();
    (builder, place)
}

fn by_convolution(builder: GraphBuilder, name: &str, channels: usize) -> (GraphBuilder, Place) {
    let config = Conv2d { stride: [2; 2], ..Conv2d::default() };
    let builder = builder.conv_without_bias(&format!("{name}.0"), channels, 1, config).batch_norm(&format!("{name}.1"));
    let place = builder.top();
    (builder, place)
}

#[cfg(test)]
mod tests {
    use crate::graph::preset::build;

    #[test]
    fn parameters_have_the_names_that_weights_from_elsewhere_have() {
        let graph = build("resnet-cifar-20").unwrap();
        let names: Vec<&str> = graph.params().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), 19 + 19 * 4 + 2);
        for name in ["conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "linear.bias"] {
            assert!(names.contains(&name), "{name}");
        }
        let graph = build("resnet-cifar-20:shortcut=conv").unwrap();
        let shape = |name: &str| graph.param(graph.param_id(name).unwrap()).data.shape().to_vec();
        assert_eq!(shape("layer2.0.shortcut.0.weight"), [32, 16, 1, 1]);
        assert_eq!(shape("layer3.0.shortcut.1.running_mean"), [64]);
    }

    #[test]
    fn a_shortcut_without_weights_takes_every_other_pixel_and_pads_the_channels() {
        let graph = build("resnet-cifar-8").unwrap();
        let text = graph.to_string();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("layer2.0.shortcut")).collect();
        assert_eq!(
            lines,
            [
                "layer2.0.shortcut.rows : [N, 16, 16, 32] = Slice{axis 2, start 0, end 32, step 2}(layer1.0.relu2)",
                "layer2.0.shortcut.columns : [N, 16, 16, 16] = Slice{axis 3, start 0, end 32, step 2}(layer2.0.shortcut.rows)",
                "layer2.0.shortcut.channels : [N, 32, 16, 16] = Pad{axis 1, before 8, after 8}(layer2.0.shortcut.columns)",
            ]
        );
    }
}
