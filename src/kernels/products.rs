//! Products of two values as matrices, one for each place of the axes before the last two, which are broadcast.
//!
//! ```text
//!   y [.., m, n] = a [.., m, k] b [.., k, n]      da = sum dy b^T      db = sum a^T dy     over what a, b lack
//! ```
//!
//! A vector is a matrix of one row in front and of one column behind. Products by one and the same matrix behind are one
//! product of a taller matrix.

use candle_core::{Error, Result};
use niwaki_kernels::matmul::{self, Old, Threads};
use rayon::prelude::*;

use super::Kernel;
use super::broadcast::{Walk, joint};
use super::matmul::{Matrix, multiply_add};
use super::operator::{Array, Back, Made, Operator, exactly};
use crate::graph::op::BilinearPool;

/// The product of two values as matrices: NumPy's `matmul`.
pub fn matrix_product() -> Kernel {
    Kernel::of(MatMul)
}

/// The products of two images' channels `[n, c, ..]` and `[n, d, ..]`, summed over the places: `[n, c * d]`.
pub fn bilinear_pool(config: &BilinearPool) -> Kernel {
    Kernel::of(Bilinear { mean: config.mean })
}

struct MatMul;

struct Bilinear {
    mean: bool,
}

/// Many products of one size.
pub struct Products {
    m: usize,
    k: usize,
    n: usize,
    /// Which matrix of `a` and of `b` each product takes.
    pairs: Vec<[usize; 2]>,
    shape: Vec<usize>,
}

