//! k-means of numbers: few values that stand for many, as in the sharing of weights (Han et al. 2016).
//!
//! Lloyd's algorithm (1982) on a line: clusters are intervals, cut in the middle between two centroids, and a round moves
//! each centroid to the mean of its interval.
//!
//! ```text
//!      c0      c1           c2       x belongs to the nearest centroid, to the lower one of two
//!   ───•───┼───•──────┼─────•────    bounds  b_i = (c_i + c_i+1) / 2
//!         b0         b1
//! ```
//!
//! A round needs only the number and the sum of the values up to each bound, so the values are looked at few times:
//!
//! 1. a histogram with the exact sum in each bin; rounds on it until they rest, with the values of a bin taken to
//!    be spread evenly over it
//! 2. the values of the bins in which bounds lie are collected and sorted; rounds on these are exact. Where a bound leaves
//!    its bins, those it moves to are collected as well
//!
//! Few values are all sorted, without the first step, and the rounds are those of the definition. Of many, the first step
//! follows them closely but not exactly, and where there are several fixed points it may end in another.
//!
//! It ends when a round moves no bound past any `f32`, so no value changes its cluster any more: a fixed point of Lloyd's
//! algorithm on the values themselves, with sums in `f64`. A cluster without values keeps its centroid. The result is the
//! same bits for any number of threads.

mod assign;
mod bins;
mod sums;

use std::error::Error;
use std::fmt;

pub use assign::Index;
use bins::{Bins, Known};

/// So few values are all sorted, and each round is exact from the start.
const FEW: usize = 1 << 17;

/// Rounds on the bins, and rounds on the values, at most. Lloyd's algorithm ends by itself, but it may take its time.
const MAX_ROUNDS: usize = 100_000;

/// The bins are at rest when no centroid moves by more than this share of the distance from the least to the largest.
const REST: f64 = 1e-9;

/// Clusters of numbers. See the [module documentation](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// The mean of each cluster's values, rising; of a cluster without values where it began or was last.
    pub centroids: Vec<f64>,
    /// How many values each cluster has.
    pub counts: Vec<usize>,
    /// The largest number of each cluster but the last.
    pub bounds: Vec<f32>,
    /// Whether no value would change its cluster in a further round. It is not where rounds were cut short.
    pub at_rest: bool,
}

/// Why numbers cannot be clustered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KmeansError {
    /// Values, or centroids to begin with, that are not finite.
    NonFinite {
        /// How many.
        count: usize,
    },
    /// There is no centroid to begin with, or more than [`Clusters::MAX`].
    Centroids {
        /// How many there are.
        count: usize,
    },
}

impl fmt::Display for KmeansError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite { count } => write!(f, "{count} values to cluster are not finite"),
            Self::Centroids { count } => write!(f, "1 to {} clusters can be found, not {count}", Clusters::MAX),
        }
    }
}

impl Error for KmeansError {}

impl Clusters {
    /// How many clusters there can be.
    pub const MAX: usize = 1 << 16;

    /// Clusters of `values`, from these centroids on.
    ///
    /// ```
    /// use niwaki_kernels::kmeans::Clusters;
    /// let values = [1.0, 1.5, 9.0, -2.0, 9.5, -2.5];
    /// let clusters = Clusters::of(&values, &[-1.0, 0.0, 1.0])?;
    /// assert_eq!(clusters.centroids, [-2.25, 1.25, 9.25]);
    /// let mut places = [0u8; 6];
    /// clusters.assign(&values, &mut places);
    /// assert_eq!(places, [1, 1, 2, 0, 2, 0]);
    /// # Ok::<(), niwaki_kernels::kmeans::KmeansError>(())
    /// ```
    pub fn of(values: &[f32], start: &[f64]) -> Result<Self, KmeansError> {
        if start.is_empty() || start.len() > Self::MAX {
            return Err(KmeansError::Centroids { count: start.len() });
        }
        let bins = Bins::of(values)?;
        let count = start.iter().filter(|c| !c.is_finite()).count();
        if count > 0 {
            return Err(KmeansError::NonFinite { count });
        }
        let mut centroids = start.to_vec();
        centroids.sort_by(f64::total_cmp);
        if values.len() <= FEW {
            return Ok(Self::settled(values, &bins, Known::all(values, &bins), centroids));
        }
        roughly(&bins, &mut centroids);
        Ok(Self::settled(values, &bins, Known::default(), centroids))
    }

