//! LSTM and GRU.

use super::Result;
use crate::format::onnx::dtype;
use crate::format::onnx::export::writer::{Attributes, Writer};
use crate::format::onnx::import::node::Node;
use crate::format::onnx::import::trace::{Handle, Trace};
use crate::graph;
use crate::graph::op::{Direction, Gru, Lstm, Op, Transpose};
use crate::tensor::{DType, TensorData};

/// What both have in common.
struct Layer {
    hidden: usize,
    direction: Direction,
    /// Whether the batch is the first axis.
    batch_first: bool,
    /// The sequence `[steps, n, in]`, then lengths, then states.
    inputs: Vec<Handle>,
    lengths: bool,
    state: bool,
    params: Vec<Handle>,
}

impl Layer {
    /// `states` inputs with first states stand from the sixth on.
    fn read(cx: &mut Trace<'_>, node: &Node<'_>, states: usize, activations: &[&str]) -> Result<Self> {
        let direction = match node.text("direction")?.as_deref() {
            None | Some("forward") => Direction::Forward,
            Some("reverse") => Direction::Reverse,
            Some("bidirectional") => Direction::Both,
            Some(other) => return Err(node.wrong(format!("direction '{other}' is not read"))),
        };
        let expected = activations.iter().cycle().take(activations.len() * direction.count());
        if let Some(named) = node.texts("activations")?
            && !named.iter().map(|name| name.to_lowercase()).eq(expected.map(|name| name.to_lowercase()))
        {
            return Err(node.wrong(format!("activations {named:?} are not read, only {activations:?}")));
        }
        for unread in ["clip", "activation_alpha", "activation_beta"] {
            if node.has(unread) {
                return Err(node.wrong(format!("the attribute '{unread}' is not read")));
            }
        }
        let batch_first = node.flag("layout", false)?;
        let x = batch_first_to_steps(cx, cx.input(node, 0)?, batch_first)?;
        let (weight, recurrent) = (cx.input(node, 1)?, cx.input(node, 2)?);
        let shape = cx.shape(recurrent);
        let hidden = shape.get(2).copied().unwrap_or(0);
        if node.int("hidden_size")?.is_some_and(|stated| stated != hidden as i64) {
            return Err(node.wrong(format!("hidden_size is not the weight's, {hidden}")));
        }
        let mut params = vec![weight, recurrent];
        params.extend(cx.optional(node, 3));
        let mut inputs = vec![x];
        let lengths = lengths(cx, node, x)?;
        inputs.extend(lengths);
        let given: Vec<Option<Handle>> = (0..states).map(|i| cx.optional(node, 5 + i)).collect();
        let state = given.iter().flatten().any(|state| !cx.is_zero(*state));
        if state {
            let n = cx.shape(x).get(1).copied().unwrap_or(0);
            for given in given {
                let state = match given {
                    Some(state) => batch_first_to_steps(cx, state, batch_first)?,
                    None => zeros(cx, node, &[direction.count(), n, hidden])?,
                };
                inputs.push(state);
            }
        }
        Ok(Self { hidden, direction, batch_first, inputs, lengths: lengths.is_some(), state, params })
    }

    fn write<'s>(&self, cx: &mut Trace<'s>, node: &Node<'s>, op: Op) -> Result {
        let results = cx.ops(op, &self.inputs, &self.params)?;
        for (index, result) in
            results.into_iter().enumerate().filter(|(index, _)| *index == 0 || cx_wants(node, *index))
        {
            let axes = match (self.batch_first, index) {
                (false, _) => None,
                (true, 0) => Some(vec![2, 0, 1, 3]),
                (true, _) => Some(vec![1, 0, 2]),
            };
            let result = match axes {
                Some(axes) => cx.op(Op::Transpose(Transpose { axes }), &[result], &[])?,
                None => result,
            };
            cx.output(node, index, result)?;
        }
        Ok(())
    }
}

fn cx_wants(node: &Node<'_>, index: usize) -> bool {
    node.proto.output.get(index).is_some_and(|name| !name.is_empty())
}

fn batch_first_to_steps(cx: &mut Trace<'_>, value: Handle, batch_first: bool) -> Result<Handle> {
    if !batch_first || cx.rank(value) != 3 {
        return Ok(value);
    }
    cx.op(Op::Transpose(Transpose { axes: vec![1, 0, 2] }), &[value], &[])
}

