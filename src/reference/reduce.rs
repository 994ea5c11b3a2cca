//! What runs over whole axes: sums and their kin, the place of the largest, running sums, softmax.
//!
//! Over no elements a sum is 0, a product 1, a mean no number, the largest the smallest number of the format and the
//! smallest its largest. Where a number is none, so are the largest and the smallest.

use super::array::{Array, Numbers, bounds, count, reals};
use super::moved::carry;
use super::{Output, ReferenceError};
use crate::graph::Op;
use crate::graph::dim::Sizes;
use crate::graph::op::{ArgMax, CumSum, OpError, Reduce, Reduction, Transpose};
use crate::tensor::{DType, TensorData};

/// The larger of two; no number where one is none.
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The larger of two.
pub fn larger_whole(a: i128, b: i128) -> i128 {
    a.max(b)
}

/// One number for the elements along some axes.
pub fn reduce(config: &Reduce, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let size: usize = config.axes.iter().map(|axis| x.shape()[*axis]).product();
    output.of(match Array::of(x).numbers {
        Numbers::Real(values) => {
            let values = grouped(&values, x.shape(), &config.axes)?;
            Numbers::Real(rows(&values, size, output).map(|row| of_reals(config.of, row)).collect())
        }
        Numbers::Whole(values) => {
            let values = grouped(&values, x.shape(), &config.axes)?;
            match config.of {
                Reduction::L2 | Reduction::LogSum | Reduction::LogSumExp => {
                    let values: Vec<f64> = values.into_iter().map(|v| v as f64).collect();
                    Numbers::Real(rows(&values, size, output).map(|row| of_reals(config.of, row)).collect())
                }
                of => Numbers::Whole(rows(&values, size, output).map(|row| of_wholes(of, row, x.dtype())).collect()),
            }
        }
    })
}

/// The elements that each number of the output is made of, one row after the other.
fn grouped<T: Copy + Default>(values: &[T], shape: &[usize], axes: &[usize]) -> Result<Vec<T>, OpError> {
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
    let order = Op::Transpose(Transpose { axes: kept.chain(axes.iter().copied()).collect() });
    let moves = order.moves(shape, None, Sizes::of_batch(1)).transpose()?.unwrap_or_default();
    Ok(moves.first().map(|moves| carry(values, moves, T::default())).unwrap_or_default())
}

fn rows<'a, T>(values: &'a [T], size: usize, output: &Output) -> impl Iterator<Item = &'a [T]> {
    (0..output.count()).map(move |row| &values[row * size..(row + 1) * size])
}

fn of_reals(of: Reduction, row: &[f64]) -> f64 {
    let sum = |of: fn(f64) -> f64| row.iter().map(|v| of(*v)).sum::<f64>();
    // Starting from 0.0, so that an empty sum is not -0.0.
    match of {
        Reduction::L1 => 0.0 + sum(f64::abs),
        Reduction::L2 => (0.0 + sum(|v| v * v)).sqrt(),
        Reduction::LogSum => (0.0 + sum(|v| v)).ln(),
        Reduction::LogSumExp => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, larger);
            if most.is_infinite() { most } else { row.iter().map(|v| (v - most).exp()).sum::<f64>().ln() + most }
        }
        Reduction::Max => row.iter().copied().fold(f64::NEG_INFINITY, larger),
        Reduction::Mean => sum(|v| v) / row.len() as f64,
        Reduction::Min => -row.iter().map(|v| -v).fold(f64::NEG_INFINITY, larger),
        Reduction::Prod => row.iter().product(),
        Reduction::Sum => 0.0 + sum(|v| v),
        Reduction::SumSquare => 0.0 + sum(|v| v * v),
    }
}

fn of_wholes(of: Reduction, row: &[i128], dtype: DType) -> i128 {
    let sum = |of: fn(i128) -> i128| row.iter().fold(0i128, |sum, v| sum.wrapping_add(of(*v)));
    let (least, most) = bounds(dtype);
    match of {
        Reduction::L1 => sum(i128::abs),
        Reduction::Max => row.iter().copied().fold(least, i128::max),
        Reduction::Min => row.iter().copied().fold(most, i128::min),
        Reduction::Prod => row.iter().fold(1, |product, v| product.wrapping_mul(*v)),
        Reduction::SumSquare => sum(|v| v.wrapping_mul(v)),
        // Towards zero; of nothing, 0.
        Reduction::Mean => sum(|v| v).checked_div(row.len() as i128).unwrap_or(0),
        // The others are floating point numbers.
        _ => sum(|v| v),
    }
}

/// The axes before one, its size, and those after it.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [count(&shape[..axis]), shape[axis], count(&shape[axis + 1..])]
}

