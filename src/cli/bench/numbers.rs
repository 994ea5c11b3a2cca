//! The numbers that cases compute with.

use std::f32::consts::TAU;

use rand::Rng;
use rayon::prelude::*;

use crate::seed;

/// Numbers that one stream of random ones gives.
const CHUNK: usize = 1 << 16;

/// `n` numbers from the standard normal distribution (Box and Muller 1958), the same each time.
pub fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; n];
    numbers.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, numbers)| {
        let mut rng = seed::stream(seed, &format!("bench/{chunk}"));
        for pair in numbers.chunks_mut(2) {
            // In (0, 1], so that the logarithm is finite.
            let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
            let (sin, cos) = (TAU * rng.random::<f32>()).sin_cos();
            pair.iter_mut().zip([cos, sin]).for_each(|(number, side)| *number = radius * side);
        }
    });
    numbers
}

/// `n` labels of ten classes, the same each time.
pub fn labels(n: usize, seed: u64) -> Vec<u32> {
    let mut rng = seed::stream(seed, "bench/labels");
    (0..n).map(|_| rng.random_range(0..10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_moments_of_the_normal_distribution() {
        let numbers = normal(3 * CHUNK + 1, 1);
        let moment = |power: i32| numbers.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / numbers.len() as f64;
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!((moment(power) - expected).abs() < 0.05, "moment {power}: {}", moment(power));
        }
        assert_ne!(numbers[..100], numbers[CHUNK..CHUNK + 100]);
    }
}
