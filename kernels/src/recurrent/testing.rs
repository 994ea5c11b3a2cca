//! What the tests of recurrent layers share: the shapes, random numbers in `f64`, and central differences.

use proptest::prelude::*;

use super::{Direction, Shape};
use crate::testing::numbers;

/// Shapes with odd sizes, and with more than one block of samples and one vector of units.
pub fn shapes() -> impl Strategy<Value = Shape> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Reverse), Just(Direction::Both)];
    (0usize..5, 0usize..20, 1usize..20, 1usize..36, direction, any::<bool>()).prop_map(
        |(steps, samples, features, hidden, direction, batch_first)| Shape {
            steps,
            samples,
            features,
            hidden,
            direction,
            batch_first,
        },
    )
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Weights that keep sums of this many products below 1 or so.
pub fn weights(len: usize, products: usize, seed: u64) -> Vec<f32> {
    let scale = 1.0 / (products.max(1) as f32).sqrt();
    numbers(len, seed).into_iter().map(|v| v * scale).collect()
}

/// The derivative of `loss` by some of the `values`, by central differences: their places and the derivatives.
pub fn differences(values: &[f32], mut loss: impl FnMut(&[f64]) -> f64) -> Vec<(usize, f64)> {
    let mut values = wide(values);
    let places: Vec<usize> = (0..values.len()).step_by(values.len() / 7 + 1).collect();
    let mut derivative = |place: usize| {
        let (step, old) = (1e-5, values[place]);
        let mut at = |value: f64| {
            values[place] = value;
            loss(&values)
        };
        let difference = (at(old + step) - at(old - step)) / (2.0 * step);
        values[place] = old;
        (place, difference)
    };
    places.into_iter().map(&mut derivative).collect()
}

pub fn dot(values: &[f64], with: &[f32]) -> f64 {
    values.iter().zip(with).map(|(a, b)| a * f64::from(*b)).sum()
}

/// Whether each number is near the exact one.
pub fn near(found: &[f32], exact: &[f64]) -> bool {
    found.len() == exact.len()
        && found.iter().zip(exact).all(|(found, exact)| (f64::from(*found) - exact).abs() < 1e-4 * (1.0 + exact.abs()))
}
