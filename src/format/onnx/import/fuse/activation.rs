//! Activation functions that are written as products.

use super::super::trace::{Handle, Step};
use super::View;
use crate::graph::op::{Activation, Alpha, Binary, Line, Op, Unary};

/// Products of more factors are none that is looked for.
const MAX_FACTORS: usize = 6;
/// Nor are those with so many that are no numbers.
const MAX_KEPT: usize = 4;

impl View<'_> {
    /// `x / 2 (1 + erf(x / sqrt(2)))` and its kin, however the product is written.
    pub(super) fn activation(&self, step: &Step) -> Option<(Op, Handle)> {
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
                Op::Activation(Activation::Sigmoid) if is(1.0) => {
                    let scaled = self.writer(writer.inputs[0])?;
                    Activation::Swish(Alpha { alpha: self.scale(scaled, x)? })
                }
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
                        Op::Activation(Activation::Tanh) if self.is_cubic(inner.inputs[0], x) => Activation::GeluTanh,
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
                None => factors.extend([b; MAX_KEPT]),
            }
            return self.factor(a, factors, number, depth);
        }
        self.factor(a, factors, number, depth);
        self.factor(b, factors, number, depth);
    }

    fn factor(&self, handle: Handle, factors: &mut Vec<Handle>, number: &mut f64, depth: usize) {
        if factors.len() >= MAX_KEPT {
            return;
        }
        if depth == 0 {
            return factors.extend([handle; MAX_KEPT]);
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

    /// Whether a value is `sqrt(2 / pi) (x + 0.044715 x^3)`, as a sum or with `x` as a factor.
    fn is_cubic(&self, handle: Handle, x: Handle) -> bool {
        let near = |number: f64, expected: f64| (number - expected).abs() < 1e-3 * expected;
        let (outer, number) = self.product(handle);
        if !near(number, (2.0 / std::f64::consts::PI).sqrt()) {
            return false;
        }
        let rest = |sum: Handle, of: &dyn Fn(Handle) -> bool| {
            let step = self.writer(sum).filter(|step| step.op == Op::ADD);
            step.into_iter().flat_map(|step| self.either(step)).find(|(own, _)| of(*own)).map(|(_, rest)| rest)
        };
        let is_power = |handle: Handle, power: usize| {
            let (factors, number) = self.product(handle);
            let of_power = |factor: &Handle| match self.writer(*factor) {
                Some(step) if step.op == Op::Binary(Binary::Pow) && step.inputs[0] == x => {
                    self.is_number(step.inputs[1], power as f64)
                }
                _ => false,
            };
            let alone = matches!(&factors[..], [factor] if of_power(factor));
            near(number, 0.044715) && (alone || factors.len() == power && factors.iter().all(|factor| *factor == x))
        };
        match outer[..] {
            [sum] => rest(sum, &|own| own == x).is_some_and(|cube| is_power(cube, 3)),
            [a, b] if a == x || b == x => {
                let sum = if a == x { b } else { a };
                rest(sum, &|own| self.is_number(own, 1.0)).is_some_and(|square| is_power(square, 2))
            }
            _ => false,
        }
    }

    /// The factors of a value that are no numbers, and the product of those that are.
    fn product(&self, handle: Handle) -> (Vec<Handle>, f64) {
        let (mut factors, mut number) = (Vec::new(), 1.0);
        self.factor(handle, &mut factors, &mut number, MAX_FACTORS);
        (factors, number)
    }

    /// What `number` is added to, to give this value.
    fn sum(&self, handle: Handle, number: f64) -> Option<Handle> {
        let step = self.writer(handle).filter(|step| step.op == Op::ADD)?;
        self.either(step).into_iter().find(|(_, other)| self.is_number(*other, number)).map(|(x, _)| x)
    }

    /// By what `x` is multiplied to give the step's result.
    fn scale(&self, step: &Step, x: Handle) -> Option<f64> {
        let product = step.op == Op::Binary(Binary::Mul);
        let mut both = self.either(step).into_iter().filter(|(own, _)| product && *own == x);
        both.find_map(|(_, other)| self.number(other))
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
}
