//! Patterns of exporters: several operators that are one of ours.
//!
//! A pattern is found at its last operator, which becomes the whole; what came before goes away if nobody else needs it.
//! All of them give the same numbers but for rounding.

use std::collections::HashMap;

use super::merge::Program;
use super::trace::{Constant, Handle, Step};
use crate::graph::op::{Activation, Alpha, Binary, LayerNorm, Line, Op, Reduction, Unary};
use crate::graph::{Dim, ValueType};
use crate::tensor::TensorData;

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
            .or_else(|| view.layer_norm(step).map(New::Step))
            .or_else(|| view.activation(step).map(|(op, x)| New::Step((op, vec![x], Vec::new()))))
            .or_else(|| view.global_mean(step).map(|x| New::Step((Op::GlobalAvgPool, vec![x], Vec::new()))));
        match fused {
            Some(New::Step((op, inputs, params))) => {
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
}

type Parts = (Op, Vec<Handle>, Vec<Handle>);

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

/// Products of more factors are none that is looked for.
const MAX_FACTORS: usize = 6;

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
        let data = self.program.value(handle).constant.as_ref()?.data()?;
        match data.elements() {
            1 => data.to_f64().ok()?.first().copied(),
            _ => None,
        }
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
        let all = rank >= 3 && config.axes.iter().copied().eq(2..rank);
        (config.of == Reduction::Mean && config.keep && all).then_some(step.inputs[0])
    }

    /// `x / 2 (1 + erf(x / sqrt(2)))` and its kin, however the product is written.
    fn activation(&self, step: &Step) -> Option<(Op, Handle)> {
        let (mut factors, mut number) = (Vec::new(), 1.0);
        if !matches!(step.op, Op::Binary(Binary::Mul | Binary::Div)) {
            return None;
        }
        self.factors(step, &mut factors, &mut number, MAX_FACTORS);
        let [a, b] = factors[..] else { return None };
        let is = |expected: f64| (number - expected).abs() < 1e-3 * expected;
        [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
            let writer = self.writer(gate)?;
            let of_x = writer.inputs.first() == Some(&x);
            let found = match &writer.op {
                Op::Activation(Activation::Sigmoid) if of_x && is(1.0) => Activation::Swish(Alpha { alpha: 1.0 }),
                Op::Activation(Activation::HardSigmoid(Line { alpha, beta }))
                    if of_x && is(1.0) && (alpha - 1.0 / 6.0).abs() < 1e-4 && *beta == 0.5 =>
                {
                    Activation::HardSwish
                }
                Op::Activation(Activation::Tanh) if is(1.0) => {
                    let inner = self.writer(writer.inputs[0])?;
                    let of_x = inner.inputs.first() == Some(&x);
                    (of_x && inner.op == Op::Activation(Activation::Softplus)).then_some(Activation::Mish)?
                }
                // min(max(x + 3, 0), 6) / 6.
                Op::Clip(clip) if (clip.min, clip.max) == (Some(0.0), Some(6.0)) && is(1.0 / 6.0) => {
                    self.sum(writer.inputs[0], 3.0).filter(|inner| *inner == x)?;
                    Activation::HardSwish
                }
                Op::Binary(Binary::Add) if is(0.5) => {
                    let inner = self.writer(self.sum(gate, 1.0)?)?;
                    match inner.op {
                        Op::Unary(Unary::Erf) if self.scaled(inner.inputs[0], x, 0.5f64.sqrt()) => Activation::Gelu,
                        _ => return None,
                    }
                }
                _ => return None,
            };
            Some((Op::Activation(found), x))
        })
    }

    /// The factors of a product that are no numbers, and the product of those that are.
    fn factors(&self, step: &Step, factors: &mut Vec<Handle>, number: &mut f64, depth: usize) {
        let (a, b) = (step.inputs[0], step.inputs[1]);
        if step.op == Op::Binary(Binary::Div) {
            match self.number(b) {
                Some(divisor) => *number /= divisor,
                // No product: nothing that is looked for.
                None => factors.extend([b; 3]),
            }
            return self.factor(a, factors, number, depth);
        }
        self.factor(a, factors, number, depth);
        self.factor(b, factors, number, depth);
    }

    fn factor(&self, handle: Handle, factors: &mut Vec<Handle>, number: &mut f64, depth: usize) {
        if factors.len() > 2 {
            return;
        }
        if depth == 0 {
            return factors.extend([handle; 3]);
        }
        if let Some(constant) = self.number(handle) {
            *number *= constant;
            return;
        }
        match self.writer(handle) {
            Some(inner) if inner.op == Op::Binary(Binary::Mul) => self.factors(inner, factors, number, depth - 1),
            Some(inner) if inner.op == Op::Binary(Binary::Div) && self.number(inner.inputs[1]).is_some() => {
                self.factors(inner, factors, number, depth - 1);
            }
            _ => factors.push(handle),
        }
    }

    /// What `number` is added to, to give this value.
    fn sum(&self, handle: Handle, number: f64) -> Option<Handle> {
        let step = self.writer(handle).filter(|step| step.op == Op::ADD)?;
        self.either(step).into_iter().find(|(_, other)| self.is_number(*other, number)).map(|(x, _)| x)
    }

    /// Whether a value is `x` times `factor`.
    fn scaled(&self, handle: Handle, x: Handle, factor: f64) -> bool {
        let Some(step) = self.writer(handle) else { return false };
        match step.op {
            Op::Binary(Binary::Mul) => {
                self.either(step).into_iter().any(|(own, other)| own == x && self.is_number(other, factor))
            }
            Op::Binary(Binary::Div) => step.inputs[0] == x && self.is_number(step.inputs[1], 1.0 / factor),
            _ => false,
        }
    }

    /// `(x - mean) / sqrt(var + epsilon) * weight + bias` over the last axis, as older exporters write it.
    fn layer_norm(&self, step: &Step) -> Option<Parts> {
        if step.op != Op::ADD {
            return None;
        }
        self.either(step).into_iter().find_map(|(scaled, bias)| {
            let scaled = self.writer(scaled).filter(|step| step.op == Op::Binary(Binary::Mul))?;
            self.either(scaled).into_iter().find_map(|(normal, weight)| {
                let divided = self.writer(normal).filter(|step| step.op == Op::Binary(Binary::Div))?;
                let (centred, deviation) = (divided.inputs[0], divided.inputs[1]);
                let x = self.centred(centred)?;
                let root = self.writer(deviation).filter(|step| step.op == Op::Unary(Unary::Sqrt))?;
                let sum = self.writer(root.inputs[0]).filter(|step| step.op == Op::ADD)?;
                let (variance, epsilon) = self.either(sum).into_iter().find_map(|(v, e)| Some((v, self.number(e)?)))?;
                let squares = self.writer(self.mean(variance)?)?;
                let is_square = match squares.op {
                    Op::Binary(Binary::Pow) => squares.inputs[0] == centred && self.is_number(squares.inputs[1], 2.0),
                    Op::Binary(Binary::Mul) => squares.inputs == [centred, centred],
                    _ => false,
                };
                let last = self.shape(x).last()?.fixed()?;
                let is_vector = |handle: Handle| {
                    self.program.value(handle).constant.is_some() && self.shape(handle) == [Dim::Fixed(last)]
                };
                let fits = is_square && is_vector(weight) && is_vector(bias) && epsilon > 0.0;
                let op = LayerNorm { axis: self.shape(x).len() - 1, epsilon };
                fits.then(|| (Op::LayerNorm(op), vec![x], vec![weight, bias]))
            })
        })
    }

    /// The `x` of `x - mean(x)`.
    fn centred(&self, handle: Handle) -> Option<Handle> {
        let step = self.writer(handle).filter(|step| step.op == Op::Binary(Binary::Sub))?;
        (self.mean(step.inputs[1])? == step.inputs[0]).then_some(step.inputs[0])
    }

    /// What a value is the mean of, over the last axis, which is kept.
    fn mean(&self, handle: Handle) -> Option<Handle> {
        let step = self.writer(handle)?;
        let Op::Reduce(config) = &step.op else { return None };
        let last = self.shape(step.inputs[0]).len().checked_sub(1)?;
        (config.of == Reduction::Mean && config.keep && config.axes == [last]).then_some(step.inputs[0])
    }
}
