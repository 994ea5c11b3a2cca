//! Patterns of exporters: several operators that are one of ours.
//!
//! A pattern is found at its last operator, which becomes the whole; what came before goes away if nobody else needs it.
//! All of them give the same numbers but for rounding. What our own writer makes of operators that came later than the
//! version it writes is among them, so that a graph that is written and read again is the same one.

mod activation;
mod moves;
mod norm;
mod tidy;

use std::collections::HashMap;

use super::merge::Program;
use super::node::decimal;
use super::trace::{Constant, Handle, Step};
use crate::graph::op::{Op, Reduction};
use crate::graph::{Dim, ValueType};
use crate::tensor::{DType, TensorData};

/// Puts one operator in the place of several.
pub(super) fn fuse(program: &mut Program, outputs: &[(String, Handle)]) {
    let uses = Uses::of(program, outputs);
    for place in 0..program.steps.len() {
        let view = View { program, uses: &uses };
        let step = &program.steps[place];
        let fused = view
            .bias(step)
            .map(New::Bias)
            .or_else(|| view.zero_bias(step).then_some(New::NoBias))
            .or_else(|| view.norm(step).map(New::Step))
            .or_else(|| view.activation(step).map(|(op, x)| New::Step(Parts::of(op, &[x]))))
            .or_else(|| view.global_mean(step).map(|x| New::Step(Parts::of(Op::GlobalAvgPool, &[x]))))
            .or_else(|| view.moves(step).map(New::Step));
        match fused {
            Some(New::Step(Parts { op, inputs, mut params, vectors })) => {
                if let Some(size) = vectors {
                    params.iter_mut().for_each(|param| *param = program.vector(*param, &[size]));
                }
                let step = &mut program.steps[place];
                (step.op, step.inputs, step.params) = (op, inputs, params);
            }
            Some(New::Bias(Bias { of, constant, shape })) => {
                let bias = program.vector(constant, &shape);
                let (op, inputs, mut params) = {
                    let before = &program.steps[of];
                    (before.op.clone(), before.inputs.clone(), before.params.clone())
                };
                params.push(bias);
                // The layer is the node with the weight, whatever node adds its bias.
                let node = program.steps[of].node;
                let step = &mut program.steps[place];
                (step.op, step.inputs, step.params, step.node) = (op, inputs, params, node);
            }
            Some(New::NoBias) => program.steps[place].params.truncate(1),
            None => {}
        }
    }
    tidy::tidy(program, outputs);
}

/// The operator that a pattern is.
struct Parts {
    op: Op,
    inputs: Vec<Handle>,
    params: Vec<Handle>,
    /// Whether the parameters become vectors of that size.
    vectors: Option<usize>,
}

impl Parts {
    /// An operator without parameters.
    fn of(op: Op, inputs: &[Handle]) -> Self {
        Self { op, inputs: inputs.to_vec(), params: Vec::new(), vectors: None }
    }
}

enum New {
    Step(Parts),
    Bias(Bias),
    NoBias,
}

/// A constant that is added to the result of a layer without a bias.
struct Bias {
    /// The layer's place.
    of: usize,
    constant: Handle,
    shape: [usize; 1],
}

impl Program {
    /// A constant as a vector of that shape.
    fn vector(&mut self, handle: Handle, shape: &[usize; 1]) -> Handle {
        let value = self.value(handle);
        let (ty, name, constant) = (value.ty.clone(), value.name.clone(), value.constant.clone());
        if ty.shape == [Dim::Fixed(shape[0])] {
            return handle;
        }
        let reshaped = constant.as_ref().and_then(|constant| {
            let data = constant.data()?;
            let data = TensorData::new(data.dtype(), shape.to_vec(), data.bytes().clone()).ok()?;
            Some(Constant::new(data, constant.learned()))
        });
        let vector = self.fresh(ValueType::new(ty.dtype, vec![Dim::Fixed(shape[0])]), reshaped);
        self.values[vector.0].name = name;
        vector
    }
}

/// Who writes each value, and how many read it; the latter before anything was fused, so that it may be too many later.
struct Uses {
    writers: HashMap<Handle, usize>,
    readers: HashMap<Handle, usize>,
}

