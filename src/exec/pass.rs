//! A forward pass: node after node, and what of it is kept.

use candle_core::{Result, Tensor};

use super::held::Held;
use super::ops::{self, Context, Way};
use super::tape::{Source, Step, Tape};
use super::{ExecError, Mode, Session};
use crate::graph::dim::Sizes;
use crate::graph::op::{Activation, Fill, Pad};
use crate::graph::{Node, Op, ValueId};
use crate::kernels::{self, Moments};
use crate::reference;
use crate::tensor::{DType, TensorData};

/// What a forward pass comes to.
pub(super) struct Pass {
    /// The values that are still needed after the last node: outputs, taps and what no node reads.
    pub(super) values: Vec<Option<Held>>,
    pub(super) measured: Vec<Measured>,
    pub(super) tape: Tape,
}

/// What the node at place `node` measured of a batch.
pub(super) struct Measured {
    pub(super) node: usize,
    pub(super) moments: Moments,
}

/// What one node comes to.
struct Done {
    ys: Vec<Held>,
    /// What the walk back needs, where a gradient goes through it.
    step: Option<Step>,
    moments: Option<Moments>,
}

impl Session {
    /// Computes all nodes for these inputs, in the graph's order, and these parameters.
    pub(super) fn pass(
        &self,
        inputs: Vec<Held>,
        params: &[Held],
        taps: &[ValueId],
        mode: Mode,
        sizes: Sizes,
    ) -> std::result::Result<Pass, ExecError> {
        let mut pass = Pass { values: vec![None; self.last_reader.len()], measured: Vec::new(), tape: Tape::default() };
        for (input, value) in self.inputs.iter().zip(inputs) {
            pass.values[input.id.index()] = Some(value);
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let fail = |reason: String| ExecError::Node { node: node.name.clone(), op: node.op.name(), reason };
            let args: Option<Vec<&Held>> = node.inputs.iter().map(|v| pass.values[v.index()].as_ref()).collect();
            let args = args.ok_or_else(|| fail("its input is not there yet".into()))?;
            let own: Vec<&Held> = node.params.iter().map(|p| &params[p.index()]).collect();
            let measures = mode == Mode::Train && !self.has_frozen_statistics(node);
            let context = Context { mode, seed: self.seed, measures, sizes };
            let done = self.node(i, &args, &own, &context).map_err(|e| fail(e.to_string()))?;
            pass.measured.extend(done.moments.map(|moments| Measured { node: i, moments }));
            for (value, y) in node.outputs.iter().zip(done.ys) {
                pass.values[value.index()] = Some(y);
            }
            if let Some(step) = done.step.filter(|_| mode == Mode::Train) {
                pass.tape.push(step);
            }
            for value in &node.inputs {
                let read = self.last_reader[value.index()] == Some(i);
                if read && !self.outputs.contains(value) && !taps.contains(value) {
                    pass.values[value.index()] = None;
                }
            }
        }
        Ok(pass)
    }

    /// Computes the node at place `number` for its inputs and parameters.
    fn node(&self, number: usize, inputs: &[&Held], params: &[&Held], context: &Context) -> Result<Done> {
        let node = &self.nodes[number];
        let gives_numbers = self.types[node.output().index()].dtype.is_float();
        let way = if gives_numbers { ops::way(node, inputs, params, context)? } else { Way::Reference };
        let (kernel, moments) = match way {
            Way::Kernel(kernel) => (Some(kernel), None),
            Way::Measured(kernel, moments) => (Some(kernel), Some(moments)),
            Way::Through(shape) => {
                let (sources, args) = numbers(node, inputs, params, 1);
                let [x] = &args[..] else { candle_core::bail!("no number to go through") };
                let y = self.rounded(node, 0, reshaped(x, &shape)?)?;
                let step = Step { node: number, kernel: None, sources, ys: vec![y.clone()], args };
                return Ok(Done { ys: vec![Held::Numbers(y)], step: Some(step), moments: None });
            }
            Way::Reference => {
                let ys = self.by_reference(node, inputs, params, context.sizes)?;
                return Ok(Done { ys, step: None, moments: None });
            }
        };
        let arity = kernel.as_ref().map_or(0, |kernel| kernel.arity());
        let (sources, args) = numbers(node, inputs, params, arity);
        let results = match &kernel {
            Some(kernel) => kernel.results(&args.iter().collect::<Vec<_>>())?,
            None => Vec::new(),
        };
        if results.len() < node.outputs.len() {
            candle_core::bail!("{} results for {} outputs", results.len(), node.outputs.len());
        }
        let mut ys = Vec::with_capacity(results.len());
        for (i, y) in results.into_iter().enumerate() {
            ys.push(if i < node.outputs.len() { self.rounded(node, i, y)? } else { y });
        }
        let seen = ys.iter().take(node.outputs.len()).cloned().map(Held::Numbers).collect();
        Ok(Done { ys: seen, step: Some(Step { node: number, kernel, sources, args, ys }), moments })
    }

