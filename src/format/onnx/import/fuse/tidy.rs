//! Moves that undo or repeat each other, as exporters write them one by one.
//!
//! It comes last: other patterns are found by the shapes in between.

use std::collections::{HashMap, HashSet};

use super::super::merge::Program;
use super::super::trace::{Handle, Step};
use super::{Uses, View};
use crate::graph::Dim;
use crate::graph::op::{Op, Reshape, Transpose};
use crate::tensor::DType;

/// Takes out what changes nothing, makes one move of several, and finds tables that are looked up.
pub(super) fn tidy(program: &mut Program, outputs: &[(String, Handle)]) {
    let uses = Uses::of(program, outputs);
    let kept: HashSet<Handle> = outputs.iter().map(|(_, handle)| *handle).collect();
    let mut same: HashMap<Handle, Handle> = HashMap::new();
    for place in 0..program.steps.len() {
        for input in &mut program.steps[place].inputs {
            *input = same.get(input).copied().unwrap_or(*input);
        }
        // What came before is as short as can be by now: one round is enough.
        let view = View { program, uses: &uses };
        let step = &program.steps[place];
        let found = match &step.op {
            Op::Reshape(_) | Op::Flatten => view.swapped(step).or_else(|| view.reshaped(step)),
            Op::Transpose(config) => view.turned(step, &config.axes),
            _ => None,
        };
        if let Some((op, input)) = found {
            let step = &mut program.steps[place];
            (step.op, step.inputs) = (op, vec![input]);
        }
        let view = View { program, uses: &uses };
        let step = &program.steps[place];
        if let Some((places, table)) = view.table(step) {
            let step = &mut program.steps[place];
            (step.op, step.inputs, step.params) = (Op::Embedding, vec![places], vec![table]);
        } else if let Some((output, input)) = view.nothing(step).filter(|(output, _)| !kept.contains(output)) {
            same.insert(output, input);
        }
    }
}

impl View<'_> {
    /// The output and the input of a step that changes nothing.
    fn nothing(&self, step: &Step) -> Option<(Handle, Handle)> {
        let ([input], [output]) = (&step.inputs[..], &step.outputs[..]) else { return None };
        let nothing = match &step.op {
            Op::Reshape(_) | Op::Flatten => self.program.value(*input).ty == self.program.value(*output).ty,
            Op::Transpose(config) => config.axes.is_sorted(),
            _ => false,
        };
        nothing.then_some((*output, *input))
    }

    /// Two reshapings are one.
    fn reshaped(&self, step: &Step) -> Option<(Op, Handle)> {
        let before = self.writer(step.inputs[0]).filter(|step| matches!(step.op, Op::Reshape(_) | Op::Flatten))?;
        let x = before.inputs[0];
        let (from, to) = (self.shape(x), self.shape(step.outputs[0]));
        let op = match to {
            [first, _] if from.len() >= 2 && from[0] == *first => Op::Flatten,
            _ => Op::Reshape(Reshape { shape: to.to_vec() }),
        };
        let inferred = op.infer(&[&self.program.value(x).ty], &[]).ok()?;
        (inferred[0].shape == to).then_some((op, x))
    }

    /// Two orders of axes are one.
    fn turned(&self, step: &Step, axes: &[usize]) -> Option<(Op, Handle)> {
        let before = self.writer(step.inputs[0])?;
        let Op::Transpose(config) = &before.op else { return None };
        let axes = axes.iter().map(|axis| config.axes[*axis]).collect();
        Some((Op::Transpose(Transpose { axes }), before.inputs[0]))
    }

    /// Axes that are joined so that the last two can be swapped, and split again: of attention's keys.
    fn swapped(&self, step: &Step) -> Option<(Op, Handle)> {
        let turned = self.writer(step.inputs[0])?;
        let Op::Transpose(config) = &turned.op else { return None };
        let joined = self.writer(turned.inputs[0]).filter(|step| matches!(step.op, Op::Reshape(_)))?;
        let x = joined.inputs[0];
        let (from, flat, to) = (self.shape(x), self.shape(turned.inputs[0]), self.shape(step.outputs[0]));
        let first = from.len().checked_sub(2)?;
        let swapped: Vec<Dim> = [&from[..first], &[from[first + 1], from[first]]].concat();
        let fits = config.axes == [0, 2, 1] && flat.len() == 3 && flat[1..] == from[first..] && to == swapped;
        let axes: Vec<usize> = (0..first).chain([first + 1, first]).collect();
        let op = Op::Transpose(Transpose { axes: axes.clone() });
        // The keys were turned before as a rule.
        let before = self.writer(x).and_then(|before| match &before.op {
            Op::Transpose(own) => {
                let axes = axes.iter().map(|axis| own.axes[*axis]).collect();
                Some((Op::Transpose(Transpose { axes }), before.inputs[0]))
            }
            _ => None,
        });
        fits.then(|| before.unwrap_or((op, x)))
    }

    /// The places and the table where rows of a learned table are looked up at places that depend on open sizes.
    fn table(&self, step: &Step) -> Option<(Handle, Handle)> {
        let ([table, places], Op::Gather(config)) = (&step.inputs[..], &step.op) else { return None };
        let constant = self.program.value(*table).constant.as_ref()?;
        let ty = &self.program.value(*table).ty;
        let is_table = config.axis == 0
            && ty.dtype == DType::F32
            && ty.shape.len() == 2
            && ty.shape.iter().all(|size| size.fixed().is_some_and(|n| n > 1));
        let known = self.program.value(*places).constant.is_some();
        (is_table && constant.learned() && !known).then_some((*places, *table))
    }
}
