//! The fully connected layer: `y = x W^T + b`, with `x [n, in]`, `W [out, in]`, `b [out]`, `y [n, out]`. Any axes before the
//! last are one, `n`.
//!
//! ```text
//!   dx = dy W            dW = dy^T x            db = sum_n dy
//! ```
//!
//! candle's matrix product would do, but its tape makes the weight's gradient as `[in, out]` and turns it by a strided
//! copy, and computes a gradient at the network's input that nobody reads: which together took more
//! than half of a training step of a small network.

use candle_core::{Error, Result};

use super::Kernel;
use super::matmul::{Matrix, multiply_add_on_all_threads};
use super::weighted::{Weighted, with_bias, without_bias};

const OP: &str = "linear";

/// `x W^T`.
pub fn linear() -> Kernel {
    without_bias::<Problem>(())
}

/// `x W^T + b`.
pub fn linear_with_bias() -> Kernel {
    with_bias::<Problem>(())
}

/// The sizes of a layer.
#[derive(Debug, Clone)]
struct Problem {
    /// The axes before the last, and their product.
    before: Vec<usize>,
    batch: usize,
    inner: usize,
    outer: usize,
}

impl Problem {
    fn input<'a>(&self, x: &'a [f32]) -> Matrix<'a> {
        Matrix::new(x, self.batch, self.inner)
    }

    fn weight<'a>(&self, weight: &'a [f32]) -> Matrix<'a> {
        Matrix::new(weight, self.outer, self.inner)
    }

    fn output<'a>(&self, y: &'a [f32]) -> Matrix<'a> {
        Matrix::new(y, self.batch, self.outer)
    }
}

impl Weighted for Problem {
    const OP: &'static str = OP;
    type Config = ();

    fn new(_: &(), x: &[usize], weight: &[usize]) -> Result<Self> {
        match (x, weight) {
            ([before @ .., inner], &[outer, weight_inner]) if *inner == weight_inner => {
                Ok(Self { before: before.to_vec(), batch: before.iter().product(), inner: *inner, outer })
            }
            _ => Err(Error::Msg(format!("{OP} of {x:?} with {weight:?}: sizes do not fit"))),
        }
    }

    fn output(&self) -> Vec<usize> {
        [&self.before[..], &[self.outer]].concat()
    }

    fn channels(&self) -> usize {
        self.outer
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; self.batch * self.outer];
        if let Some(bias) = bias {
            y.chunks_exact_mut(self.outer.max(1)).for_each(|row| row.copy_from_slice(bias));
        }
        multiply_add_on_all_threads(&mut y, self.input(x), self.weight(weight).transposed());
        y
    }

    fn input_gradient(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![0.0; self.batch * self.inner];
        multiply_add_on_all_threads(&mut dx, self.output(dy), self.weight(weight));
        dx
    }

    fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dw = vec![0.0; self.outer * self.inner];
        multiply_add_on_all_threads(&mut dw, self.output(dy).transposed(), self.input(x));
        dw
    }

    fn bias_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let mut db = vec![0.0; self.outer];
        for row in dy.chunks_exact(self.outer.max(1)) {
            db.iter_mut().zip(row).for_each(|(b, d)| *b += d);
        }
        db
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers, result};

    fn tensors(shapes: &[Vec<usize>], seed: u64) -> (Vec<Vec<f32>>, Vec<Tensor>) {
        let values: Vec<Vec<f32>> = (seed..).zip(shapes).map(|(s, shape)| numbers(shape.iter().product(), s)).collect();
        let tensor = |(v, shape): (&Vec<f32>, &Vec<usize>)| Tensor::from_slice(v, shape.as_slice(), &Device::Cpu);
        let tensors = values.iter().zip(shapes).map(|pair| tensor(pair).unwrap()).collect();
        (values, tensors)
    }

    fn naive(x: &[f64], w: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let product = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            w.chunks(inner).enumerate().map(|(o, w)| product(w) + b.get(o).copied().unwrap_or(0.0)).collect()
        };
        x.chunks(inner).flat_map(row).collect()
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            batch in 1usize..8, inner in 1usize..12, outer in 1usize..12, with_bias in prop::option::of(Just(())),
            seed in 0u64..1 << 40,
        ) {
            let mut shapes = vec![vec![batch, inner], vec![outer, inner]];
            shapes.extend(with_bias.map(|()| vec![outer]));
            let (values, args) = tensors(&shapes, seed);
            let kernel = if args.len() == 3 { linear_with_bias() } else { linear() };
            let wide: Vec<Vec<f64>> = values.iter().map(|v| v.iter().map(|v| f64::from(*v)).collect()).collect();
            let found = result(&kernel, &args).unwrap();
            let expected = naive(&wide[0], &wide[1], wide.get(2).map_or(&[][..], |b| b), inner);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(close(*found, *expected, 1e-5), "{found} {expected}");
            }

            let upstream = numbers(found.len(), seed + 9);
            let found = gradients(&kernel, &args, &upstream);
            for (which, found) in found.iter().enumerate() {
                let expected = central_differences(&values[which], |changed| {
                    let at = |i: usize| if i == which { changed } else { wide.get(i).map_or(&[][..], |v| v) };
                    naive(at(0), at(1), at(2), inner).iter().zip(&upstream).map(|(y, d)| y * f64::from(*d)).sum()
                });
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!(close(*found, *expected, 1e-5), "argument {which}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (_, args) = tensors(&[vec![131, 613], vec![307, 613], vec![307]], 1);
                let upstream = numbers(131 * 307, 2);
                let kernel = linear_with_bias();
                (result(&kernel, &args).unwrap(), gradients(&kernel, &args, &upstream))
            })
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(one == run(threads), "{threads} threads give other bits");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let (_, args) = tensors(&[vec![2, 3], vec![4, 5], vec![3]], 1);
        assert!(result(&linear(), &args[..2]).is_err());
        let (_, args) = tensors(&[vec![2, 3], vec![4, 3], vec![3]], 1);
        assert!(result(&linear_with_bias(), &args).is_err());
    }
}
