//! `transformer`: the encoder of Vaswani et al. 2017 over a sequence, normalised before each part as in Xiong et al. 2020, and
//! a linear layer on the mean of its states.
//!
//! ```text
//! x [n, steps, channels] ──▶ embed ──▶ + places ──▶ block1 ──▶ … ──▶ norm ──▶ mean of the steps ──▶ fc
//!
//! block:  x ──┬─ norm1 ─ q, k, v ─ heads: softmax(q k^T / sqrt(d)) v ─ out ─ dropout ──▶ + ──┬─ norm2 ─ fc1 ─ gelu ─ fc2 ─ dropout ──▶ + ──▶
//!             └──────────────────────────────────────────────────────────────────────────────┴───────────────────────────────────────┘
//! ```
//!
//! Where a step stands is told by the sines and cosines of the paper, which are not trained.

use super::PresetError;
use super::mlp::{self, sizes};
use super::recurrent;
use super::spec::{Options, whole};
use crate::graph::Dim;
use crate::graph::builder::{GraphBuilder, Place};
use crate::graph::op::{Activation, Binary, Op, Reduce, Reduction, Reshape, Softmax, Transpose};
use crate::tensor::TensorData;

pub(super) const OPTIONS: &[&str] = &["input", "width", "heads", "layers", "hidden", "classes", "dropout"];

const MAX_LAYERS: usize = 64;
const MAX_HEADS: usize = 1024;

/// The sizes of a block.
struct Sizes {
    steps: usize,
    width: usize,
    heads: usize,
    hidden: usize,
    dropout: f64,
}

pub(super) fn build(options: &Options) -> Result<GraphBuilder, PresetError> {
    let preset = options.preset;
    let [steps, channels] = recurrent::sequence(options)?;
    let classes = mlp::classes(options)?;
    let width = options.take("width", "an even number from 2 to 65536", |text| {
        sizes(text, ' ', 1)?.pop().filter(|width| width.is_multiple_of(2))
    })?;
    let width = width.unwrap_or(64);
    let heads = options.take("heads", "a number from 1 to 1024 that divides the width", |text| {
        whole(text).filter(|heads| (1..=MAX_HEADS).contains(heads) && width.is_multiple_of(*heads))
    })?;
    let layers = options.take("layers", "a number from 1 to 64", |text| {
        whole(text).filter(|layers| (1..=MAX_LAYERS).contains(layers))
    })?;
    let layers = layers.unwrap_or(2);
    let hidden = options.take("hidden", "a number from 1 to 65536", |text| sizes(text, ' ', 1)?.pop())?;
    let dropout = options.take("dropout", "a number from 0 to below 1", mlp::rate)?.unwrap_or(0.0);
    let heads = heads.unwrap_or(if width.is_multiple_of(4) { 4 } else { 1 });
    let block = Sizes { steps, width, heads, hidden: hidden.unwrap_or(4 * width), dropout };

    // Those that tell the places, too: they are no less memory.
    let (w, h) = (width as u64, block.hidden as u64);
    let of_block = 4 * w * (w + 1) + 2 * w * h + w + h + 4 * w;
    let params = layers as u64 * of_block + (channels as u64 + 1 + steps as u64 + 2) * w + (w + 1) * classes as u64;
    if params > mlp::MAX_PARAMS {
        return Err(PresetError::TooLarge { preset, params });
    }
    let builder = GraphBuilder::new("transformer", &[steps, channels]).linear_each("embed", width);
    let x = builder.top();
    let builder = builder.constant("places", places(steps, width)).add("placed", x);
    let scale = ((width / block.heads) as f32).powf(-0.5);
    let builder = (1..=layers).fold(builder, |builder, number| block.add(builder, &format!("block{number}"), scale));
    let mean = Reduce { of: Reduction::Mean, axes: vec![1], keep: false };
    Ok(builder.layer_norm("norm").op("mean", Op::Reduce(mean), &[]).linear("fc", classes))
}

/// `sin(step / 10000^(2 i / width))` and its cosine, in turn.
fn places(steps: usize, width: usize) -> TensorData {
    let place = |step: usize, i: usize| {
        let angle = step as f64 / 10_000f64.powf((i / 2 * 2) as f64 / width as f64);
        if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }
    };
    let values: Vec<f32> =
        (0..steps).flat_map(|step| (0..width).map(move |i| (step, i))).map(|(step, i)| place(step, i) as f32).collect();
    TensorData::from_f32(vec![steps, width], &values).expect("as many numbers as places")
}

impl Sizes {
    fn add(&self, builder: GraphBuilder, block: &str, scale: f32) -> GraphBuilder {
        let name = |part: &str| format!("{block}.{part}");
        let x = builder.top();
        let builder = builder.layer_norm(&name("norm1"));
        let inner = builder.top();
        let scale = TensorData::from_f32(vec![1], &[scale]).expect("one number");
        let builder = builder.constant(&name("scale"), scale);
        let factor = builder.top();
        // [n, heads, steps, d], of the keys [n, heads, d, steps].
        let builder = self.heads(builder.on(inner), &name("v"), [0, 2, 1, 3]);
        let v = builder.top();
        let builder = self.heads(builder.on(inner), &name("k"), [0, 2, 3, 1]);
        let k = builder.top();
        let builder = self.heads(builder.on(inner), &name("q"), [0, 2, 1, 3]);
        let joined = vec![Dim::Batch, self.steps.into(), self.width.into()];
        let builder = builder
            .op(&name("scaled"), Op::Binary(Binary::Mul), &[factor])
            .op(&name("scores"), Op::MatMul, &[k])
            .op(&name("shares"), Op::Softmax(Softmax { axis: 3 }), &[])
            .op(&name("mixed"), Op::MatMul, &[v])
            .op(&name("turned"), Op::Transpose(Transpose { axes: vec![0, 2, 1, 3] }), &[])
            .op(&name("joined"), Op::Reshape(Reshape { shape: joined }), &[])
            .linear_each(&name("out"), self.width);
        let builder = self.join(builder, &name("dropout1"), &name("sum1"), x);
        let x = builder.top();
        let builder = builder
            .layer_norm(&name("norm2"))
            .linear_each(&name("fc1"), self.hidden)
            .activation(&name("gelu"), Activation::Gelu)
            .linear_each(&name("fc2"), self.width);
        self.join(builder, &name("dropout2"), &name("sum2"), x)
    }

    /// A linear layer whose units are those of the heads, one head after the other, with the axes in this order.
    fn heads(&self, builder: GraphBuilder, name: &str, axes: [usize; 4]) -> GraphBuilder {
        let shape = vec![Dim::Batch, self.steps.into(), self.heads.into(), (self.width / self.heads).into()];
        builder.linear_each(name, self.width).op(&format!("{name}.heads"), Op::Reshape(Reshape { shape }), &[]).op(
            &format!("{name}.turned"),
            Op::Transpose(Transpose { axes: axes.to_vec() }),
            &[],
        )
    }

    fn join(&self, builder: GraphBuilder, dropout: &str, sum: &str, x: Place) -> GraphBuilder {
        let builder = if self.dropout > 0.0 { builder.dropout(dropout, self.dropout) } else { builder };
        builder.add(sum, x)
    }
}
