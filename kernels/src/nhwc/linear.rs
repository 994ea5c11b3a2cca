//! The fully connected layer: `y = x W^T + b`, with `x [n, in]`, `W [out, in]`, `b [out]`, `y [n, out]`.
//!
//! ```text
//!   dx = dy W            dW = dy^T x            db = sum_n dy
//! ```
//!
//! Products are those of the `gemm` crate, whose threads share out tiles of the result: within a tile, the order of the
//! additions is the same for any number of them.

use super::divide;
use crate::matmul::{Matrix, Old, Threads, multiply};
use crate::simd::{self, Path, Task, Vector};

/// The sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Rows.
    pub batch: usize,
    /// Numbers of a row that go in.
    pub inner: usize,
    /// Numbers of a row that come out.
    pub outer: usize,
    /// Which instructions compute what is no product.
    pub path: Path,
}

impl Linear {
    /// The output; `relu` makes negative numbers zero.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32], relu: bool) {
        let old = if let Some(bias) = bias {
            y.chunks_exact_mut(self.outer).for_each(|row| row.copy_from_slice(bias));
            Old::Added
        } else {
            Old::Dropped
        };
        let (x, weight) = (Matrix::new(x, self.batch, self.inner), Matrix::new(weight, self.outer, self.inner));
        multiply(y, x, weight.transposed(), old, Threads::All);
        if relu {
            divide::pieces(y, 1, |_, y| simd::run(self.path, Relu(y)));
        }
    }

    /// The gradient at the input.
    pub fn input_gradient(&self, dy: &[f32], weight: &[f32], dx: &mut [f32], old: Old) {
        let (dy, weight) = (Matrix::new(dy, self.batch, self.outer), Matrix::new(weight, self.outer, self.inner));
        multiply(dx, dy, weight, old, Threads::All);
    }

    /// The gradient at the weight.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], old: Old) {
        let (x, dy) = (Matrix::new(x, self.batch, self.inner), Matrix::new(dy, self.batch, self.outer));
        multiply(dw, dy.transposed(), x, old, Threads::All);
    }
}

struct Relu<'a>(&'a mut [f32]);

impl Task for Relu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        self.0.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    /// `sum_p a(i, p) b(p, j)` in `f64`.
    fn product([m, k, n]: [usize; 3], a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f64> {
        let one = |i: usize, j: usize| (0..k).map(|p| f64::from(a(i, p)) * f64::from(b(p, j))).sum::<f64>();
        (0..m * n).map(|at| one(at / n, at % n)).collect()
    }

    fn close(found: &[f32], expected: &[f64]) -> bool {
        found.iter().zip(expected).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-4)
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            batch in 1usize..20, inner in 1usize..40, outer in 1usize..40, seed in any::<u64>(),
        ) {
            let (x, w, b) = (numbers(batch * inner, seed), numbers(outer * inner, seed + 1), numbers(outer, seed + 2));
            let (dy, before) = (numbers(batch * outer, seed + 3), numbers(batch * inner, seed + 4));
            let linear = Linear { batch, inner, outer, path: Path::chosen() };
            let plain = product([batch, inner, outer], |i, p| x[i * inner + p], |p, j| w[j * inner + p]);
            let biased: Vec<f64> = plain.iter().enumerate().map(|(i, y)| y + f64::from(b[i % outer])).collect();
            let positive: Vec<f64> = biased.iter().map(|y| y.max(0.0)).collect();
            let mut y = vec![7.0; batch * outer];
            linear.forward(&x, &w, None, &mut y, false);
            prop_assert!(close(&y, &plain));
            linear.forward(&x, &w, Some(&b), &mut y, false);
            prop_assert!(close(&y, &biased));
            linear.forward(&x, &w, Some(&b), &mut y, true);
            prop_assert!(close(&y, &positive));

            let expected = product([batch, outer, inner], |i, p| dy[i * outer + p], |p, j| w[p * inner + j]);
            let mut dx = before.clone();
            linear.input_gradient(&dy, &w, &mut dx, Old::Added);
            let added: Vec<f64> = expected.iter().zip(&before).map(|(e, b)| e + f64::from(*b)).collect();
            prop_assert!(close(&dx, &added));
            linear.input_gradient(&dy, &w, &mut dx, Old::Dropped);
            prop_assert!(close(&dx, &expected));
            let expected = product([outer, batch, inner], |i, p| dy[p * outer + i], |p, j| x[p * inner + j]);
            let mut dw = vec![7.0; outer * inner];
            linear.weight_gradient(&x, &dy, &mut dw, Old::Dropped);
            prop_assert!(close(&dw, &expected));
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let linear = Linear { batch: 131, inner: 613, outer: 307, path: Path::chosen() };
                let (x, w, dy) = (numbers(131 * 613, 1), numbers(307 * 613, 2), numbers(131 * 307, 3));
                let (mut y, mut dx, mut dw) = (vec![0.0; 131 * 307], vec![0.0; 131 * 613], vec![0.0; 307 * 613]);
                linear.forward(&x, &w, None, &mut y, true);
                linear.input_gradient(&dy, &w, &mut dx, Old::Dropped);
                linear.weight_gradient(&x, &dy, &mut dw, Old::Dropped);
                (y, dx, dw)
            })
        };
        let one = run(1);
        assert!([2, 3, 5].into_iter().all(|threads| one == run(threads)));
    }
}
