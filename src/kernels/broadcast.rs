//! Functions of elements of values that are broadcast to one shape, and sums that undo it.
//!
//! A [`Walk`] goes over the elements of a shape with the place that each has in some operands: axes that an operand lacks
//! have stride 0 there. Neighbouring axes that lie alike in all operands are one. Sums are taken in index order.

use rayon::prelude::*;

/// Elements that a thread takes at once, about.
const CHUNK: usize = 1 << 14;

/// The way over the elements of a shape, and where each lies in `N` operands.
#[derive(Debug, Clone)]
pub(super) struct Walk<const N: usize> {
    /// Elements in all.
    elements: usize,
    /// The axes but the last: size and strides.
    outer: Vec<(usize, [usize; N])>,
    /// The last axis.
    inner: (usize, [usize; N]),
}

impl<const N: usize> Walk<N> {
    /// Over the elements of `shape`, which have these strides in the operands, one number an axis.
    pub(super) fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let mut axes: Vec<(usize, [usize; N])> = Vec::new();
        for (axis, size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
            let own = strides.map(|strides| strides[axis]);
            match axes.last_mut() {
                Some((before, wide)) if (0..N).all(|n| wide[n] == own[n] * size) => {
                    (*before, *wide) = (*before * size, own);
                }
                _ => axes.push((*size, own)),
            }
        }
        let inner = axes.pop().unwrap_or((1, [1; N]));
        Self { elements: shape.iter().product(), outer: axes, inner }
    }

    /// Over the elements of `shape`, to which operands of these shapes are broadcast.
    pub(super) fn broadcast(shape: &[usize], operands: [&[usize]; N]) -> Self {
        let strides = operands.map(|operand| broadcast_strides(operand, shape.len()));
        Self::new(shape, strides.each_ref().map(Vec::as_slice))
    }

    /// `f` of the operands' elements, for each element of the shape.
    pub(super) fn map(&self, operands: [&[f32]; N], f: impl Fn([f32; N]) -> f32 + Sync) -> Vec<f32> {
        let (size, steps) = self.inner;
        let mut y = vec![0.0; self.elements];
        if self.outer.is_empty() {
            // One row, which is cut where it is long.
            y.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, y)| {
                row(y, operands, steps.map(|step| step * chunk * CHUNK), steps, &f);
            });
            return y;
        }
        let rows = (CHUNK / size.max(1)).max(1);
        y.par_chunks_mut((rows * size).max(1)).enumerate().for_each(|(chunk, y)| {
            for (i, y) in y.chunks_mut(size.max(1)).enumerate() {
                row(y, operands, self.start(chunk * rows + i), steps, &f);
            }
        });
        y
    }

    /// The place of each element in each operand, in order.
    pub(super) fn places(&self) -> Vec<[usize; N]> {
        let (size, steps) = self.inner;
        let row = |number: usize| (0..size).map(move |j| (number, j));
        let place = |(number, j): (usize, usize)| {
            let start = self.start(number);
            std::array::from_fn(|n| start[n] + j * steps[n])
        };
        (0..self.elements / size.max(1)).flat_map(row).map(place).collect()
    }

    /// Where the row of that number starts in each operand.
    fn start(&self, mut number: usize) -> [usize; N] {
        let mut start = [0; N];
        for (size, strides) in self.outer.iter().rev() {
            let place = number % size;
            number /= size;
            (0..N).for_each(|n| start[n] += place * strides[n]);
        }
        start
    }
}

fn row<const N: usize>(
    y: &mut [f32],
    operands: [&[f32]; N],
    start: [usize; N],
    steps: [usize; N],
    f: &impl Fn([f32; N]) -> f32,
) {
    if steps == [1; N] {
        let operands: [&[f32]; N] = std::array::from_fn(|n| &operands[n][start[n]..start[n] + y.len()]);
        y.iter_mut().enumerate().for_each(|(j, y)| *y = f(std::array::from_fn(|n| operands[n][j])));
    } else {
        let at = |j: usize| std::array::from_fn(|n| operands[n][start[n] + j * steps[n]]);
        y.iter_mut().enumerate().for_each(|(j, y)| *y = f(at(j)));
    }
}

/// The strides of a value of shape `operand` along the `rank` axes it is broadcast to; 0 along those it lacks.
fn broadcast_strides(operand: &[usize], rank: usize) -> Vec<usize> {
    let mut strides = vec![0; rank];
    let mut stride = 1;
    for (axis, size) in operand.iter().enumerate().rev() {
        if *size != 1 {
            strides[axis + rank - operand.len()] = stride;
        }
        stride *= size;
    }
    strides
}

/// The strides of a value of that shape.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// The shape that values of two shapes are broadcast to, which fit.
pub(super) fn joint(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank).map(|axis| if at(a, axis) == 1 { at(b, axis) } else { at(a, axis) }).collect()
}

