//! Products with matrices.
//!
//! ```text
//! Linear        y[.., o] = sum_i x[.., i] W[o, i] + b[o]
//! MatMul        y[.., m, n] = sum_k a[.., m, k] b[.., k, n]
//! BilinearPool  y[n, c d] = sum_p x[n, c, p] z[n, d, p]
//! ```

use super::array::{Array, Numbers, count, reals};
use super::moved::expanded;
use super::{Output, ReferenceError};
use crate::graph::op::{BilinearPool, OpError};
use crate::tensor::TensorData;

/// A matrix and a bias on the last axis.
pub fn linear(x: &TensorData, params: &[&TensorData], output: &Output) -> Result<TensorData, ReferenceError> {
    let (rows, weight) = (reals(x), reals(params[0]));
    let (out, inner) = (params[0].shape()[0], params[0].shape()[1]);
    let bias = params.get(1).map_or_else(|| vec![0.0; out], |bias| reals(bias));
    let mut y = Vec::with_capacity(output.count());
    for row in 0..output.count() / out {
        let row = &rows[row * inner..(row + 1) * inner];
        y.extend((0..out).map(|o| bias[o] + dot(row, &weight[o * inner..(o + 1) * inner])));
    }
    output.real(y)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The product of matrices; of whole numbers exactly.
pub fn matmul(a: &TensorData, b: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let layout = Layout::of(a.shape(), b.shape(), output)?;
    output.of(match (Array::of(a).numbers, Array::of(b).numbers) {
        (Numbers::Whole(a), Numbers::Whole(b)) => {
            Numbers::Whole(layout.product(&a, &b, |sum: i128, a, b| sum.wrapping_add(a.wrapping_mul(b))))
        }
        (a, b) => Numbers::Real(layout.product(&a.reals(), &b.reals(), |sum: f64, a, b| sum + a * b)),
    })
}

/// Two operands as stacks of matrices.
struct Layout {
    /// For each matrix of the output, which ones of the operands' it is the product of.
    pairs: Vec<(usize, usize)>,
    /// Rows, columns, and what is summed over.
    sizes: [usize; 3],
}

impl Layout {
    fn of(a: &[usize], b: &[usize], output: &Output) -> Result<Self, OpError> {
        // A vector is a row in front, or a column behind.
        let (before_a, [m, k]) = match *a {
            [k] => (&[][..], [1, k]),
            [ref before @ .., m, k] => (before, [m, k]),
            [] => (&[][..], [1, 1]),
        };
        let (before_b, n) = match *b {
            [ref before @ .., _, n] => (before, n),
            _ => (&[][..], 1),
        };
        let ends = usize::from(a.len() > 1) + usize::from(b.len() > 1);
        let stack = &output.shape[..output.shape.len() - ends];
        let numbers = |before: &[usize]| expanded((0..count(before)).collect(), before, stack);
        // An output of no elements may have any number of matrices.
        let pairs = match output.count() {
            0 => Vec::new(),
            _ => numbers(before_a)?.into_iter().zip(numbers(before_b)?).collect(),
        };
        Ok(Self { pairs, sizes: [m, n, k] })
    }

    fn product<T: Copy + Default>(&self, a: &[T], b: &[T], add: impl Fn(T, T, T) -> T) -> Vec<T> {
        let [m, n, k] = self.sizes;
        let mut y = Vec::with_capacity(self.pairs.len() * m * n);
        for (of_a, of_b) in &self.pairs {
            let (a, b) = (&a[of_a * m * k..], &b[of_b * k * n..]);
            for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
                y.push((0..k).fold(T::default(), |sum, i| add(sum, a[row * k + i], b[i * n + column])));
            }
        }
        y
    }
}