    /// Rounds of Lloyd's algorithm until they rest.
    fn settled(values: &[f32], bins: &Bins, mut known: Known, mut centroids: Vec<f64>) -> Self {
        let mut bounds = bounds(&centroids);
        for round in 0.. {
            known.learn(values, bins, &centroids, &bounds);
            let ends: Vec<End> = bounds.iter().map(|bound| known.end(bins, *bound)).collect();
            let sum = |place, from, to| known.part(bins, place, from, to);
            let counts = move_to_means(&mut centroids, &ends, bins, sum);
            let next = self::bounds(&centroids);
            if next == bounds || round == MAX_ROUNDS {
                return Self { at_rest: next == bounds, centroids, counts, bounds };
            }
            bounds = next;
        }
        unreachable!("there is a last round")
    }

    /// `count` centroids to begin with, evenly spread from the least value to the largest: for the weights of networks that
    /// is better than a random start, for it has centroids also where values are large and few.
    pub fn even_start(values: &[f32], count: usize) -> Vec<f64> {
        let (low, high) = assign::ends(values);
        let step = (high - low) / count.saturating_sub(1).max(1) as f64;
        (0..count).map(|i| low + step * i as f64).collect()
    }

    /// The cluster of each value.
    ///
    /// # Panics
    ///
    /// If the lengths differ, or there are more clusters than an index can tell apart.
    pub fn assign<I: Index>(&self, values: &[f32], out: &mut [I]) {
        assert!(self.centroids.len() <= I::MOST, "indices for {} clusters", self.centroids.len());
        assign::assign(values, &self.bounds, out);
    }
}

/// Where values end that are in order by bins: all of the bins before one, and some of that one's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct End {
    /// The bin, by its place among those that have any values.
    place: usize,
    /// How many of its values; only about, where that is not a whole number.
    taken: f64,
}

/// The last value of each cluster but the last: the largest `f32` up to the middle between two centroids.
fn bounds(centroids: &[f64]) -> Vec<f32> {
    centroids.windows(2).map(|pair| largest_up_to(pair[0] + (pair[1] - pair[0]) / 2.0)).collect()
}

/// The largest `f32` that is not above `x`. There is one zero.
fn largest_up_to(x: f64) -> f32 {
    let nearest = x as f32;
    let below = if f64::from(nearest) > x { nearest.next_down() } else { nearest };
    below + 0.0
}

/// Rounds of Lloyd's algorithm on the bins alone.
fn roughly(bins: &Bins, centroids: &mut [f64]) {
    let rest = REST * bins.spread();
    for _ in 0..MAX_ROUNDS {
        let middles = centroids.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2.0);
        let ends: Vec<End> = middles.map(|middle| bins.end(middle)).collect();
        let before = centroids.to_vec();
        move_to_means(centroids, &ends, bins, |place, from, to| bins.part(place, from, to));
        if before.iter().zip(&*centroids).all(|(a, b)| (a - b).abs() <= rest) {
            return;
        }
    }
}

