//! `lstm`: recurrent layers over a sequence, and a linear layer on their last states.
//!
//! ```text
//! x [n, steps, channels] ──▶ steps first ──▶ lstm1 ──▶ … ──▶ last state of each direction ──▶ dropout ──▶ fc
//!        └──▶ length: the last step that is not all zeros ─┴──▶ every layer
//! ```
//!
//! Steps of zeros at a sample's end are padding, which is how data sets of sequences of different lengths come: a layer ends
//! with a sample's last step, and its way back begins there. With `padding=none` every step counts.

use super::PresetError;
use super::mlp::{self, sizes};
use super::spec::Options;
use crate::graph::Dim;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Binary, Cast, Compare, Direction, Lstm, Op, Reduce, Reduction, Reshape, Transpose, Unary};
use crate::tensor::{DType, TensorData};

pub(super) const OPTIONS: &[&str] = &["input", "hidden", "classes", "direction", "dropout", "padding"];

const MAX_LAYERS: usize = 8;

pub(super) fn build(options: &Options) -> Result<GraphBuilder, PresetError> {
    let preset = options.preset;
    let [steps, channels] = sequence(options)?;
    let classes = mlp::classes(options)?;
    let wanted = "up to 8 numbers of units from 1 to 65536 with a - between";
    let hidden = options.take("hidden", wanted, |text| sizes(text, '-', MAX_LAYERS))?.unwrap_or_else(|| vec![64]);
    let direction = options.take("direction", "forward or both", |text| match text {
        "forward" => Some(Direction::Forward),
        "both" => Some(Direction::Both),
        _ => None,
    })?;
    let direction = direction.unwrap_or(Direction::Forward);
    let dropout = options.take("dropout", "a number from 0 to below 1", mlp::rate)?.unwrap_or(0.0);
    let padded = options.take("padding", "zeros or none", |text| match text {
        "zeros" => Some(true),
        "none" => Some(false),
        _ => None,
    })?;
    let padded = padded.unwrap_or(true);

    let directions = direction.count();
    let mut inner = channels;
    let mut params = 0u64;
    for units in &hidden {
        let rows = 4 * *units as u64;
        params = params.saturating_add((directions as u64 * rows).saturating_mul((inner + units + 2) as u64));
        inner = units * directions;
    }
    if params > mlp::MAX_PARAMS {
        return Err(PresetError::TooLarge { preset, params });
    }

    let builder = GraphBuilder::new("lstm", &[steps, channels]);
    let x = builder.top();
    let builder = if padded { lengths(builder, steps) } else { builder };
    let length = padded.then(|| builder.top());
    let mut builder = builder.on(x).op("steps_first", Op::Transpose(Transpose { axes: vec![1, 0, 2] }), &[]);
    for (layer, units) in (1..).zip(&hidden) {
        if layer > 1 {
            let joined = vec![Dim::Fixed(steps), Dim::Batch, Dim::Fixed(hidden[layer - 2] * directions)];
            builder = builder
                .output(0)
                .op(&format!("states{}", layer - 1), Op::Transpose(Transpose { axes: vec![0, 2, 1, 3] }), &[])
                .op(&format!("joined{}", layer - 1), Op::Reshape(Reshape { shape: joined }), &[]);
            if dropout > 0.0 {
                builder = builder.dropout(&format!("dropout{}", layer - 1), dropout);
            }
        }
        let config = Lstm { hidden: *units, direction, lengths: padded, state: false };
        builder = builder.lstm(&format!("lstm{layer}"), config, length.as_slice());
    }
    builder = builder.output(1).op("last", Op::Transpose(Transpose { axes: vec![1, 0, 2] }), &[]).flatten("flatten");
    if dropout > 0.0 {
        builder = builder.dropout(&format!("dropout{}", hidden.len()), dropout);
    }
    Ok(builder.linear("fc", classes))
}

/// Steps and channels of a sample.
pub(super) fn sequence(options: &Options) -> Result<[usize; 2], PresetError> {
    let wanted = "steps and channels, such as 29x12";
    let input = options.take("input", wanted, |text| sizes(text, 'x', 2)?.try_into().ok())?;
    let (preset, option) = (options.preset, "input");
    input.ok_or(PresetError::Missing { preset, option, wanted: "steps and channels of a sample, such as 29x12" })
}

/// How many steps a sample has: up to the last that is not all zeros.
fn lengths(builder: GraphBuilder, steps: usize) -> GraphBuilder {
    let numbers: Vec<u8> = (1..=steps as i64).flat_map(i64::to_le_bytes).collect();
    let numbers = TensorData::new(DType::I64, vec![steps], numbers).expect("eight bytes a number");
    let zero = TensorData::zeros(vec![1]).expect("one number");
    let x = builder.top();
    let builder = builder.constant("numbers", numbers);
    let numbers = builder.top();
    let builder = builder.constant("zero", zero);
    let zero = builder.top();
    let sum = Reduce { of: Reduction::Sum, axes: vec![2], keep: false };
    let last = Reduce { of: Reduction::Max, axes: vec![1], keep: false };
    builder
        .on(x)
        .op("sizes", Op::Unary(Unary::Abs), &[])
        .op("sums", Op::Reduce(sum), &[])
        .op("is_there", Op::Compare(Compare::Greater), &[zero])
        .op("is_there_number", Op::Cast(Cast { to: DType::I64 }), &[])
        .op("numbered", Op::Binary(Binary::Mul), &[numbers])
        .op("length", Op::Reduce(last), &[])
}