/// The outer product of two images' channels at each place, summed over the places.
pub fn bilinear_pool(
    config: &BilinearPool,
    x: &TensorData,
    z: &TensorData,
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let (c, d, places) = (x.shape()[1], z.shape()[1], count(&x.shape()[2..]));
    let divisor = if config.mean { places as f64 } else { 1.0 };
    let (x, z) = (reals(x), reals(z));
    let mut y = Vec::with_capacity(output.count());
    for sample in 0..output.shape[0] {
        for (a, b) in (0..c).flat_map(|a| (0..d).map(move |b| (a, b))) {
            let (a, b) = ((sample * c + a) * places, (sample * d + b) * places);
            y.push(dot(&x[a..a + places], &z[b..b + places]) / divisor);
        }
    }
    output.real(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, one, random, real, tensor};
    use super::*;
    use crate::graph::Op;
    use crate::graph::dim::Dim;
    use crate::graph::op::{Reshape, Transpose};
    use crate::tensor::DType;

    #[test]
    fn a_matrix_and_a_bias() {
        let (x, weight) = (real(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), real(&[1, 2], &[10.0, 1.0]));
        assert_eq!(one(&Op::Linear, &[&x], &[&weight]), real(&[2, 1], &[12.0, 34.0]));
        assert_eq!(one(&Op::Linear, &[&x], &[&weight, &real(&[1], &[0.5])]), real(&[2, 1], &[12.5, 34.5]));
    }

    #[test]
    fn linear_is_a_product_with_the_transposed_weight() {
        let (x, weight) = (random(&[2, 3, 4], 1), random(&[5, 4], 2));
        let turned = one(&Op::Transpose(Transpose { axes: vec![1, 0] }), &[&weight], &[]);
        assert!(close(&one(&Op::Linear, &[&x], &[&weight]), &one(&Op::MatMul, &[&x, &turned], &[])));
    }

    #[test]
    fn vectors_and_stacks_are_multiplied_as_in_numpy() {
        let (v, m) = (real(&[2], &[1.0, 10.0]), real(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(one(&Op::MatMul, &[&v, &m], &[]), real(&[2], &[31.0, 42.0]));
        assert_eq!(one(&Op::MatMul, &[&m, &v], &[]), real(&[2], &[21.0, 43.0]));
        assert_eq!(one(&Op::MatMul, &[&v, &v], &[]), real(&[], &[101.0]));
        let (a, b) = (random(&[3, 1, 2, 4], 1), random(&[5, 4, 1], 2));
        let y = one(&Op::MatMul, &[&a, &b], &[]);
        assert_eq!(y.shape(), [3, 5, 2, 1]);
        let (a, b, y) = (reals(&a), reals(&b), reals(&y));
        // The matrix 2 of a's stack with 3 of b's, row 1.
        let expected: f64 = (0..4).map(|k| a[2 * 8 + 4 + k] * b[3 * 4 + k]).sum();
        assert!((y[(2 * 5 + 3) * 2 + 1] - expected).abs() < 1e-12);
    }

    #[test]
    fn whole_numbers_are_multiplied_exactly_and_empty_sums_are_zero() {
        let x = tensor(DType::U8, &[1, 2], &[200.0, 100.0]);
        let y = tensor(DType::U8, &[2, 1], &[2.0, 1.0]);
        assert_eq!(one(&Op::MatMul, &[&x, &y], &[]), tensor(DType::U8, &[1, 1], &[500.0 - 256.0]));
        assert_eq!(one(&Op::MatMul, &[&real(&[2, 0], &[]), &real(&[0, 1], &[])], &[]), real(&[2, 1], &[0.0; 2]));
    }

    #[test]
    fn a_bilinear_pool_is_a_product_of_matrices() {
        let (x, z) = (random(&[2, 3, 2, 2], 1), random(&[2, 4, 2, 2], 2));
        let y = one(&Op::BilinearPool(BilinearPool { mean: false }), &[&x, &z], &[]);
        let shape = |sizes: &[usize]| Op::Reshape(Reshape { shape: sizes.iter().map(|n| Dim::Fixed(*n)).collect() });
        let (a, b) = (one(&shape(&[2, 3, 4]), &[&x], &[]), one(&shape(&[2, 4, 4]), &[&z], &[]));
        let b = one(&Op::Transpose(Transpose { axes: vec![0, 2, 1] }), &[&b], &[]);
        let product = one(&shape(&[2, 12]), &[&one(&Op::MatMul, &[&a, &b], &[])], &[]);
        assert!(close(&y, &product));
        let mean = one(&Op::BilinearPool(BilinearPool { mean: true }), &[&x, &z], &[]);
        assert!((reals(&mean)[5] * 4.0 - reals(&y)[5]).abs() < 1e-12);
    }
}
