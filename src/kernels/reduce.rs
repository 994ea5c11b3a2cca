//! One number for the elements along axes: sums and their kin.
//!
//! ```text
//!   sum 1    mean 1/n    sum of squares 2x    l1 sign x    l2 x/y    log sum 1/sum    log sum exp e^(x-y)
//!   max, min   1/k for the k elements that are equal to y, else 0       product   the product of all others
//! ```
//!
//! Sums are taken in index order, in `f64`. Windows that take no part, such as an infinite mask, do not make the gradient
//! NaN: where none comes in none goes out.

use candle_core::{Error, Result};

use super::Kernel;
use super::broadcast::Walk;
use super::groups::Groups;
use super::operator::{Array, Back, Made, Operator, exactly};
use crate::graph::op::{Reduce, Reduction};

/// One number for all elements along the axes.
pub fn reduce(config: &Reduce) -> Kernel {
    Kernel::of(Reducer(config.clone()))
}

struct Reducer(Reduce);

impl Reducer {
    /// The shape with the axes kept, and as it is seen.
    fn shapes(&self, x: &[usize]) -> [Vec<usize>; 2] {
        let kept: Vec<usize> = (0..x.len()).map(|axis| if self.0.axes.contains(&axis) { 1 } else { x[axis] }).collect();
        if self.0.keep {
            return [kept.clone(), kept];
        }
        let seen = (0..x.len()).filter(|axis| !self.0.axes.contains(axis)).map(|axis| x[axis]).collect();
        [kept, seen]
    }
}

/// The larger of two, or NaN.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

fn values(of: Reduction, groups: &Groups, x: &[f32]) -> Vec<f32> {
    let wide = f64::from;
    let sum = |f: fn(f64) -> f64, end: fn(f64) -> f32| groups.fold(x, 0.0, |_, sum, x| sum + f(wide(x)), end);
    match of {
        Reduction::L1 => sum(f64::abs, |sum| sum as f32),
        Reduction::L2 => sum(|x| x * x, |sum| sum.sqrt() as f32),
        Reduction::LogSum => sum(|x| x, |sum| sum.ln() as f32),
        Reduction::Sum => sum(|x| x, |sum| sum as f32),
        Reduction::SumSquare => sum(|x| x * x, |sum| sum as f32),
        Reduction::Mean => {
            let count = groups.count() as f64;
            groups.fold(x, 0.0, |_, sum, x| sum + wide(x), |sum: f64| (sum / count) as f32)
        }
        Reduction::Max => groups.fold(x, f32::NEG_INFINITY, |_, max, x| larger(max, x), |max| max),
        Reduction::Min => groups.fold(x, f32::NEG_INFINITY, |_, max, x| larger(max, -x), |max| -max),
        Reduction::Prod => groups.fold(x, 1.0, |_, product, x| product * wide(x), |product: f64| product as f32),
        Reduction::LogSumExp => {
            let max = values(Reduction::Max, groups, x);
            // What is infinite is not moved: the difference would be no number.
            let shift: Vec<f32> = max.iter().map(|max| if max.is_infinite() { 0.0 } else { *max }).collect();
            let sums =
                groups.fold(x, 0.0, |group, sum, x| sum + wide((x - shift[group]).exp()), |sum: f64| sum.ln() as f32);
            sums.into_iter().zip(shift).map(|(sum, shift)| sum + shift).collect()
        }
    }
}

