//! A layer as a matrix, and the two thinner layers that a factorisation of the matrix makes of it.
//!
//! A weight `W [o, i, kh, kw]` is read as the matrix `M [(o, kw), (i, kh)]`; a linear layer and a 1x1 convolution are the
//! case `kh = kw = 1`. Each rank takes a column `[i, kh]` of the first layer and a row `[o, kw]` of the second:
//!
//! ```text
//!   W[o, i, y, x] = sum over r of  second[o, r, 0, x] * first[r, i, y, 0]
//!
//!               kh x kw, i -> o                      kh x 1, i -> r             1 x kw, r -> o
//!   [i, h, w] ─────────────────▶ [o, oh, ow]   [i, h, w] ─────▶ [r, oh, w] ─────▶ [o, oh, ow]
//! ```
//!
//! The first layer has the vertical stride, padding and dilation, the second the horizontal ones (Jaderberg et al. 2014).
//! Of a 1x1 convolution the first has all of it, so that the second works on fewer places.

use std::collections::HashSet;

use super::super::{PassError, select};
use crate::graph::op::Conv2d;
use crate::graph::{Graph, GraphEdit, NewNode, Node, Op, Param, ParamId};
use crate::tensor::linalg::{Matrix, Svd};
use crate::tensor::{DType, TensorData, TensorError};

/// How a layer is read as a matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Pointwise(Conv2d),
    Spatial(Conv2d),
}

/// A layer that can be factorised.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    kind: Kind,
    /// `[o, i, kh, kw]`.
    shape: [usize; 4],
    /// What the layer costs now.
    pub(super) cost: Cost,
    /// What the two layers cost for each rank.
    pub(super) cost_per_rank: Cost,
}

/// Without biases, which stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) macs: u64,
    pub(super) params: u64,
}