/// Moves each centroid to the mean of its values, by the ends of all clusters but the last and the sum of a part of a bin;
/// gives how many values each has.
fn move_to_means(
    centroids: &mut [f64],
    ends: &[End],
    bins: &Bins,
    part: impl Fn(usize, f64, f64) -> f64,
) -> Vec<usize> {
    let mut from = End { place: 0, taken: 0.0 };
    let last = End { place: bins.len(), taken: 0.0 };
    let mut one = |centroid: &mut f64, to: End| {
        let count = bins.before(to) - bins.before(from);
        if count > 0.0 {
            let sum = if from.place == to.place {
                part(from.place, from.taken, to.taken)
            } else {
                let first = part(from.place, from.taken, bins.count(from.place));
                first + bins.whole(from.place + 1, to.place) + part(to.place, 0.0, to.taken)
            };
            *centroid = sum / count;
        }
        from = to;
        count as usize
    };
    let ends = ends.iter().copied().chain([last]);
    centroids.iter_mut().zip(ends).map(|(centroid, end)| one(centroid, end)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    /// The nearest centroid, the lower one of two.
    fn nearest(centroids: &[f64], x: f32) -> usize {
        let distance = |c: f64| (f64::from(x) - c).abs();
        (1..centroids.len())
            .fold(0, |best, i| if distance(centroids[i]) < distance(centroids[best]) { i } else { best })
    }

    fn error(centroids: &[f64], values: &[f32]) -> f64 {
        let of = |x: &f32| (f64::from(*x) - centroids[nearest(centroids, *x)]).powi(2);
        values.iter().map(of).sum::<f64>() / values.len() as f64
    }

    /// Lloyd's algorithm by its definition.
    fn naive(values: &[f32], start: &[f64]) -> Vec<f64> {
        let mut centroids = start.to_vec();
        loop {
            let mut sums = vec![(0.0, 0.0); centroids.len()];
            for x in values {
                let sum = &mut sums[nearest(&centroids, *x)];
                *sum = (sum.0 + 1.0, sum.1 + f64::from(*x));
            }
            let next = sums.iter().zip(&centroids).map(|((n, sum), c)| if *n > 0.0 { sum / n } else { *c });
            let next: Vec<f64> = next.collect();
            if next.iter().zip(&centroids).all(|(a, b)| (a - b).abs() < 1e-12) {
                return next;
            }
            centroids = next;
        }
    }

    /// That it is what it says: each value is with the nearest centroid, and each centroid is the mean of its values.
    fn check(values: &[f32], start: &[f64]) -> Clusters {
        let clusters = Clusters::of(values, start).unwrap();
        check_clusters(&clusters, values, start);
        // As if there were many values.
        let bins = Bins::of(values).unwrap();
        let mut centroids = start.to_vec();
        centroids.sort_by(f64::total_cmp);
        roughly(&bins, &mut centroids);
        check_clusters(&Clusters::settled(values, &bins, Known::default(), centroids), values, start);
        clusters
    }

    fn check_clusters(clusters: &Clusters, values: &[f32], start: &[f64]) {
        assert!(clusters.at_rest && clusters.centroids.len() == start.len());
        assert!(clusters.centroids.is_sorted(), "{:?}", clusters.centroids);
        let mut places = vec![0u16; values.len()];
        clusters.assign(values, &mut places);
        let size = values.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
        let mut sums = vec![(0usize, 0.0); start.len()];
        for (x, place) in values.iter().zip(&places) {
            let place = *place as usize;
            sums[place] = (sums[place].0 + 1, sums[place].1 + f64::from(*x));
            let distance = |c: f64| (f64::from(*x) - c).abs();
            let best = nearest(&clusters.centroids, *x);
            // Between centroids that are the same to within rounding either will do.
            let [own, best] = [place, best].map(|place| distance(clusters.centroids[place]));
            assert!(own <= best + 1e-12 * size, "{x}: {own} {best}");
        }
        assert_eq!(clusters.counts, sums.iter().map(|(n, _)| *n).collect::<Vec<_>>());
        for ((n, sum), centroid) in sums.iter().zip(&clusters.centroids) {
            assert!(*n == 0 || (sum / *n as f64 - centroid).abs() <= 1e-11 * size, "{sum} / {n} is not {centroid}");
        }
    }

    fn any_finite() -> impl Strategy<Value = f32> {
        prop_oneof![
            -2f32..2.0,
            (-5i8..5).prop_map(f32::from),
            (0u32..12).prop_map(|bits| -f32::from_bits(bits)),
            any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite()),
        ]
    }

    proptest! {
        #[test]
        fn the_clusters_of_any_numbers_are_at_rest(
            values in prop::collection::vec(any_finite(), 1..300), start in prop::collection::vec(-3f64..3.0, 1..60),
        ) {
            check(&values, &start);
        }

        #[test]
        fn few_values_end_where_the_definition_ends(seed: u64, n in 500usize..3000, k in 1usize..20) {
            let values: Vec<f32> = numbers(n, seed).iter().map(|v| v * v * v).collect();
            let start = Clusters::even_start(&values, k);
            let found = check(&values, &start);
            let expected = naive(&values, &start);
            let (found, expected) = (error(&found.centroids, &values), error(&expected, &values));
            prop_assert!((found - expected).abs() <= 1e-6 * expected + 1e-15, "{} {}", found, expected);
        }
    }

    #[test]
    fn of_many_numbers_the_clusters_are_those_of_the_definition() {
        let (a, b) = (numbers(150_001, 1), numbers(150_001, 2));
        let values: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 0.5 * b).collect();
        let start = Clusters::even_start(&values, 7);
        let (found, expected) = (check(&values, &start), naive(&values, &start));
        assert!(found.centroids.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?} {expected:?}");
    }

    #[test]
    fn numbers_of_few_kinds_and_of_very_different_sizes_are_clustered() {
        let few: Vec<f32> = numbers(10_000, 3).iter().map(|v| (v * 4.0).round()).collect();
        let clusters = check(&few, &Clusters::even_start(&few, 9));
        assert_eq!(clusters.centroids, [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        let pruned: Vec<f32> = numbers(10_000, 3).iter().map(|v| if v.abs() < 0.8 { 0.0 } else { *v }).collect();
        check(&pruned, &Clusters::even_start(&pruned, 16));
        let with_outlier: Vec<f32> = numbers(5_000, 4).iter().copied().chain([1e30]).collect();
        check(&with_outlier, &[-0.5, 0.5, 1e30]);
        check(&with_outlier, &Clusters::even_start(&with_outlier, 300));
        check(&[f32::MAX, f32::MIN], &[0.0, 1.0]);
    }

    #[test]
    fn any_number_of_threads_finds_the_same() {
        let values = numbers(700_001, 3);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Clusters::of(&values, &Clusters::even_start(&values, 16)).unwrap())
        };
        assert_eq!([of(1), of(2)], [of(3), of(3)]);
    }

    #[test]
    fn a_value_belongs_to_as_many_clusters_as_there_are_bounds_below_it_on_every_count() {
        let values = numbers(5_003, 5);
        for k in [1, 2, 3, 6, 7, 41, 42, 200, 256] {
            let clusters = Clusters::of(&values, &Clusters::even_start(&values, k)).unwrap();
            let (mut small, mut large) = (vec![0u8; values.len()], vec![0u16; values.len()]);
            clusters.assign(&values, &mut small);
            clusters.assign(&values, &mut large);
            for ((x, small), large) in values.iter().zip(small).zip(large) {
                let below = clusters.bounds.iter().filter(|bound| *bound < x).count();
                assert_eq!([usize::from(small), usize::from(large)], [below; 2]);
            }
        }
    }

    #[test]
    fn what_cannot_be_clustered_says_why() {
        let of = |values: &[f32], start: &[f64]| Clusters::of(values, start).unwrap_err();
        assert_eq!(of(&[1.0, f32::NAN, f32::INFINITY, -f32::NAN], &[0.0]), KmeansError::NonFinite { count: 3 });
        assert_eq!(of(&[1.0], &[0.0, f64::NAN]), KmeansError::NonFinite { count: 1 });
        assert_eq!(of(&[1.0], &[]), KmeansError::Centroids { count: 0 });
        let nothing = Clusters::of(&[], &[2.0, 1.0]).unwrap();
        assert_eq!((nothing.centroids, nothing.counts), (vec![1.0, 2.0], vec![0, 0]));
    }
}