/// A program with its uses.
struct View<'p> {
    program: &'p Program,
    uses: &'p Uses,
}

impl Uses {
    fn of(program: &Program, outputs: &[(String, Handle)]) -> Self {
        let mut readers = HashMap::new();
        let read = program.steps.iter().flat_map(|step| &step.inputs).chain(outputs.iter().map(|(_, handle)| handle));
        read.for_each(|handle| *readers.entry(*handle).or_insert(0) += 1);
        let writers = program.steps.iter().enumerate();
        let writers = writers.flat_map(|(place, step)| step.outputs.iter().map(move |output| (*output, place)));
        Self { writers: writers.collect(), readers }
    }
}

impl<'p> View<'p> {
    fn writer(&self, handle: Handle) -> Option<&'p Step> {
        self.uses.writers.get(&handle).map(|place| &self.program.steps[*place])
    }

    fn shape(&self, handle: Handle) -> &'p [Dim] {
        &self.program.value(handle).ty.shape
    }

    /// The number that a value is everywhere, if it is a constant of one number.
    fn number(&self, handle: Handle) -> Option<f64> {
        let data = self.program.value(handle).constant.as_ref()?.data().filter(|data| data.elements() == 1)?;
        let number = data.to_f64().ok()?.first().copied()?;
        // The shortest decimal number that is this one in 32 bits is what was meant.
        Some(if data.dtype() == DType::F64 { number } else { decimal(number as f32) })
    }

    fn is_number(&self, handle: Handle, expected: f64) -> bool {
        // Files have numbers of 32 or 16 bits.
        self.number(handle).is_some_and(|number| (number - expected).abs() <= 1e-3 * expected.abs().max(1e-3))
    }

    /// The two inputs of an operator, in both orders.
    fn either(&self, step: &Step) -> Vec<(Handle, Handle)> {
        match step.inputs[..] {
            [a, b] => vec![(a, b), (b, a)],
            _ => Vec::new(),
        }
    }

    fn bias(&self, step: &Step) -> Option<Bias> {
        if step.op != Op::ADD {
            return None;
        }
        self.either(step).into_iter().find_map(|(layer, constant)| {
            let of = *self.uses.writers.get(&layer)?;
            let before = &self.program.steps[of];
            let axis_from_end = match before.op {
                Op::Linear => 1,
                Op::Conv2d(_) | Op::ConvTranspose2d(_) => 3,
                Op::Conv1d(_) | Op::ConvTranspose1d(_) => 2,
                _ => return None,
            };
            let once = before.params.len() == 1 && self.uses.readers.get(&layer) == Some(&1);
            let channels = self.shape(layer).iter().rev().nth(axis_from_end - 1)?.fixed()?;
            self.program.value(constant).constant.as_ref()?;
            // One number a channel, and nothing along any other axis.
            let fits = |(place, size): (usize, &Dim)| {
                *size == Dim::Fixed(if place + 1 == axis_from_end { channels } else { 1 })
            };
            let shape = self.shape(constant);
            let fits = shape.len() >= axis_from_end
                && shape.len() <= self.shape(layer).len()
                && shape.iter().rev().enumerate().all(fits);
            (once && fits && channels > 1).then_some(Bias { of, constant, shape: [channels] })
        })
    }

    /// Whether a layer has a bias that an exporter made of nothing.
    fn zero_bias(&self, step: &Step) -> bool {
        let is_layer = matches!(step.op, Op::Linear | Op::Conv2d(_) | Op::Conv1d(_));
        let (true, [_, bias]) = (is_layer, &step.params[..]) else { return false };
        let constant = self.program.value(*bias).constant.as_ref();
        constant.is_some_and(|bias| !bias.learned() && bias.is_zero())
    }

    /// The mean over all places of an image.
    fn global_mean(&self, step: &Step) -> Option<Handle> {
        let Op::Reduce(config) = &step.op else { return None };
        let rank = self.shape(step.inputs[0]).len();
        let all = rank == 4 && config.axes == [2, 3];
        (config.of == Reduction::Mean && config.keep && all).then_some(step.inputs[0])
    }
}

#[cfg(test)]
mod tests;
