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
//! 1. a histogram with the exact sum in each bin ([`bins`]); rounds on it until they rest, with the values of a bin taken to
//!    be spread evenly over it
//! 2. the values of the bins in which bounds lie are collected and sorted; rounds on these are exact. Where a bound leaves
//!    its bins, those it moves to are collected as well
//!
//! It ends when a round moves no bound past any `f32`, so no value changes its cluster any more: a fixed point of Lloyd's
//! algorithm on the values themselves, with sums in `f64`. A cluster without values keeps its centroid. The result is the
//! same bits for any number of threads.

mod assign;
mod bins;

use std::error::Error;
use std::fmt;

pub use assign::Index;
use bins::{Bins, Known};

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
    /// There is no centroid to begin with, or more than a bound can be found for.
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
        roughly(&bins, &mut centroids);
        let mut known = Known::default();
        let mut bounds = bounds(&centroids);
        for _ in 0..MAX_ROUNDS {
            known.learn(values, &bins, &bounds);
            let sums: Vec<Sum> = bounds.iter().map(|bound| known.up_to(&bins, *bound)).collect();
            let counts = move_to_means(&mut centroids, &sums, bins.total());
            let next = self::bounds(&centroids);
            if next == bounds {
                return Ok(Self { centroids, counts, bounds, at_rest: true });
            }
            bounds = next;
        }
        known.learn(values, &bins, &bounds);
        let sums: Vec<Sum> = bounds.iter().map(|bound| known.up_to(&bins, *bound)).collect();
        let counts = move_to_means(&mut centroids, &sums, bins.total());
        Ok(Self { centroids, counts, bounds, at_rest: false })
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

/// How many values there are up to somewhere, and their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    count: f64,
    sum: f64,
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
        let sums: Vec<Sum> = middles.map(|middle| bins.about_up_to(middle)).collect();
        let before = centroids.to_vec();
        move_to_means(centroids, &sums, bins.total());
        if before.iter().zip(&*centroids).all(|(a, b)| (a - b).abs() <= rest) {
            return;
        }
    }
}

/// Moves each centroid to the mean of its values, by the sums up to each bound and that of all values; gives how many
/// values each has.
fn move_to_means(centroids: &mut [f64], sums: &[Sum], total: Sum) -> Vec<usize> {
    let mut before = Sum::default();
    let ends = sums.iter().chain([&total]);
    let one = |(centroid, end): (&mut f64, &Sum)| {
        let count = end.count - before.count;
        if count > 0.0 {
            *centroid = (end.sum - before.sum) / count;
        }
        before = *end;
        count as usize
    };
    centroids.iter_mut().zip(ends).map(one).collect()
}
