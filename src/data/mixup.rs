//! Mixup (Zhang et al. 2018, "mixup: beyond empirical risk minimization"): each sample of a batch is blended with another.
//!
//! ```text
//! x_i = share x_i + (1 - share) x_j        share = max(b, 1 - b), b from Beta(alpha, alpha), anew for each sample
//! ```
//!
//! `j` is the sample that stands at `i` in a permutation of the batch. A sample has the larger share in its blend, which
//! makes the same blends: `b` and `1 - b` are equally likely.

use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};

use super::Batch;
use crate::seed;

/// What the samples of a batch were blended with.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// The labels of the others.
    pub labels: Vec<u32>,
    /// Each sample's own share, from 1/2 to 1.
    pub shares: Vec<f32>,
}

impl Batch {
    /// The same samples, blended; `alpha` is above 0. The blends follow from the seed.
    pub fn mixed(mut self, alpha: f64, seed: u64) -> Self {
        let Ok(beta) = Beta::new(alpha, alpha) else { return self };
        let mut rng = seed::stream(seed, "mixup");
        let mut others: Vec<usize> = (0..self.labels.len()).collect();
        others.shuffle(&mut rng);
        let draw = beta.sample_iter(&mut rng).map(|b: f64| b.max(1.0 - b) as f32);
        let shares: Vec<f32> = draw.take(others.len()).collect();
        let labels = others.iter().map(|other| self.labels[*other]).collect();

        let size = self.inputs.len() / others.len().max(1);
        let plain = self.inputs.clone();
        let blends = self.inputs.chunks_mut(size.max(1)).zip(others.iter().zip(&shares));
        for (own, (other, share)) in blends {
            let other = &plain[other * size..][..size];
            own.iter_mut().zip(other).for_each(|(x, other)| *x = share * *x + (1.0 - share) * other);
        }
        self.mixed = Some(Mixed { labels, shares });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let sample = |i: u32| [i as f32, 1.0, -(i as f32)];
        Batch { inputs: (0..200).flat_map(sample).collect(), labels: (0..200).collect(), mixed: None }
    }

    #[test]
    fn a_sample_is_blended_with_the_one_whose_label_is_named() {
        let mixed = batch().mixed(1.0, 3);
        let Mixed { labels: others, shares } = mixed.mixed.as_ref().unwrap();
        assert_eq!(mixed.labels, batch().labels);
        for (i, values) in mixed.inputs.chunks(3).enumerate() {
            let expected = shares[i] * i as f32 + (1.0 - shares[i]) * others[i] as f32;
            assert!((values[0] - expected).abs() < 1e-4 && values[2] == -values[0], "{values:?}");
            assert!((values[1] - 1.0).abs() < 1e-6);
        }
        let mut all = others.clone();
        all.sort_unstable();
        assert_eq!(all, batch().labels);
    }

    #[test]
    fn alpha_says_how_even_the_shares_are() {
        let mean = |alpha| {
            let mixed = batch().mixed(alpha, 1).mixed.unwrap();
            assert!(mixed.shares.iter().all(|share| (0.5..=1.0).contains(share)));
            mixed.shares.iter().sum::<f32>() / 200.0
        };
        // The larger of two uniform parts is 3/4 on average, with a standard error of 0.01 here.
        assert!((mean(1.0) - 0.75).abs() < 0.04);
        assert!(mean(0.1) > 0.9 && mean(100.0) < 0.6);
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(batch().mixed(0.5, 7), batch().mixed(0.5, 7));
        assert_ne!(batch().mixed(0.5, 7), batch().mixed(0.5, 8));
        let none = Batch { inputs: vec![], labels: vec![], mixed: None }.mixed(1.0, 1);
        assert!(none.inputs.is_empty() && none.mixed.unwrap().shares.is_empty());
    }
}
