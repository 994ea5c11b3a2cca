//! Normalisations that are written step by step.

use super::super::trace::{Handle, Step};
use super::{Parts, View};
use crate::graph::Dim;
use crate::graph::op::{Binary, GroupNorm, LayerNorm, Op, Reduction, RmsNorm, Unary};

impl View<'_> {
    pub(super) fn norm(&self, step: &Step) -> Option<Parts> {
        self.layer_norm(step).or_else(|| self.rms_norm(step)).or_else(|| self.group_norm(step))
    }

    /// `x / sqrt(mean(x^2) + epsilon) * weight` over the last axes.
    fn rms_norm(&self, step: &Step) -> Option<Parts> {
        if step.op != Op::Binary(Binary::Mul) {
            return None;
        }
        self.either(step).into_iter().find_map(|(normal, weight)| {
            self.program.value(weight).constant.as_ref()?;
            let normal = self.writer(normal)?;
            let (x, root) = match normal.op {
                Op::Binary(Binary::Div) => (normal.inputs[0], self.writer(normal.inputs[1])?),
                Op::Binary(Binary::Mul) => self.either(normal).into_iter().find_map(|(x, inverse)| {
                    let inverse = self.writer(inverse)?;
                    match inverse.op {
                        Op::Unary(Unary::Reciprocal) => Some((x, self.writer(inverse.inputs[0])?)),
                        Op::Binary(Binary::Div) if self.is_number(inverse.inputs[0], 1.0) => {
                            Some((x, self.writer(inverse.inputs[1])?))
                        }
                        _ => None,
                    }
                })?,
                _ => return None,
            };
            if root.op != Op::Unary(Unary::Sqrt) {
                return None;
            }
            let sum = self.writer(root.inputs[0]).filter(|step| step.op == Op::ADD)?;
            let (mean, epsilon) = self.either(sum).into_iter().find_map(|(m, e)| Some((m, self.number(e)?)))?;
            let mean = self.writer(mean)?;
            let rank = self.shape(x).len();
            let (axis, over_last) = match &mean.op {
                Op::Reduce(config) => {
                    let axis = *config.axes.first()?;
                    (axis, config.of == Reduction::Mean && config.keep && config.axes.iter().copied().eq(axis..rank))
                }
                // The mean over all places, as it is called by now.
                Op::GlobalAvgPool => (2, true),
                _ => return None,
            };
            let squared = self.is_square(self.writer(mean.inputs[0])?, x);
            let op = Op::RmsNorm(RmsNorm { axis, epsilon });
            let shape: Option<Vec<usize>> = self.shape(weight).iter().map(|d| d.fixed()).collect();
            let shape = shape.filter(|shape| !shape.is_empty() && over_last && squared)?;
            op.infer(&[&self.program.value(x).ty], &[&shape]).ok()?;
            Some(Parts { op, inputs: vec![x], params: vec![weight], vectors: None })
        })
    }

    /// An instance normalisation of groups as channels, then one weight and bias a channel.
    fn group_norm(&self, step: &Step) -> Option<Parts> {
        if step.op != Op::ADD {
            return None;
        }
        self.either(step).into_iter().find_map(|(scaled, bias)| {
            let scaled = self.writer(scaled).filter(|step| step.op == Op::Binary(Binary::Mul))?;
            self.either(scaled).into_iter().find_map(|(back, weight)| {
                let back = self.writer(back).filter(|step| matches!(step.op, Op::Reshape(_)))?;
                let normal = self.writer(back.inputs[0])?;
                let Op::InstanceNorm(config) = normal.op else { return None };
                let grouped = self.writer(normal.inputs[0]).filter(|step| matches!(step.op, Op::Reshape(_)))?;
                let x = grouped.inputs[0];
                let (shape, inner) = (self.shape(x), self.shape(normal.inputs[0]));
                let (channels, groups) = (shape.get(1)?.fixed()?, inner.get(1)?.fixed()?);
                let all = |handle: Handle, expected: f64| {
                    let data = self.program.value(handle).constant.as_ref().and_then(|constant| constant.data());
                    data.and_then(|data| data.to_f64().ok()).is_some_and(|all| all.iter().all(|n| *n == expected))
                };
                let plain = all(normal.params[0], 1.0) && all(normal.params[1], 0.0);
                let column: Vec<Dim> =
                    std::iter::once(Dim::Fixed(channels)).chain(shape[2..].iter().map(|_| Dim::Fixed(1))).collect();
                let is_column = |handle: Handle| {
                    let own = self.shape(handle);
                    // The batch may be an axis of them, too.
                    let own = if own.len() > column.len() { own.strip_prefix(&[Dim::Fixed(1)]) } else { Some(own) };
                    self.program.value(handle).constant.is_some() && own == Some(&column[..])
                };
                let fits = plain
                    && inner.len() == 3
                    && inner[0] == shape[0]
                    && self.shape(back.outputs[0]) == shape
                    && groups > 0
                    && channels.is_multiple_of(groups)
                    && is_column(weight)
                    && is_column(bias);
                let op = Op::GroupNorm(GroupNorm { groups, epsilon: config.epsilon });
                fits.then(|| Parts { op, inputs: vec![x], params: vec![weight, bias], vectors: Some(channels) })
            })
        })
    }

    /// Whether a step is the square of `x`.
    fn is_square(&self, step: &Step, x: Handle) -> bool {
        match step.op {
            Op::Binary(Binary::Pow) => step.inputs[0] == x && self.is_number(step.inputs[1], 2.0),
            Op::Binary(Binary::Mul) => step.inputs == [x, x],
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
                let is_square = self.is_square(squares, centred);
                let last = self.shape(x).last()?.fixed()?;
                let is_vector = |handle: Handle| {
                    self.program.value(handle).constant.is_some() && self.shape(handle) == [Dim::Fixed(last)]
                };
                let fits = is_square && is_vector(weight) && is_vector(bias) && epsilon > 0.0;
                let op = LayerNorm { axis: self.shape(x).len() - 1, epsilon };
                fits.then(|| Parts {
                    op: Op::LayerNorm(op),
                    inputs: vec![x],
                    params: vec![weight, bias],
                    vectors: None,
                })
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
