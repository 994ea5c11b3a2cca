//! Padding and slicing of one axis. Each is the other's gradient.
//!
//! ```text
//!   narrow [.., size, ..]  --pad-->  wide [.., start + (size - 1) step + 1 + zeros, ..]: place i goes to start + i step
//!   wide                 --slice-->  narrow, the same places the other way
//! ```

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};

use super::{numbers, tensor_like, with_slice};
use crate::graph::op::{Pad, Slice};

const OP: &str = "axis";

/// `x` with zeros around one axis.
pub fn pad(x: &Tensor, config: &Pad) -> Result<Tensor> {
    let narrow = size(x, config.axis)?;
    let places = Places {
        axis: config.axis,
        narrow,
        wide: config.before + narrow + config.after,
        start: config.before,
        step: 1,
    };
    x.contiguous()?.apply_op1(Move { places, way: Way::Pad })
}

/// Some places of one axis of `x`.
pub fn slice(x: &Tensor, config: &Slice) -> Result<Tensor> {
    let wide = size(x, config.axis)?;
    if config.step == 0 || config.end > wide || config.start >= config.end {
        return Err(Error::Msg(format!("{OP}: {config:?} of an axis of {wide} places")));
    }
    let narrow = (config.end - config.start).div_ceil(config.step);
    let places = Places { axis: config.axis, narrow, wide, start: config.start, step: config.step };
    x.contiguous()?.apply_op1(Move { places, way: Way::Slice })
}

fn size(x: &Tensor, axis: usize) -> Result<usize> {
    let size = x.dims().get(axis).copied().filter(|_| x.elem_count() > 0);
    size.ok_or_else(|| Error::Msg(format!("{OP}: {:?} has nothing along axis {axis}", x.dims())))
}

/// Which places of a wide axis those of a narrow one are.
#[derive(Debug, Clone, Copy)]
struct Places {
    axis: usize,
    narrow: usize,
    wide: usize,
    start: usize,
    step: usize,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Pad,
    Slice,
}

struct Move {
    places: Places,
    way: Way,
}

impl Places {
    /// Numbers at one place of the axis that lie in a row.
    fn run(&self, shape: &[usize]) -> usize {
        shape[self.axis + 1..].iter().product()
    }

    fn pad(&self, narrow: &[f32], run: usize) -> Vec<f32> {
        let blocks = narrow.len() / (self.narrow * run);
        let mut wide = vec![0.0; blocks * self.wide * run];
        for (wide, narrow) in wide.chunks_exact_mut(self.wide * run).zip(narrow.chunks_exact(self.narrow * run)) {
            let places = wide[self.start * run..].chunks_mut(run).step_by(self.step);
            places.zip(narrow.chunks_exact(run)).for_each(|(to, from)| to.copy_from_slice(from));
        }
        wide
    }

    fn slice(&self, wide: &[f32], run: usize) -> Vec<f32> {
        let blocks = wide.len() / (self.wide * run);
        let mut narrow = Vec::with_capacity(blocks * self.narrow * run);
        for wide in wide.chunks_exact(self.wide * run) {
            let places = wide[self.start * run..].chunks_exact(run).step_by(self.step);
            places.take(self.narrow).for_each(|place| narrow.extend_from_slice(place));
        }
        narrow
    }
}

impl CustomOp1 for Move {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, places) = (numbers(OP, x, layout)?, &self.places);
        let (mut shape, run) = (layout.dims().to_vec(), places.run(layout.dims()));
        let y = match self.way {
            Way::Pad => places.pad(x, run),
            Way::Slice => places.slice(x, run),
        };
        shape[places.axis] = match self.way {
            Way::Pad => places.wide,
            Way::Slice => places.narrow,
        };
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let run = self.places.run(x.dims());
        let dx = with_slice(OP, dy, |dy| match self.way {
            Way::Pad => self.places.slice(dy, run),
            Way::Slice => self.places.pad(dy, run),
        })?;
        Ok(Some(tensor_like(dx, x)?))
    }
}
