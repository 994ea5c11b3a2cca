//! What the tests of the operators share.

use rand::Rng;

use super::array::{Numbers, reals};
use super::{Context, ReferenceError};
use crate::graph::Op;
use crate::graph::dim::Sizes;
use crate::seed;
use crate::tensor::{DType, TensorData};

pub const CONTEXT: Context = Context { sizes: Sizes { batch: 2, sequence: 3 }, train: false, exact: false };

/// A tensor of any format.
pub fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> TensorData {
    Numbers::Real(values.to_vec()).tensor(dtype, shape.to_vec()).unwrap()
}

/// A tensor of 32-bit numbers.
pub fn real(shape: &[usize], values: &[f64]) -> TensorData {
    tensor(DType::F32, shape, values)
}

/// A tensor of 64-bit random numbers between -1 and 1, for each seed another.
pub fn random(shape: &[usize], number: u64) -> TensorData {
    let mut rng = seed::stream(number, "reference");
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    tensor(DType::F64, shape, &values)
}

/// All outputs.
pub fn eval(op: &Op, inputs: &[&TensorData], params: &[&TensorData]) -> Result<Vec<TensorData>, ReferenceError> {
    super::eval(op, inputs, params, &CONTEXT)
}

/// The one output.
pub fn one(op: &Op, inputs: &[&TensorData], params: &[&TensorData]) -> TensorData {
    let [output] = &eval(op, inputs, params).unwrap()[..] else { panic!("one output") };
    output.clone()
}

/// Whether two tensors of one shape are equal but for rounding in 64 bits.
pub fn close(a: &TensorData, b: &TensorData) -> bool {
    let near = |(x, y): (f64, f64)| (x - y).abs() <= 1e-10 * (1.0 + x.abs());
    a.shape() == b.shape() && reals(a).into_iter().zip(reals(b)).all(near)
}

/// The sum of the products of the elements.
pub fn dot(a: &TensorData, b: &TensorData) -> f64 {
    reals(a).into_iter().zip(reals(b)).map(|(a, b)| a * b).sum()
}