/// Calls `each` with the places of the elements along an axis, once for all other places, in their order.
fn along(shape: &[usize], axis: usize, mut each: impl FnMut(&mut dyn DoubleEndedIterator<Item = usize>)) {
    let [before, size, after] = around(shape, axis);
    if size == 0 {
        return;
    }
    for (b, a) in (0..before).flat_map(|b| (0..after).map(move |a| (b, a))) {
        each(&mut (0..size).map(|i| (b * size + i) * after + a));
    }
}

/// The place of the largest or smallest element along an axis. What is no number wins, as in NumPy.
pub fn place(config: &ArgMax, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    fn places<T: Copy + PartialOrd>(config: &ArgMax, x: &[T], shape: &[usize], none: impl Fn(T) -> bool) -> Numbers {
        let wins = |new: T, old: T| match (none(new), none(old)) {
            (true, old_none) => config.last || !old_none,
            (false, true) => false,
            _ if new == old => config.last,
            _ => (new > old) != config.smallest,
        };
        let mut found = Vec::new();
        along(shape, config.axis, |places| {
            let mut best: Option<(usize, T)> = None;
            for (i, at) in places.enumerate() {
                if best.is_none_or(|(_, old)| wins(x[at], old)) {
                    best = Some((i, x[at]));
                }
            }
            found.extend(best.map(|(i, _)| i as i128));
        });
        Numbers::Whole(found)
    }
    output.of(match Array::of(x).numbers {
        Numbers::Real(values) => places(config, &values, x.shape(), f64::is_nan),
        Numbers::Whole(values) => places(config, &values, x.shape(), |_| false),
    })
}

/// Running sums along an axis.
pub fn running_sum(config: &CumSum, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    fn sums<T: Copy + Default>(config: &CumSum, x: &[T], shape: &[usize], add: impl Fn(T, T) -> T) -> Vec<T> {
        let mut y = vec![T::default(); x.len()];
        along(shape, config.axis, |places| {
            let places: Vec<usize> = if config.reverse { places.rev().collect() } else { places.collect() };
            let mut sum = T::default();
            for at in places {
                let next = add(sum, x[at]);
                y[at] = if config.exclusive { sum } else { next };
                sum = next;
            }
        });
        y
    }
    output.of(match Array::of(x).numbers {
        Numbers::Real(values) => Numbers::Real(sums(config, &values, x.shape(), |a, b| a + b)),
        Numbers::Whole(values) => Numbers::Whole(sums(config, &values, x.shape(), i128::wrapping_add)),
    })
}