impl Layer {
    /// The layer of a linear layer or convolution, or why it cannot be one; `shared` are the parameters that several
    /// nodes read.
    pub(super) fn of(graph: &Graph, node: &Node, shared: &HashSet<ParamId>) -> Result<Self, &'static str> {
        let weight = graph.param(node.params[0]);
        if shared.contains(&node.params[0]) {
            return Err("shares its weight with another layer");
        }
        if weight.mask.is_some() {
            return Err("its weight is pruned: the zeros of its mask would be lost");
        }
        let (input, output) = (graph.value(node.inputs[0]).sample_shape(), graph.value(node.output()).sample_shape());
        let (kind, shape, first_places, places) = match (&node.op, weight.data.shape()) {
            (Op::Linear, &[o, i]) => {
                // Once for each step of a sequence.
                let places = output.iter().product::<usize>() / o.max(1);
                (Kind::Linear, [o, i, 1, 1], places, places)
            }
            (Op::Conv2d(config), _) if config.groups != 1 => return Err("grouped convolution"),
            (Op::Conv2d(config), &[o, i, 1, 1]) => {
                (Kind::Pointwise(*config), [o, i, 1, 1], output[1] * output[2], output[1] * output[2])
            }
            (Op::Conv2d(config), &[o, i, kh, kw]) => {
                (Kind::Spatial(*config), [o, i, kh, kw], output[1] * input[2], output[1] * output[2])
            }
            _ => return Err("neither a linear layer nor a convolution"),
        };
        let [o, i, kh, kw] = shape.map(|n| n as u64);
        let (first, second) = (i * kh, o * kw);
        let cost = Cost { macs: first * second * places as u64, params: first * second };
        let per_rank = first * first_places as u64 + second * places as u64;
        Ok(Self { kind, shape, cost, cost_per_rank: Cost { macs: per_rank, params: first + second } })
    }

    /// The name of the method in reports.
    pub(super) fn method(&self) -> &'static str {
        match self.kind {
            Kind::Linear | Kind::Pointwise(_) => "svd",
            Kind::Spatial(_) => "spatial-svd",
        }
    }

    /// The largest rank that the matrix can have.
    pub(super) fn full_rank(&self) -> usize {
        let [o, i, kh, kw] = self.shape;
        (o * kw).min(i * kh)
    }

    /// What the two layers cost at `rank`.
    pub(super) fn cost_at(&self, rank: usize) -> Cost {
        let Cost { macs, params } = self.cost_per_rank;
        Cost { macs: macs.saturating_mul(rank as u64), params: params.saturating_mul(rank as u64) }
    }

    /// Why two layers of that rank are no gain; `None` where they take fewer multiplications and fewer parameters.
    pub(super) fn objection(&self, rank: usize) -> Option<String> {
        let cost = self.cost_at(rank);
        let pairs = [(cost.macs, self.cost.macs, "multiplications"), (cost.params, self.cost.params, "parameters")];
        let (after, before, what) = pairs.into_iter().find(|(after, before, _)| after >= before)?;
        let how = if after == before { "as many" } else { "more" };
        let than = if after == before { "as" } else { "than" };
        Some(format!("rank {rank} would take {how} {what} {than} before"))
    }

    /// The weight as a matrix.
    pub(super) fn matrix(&self, weight: &Param) -> Result<Matrix, PassError> {
        let values = weight.data.to_f64()?;
        let count = values.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(PassError::NonFinite { name: weight.name.clone(), count });
        }
        let [o, i, kh, kw] = self.shape;
        let at = |row: usize, col: usize| values[((row / kw * i + col / kh) * kh + col % kh) * kw + row % kw];
        Ok(Matrix::from_fn(o * kw, i * kh, at))
    }

    /// The two layers of that rank. Each gets the square root of the singular values, so that neither's numbers are much
    /// larger than the other's.
    pub(super) fn factors(&self, svd: &Svd, rank: usize, dtype: DType) -> Result<[Factor; 2], TensorError> {
        let [o, i, kh, kw] = self.shape;
        let root = |r: usize| svd.s[r].sqrt();
        let first = (0..rank).flat_map(|r| (0..i * kh).map(move |col| (r, col)));
        let first: Vec<f64> = first.map(|(r, col)| root(r) * svd.vt.at(r, col)).collect();
        let second = (0..o).flat_map(|o| (0..rank).flat_map(move |r| (0..kw).map(move |x| (o * kw + x, r))));
        let second: Vec<f64> = second.map(|(row, r)| svd.u.at(row, r) * root(r)).collect();
        let [(op_first, shape_first), (op_second, shape_second)] = self.ops(rank);
        Ok([
            Factor { op: op_first, weight: TensorData::from_f64(dtype, shape_first, &first)? },
            Factor { op: op_second, weight: TensorData::from_f64(dtype, shape_second, &second)? },
        ])
    }

    /// The operators of the two layers and the shapes of their weights.
    fn ops(&self, rank: usize) -> [(Op, Vec<usize>); 2] {
        let [o, i, kh, kw] = self.shape;
        match self.kind {
            Kind::Linear => [(Op::Linear, vec![rank, i]), (Op::Linear, vec![o, rank])],
            Kind::Pointwise(config) => {
                let second = Op::Conv2d(Conv2d::default());
                [(Op::Conv2d(config), vec![rank, i, 1, 1]), (second, vec![o, rank, 1, 1])]
            }
            Kind::Spatial(Conv2d {
                stride: [sv, sh],
                padding: [top, left, bottom, right],
                dilation: [dv, dh],
                groups,
            }) => {
                let first = Conv2d { stride: [sv, 1], padding: [top, 0, bottom, 0], dilation: [dv, 1], groups };
                let second = Conv2d { stride: [1, sh], padding: [0, left, 0, right], dilation: [1, dh], groups };
                [(Op::Conv2d(first), vec![rank, i, kh, 1]), (Op::Conv2d(second), vec![o, rank, 1, kw])]
            }
        }
    }
}

/// One of the two layers, without its bias.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factor {
    op: Op,
    weight: TensorData,
}

/// Puts two layers in the place of the node `name`; the second has the bias, if there is one.
pub(super) fn replace(edit: &mut GraphEdit<'_>, name: &str, factors: &[Factor; 2]) -> Result<(), PassError> {
    let graph = edit.graph();
    let node = graph.nodes().iter().find(|node| node.name == name);
    let bias = node.and_then(|node| node.params.get(1)).map(|id| graph.param(*id).clone());
    let names = select::unused_names(graph, name, ["0", "1"]);
    let mut chain = Vec::new();
    for (factor, name) in factors.iter().zip(&names) {
        let weight = edit.add_param(&format!("{name}.weight"), factor.weight.clone());
        chain.push(NewNode { name: name.clone(), op: factor.op.clone(), params: vec![weight] });
    }
    if let (Some(bias), [_, last]) = (bias, &mut chain[..]) {
        let id = edit.add_param(&format!("{}.bias", last.name), bias.data);
        if bias.mask.is_some() {
            edit.set_mask(id, bias.mask);
        }
        last.params.push(id);
    }
    edit.replace_node(name, chain)?;
    Ok(())
}