/// The lengths, unless all are the whole sequence's.
fn lengths(cx: &mut Trace<'_>, node: &Node<'_>, x: Handle) -> Result<Option<Handle>> {
    let Some(lengths) = cx.optional(node, 4) else { return Ok(None) };
    let steps = cx.shape(x).first().copied().unwrap_or(0) as i64;
    if cx.is_constant(lengths) && cx.ints(node, lengths, "lengths")?.iter().all(|length| *length == steps) {
        return Ok(None);
    }
    // ONNX has them in 32 bits alone, so that others are brought to them.
    let before = cx.before_cast(lengths).filter(|before| cx.dtype(*before) == DType::I64);
    Ok(Some(before.unwrap_or(lengths)))
}

fn zeros(cx: &mut Trace<'_>, node: &Node<'_>, shape: &[usize]) -> Result<Handle> {
    let zero = TensorData::zeros(vec![1; shape.len()]).map_err(|error| node.wrong(error.to_string()))?;
    let zero = cx.literal(zero);
    let shape = shape.iter().map(|n| (*n).into()).collect();
    cx.op(Op::Expand(crate::graph::op::Expand { shape }), &[zero], &[])
}

pub(super) fn lstm<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    if node.flag("input_forget", false)? {
        return Err(node.wrong("coupled gates (input_forget) are not read"));
    }
    let mut layer = Layer::read(cx, node, 2, &["Sigmoid", "Tanh", "Tanh"])?;
    let (hidden, direction, lengths, state) = (layer.hidden, layer.direction, layer.lengths, layer.state);
    if let Some(peephole) = cx.optional(node, 7).filter(|peephole| !cx.is_zero(*peephole)) {
        if layer.params.len() == 2 {
            let bias = TensorData::zeros(vec![direction.count(), 8 * hidden]);
            layer.params.push(cx.literal(bias.map_err(|error| node.wrong(error.to_string()))?));
        }
        layer.params.push(peephole);
    }
    layer.write(cx, node, Op::Lstm(Lstm { hidden, direction, lengths, state }))
}

pub(super) fn gru<'s>(cx: &mut Trace<'s>, node: &Node<'s>) -> Result {
    let layer = Layer::read(cx, node, 1, &["Sigmoid", "Tanh"])?;
    let (hidden, direction, lengths, state) = (layer.hidden, layer.direction, layer.lengths, layer.state);
    let reset_after = node.flag("linear_before_reset", false)?;
    layer.write(cx, node, Op::Gru(Gru { hidden, direction, reset_after, lengths, state }))
}

/// What both layers are written with.
struct Written<'a> {
    op: &'static str,
    hidden: usize,
    direction: Direction,
    lengths: bool,
    more: Attributes,
    node: &'a graph::Node,
}

impl Written<'_> {
    fn write(self, w: &mut Writer<'_>) -> Option<Vec<String>> {
        let node = self.node;
        let mut inputs = vec![w.input(node, 0), w.param(node, 0)?, w.param(node, 1)?];
        inputs.push(w.param(node, 2).unwrap_or_default());
        let mut next = 1;
        inputs.push(if self.lengths {
            next = 2;
            let lengths = w.input(node, 1);
            match w.value(node, 1).ty.dtype {
                DType::I32 => lengths,
                _ => w.part("Cast", &[&lengths], vec![("to", i64::from(dtype::number(DType::I32)).into())]),
            }
        } else {
            String::new()
        });
        let states = node.inputs.len() - next;
        for index in next..node.inputs.len() {
            inputs.push(w.input(node, index));
        }
        if let Some(peephole) = w.param(node, 3) {
            inputs.extend((states..2).map(|_| String::new()));
            inputs.push(peephole);
        }
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        let direction = match self.direction {
            Direction::Forward => "forward",
            Direction::Reverse => "reverse",
            Direction::Both => "bidirectional",
        };
        let mut attributes = vec![("hidden_size", self.hidden.into()), ("direction", direction.into())];
        attributes.extend(self.more);
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Some(w.last(node, self.op, &inputs, attributes))
    }
}

pub(super) fn write_lstm(w: &mut Writer<'_>, node: &graph::Node, config: &Lstm) -> Option<Vec<String>> {
    let Lstm { hidden, direction, lengths, .. } = *config;
    Written { op: "LSTM", hidden, direction, lengths, more: Vec::new(), node }.write(w)
}

pub(super) fn write_gru(w: &mut Writer<'_>, node: &graph::Node, config: &Gru) -> Option<Vec<String>> {
    let Gru { hidden, direction, lengths, reset_after, .. } = *config;
    let more = vec![("linear_before_reset", reset_after.into())];
    Written { op: "GRU", hidden, direction, lengths, more, node }.write(w)
}