impl Products {
    /// Those of values of these shapes.
    pub fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        let misfit = || Error::Msg(format!("MatMul of {a:?} and {b:?}: sizes do not fit"));
        let (before_a, m, k) = match a {
            [] => return Err(misfit()),
            [k] => (&[][..], 1, *k),
            [before @ .., m, k] => (before, *m, *k),
        };
        let (before_b, inner, n) = match b {
            [] => return Err(misfit()),
            [k] => (&[][..], *k, 1),
            [before @ .., k, n] => (before, *k, *n),
        };
        if inner != k {
            return Err(misfit());
        }
        let batch = joint(before_a, before_b);
        let mut shape = batch.clone();
        shape.extend((a.len() > 1).then_some(m));
        shape.extend((b.len() > 1).then_some(n));
        let taller = m * batch.iter().product::<usize>();
        if before_b.iter().all(|n| *n == 1) && batch == before_a {
            return Ok(Self { m: taller, k, n, pairs: vec![[0, 0]], shape });
        }
        let pairs = Walk::broadcast(&batch, [before_a, before_b]).places();
        Ok(Self { m, k, n, pairs, shape })
    }

    fn a<'a>(&self, a: &'a [f32], number: usize) -> Matrix<'a> {
        Matrix::new(&a[number * self.m * self.k..][..self.m * self.k], self.m, self.k)
    }

    fn b<'a>(&self, b: &'a [f32], number: usize) -> Matrix<'a> {
        Matrix::new(&b[number * self.k * self.n..][..self.k * self.n], self.k, self.n)
    }

    fn y<'a>(&self, y: &'a [f32], number: usize) -> Matrix<'a> {
        Matrix::new(&y[number * self.m * self.n..][..self.m * self.n], self.m, self.n)
    }

    /// Writes the products to `y`.
    pub fn forward(&self, a: &[f32], b: &[f32], y: &mut [f32]) {
        if let [[i, j]] = self.pairs[..] {
            return matmul::multiply(y, self.a(a, i), self.b(b, j), Old::Dropped, Threads::All);
        }
        let products = y.par_chunks_mut((self.m * self.n).max(1)).zip(&self.pairs);
        products.for_each(|(y, [i, j])| matmul::multiply(y, self.a(a, *i), self.b(b, *j), Old::Dropped, Threads::This));
    }

    /// The gradient at `a`, or what is added to it.
    pub fn gradient_of_first(&self, b: &[f32], dy: &[f32], da: &mut [f32], old: Old) {
        self.gather(da, self.m * self.k, 0, old, |da, number, old, threads| {
            let b = self.b(b, self.pairs[number][1]).transposed();
            matmul::multiply(da, self.y(dy, number), b, old, threads);
        });
    }

    /// The gradient at `b`, or what is added to it.
    pub fn gradient_of_second(&self, a: &[f32], dy: &[f32], db: &mut [f32], old: Old) {
        self.gather(db, self.k * self.n, 1, old, |db, number, old, threads| {
            let a = self.a(a, self.pairs[number][0]).transposed();
            matmul::multiply(db, a, self.y(dy, number), old, threads);
        });
    }

    /// The sum, for each matrix of `size` numbers of the argument `which`, of what `product` gives for each product that takes
    /// it.
    fn gather(
        &self,
        gradient: &mut [f32],
        size: usize,
        which: usize,
        old: Old,
        product: impl Fn(&mut [f32], usize, Old, Threads) + Sync,
    ) {
        if self.pairs.len() == 1 {
            return product(gradient, 0, old, Threads::All);
        }
        let mut takers: Vec<Vec<usize>> = vec![Vec::new(); gradient.len().checked_div(size).unwrap_or(0)];
        self.pairs
            .iter()
            .enumerate()
            .for_each(|(number, pair)| takers.get_mut(pair[which]).into_iter().for_each(|t| t.push(number)));
        gradient.par_chunks_mut(size.max(1)).zip(takers).for_each(|(gradient, takers)| {
            // Every matrix is taken by one product at least.
            takers.into_iter().fold(old, |old, number| {
                product(gradient, number, old, Threads::This);
                Old::Added
            });
        });
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [a, b] = exactly("MatMul", args)?;
        let products = Products::new(a.shape, b.shape)?;
        let mut y = vec![0.0; products.shape.iter().product()];
        products.forward(a.values, b.values, &mut y);
        Ok(vec![Made::new(products.shape, y)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let [a, b] = exactly("MatMul", back.args)?;
        let (products, dy) = (Products::new(a.shape, b.shape)?, back.dy());
        Ok(back.each(|which| {
            let mut gradient = vec![0.0; back.args[which].values.len()];
            match which {
                0 => products.gradient_of_first(b.values, dy, &mut gradient, Old::Dropped),
                _ => products.gradient_of_second(a.values, dy, &mut gradient, Old::Dropped),
            }
            gradient
        }))
    }
}

impl Bilinear {
    /// Samples, channels of both and places.
    fn sizes(&self, x: &[usize], y: &[usize]) -> Result<[usize; 4]> {
        match (x, y) {
            ([n, c, x @ ..], [m, d, y @ ..]) if n == m && x == y => Ok([*n, *c, *d, x.iter().product()]),
            _ => Err(Error::Msg(format!("BilinearPool of {x:?} and {y:?}: sizes do not fit"))),
        }
    }

    fn scale(&self, values: &mut [f32], places: usize) {
        if self.mean {
            values.iter_mut().for_each(|v| *v /= places as f32);
        }
    }
}

impl Operator for Bilinear {
    fn name(&self) -> &'static str {
        "BilinearPool"
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [x, y] = exactly("BilinearPool", args)?;
        let [n, c, d, places] = self.sizes(x.shape, y.shape)?;
        let mut sums = vec![0.0; n * c * d];
        let samples = x.values.par_chunks((c * places).max(1)).zip(y.values.par_chunks((d * places).max(1)));
        sums.par_chunks_mut((c * d).max(1)).zip(samples).for_each(|(sums, (x, y))| {
            multiply_add(sums, Matrix::new(x, c, places), Matrix::new(y, d, places).transposed());
            self.scale(sums, places);
        });
        Ok(vec![Made::new([n, c * d], sums)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let [x, y] = exactly("BilinearPool", back.args)?;
        let [_, c, d, places] = self.sizes(x.shape, y.shape)?;
        Ok(back.each(|which| {
            let (own, other) = if which == 0 { (c, d) } else { (d, c) };
            let mut gradient = vec![0.0; back.args[which].values.len()];
            let others = back.args[1 - which].values.par_chunks((other * places).max(1));
            let samples = others.zip(back.dy().par_chunks((c * d).max(1)));
            gradient.par_chunks_mut((own * places).max(1)).zip(samples).for_each(|(gradient, (values, dy))| {
                let dy = Matrix::new(dy, c, d);
                let dy = if which == 0 { dy } else { dy.transposed() };
                multiply_add(gradient, dy, Matrix::new(values, other, places));
                self.scale(gradient, places);
            });
            gradient
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, numbers, result};

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                [([5, 1, 17, 33], vec![3, 33, 9]), ([5, 3, 17, 33], vec![33, 9])].map(|(a, b)| {
                    let args = [a.to_vec(), b]
                        .map(|s| Tensor::from_vec(numbers(s.iter().product(), 1), s, &Device::Cpu).unwrap());
                    let kernel = matrix_product();
                    let y = result(&kernel, &args).unwrap();
                    (gradients(&kernel, &args, &numbers(y.len(), 2)), y)
                })
            })
        };
        assert!(run(1) == run(3));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let args = [[2, 3], [2, 3]].map(|s| Tensor::from_vec(vec![0f32; 6], s.to_vec(), &Device::Cpu).unwrap());
        assert!(result(&matrix_product(), &args).is_err());
    }
}
