//! What a forward pass for training leaves, and the walk back over it.

use candle_core::{Device, Result, Tensor};

use super::ExecError;
use crate::graph::{Node, ParamId, ValueId};
use crate::kernels::{self, Kernel};

/// The steps of a forward pass at which a gradient is needed, in the order they were taken.
#[derive(Default)]
pub(super) struct Tape {
    steps: Vec<Step>,
    /// The outputs and taps of the pass with their shapes, which is where gradients come in.
    outputs: Vec<End>,
    taps: Vec<End>,
}

/// An output or tap of a pass.
pub(super) struct End {
    pub(super) value: ValueId,
    /// Its shape, if it is of floating point numbers.
    pub(super) shape: Option<Vec<usize>>,
}

/// Where an argument comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Value(ValueId),
    Param(ParamId),
}

/// One node's computation.
pub(super) struct Step {
    /// The node's place.
    pub(super) node: usize,
    /// `None` where the value went through, if perhaps in another shape.
    pub(super) kernel: Option<Kernel>,
    /// The kernel's arguments.
    pub(super) args: Vec<Tensor>,
    /// Where each comes from.
    pub(super) sources: Vec<Source>,
    /// The node's outputs, and what its kernel keeps for the walk back.
    pub(super) ys: Vec<Tensor>,
}

impl Tape {
    pub(super) fn push(&mut self, step: Step) {
        if step.ys.iter().any(kernels::needs_gradient) {
            self.steps.push(step);
        }
    }

    pub(super) fn end(&mut self, outputs: Vec<End>, taps: Vec<End>) {
        (self.outputs, self.taps) = (outputs, taps);
    }

    /// Walks back and hands the gradient at each trained parameter to `add`: once for each node that reads it. Values are
    /// dropped on the way.
    pub(super) fn walk_back(
        mut self,
        nodes: &[Node],
        values: usize,
        d_outputs: &[Vec<f32>],
        d_taps: &[Vec<f32>],
        mut add: impl FnMut(ParamId, &[f32]),
    ) -> std::result::Result<(), ExecError> {
        let mut gradients: Vec<Option<Tensor>> = vec![None; values];
        for (ends, d, what) in [(&self.outputs, d_outputs, "output"), (&self.taps, d_taps, "tap")] {
            check_lengths(ends, d, what)?;
            for (End { value, shape }, d) in ends.iter().zip(d) {
                let Some(shape) = shape else { continue };
                let d = Tensor::from_slice(d, shape.as_slice(), &Device::Cpu).map_err(backward_error)?;
                collect(&mut gradients[value.index()], d).map_err(backward_error)?;
            }
        }
        while let Some(step) = self.steps.pop() {
            let node = &nodes[step.node];
            // A value that leads to none of the outputs and taps has no gradient.
            let dys: Vec<Option<Tensor>> = node.outputs.iter().map(|value| gradients[value.index()].take()).collect();
            if dys.iter().all(Option::is_none) {
                continue;
            }
            let found = step.backward(&dys).map_err(|e| ExecError::Node {
                node: node.name.clone(),
                op: node.op.name(),
                reason: format!("backwards: {e}"),
            })?;
            for (source, gradient) in step.sources.iter().zip(found) {
                let Some(gradient) = gradient else { continue };
                match source {
                    Source::Value(value) => collect(&mut gradients[value.index()], gradient),
                    Source::Param(param) => kernels::read(&gradient, |values| add(*param, values)),
                }
                .map_err(backward_error)?;
            }
        }
        Ok(())
    }
}

impl Step {
    /// The gradient at each argument that needs one.
    fn backward(&self, dys: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> {
        let args: Vec<&Tensor> = self.args.iter().collect();
        match (&self.kernel, dys) {
            (Some(kernel), dys) => kernel.gradients(&args, &self.ys, dys),
            (None, [Some(dy)]) => Ok(vec![Some(dy.reshape(args[0].shape())?)]),
            (None, _) => Ok(Vec::new()),
        }
    }
}

/// Adds a gradient to those that came to a value before.
fn collect(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(before) => kernels::add().forward(&[&before, &gradient])?,
        None => gradient,
    });
    Ok(())
}

/// Whether as many gradients come in as there are ends, each of the length of its value.
pub(super) fn check_lengths(ends: &[End], d: &[Vec<f32>], what: &'static str) -> std::result::Result<(), ExecError> {
    for index in 0..ends.len().max(d.len()) {
        let end = ends.get(index);
        let actual = d.get(index).map_or(0, Vec::len);
        // Whole numbers and truth values have no gradient: whatever is given for one is not looked at.
        let expected = match end.map(|end| end.shape.as_ref()) {
            Some(Some(shape)) => shape.iter().product(),
            Some(None) => actual,
            None => 0,
        };
        if expected != actual || index >= ends.len() {
            return Err(ExecError::Gradient { what, index, expected, actual });
        }
    }
    Ok(())
}

fn backward_error(error: candle_core::Error) -> ExecError {
    ExecError::Backward { reason: error.to_string() }
}
