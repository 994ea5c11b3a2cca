//! Recurrent layers, over a whole sequence: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014), as ONNX
//! defines them.
//!
//! ```text
//! x [steps, n, in]   weight_ih [d, gates * h, in]   weight_hh [d, gates * h, h]   bias [d, 2 * gates * h] (input's, state's)
//!
//! LSTM, gates i o f c:   i = sigmoid(W_i x + R_i h + b_i)   o, f alike   g = tanh(W_c x + R_c h + b_c)
//!                        c' = f c + i g                     h' = o tanh(c')
//! GRU, gates z r h:      z, r = sigmoid(..)                 n = tanh(W_h x + r (R_h h + b_Rh) + b_Wh)    reset_after
//!                        h' = (1 - z) n + z h               n = tanh(W_h x + R_h (r h) + b_Rh + b_Wh)    otherwise
//! ```
//!
//! `d` is the number of directions. Outputs: all states `[steps, d, n, h]`, the last state `[d, n, h]` and, of an LSTM,
//! the last cell `[d, n, h]`. Where lengths are given, a sample's states after its length are 0 and its last state is that
//! of its last step.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};
use crate::graph::dim::Dim;
use crate::tensor::DType;

/// Which way a recurrent layer reads a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both ways, with weights of their own.
    Both,
}

impl Direction {
    /// How many there are.
    pub fn count(self) -> usize {
        if self == Direction::Both { 2 } else { 1 }
    }

    /// For each direction, whether it runs backwards.
    pub fn backwards(self) -> &'static [bool] {
        match self {
            Direction::Forward => &[false],
            Direction::Reverse => &[true],
            Direction::Both => &[false, true],
        }
    }
}

/// An LSTM layer, as ONNX defines it. Inputs: the sequence `[steps, n, in]`, then the lengths `[n]` where there are any, then
/// the first state and cell `[d, n, h]` where there are any. Outputs: all states `[steps, d, n, h]`, the last state and the
/// last cell, both `[d, n, h]`. Gates lie in the order input, output, forget, cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lstm {
    /// Units.
    pub hidden: usize,
    /// Which way.
    pub direction: Direction,
    /// Whether there are lengths.
    #[serde(default)]
    pub lengths: bool,
    /// Whether there are a first state and cell; otherwise they are 0.
    #[serde(default)]
    pub state: bool,
}

/// A GRU layer, as ONNX defines it. Inputs: the sequence `[steps, n, in]`, then the lengths `[n]` where there are any, then the
/// first state `[d, n, h]` where there is one. Outputs: all states `[steps, d, n, h]` and the last state `[d, n, h]`. Gates lie
/// in the order update, reset, hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gru {
    /// Units.
    pub hidden: usize,
    /// Which way.
    pub direction: Direction,
    /// Whether the reset gate comes after the product with the state (PyTorch's way, ONNX's `linear_before_reset`).
    pub reset_after: bool,
    /// Whether there are lengths.
    #[serde(default)]
    pub lengths: bool,
    /// Whether there is a first state; otherwise it is 0.
    #[serde(default)]
    pub state: bool,
}

/// The sizes that the two layers are checked by.
struct Layer<'a> {
    op: &'static str,
    gates: usize,
    hidden: usize,
    directions: usize,
    params: &'a [&'a [usize]],
}

impl Lstm {
    pub(super) fn infer(&self, inputs: &[&ValueType], params: &[&[usize]]) -> Result<Vec<ValueType>, OpError> {
        let layer = Layer { op: "Lstm", gates: 4, hidden: self.hidden, directions: self.direction.count(), params };
        let [all, last] = layer.infer(inputs, self.lengths, if self.state { 2 } else { 0 })?;
        if let Some(peepholes) = params.get(3) {
            layer.check_param("peephole", peepholes, &[layer.directions, 3 * self.hidden])?;
        }
        Ok(vec![all, last.clone(), last])
    }
}

impl Gru {
    pub(super) fn infer(&self, inputs: &[&ValueType], params: &[&[usize]]) -> Result<Vec<ValueType>, OpError> {
        let layer = Layer { op: "Gru", gates: 3, hidden: self.hidden, directions: self.direction.count(), params };
        Ok(layer.infer(inputs, self.lengths, usize::from(self.state))?.to_vec())
    }
}

impl Layer<'_> {
    fn infer(&self, inputs: &[&ValueType], lengths: bool, states: usize) -> Result<[ValueType; 2], OpError> {
        let (d, h) = (self.directions, self.hidden);
        if h == 0 || h > 1 << 20 {
            return Err(config(self.op, "hidden", format!("must be between 1 and {}, is {h}", 1 << 20)));
        }
        let expected = 1 + usize::from(lengths) + states;
        if inputs.len() != expected {
            let expected = "the sequence, and lengths and states as configured";
            return Err(OpError::Arity { op: self.op, what: "inputs", expected, actual: inputs.len() });
        }
        let x = inputs[0];
        let [steps, n, Dim::Fixed(features)] = x.shape[..] else {
            return Err(wants(self.op, "[steps, n, in]", x));
        };
        if lengths && (inputs[1].shape != [n] || !matches!(inputs[1].dtype, DType::I32 | DType::I64)) {
            return Err(wants(self.op, format!("lengths [{n}] of whole numbers"), inputs[1]));
        }
        let last = x.with(vec![Dim::Fixed(d), n, Dim::Fixed(h)]);
        if let Some(state) = inputs[expected - states..].iter().find(|state| ***state != last) {
            return Err(wants(self.op, format!("a first state of {last}"), state));
        }
        let rows = self.gates * h;
        self.check_param("weight_ih", self.params[0], &[d, rows, features])?;
        self.check_param("weight_hh", self.params[1], &[d, rows, h])?;
        if let Some(bias) = self.params.get(2) {
            self.check_param("bias", bias, &[d, 2 * rows])?;
        }
        Ok([x.with(vec![steps, Dim::Fixed(d), n, Dim::Fixed(h)]), last])
    }

    fn check_param(&self, role: &'static str, actual: &[usize], expected: &[usize]) -> Result<(), OpError> {
        if actual == expected {
            return Ok(());
        }
        Err(OpError::Param { op: self.op, role, expected: format!("{expected:?}"), actual: actual.to_vec() })
    }
}
