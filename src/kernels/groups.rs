//! Elements that come to one when axes of a value go away: what reductions run over, and what undoes broadcasting. Sums are
//! taken in index order.

use rayon::prelude::*;

/// The strides of a value of that shape.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
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

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads_and_empty_groups_have_the_start() {
        let x = crate::kernels::testing::numbers(7 * 1100 * 3, 1);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                [&[0][..], &[1], &[2], &[0, 2]].map(|axes| {
                    Groups::new(&[7, 1100, 3], axes).fold(&x, 0.0f64, |_, sum, x| sum + f64::from(x), |sum| sum as f32)
                })
            })
        };
        assert_eq!(run(1), run(3));
        assert_eq!(Groups::new(&[2, 0], &[1]).fold(&[], 5.0, |_, sum, x| sum + x, |sum: f32| sum), [5.0, 5.0]);
        assert_eq!(Groups::new(&[2, 0], &[0]).fold(&[], 5.0, |_, sum, x| sum + x, |sum: f32| sum), [0f32; 0]);
    }
}
