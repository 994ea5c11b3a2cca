//! Transposed convolution: what the gradient at a convolution's input is. The convolution is that of the result's size.

use std::ops::Range;

use niwaki_kernels::nhwc::conv::{Conv, Convolution, Epilogue, Old};
use niwaki_kernels::nhwc::sums;
use niwaki_kernels::simd::Path;

use super::super::Uncovered;
use super::super::compile::{Compiler, Layout, Root, Target};
use super::conv::{kernel, window};
use super::{Layer, Room, Run, add_to, planar};
use crate::graph::Node;
use crate::graph::op::{Conv2d, ConvTranspose2d};

struct ConvTransposeLayer {
    conv: Convolution,
    path: Path,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    x: (Root, Room),
    y: (Root, Room),
    packed: Vec<f32>,
    packed_transposed: Vec<f32>,
    backward: Option<Backward>,
}

struct Backward {
    dy: Room,
    weight: Option<Range<usize>>,
    bias: Option<Range<usize>>,
    scratch: Room,
    /// Where the gradient at the input is computed, and where it goes from there.
    dx: Option<(Room, Target)>,
}

pub(super) fn add(compiler: &mut Compiler<'_>, node: &Node, config: &ConvTranspose2d) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    let dims = compiler.dims(node.output())?;
    let [batch, channels_in, h, w] = planar(&dims)?;
    let [_, channels_out, rows, columns] = planar(&x.dims)?;
    let ConvTranspose2d { stride, padding, dilation, groups, .. } = *config;
    let forward = Conv2d { stride, padding, dilation, groups };
    let window = window(&forward, kernel(compiler.param_shape(node.params[0]))?);
    let conv = Conv { batch, image: [h, w], channels_in, channels_out, window, groups, path: compiler.path };
    if conv.places() != [rows, columns] {
        return Err(Uncovered("an output padding of more than the last places see".into()));
    }
    let needs = compiler.trains(node) || compiler.needs_gradient(&x);
    let y = compiler.output(node.output(), dims, Layout::Images, needs);
    let layer = ConvTransposeLayer {
        conv: Convolution::new(&conv),
        path: conv.path,
        weight: compiler.param(node.params[0]),
        bias: node.params.get(1).map(|id| compiler.param(*id)),
        x: (x.root, compiler.room(x.root)),
        y: (y.root, compiler.room(y.root)),
        packed: Vec::new(),
        packed_transposed: Vec::new(),
        backward: None,
    };
    compiler.push(layer);
    Ok(())
}

impl Layer for ConvTransposeLayer {
    fn prepare(&mut self, params: &[f32]) {
        let weight = &params[self.weight.clone()];
        self.packed_transposed.resize(self.conv.packed_transposed_len(), 0.0);
        self.conv.pack_transposed(weight, &mut self.packed_transposed);
        if self.backward.as_ref().is_some_and(|backward| backward.dx.is_some()) {
            self.packed.resize(self.conv.packed_len(), 0.0);
            self.conv.pack(weight, &mut self.packed);
        }
    }

    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.x.1], [self.y.1]);
        let old = match &self.bias {
            Some(range) => {
                let bias = &run.params[range.clone()];
                y.chunks_exact_mut(bias.len()).for_each(|pixel| pixel.copy_from_slice(bias));
                Old::Added
            }
            None => Old::Dropped,
        };
        self.conv.input_gradient(x, &self.packed_transposed, y, old);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let weight = compiler.param_gradient(&self.weight);
        let bias = self.bias.as_ref().and_then(|range| compiler.param_gradient(range));
        let scratch = match weight {
            Some(_) => {
                compiler.keep(self.x.1);
                compiler.scratch(self.conv.scratch_len().max(1))
            }
            None => Room::NONE,
        };
        let dx = compiler.outgoing(self.x.0).map(|(room, old)| match old {
            Old::Dropped => (room, Target::Same),
            Old::Added => (compiler.scratch(compiler.room_len(room)), Target::Room(room, old)),
        });
        self.backward = Some(Backward { dy, weight, bias, scratch, dx });
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some(Backward { dy, weight, bias, scratch, dx }) = &self.backward else { return };
        if let Some(range) = weight {
            let ([x, dy], [scratch]) = run.memory.views([self.x.1, *dy], [*scratch]);
            self.conv.weight_gradient(dy, x, &mut run.gradients[range.clone()], scratch);
        }
        if let Some(range) = bias {
            let ([dy], []) = run.memory.views([*dy], []);
            sums::columns(self.path, dy, &mut run.gradients[range.clone()]);
        }
        if let Some((room, target)) = dx {
            let ([dy], [dx]) = run.memory.views([*dy], [*room]);
            self.conv.forward(dy, &self.packed, dx, Epilogue::default());
            add_to(run, self.path, *room, *target);
        }
    }
}