/// `exp(x) / sum(exp(x))` along an axis, or its logarithm.
pub fn softmax(axis: usize, log: bool, x: &TensorData, output: &Output) -> Result<TensorData, ReferenceError> {
    let mut y = reals(x);
    along(x.shape(), axis, |places| {
        let places: Vec<usize> = places.collect();
        let most = places.iter().map(|at| y[*at]).fold(f64::NEG_INFINITY, larger);
        let sum: f64 = places.iter().map(|at| (y[*at] - most).exp()).sum();
        for at in places {
            let above = y[at] - most;
            y[at] = if log { above - sum.ln() } else { above.exp() / sum };
        }
    });
    output.real(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, one, random, real, tensor};
    use super::*;
    use crate::graph::op::{Binary, Softmax, Unary};

    fn of(reduction: Reduction, axes: &[usize], keep: bool, x: &TensorData) -> TensorData {
        one(&Op::Reduce(Reduce { of: reduction, axes: axes.to_vec(), keep }), &[x], &[])
    }

    #[test]
    fn each_number_by_hand() {
        let x = real(&[2, 2], &[1.0, -2.0, 3.0, 4.0]);
        let expected = [
            (Reduction::L1, [3.0, 7.0]),
            (Reduction::L2, [5f64.sqrt(), 5.0]),
            (Reduction::LogSumExp, [(1f64.exp() + (-2f64).exp()).ln(), 4.0 + (-1f64).exp().ln_1p()]),
            (Reduction::Max, [1.0, 4.0]),
            (Reduction::Mean, [-0.5, 3.5]),
            (Reduction::Min, [-2.0, 3.0]),
            (Reduction::Prod, [-2.0, 12.0]),
            (Reduction::Sum, [-1.0, 7.0]),
            (Reduction::SumSquare, [5.0, 25.0]),
        ];
        for (reduction, rows) in expected {
            assert_eq!(of(reduction, &[1], false, &x), real(&[2], &rows), "{reduction:?}");
        }
        assert_eq!(of(Reduction::Sum, &[0], true, &x), real(&[1, 2], &[4.0, 2.0]));
        assert_eq!(of(Reduction::Sum, &[0, 1], false, &x), real(&[], &[6.0]));
        assert_eq!(of(Reduction::LogSum, &[0], false, &x), real(&[2], &[4f64.ln(), 2f64.ln()]));
        // Without axes each element is a group of its own.
        assert_eq!(of(Reduction::L1, &[], true, &x), real(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn nothing_has_a_sum() {
        let x = real(&[2, 0], &[]);
        let of_nothing = |reduction| reals(&of(reduction, &[1], false, &x));
        for (reduction, expected) in [
            (Reduction::Sum, 0.0),
            (Reduction::L2, 0.0),
            (Reduction::Prod, 1.0),
            (Reduction::Max, f64::NEG_INFINITY),
            (Reduction::Min, f64::INFINITY),
            (Reduction::LogSum, f64::NEG_INFINITY),
            (Reduction::LogSumExp, f64::NEG_INFINITY),
        ] {
            assert_eq!(of_nothing(reduction), [expected; 2], "{reduction:?}");
        }
        assert!(of_nothing(Reduction::Mean)[0].is_nan());
        let whole = |dtype, reduction| {
            one(&Op::Reduce(Reduce { of: reduction, axes: vec![0], keep: false }), &[&tensor(dtype, &[0], &[])], &[])
        };
        assert_eq!(whole(DType::I8, Reduction::Max), tensor(DType::I8, &[], &[-128.0]));
        assert_eq!(whole(DType::U8, Reduction::Min), tensor(DType::U8, &[], &[255.0]));
        assert_eq!(whole(DType::Bool, Reduction::Max), tensor(DType::Bool, &[], &[0.0]));
        assert_eq!(whole(DType::Bool, Reduction::Min), tensor(DType::Bool, &[], &[1.0]));
        assert_eq!(whole(DType::I32, Reduction::Mean), tensor(DType::I32, &[], &[0.0]));
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let x = tensor(DType::I32, &[3], &[-1.0, -2.0, -4.0]);
        assert_eq!(of(Reduction::Mean, &[0], false, &x), tensor(DType::I32, &[], &[-2.0]));
        assert_eq!(of(Reduction::L2, &[0], false, &x), tensor(DType::I32, &[], &[4.0]));
        let x = tensor(DType::U8, &[2], &[200.0, 100.0]);
        assert_eq!(of(Reduction::Sum, &[0], false, &x), tensor(DType::U8, &[], &[44.0]));
    }

    #[test]
    fn the_place_of_the_largest() {
        let x = real(&[2, 3], &[1.0, 5.0, 5.0, f64::NAN, 7.0, -1.0]);
        let place = |smallest, last| one(&Op::ArgMax(ArgMax { axis: 1, keep: false, smallest, last }), &[&x], &[]);
        let places = |values: &[f64]| tensor(DType::I64, &[2], values);
        assert_eq!(place(false, false), places(&[1.0, 0.0]));
        assert_eq!(place(false, true), places(&[2.0, 0.0]));
        assert_eq!(place(true, false), places(&[0.0, 0.0]));
        let columns = one(&Op::ArgMax(ArgMax { axis: 0, keep: true, smallest: true, last: false }), &[&x], &[]);
        assert_eq!(columns, tensor(DType::I64, &[1, 3], &[1.0, 0.0, 1.0]));
    }

    #[test]
    fn sums_run_both_ways() {
        let x = real(&[3, 1], &[1.0, 2.0, 4.0]);
        let sum = |exclusive, reverse| reals(&one(&Op::CumSum(CumSum { axis: 0, exclusive, reverse }), &[&x], &[]));
        assert_eq!(sum(false, false), [1.0, 3.0, 7.0]);
        assert_eq!(sum(true, false), [0.0, 1.0, 3.0]);
        assert_eq!(sum(false, true), [7.0, 6.0, 4.0]);
        assert_eq!(sum(true, true), [6.0, 4.0, 0.0]);
    }

    #[test]
    fn probabilities_sum_to_one_and_have_logarithms() {
        let x = random(&[2, 5, 3], 1);
        let large = one(&Op::Binary(Binary::Add), &[&x, &tensor(DType::F64, &[], &[800.0])], &[]);
        let y = one(&Op::Softmax(Softmax { axis: 1 }), &[&large], &[]);
        let ones = of(Reduction::Sum, &[1], false, &y);
        assert!(close(&ones, &tensor(DType::F64, &[2, 3], &[1.0; 6])));
        let log = one(&Op::LogSoftmax(Softmax { axis: 1 }), &[&large], &[]);
        assert!(close(&one(&Op::Unary(Unary::Exp), &[&log], &[]), &y));
        // A common number changes nothing.
        assert!(close(&y, &one(&Op::Softmax(Softmax { axis: 1 }), &[&x], &[])));
    }
}