/// Sums of `values`, which have shape `from`, over the axes along which a value of shape `to` is broadcast to it.
pub(super) fn sum_to(values: Vec<f32>, from: &[usize], to: &[usize]) -> Vec<f32> {
    if values.len() == to.iter().product::<usize>() {
        return values;
    }
    let lacking = from.len() - to.len();
    let axes: Vec<usize> =
        (0..from.len()).filter(|axis| *axis < lacking || (to[axis - lacking] == 1 && from[*axis] != 1)).collect();
    Groups::new(from, &axes).fold(&values, 0.0f64, |_, sum, x| sum + f64::from(x), |sum| sum as f32)
}

/// Which elements of a value come to one when some of its axes go away.
pub(super) struct Groups {
    /// Where each run of kept elements starts.
    kept: Vec<usize>,
    /// Kept elements that lie in a row; 1 if the last axis goes away.
    run: usize,
    /// What is added to these places, for each element of a group.
    gone: Vec<usize>,
}

impl Groups {
    /// The groups of a value of shape `shape` when `axes` go away.
    pub(super) fn new(shape: &[usize], axes: &[usize]) -> Self {
        let strides = strides(shape);
        let places = |axes: &[usize]| {
            axes.iter().fold(vec![0], |places: Vec<usize>, axis| {
                places
                    .iter()
                    .flat_map(|at| (0..shape[*axis]).map(move |i| (at, i)))
                    .map(|(at, i)| at + i * strides[*axis])
                    .collect()
            })
        };
        let mut kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let mut run = 1;
        let mut last = shape.len();
        while kept.last().is_some_and(|axis| axis + 1 == last) {
            last -= 1;
            run *= shape[last];
            kept.pop();
        }
        Self { kept: if run == 0 { Vec::new() } else { places(&kept) }, run, gone: places(axes) }
    }

    /// Elements of a group.
    pub(super) fn count(&self) -> usize {
        self.gone.len()
    }

    /// `end` of what `step` makes of each group's elements, in index order, beginning with `start`. `step` is told the
    /// group's number.
    pub(super) fn fold<A: Copy + Send + Sync>(
        &self,
        x: &[f32],
        start: A,
        step: impl Fn(usize, A, f32) -> A + Sync,
        end: impl Fn(A) -> f32 + Sync,
    ) -> Vec<f32> {
        // Long runs are cut to pieces, so that there is work for all threads.
        let piece = self.run.clamp(1, 256);
        let pieces = self.run.div_ceil(piece);
        let of_piece = |number: usize| {
            let (run, first) = (number / pieces, number % pieces * piece);
            let size = piece.min(self.run - first);
            let mut state = vec![start; size];
            for gone in &self.gone {
                let from = self.kept[run] + first + gone;
                for (j, (state, x)) in state.iter_mut().zip(&x[from..from + size]).enumerate() {
                    *state = step(run * self.run + first + j, *state, *x);
                }
            }
            state.into_iter().map(&end).collect::<Vec<f32>>()
        };
        if self.run == 1 {
            // Many groups of one element each: no vector for each.
            let of_group = |(number, kept): (usize, &usize)| {
                end(self.gone.iter().fold(start, |state, gone| step(number, state, x[kept + gone])))
            };
            return self.kept.par_iter().enumerate().with_min_len(16).map(of_group).collect();
        }
        (0..self.kept.len() * pieces).into_par_iter().flat_map_iter(of_piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::numbers;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn elements_are_those_of_the_coordinates_and_sums_undo_it(
            axes in prop::collection::vec((1usize..5, any::<bool>(), any::<bool>()), 1..5), lacking in 0usize..3,
            seed in any::<u64>(),
        ) {
            let shape: Vec<usize> = axes.iter().map(|(n, _, _)| *n).collect();
            let operand = |kept: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
                axes.iter().map(|axis| if kept(axis) { axis.0 } else { 1 }).collect()
            };
            let (a, b) = (operand(|axis| axis.1), operand(|axis| axis.2)[lacking.min(axes.len())..].to_vec());
            let place = |i: usize, own: &[usize]| {
                let all = strides(&shape);
                let skipped = shape.len() - own.len();
                let coordinate = |axis: usize| i / all[axis] % shape[axis];
                own.iter().zip(strides(own)).enumerate()
                    .map(|(axis, (n, stride))| if *n == 1 { 0 } else { coordinate(axis + skipped) * stride }).sum::<usize>()
            };
            let (x, y) = (numbers(a.iter().product(), seed), numbers(b.iter().product(), seed ^ 1));
            let found = Walk::broadcast(&shape, [&a, &b]).map([&x, &y], |[x, y]| x - 2.0 * y);
            for (i, found) in found.iter().enumerate() {
                prop_assert_eq!(*found, x[place(i, &a)] - 2.0 * y[place(i, &b)]);
            }
            let mut expected = vec![0f64; y.len()];
            found.iter().enumerate().for_each(|(i, v)| expected[place(i, &b)] += f64::from(*v));
            let sums = sum_to(found, &shape, &b);
            prop_assert!(sums.iter().zip(expected).all(|(found, expected)| *found == expected as f32));
        }
    }
}
