//! The fully connected layer: `y = x W^T + b`, with `x [n, in]`, `W [out, in]`, `b [out]`, `y [n, out]`.
//!
//! ```text
//!   dx = dy W            dW = dy^T x            db = sum_n dy
//! ```
//!
//! Products are those of the `gemm` crate, whose threads share out tiles of the result: within a tile, the order of the
//! additions is the same for any number of them.

use gemm::Parallelism;

use super::conv::Old;
use super::divide;
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

/// A matrix that lies in a slice.
struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
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
        let x = Matrix { data: x, row_stride: self.inner, column_stride: 1 };
        let turned = Matrix { data: weight, row_stride: 1, column_stride: self.inner };
        multiply([self.batch, self.inner, self.outer], x, turned, y, old);
        if relu {
            divide::pieces(y, 1, |_, y| simd::run(self.path, Relu(y)));
        }
    }

    /// The gradient at the input.
    pub fn input_gradient(&self, dy: &[f32], weight: &[f32], dx: &mut [f32], old: Old) {
        let dy = Matrix { data: dy, row_stride: self.outer, column_stride: 1 };
        let weight = Matrix { data: weight, row_stride: self.inner, column_stride: 1 };
        multiply([self.batch, self.outer, self.inner], dy, weight, dx, old);
    }

    /// The gradient at the weight.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], old: Old) {
        let turned = Matrix { data: dy, row_stride: 1, column_stride: self.outer };
        let x = Matrix { data: x, row_stride: self.inner, column_stride: 1 };
        multiply([self.outer, self.batch, self.inner], turned, x, dw, old);
    }
}

/// `out = a b`, or `out += a b`, for `a [m, k]`, `b [k, n]`, `out [m, n]`.
fn multiply([m, k, n]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], old: Old) {
    let reaches = |matrix: &Matrix<'_>, rows: usize, columns: usize| {
        (rows - 1) * matrix.row_stride + (columns - 1) * matrix.column_stride < matrix.data.len()
    };
    assert!(m * k * n > 0 && reaches(&a, m, k) && reaches(&b, k, n) && out.len() == m * n, "sizes of a product");
    let added = old == Old::Added;
    // SAFETY: all places of both matrices were checked to lie inside their slices, `out` has m * n numbers, is borrowed
    // mutably and so overlaps neither, and strides are far below isize::MAX because the slices exist.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            added,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if added { 1.0 } else { 0.0f32 },
            1.0f32,
            false,
            false,
            false,
            Parallelism::Rayon(rayon::current_num_threads()),
        );
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
