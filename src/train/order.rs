//! In which order samples are seen.

use rand::seq::SliceRandom;

use crate::seed;

/// The places of `samples` samples in the order of the random stream `purpose`: each once.
pub(super) fn shuffled(samples: usize, seed: u64, purpose: &str) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut seed::stream(seed, purpose));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_comes_once_and_each_purpose_has_an_order_of_its_own() {
        let order = shuffled(100, 7, "order/1");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
        assert_eq!(order, shuffled(100, 7, "order/1"));
        assert_ne!(order, shuffled(100, 7, "order/2"));
        assert_ne!(order, shuffled(100, 8, "order/1"));
    }
}
