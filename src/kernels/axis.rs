//! Padding and slicing of one axis. Each is the other's gradient.
//!
//! ```text
//!   narrow [.., size, ..]  --pad-->  wide [.., start + (size - 1) step + 1 + zeros, ..]: place i goes to start + i step
//!   wide                 --slice-->  narrow, the same places the other way
//! ```

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};

use super::{Kernel, numbers, tensor_like, with_slice};
use crate::graph::op::{Pad, Slice};

const OP: &str = "axis";

/// Zeros around one axis of a value of shape `x`.
pub fn pad(x: &[usize], config: &Pad) -> Result<Kernel> {
    let narrow = size(x, config.axis)?;
    let places = Places {
        axis: config.axis,
        narrow,
        wide: config.before + narrow + config.after,
        start: config.before,
        step: 1,
    };
    Ok(Kernel::One(Box::new(Move { places, way: Way::Pad })))
}

/// Some places of one axis of a value of shape `x`.
pub fn slice(x: &[usize], config: &Slice) -> Result<Kernel> {
    let wide = size(x, config.axis)?;
    let (Some(start), Some(end)) = (config.start.fixed(), config.end.fixed()) else {
        return Err(Error::Msg(format!("{OP}: open places")));
    };
    if config.step == 0 || end > wide || start >= end {
        return Err(Error::Msg(format!("{OP}: {config:?} of an axis of {wide} places")));
    }
    let narrow = (end - start).div_ceil(config.step);
    let places = Places { axis: config.axis, narrow, wide, start, step: config.step };
    Ok(Kernel::One(Box::new(Move { places, way: Way::Slice })))
}

fn size(x: &[usize], axis: usize) -> Result<usize> {
    let size = x.get(axis).copied().filter(|_| !x.contains(&0));
    size.ok_or_else(|| Error::Msg(format!("{OP}: {x:?} has nothing along axis {axis}")))
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{gradients, numbers};

    /// The number of elements before, at and after an axis, in one number a place: the naive index arithmetic.
    fn at(shape: &[usize], index: usize, axis: usize) -> [usize; 3] {
        let run: usize = shape[axis + 1..].iter().product();
        [index / run / shape[axis], index / run % shape[axis], index % run]
    }

    fn flat(shape: &[usize], [block, place, rest]: [usize; 3], axis: usize) -> usize {
        (block * shape[axis] + place) * shape[axis + 1..].iter().product::<usize>() + rest
    }

    proptest! {
        #[test]
        fn each_number_moves_to_its_place_and_its_gradient_back(
            shape in prop::collection::vec(1usize..5, 2..5), which in any::<prop::sample::Index>(), before in 0usize..4,
            after in 0usize..4, start in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(), step in 1usize..4,
            seed in any::<u64>(),
        ) {
            let axis = 1 + which.index(shape.len() - 1);
            let values = numbers(shape.iter().product(), seed);
            let x = Tensor::from_slice(&values, shape.as_slice(), &Device::Cpu).unwrap();
            let start = start.index(shape[axis]);
            let end = start + 1 + end.index(shape[axis] - start);
            let pad_config = Pad::zeros(axis, before, after);
            let slice_config = Slice::places(axis, start, end, step);
            type From = Box<dyn Fn(usize) -> Option<usize>>;
            let cases: [(Kernel, From); 2] = [
                (
                    pad(&shape, &pad_config).unwrap(),
                    Box::new({
                        let size = shape[axis];
                        move |place: usize| place.checked_sub(before).filter(|place| *place < size)
                    }),
                ),
                (slice(&shape, &slice_config).unwrap(), Box::new(move |place| Some(start + place * step))),
            ];
            for (kernel, from) in cases {
                let y = kernel.forward(&[&x]).unwrap();
                let out = y.dims().to_vec();
                let found: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
                let upstream = numbers(found.len(), seed ^ 1);
                let mut expected_gradient = vec![0.0; values.len()];
                for (i, found) in found.iter().enumerate() {
                    let [block, place, rest] = at(&out, i, axis);
                    let source = from(place).map(|place| flat(&shape, [block, place, rest], axis));
                    prop_assert_eq!(*found, source.map_or(0.0, |source| values[source]));
                    if let Some(source) = source {
                        expected_gradient[source] += upstream[i];
                    }
                }
                let found = gradients(&kernel, std::slice::from_ref(&x), &upstream).remove(0);
                prop_assert_eq!(found, expected_gradient);
            }
        }
    }

    #[test]
    fn places_that_are_not_there_are_refused() {
        for (start, end, step) in [(0, 4, 1), (2, 2, 1), (0, 3, 0)] {
            assert!(slice(&[2, 3], &Slice::places(1, start, end, step)).is_err());
        }
        assert!(pad(&[2, 3], &Pad::zeros(2, 1, 1)).is_err());
    }
}
