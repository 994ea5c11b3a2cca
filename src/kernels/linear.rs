//! The fully connected layer: `y = x W^T + b`, with `x [n, in]`, `W [out, in]`, `b [out]`, `y [n, out]`.
//!
//! ```text
//!   dx = dy W            dW = dy^T x            db = sum_n dy
//! ```
//!
//! candle's matrix product would do, but its tape makes the weight's gradient as `[in, out]` and turns it by a strided
//! copy, and computes a gradient at the network's input that nobody reads: which together took more
//! than half of a training step of a small network.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor};

use super::matmul::{Matrix, multiply_add_on_all_threads};
use super::{slice, tensor_like, with_slice};

const OP: &str = "linear";

/// `x W^T + b`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, LinearOp),
        None => x.apply_op2(&weight, LinearOp),
    }
}

/// The sizes of a layer.
#[derive(Debug, Clone, Copy)]
struct Problem {
    batch: usize,
    inner: usize,
    outer: usize,
}

impl Problem {
    fn new(x: &Shape, weight: &Shape) -> Result<Self> {
        let ((batch, inner), (outer, weight_inner)) = (x.dims2()?, weight.dims2()?);
        if inner != weight_inner {
            return Err(Error::Msg(format!("{OP} of {x:?} with {weight:?}: sizes do not fit")));
        }
        Ok(Self { batch, inner, outer })
    }

    fn input<'a>(&self, x: &'a [f32]) -> Matrix<'a> {
        Matrix::new(x, self.batch, self.inner)
    }

    fn weight<'a>(&self, weight: &'a [f32]) -> Matrix<'a> {
        Matrix::new(weight, self.outer, self.inner)
    }

    fn output<'a>(&self, y: &'a [f32]) -> Matrix<'a> {
        Matrix::new(y, self.batch, self.outer)
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

struct LinearOp;

impl LinearOp {
    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let problem = Problem::new(x.1.shape(), w.1.shape())?;
        if let Some(bias) = bias.filter(|bias| bias.len() != problem.outer) {
            return Err(Error::Msg(format!("{OP} to {} outputs with {} biases", problem.outer, bias.len())));
        }
        let y = problem.forward(slice(OP, x.0, x.1)?, slice(OP, w.0, w.1)?, bias);
        Ok((CpuStorage::F32(y), Shape::from((problem.batch, problem.outer))))
    }

    /// The gradients at `x` and `weight`; that at `x` is left out where no variable leads to it.
    fn gradients(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let problem = Problem::new(x.shape(), weight.shape())?;
        with_slice(OP, dy, |dy| {
            let dx = match x.track_op() {
                true => Some(tensor_like(with_slice(OP, weight, |w| problem.input_gradient(w, dy))?, x)?),
                false => None,
            };
            let dw = tensor_like(with_slice(OP, x, |x| problem.weight_gradient(x, dy))?, weight)?;
            Ok((dx, Some(dw)))
        })?
    }
}

impl CustomOp2 for LinearOp {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, w, dy)
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), Some(slice(OP, b, bl)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.gradients(x, w, dy)?;
        let problem = Problem::new(x.shape(), w.shape())?;
        let db = tensor_like(with_slice(OP, dy, |dy| problem.bias_gradient(dy))?, b)?;
        Ok((dx, dw, Some(db)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers};

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
            let run = |args: &[Tensor]| linear(&args[0], &args[1], args.get(2)).unwrap();
            let wide: Vec<Vec<f64>> = values.iter().map(|v| v.iter().map(|v| f64::from(*v)).collect()).collect();
            let found: Vec<f32> = run(&args).flatten_all().unwrap().to_vec1().unwrap();
            let expected = naive(&wide[0], &wide[1], wide.get(2).map_or(&[][..], |b| b), inner);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(close(*found, *expected, 1e-5), "{found} {expected}");
            }

            let upstream = numbers(found.len(), seed + 9);
            let found = gradients(&args, &upstream, run);
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
                let y: Vec<f32> =
                    linear(&args[0], &args[1], args.get(2)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
                (y, gradients(&args, &upstream, |a| linear(&a[0], &a[1], a.get(2)).unwrap()))
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
        assert!(linear(&args[0], &args[1], None).is_err());
        let (_, args) = tensors(&[vec![2, 3], vec![4, 3], vec![3]], 1);
        assert!(linear(&args[0], &args[1], args.get(2)).is_err());
    }
}