    /// An output as it is in the number format that it has.
    fn rounded(&self, node: &Node, output: usize, y: Tensor) -> Result<Tensor> {
        if hands_on(&node.op) {
            return Ok(y);
        }
        match self.types[node.outputs[output].index()].dtype {
            half @ (DType::F16 | DType::BF16) => kernels::round(&y, half),
            _ => kernels::round(&y, self.activations),
        }
    }

    /// What has no gradient, and all that are no floating point numbers, by the definition.
    fn by_reference(&self, node: &Node, inputs: &[&Held], params: &[&Held], sizes: Sizes) -> Result<Vec<Held>> {
        let fail = |e: String| candle_core::Error::Msg(e);
        let plain = |held: &[&Held]| held.iter().map(|held| held.data()).collect::<Result<Vec<TensorData>>>();
        let (inputs, params) = (plain(inputs)?, plain(params)?);
        let (inputs, params): (Vec<_>, Vec<_>) = (inputs.iter().collect(), params.iter().collect());
        let context = reference::Context::eval(sizes);
        let ys = reference::eval(&node.op, &inputs, &params, &context).map_err(|e| fail(e.to_string()))?;
        if ys.len() != node.outputs.len() {
            candle_core::bail!("{} results for {} outputs", ys.len(), node.outputs.len());
        }
        let held = ys.iter().enumerate().map(|(output, y)| match Held::of(y)? {
            Held::Numbers(y) => self.rounded(node, output, y).map(Held::Numbers),
            plain => Ok(plain),
        });
        held.collect()
    }

    fn has_frozen_statistics(&self, node: &Node) -> bool {
        node.params.get(node.op.statistics()).is_some_and(|ids| ids.iter().any(|id| self.frozen.contains(id)))
    }
}

/// The floating point arguments of a node, at most so many, and where they come from.
fn numbers(node: &Node, inputs: &[&Held], params: &[&Held], most: usize) -> (Vec<Source>, Vec<Tensor>) {
    let values = node.inputs.iter().map(|id| Source::Value(*id)).zip(inputs);
    let all = values.chain(node.params.iter().map(|id| Source::Param(*id)).zip(params));
    all.filter_map(|(source, held)| Some((source, held.numbers()?.clone()))).take(most).unzip()
}

/// The same numbers in another shape.
fn reshaped(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.dims() == shape {
        return Ok(x.clone());
    }
    // candle keeps what a tensor was made from, one in the other: a long chain of shapes would be dropped by recursion.
    if kernels::needs_gradient(x) && !x.is_variable() {
        return kernels::tensor(kernels::read(x, <[f32]>::to_vec)?, shape, true);
    }
    x.reshape(shape)
}

/// Whether the numbers that come out are numbers that went in, or 0: there is nothing to round.
pub(super) fn hands_on(op: &Op) -> bool {
    match op {
        Op::Activation(Activation::Relu) | Op::MaxPool2d(_) | Op::MaxPool1d(_) | Op::Slice(_) | Op::Flatten => true,
        Op::Pad(Pad { fill, .. }) => *fill == Fill::Value(0.0),
        _ => false,
    }
}
