//! Functions of elements of values that are broadcast to one shape.
//!
//! A [`Walk`] goes over the elements of a shape with the place that each has in some operands: axes that an operand lacks
//! have stride 0 there. Neighbouring axes that lie alike in all operands are one.

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
        let steps = self.inner.1;
        self.rows(|y, start| row(y, operands, start, steps, &f))
    }

    /// What `row` writes for each row, or piece of one; it is told where the row starts in each operand.
    fn rows(&self, row: impl Fn(&mut [f32], [usize; N]) + Sync) -> Vec<f32> {
        let (size, steps) = self.inner;
        let mut y = vec![0.0; self.elements];
        if self.outer.is_empty() {
            // One row, which is cut where it is long.
            y.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, y)| row(y, steps.map(|step| step * chunk * CHUNK)));
            return y;
        }
        let rows = (CHUNK / size.max(1)).max(1);
        y.par_chunks_mut((rows * size).max(1)).enumerate().for_each(|(chunk, y)| {
            y.chunks_mut(size.max(1)).enumerate().for_each(|(i, y)| row(y, self.start(chunk * rows + i)));
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

impl Walk<2> {
    /// As [`Walk::map`], with a loop of its own for each way in which a row may be broadcast.
    pub(super) fn zip(&self, a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        let steps = self.inner.1;
        self.rows(|y, [i, j]| match steps {
            [1, 1] => {
                let pairs = a[i..i + y.len()].iter().zip(&b[j..j + y.len()]);
                y.iter_mut().zip(pairs).for_each(|(y, (a, b))| *y = f(*a, *b));
            }
            [1, 0] => {
                let b = b[j];
                y.iter_mut().zip(&a[i..]).for_each(|(y, a)| *y = f(*a, b));
            }
            [0, 1] => {
                let a = a[i];
                y.iter_mut().zip(&b[j..]).for_each(|(y, b)| *y = f(a, *b));
            }
            steps => row(y, [a, b], [i, j], steps, &|[a, b]| f(a, b)),
        })
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

/// The shape that values of two shapes are broadcast to, which fit.
pub(super) fn joint(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank).map(|axis| if at(a, axis) == 1 { at(b, axis) } else { at(a, axis) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::groups::{strides, sum_to};
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
            let walk = Walk::broadcast(&shape, [&a, &b]);
            let found = walk.map([&x, &y], |[x, y]| x - 2.0 * y);
            prop_assert_eq!(&walk.zip(&x, &y, |x, y| x - 2.0 * y), &found);
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
