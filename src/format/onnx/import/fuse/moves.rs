//! Operators that are written as moves, products and choices of others.

use super::super::trace::{Handle, Step};
use super::{Parts, View};
use crate::graph::Dim;
use crate::graph::op::{BilinearPool, Binary, Compare, Fill, Op, Pad, SpaceToDepth};

impl View<'_> {
    pub(super) fn moves(&self, step: &Step) -> Option<Parts> {
        match &step.op {
            Op::Reshape(_) => self.space_to_depth(step),
            Op::Flatten => self.bilinear_pool(step),
            Op::Concat(config) => self.wrapped(step, config.axis),
            Op::Where => self.remainder(step),
            _ => None,
        }
    }

    /// Blocks of pixels as axes, put behind the channel's, which they join.
    fn space_to_depth(&self, step: &Step) -> Option<Parts> {
        let turned = self.writer(step.inputs[0])?;
        let Op::Transpose(config) = &turned.op else { return None };
        let blocks = self.writer(turned.inputs[0]).filter(|step| matches!(step.op, Op::Reshape(_)))?;
        let x = blocks.inputs[0];
        let [_, _, height, block, width, other] = self.shape(turned.inputs[0])[..] else { return None };
        let [n, c, h, w] = self.shape(x)[..] else { return None };
        let side = block.fixed().filter(|_| block == other && config.axes == [0, 1, 3, 5, 2, 4])?;
        let fits = height.times(block) == Some(h) && width.times(block) == Some(w);
        let op = Op::SpaceToDepth(SpaceToDepth { block: side, channel_first: true });
        let same = op.infer(&[&self.program.value(x).ty], &[]).ok()?.pop()?.shape == self.shape(step.outputs[0]);
        (fits && same && self.shape(turned.inputs[0])[..2] == [n, c]).then(|| Parts::of(op, &[x]))
    }

    /// The product of two images whose places are one axis, perhaps by their number.
    fn bilinear_pool(&self, step: &Step) -> Option<Parts> {
        let mut product = self.writer(step.inputs[0])?;
        let mut count = None;
        if product.op == Op::Binary(Binary::Div) {
            count = Some(self.number(product.inputs[1])?);
            product = self.writer(product.inputs[0])?;
        }
        if product.op != Op::MatMul {
            return None;
        }
        let turned = self.writer(product.inputs[1])?;
        if !matches!(&turned.op, Op::Transpose(config) if config.axes == [0, 2, 1]) {
            return None;
        }
        let (x, y) = (self.image(product.inputs[0])?, self.image(turned.inputs[0])?);
        let places = Dim::product(&self.shape(x)[2..])?.fixed()?;
        let mean = count.is_some();
        let op = Op::BilinearPool(BilinearPool { mean });
        let types = [&self.program.value(x).ty, &self.program.value(y).ty];
        let fits = count.is_none_or(|count| count == places as f64) && op.infer(&types, &[]).is_ok();
        fits.then(|| Parts::of(op, &[x, y]))
    }

    /// The image whose places a value has as one axis.
    fn image(&self, handle: Handle) -> Option<Handle> {
        let step = self.writer(handle).filter(|step| matches!(step.op, Op::Reshape(_)))?;
        let (image, flat) = (self.shape(step.inputs[0]), self.shape(handle));
        let joined = image.len() == 4 && flat.len() == 3 && image[..2] == flat[..2];
        joined.then_some(step.inputs[0])
    }

    /// An axis with its end before it and its beginning behind it.
    fn wrapped(&self, step: &Step, axis: usize) -> Option<Parts> {
        let part = |handle: Handle, of: Handle| {
            let step = self.writer(handle).filter(|step| step.inputs.first() == Some(&of))?;
            let Op::Slice(config) = &step.op else { return None };
            let along = config.axis == axis && config.step == 1;
            Some((config.start.fixed()?, config.end.fixed()?)).filter(|_| along)
        };
        let (before, x, after) = match step.inputs[..] {
            [before, x, after] => (Some(before), x, Some(after)),
            [a, b] if part(b, a).is_some() => (None, a, Some(b)),
            [a, b] => (Some(a), b, None),
            _ => return None,
        };
        let size = self.shape(x).get(axis)?.fixed()?;
        let before = match before {
            Some(before) => part(before, x).filter(|(_, end)| *end == size).map(|(start, _)| size - start)?,
            None => 0,
        };
        let after = match after {
            Some(after) => part(after, x).filter(|(start, _)| *start == 0).map(|(_, end)| end)?,
            None => 0,
        };
        Some(Parts::of(Op::Pad(Pad { axis, before, after, fill: Fill::Wrap }), &[x]))
    }

    /// The remainder of C, with the divisor added where the signs differ.
    fn remainder(&self, step: &Step) -> Option<Parts> {
        let [differs, sum, rest] = step.inputs[..] else { return None };
        let of = self.writer(rest).filter(|step| step.op == Op::Binary(Binary::Fmod))?;
        let (a, b) = (of.inputs[0], of.inputs[1]);
        let sum = self.writer(sum).filter(|step| step.op == Op::ADD && step.inputs == [rest, b]);
        let either = self.writer(differs).filter(|step| step.op == Op::Binary(Binary::Or))?;
        let is = |handle: Handle, compare: Compare, of: Handle| {
            let step = self.writer(handle).filter(|step| step.op == Op::Compare(compare));
            step.is_some_and(|step| step.inputs[0] == of && self.number(step.inputs[1]) == Some(0.0))
        };
        let both = |handle: Handle, first: Compare, second: Compare| {
            let step = self.writer(handle).filter(|step| step.op == Op::Binary(Binary::And));
            step.is_some_and(|step| is(step.inputs[0], first, rest) && is(step.inputs[1], second, b))
        };
        let fits = both(either.inputs[0], Compare::Less, Compare::Greater)
            && both(either.inputs[1], Compare::Greater, Compare::Less);
        sum.filter(|_| fits).map(|_| Parts::of(Op::Binary(Binary::Mod), &[a, b]))
    }
}