impl Operator for Reducer {
    fn name(&self) -> &'static str {
        self.0.of.op_name()
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [x] = exactly(self.name(), args)?;
        if self.0.axes.iter().any(|axis| *axis >= x.shape.len()) {
            return Err(Error::Msg(format!("{} of {:?} over axes {:?}", self.name(), x.shape, self.0.axes)));
        }
        let [_, seen] = self.shapes(x.shape);
        Ok(vec![Made::new(seen, values(self.0.of, &Groups::new(x.shape, &self.0.axes), x.values))])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let (x, y, dy) = (back.args[0], back.ys[0].values, back.dy());
        let [kept, _] = self.shapes(x.shape);
        let groups = Groups::new(x.shape, &self.0.axes);
        let spread = |of: &[f32], f: &(dyn Fn([f32; 3]) -> f32 + Sync)| {
            let walk = Walk::broadcast(x.shape, [x.shape, &kept, &kept]);
            walk.map([x.values, of, dy], |[x, of, dy]| if dy == 0.0 { 0.0 } else { dy * f([x, of, dy]) })
        };
        let share = 1.0 / groups.count() as f32;
        Ok(back.each(|_| match self.0.of {
            Reduction::L1 => spread(y, &|[x, ..]| if x == 0.0 { 0.0 } else { x.signum() }),
            Reduction::L2 => spread(y, &|[x, y, _]| if y == 0.0 { 0.0 } else { x / y }),
            Reduction::LogSum => spread(&values(Reduction::Sum, &groups, x.values), &|[_, sum, _]| 1.0 / sum),
            Reduction::LogSumExp => {
                // Not from the result, which may have been rounded.
                let exact = values(Reduction::LogSumExp, &groups, x.values);
                spread(&exact, &|[x, y, _]| if x == y { 1.0 } else { (x - y).exp() })
            }
            Reduction::Mean => spread(y, &|_| share),
            Reduction::Sum => spread(y, &|_| 1.0),
            Reduction::SumSquare => spread(y, &|[x, ..]| 2.0 * x),
            Reduction::Max | Reduction::Min => {
                let exact = values(self.0.of, &groups, x.values);
                let equal = |group: usize, count: f32, x: f32| if x == exact[group] { count + 1.0 } else { count };
                let counts = groups.fold(x.values, 0.0, equal, |count: f32| 1.0 / count);
                let first = spread(&exact, &|[x, y, _]| if x == y { 1.0 } else { 0.0 });
                Walk::broadcast(x.shape, [x.shape, &kept])
                    .map([&first, &counts], |[dx, share]| if dx == 0.0 { 0.0 } else { dx * share })
            }
            Reduction::Prod => {
                let but_zeros = |_, product: f64, x: f32| if x == 0.0 { product } else { product * f64::from(x) };
                let product = groups.fold(x.values, 1.0, but_zeros, |product: f64| product as f32);
                let zeros = groups.fold(x.values, 0u32, |_, n, x| n + u32::from(x == 0.0), |n| n as f32);
                let walk = Walk::broadcast(x.shape, [x.shape, &kept, &kept, &kept]);
                walk.map([x.values, &product, &zeros, dy], |[x, product, zeros, dy]| match zeros {
                    0.0 => dy * (product / x),
                    1.0 if x == 0.0 => dy * product,
                    _ => 0.0,
                })
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::kernels::testing::{gradients, result};

    fn row(of: Reduction, values: &[f32]) -> (f32, Vec<f32>) {
        let x = Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        let kernel = reduce(&Reduce { of, axes: vec![1], keep: false });
        (result(&kernel, std::slice::from_ref(&x)).unwrap()[0], gradients(&kernel, &[x], &[6.0]).remove(0))
    }

    #[test]
    fn equal_elements_share_and_a_zero_gets_the_product_of_the_others() {
        assert_eq!(row(Reduction::Max, &[1.0, 3.0, 3.0]), (3.0, vec![0.0, 3.0, 3.0]));
        assert_eq!(row(Reduction::Prod, &[2.0, 0.0, 3.0]), (0.0, vec![0.0, 36.0, 0.0]));
        assert_eq!(row(Reduction::Prod, &[0.0, 0.0, 3.0]), (0.0, vec![0.0; 3]));
    }

    #[test]
    fn the_logarithm_of_a_sum_of_exponentials_knows_no_overflow() {
        let (y, dx) = row(Reduction::LogSumExp, &[1000.0, 1000.0, f32::NEG_INFINITY]);
        assert!((y - 1000.0 - 2f32.ln()).abs() < 1e-3);
        assert!((dx[0] - 3.0).abs() < 1e-3 && dx[2] == 0.0, "{dx:?}");
    }
}
