//! What makes a network smaller, on many numbers: pruning, half precision, clusters, singular values.

use std::hint::black_box;

use half::f16;
use niwaki_kernels::convert::f32_to_f16;
use niwaki_kernels::kmeans::Clusters;
use niwaki_kernels::linalg::{Sketch, Svd};
use niwaki_kernels::prune::{Cut, zero_smallest};
use serde_json::json;

use super::case::{Case, Remark, Work};
use super::defect;
use super::measure::Rule;
use super::numbers::normal;
use crate::cli::failure::Failure;

const NUMBERS: usize = 100_000_000;
const PRUNED: usize = NUMBERS / 5 * 4;
const CLUSTERED: usize = 10_000_000;
const CLUSTERS: usize = 16;
const RANK: usize = 64;

/// - `kth_100m`: the 80 millionth smallest magnitude of 100 million numbers
/// - `prune_100m`: the same numbers with zeros in the places of the 80 million smallest, in memory that is there;
///   `prune_fresh_100m`: in memory that is fresh each time
/// - `f16_100m_reused`: 100 million numbers in half precision, in memory that is there
/// - `kmeans_10m`: 16 clusters of 10 million numbers, from centroids that are spread evenly, and the cluster of each number
/// - `svd_MxN`: all singular values and vectors; `rsvd64_MxN`: about the 64 largest, with two power iterations
pub fn cases() -> Vec<Case> {
    let kth = Case::new("kth_100m", || {
        let a = normal(NUMBERS, 1);
        Ok(move || {
            black_box(Cut::after(PRUNED, &[&a]).magnitude());
        })
    });
    let prune = Case::new("prune_100m", || {
        let (a, mut pruned) = (normal(NUMBERS, 1), vec![0.0; NUMBERS]);
        Ok(move || {
            zero_smallest(PRUNED, &[&a], &mut [&mut pruned]);
        })
    });
    let fresh = Case::new("prune_fresh_100m", || {
        let a = normal(NUMBERS, 1);
        Ok(move || {
            let mut pruned = vec![0.0; NUMBERS];
            zero_smallest(PRUNED, &[&a], &mut [&mut pruned]);
            black_box(pruned);
        })
    });
    let half = Case::new("f16_100m_reused", || {
        let (a, mut halves) = (normal(NUMBERS, 1), vec![f16::ZERO; NUMBERS]);
        Ok(move || f32_to_f16(&a, &mut halves))
    });
    let three = [kth, prune, fresh].map(|case| case.by(Rule::THREE_RUNS));
    let on_numbers = three.into_iter().chain([half.by(Rule::TWO_SECONDS)]);
    let mut cases: Vec<Case> = on_numbers.map(|case| case.of(NUMBERS, "numbers")).collect();
    cases.push(Case::new("kmeans_10m", Clustered::new).of(CLUSTERED, "numbers").by(Rule::THREE_RUNS));
    cases.extend([[1024, 1024], [4096, 1024]].into_iter().flat_map(decompositions));
    cases
}

fn decompositions([rows, cols]: [usize; 2]) -> [Case; 2] {
    // As many vectors as are asked for and no more, as the peer computes them.
    let sketch = Sketch { rank: RANK, more: 0, iterations: 2, seed: 1 };
    let three = Rule { least: 3, ..Rule::TWO_SECONDS };
    let of = move |decompose: Decompose| {
        move || Ok(Decomposed { a: normal(rows * cols, 1), shape: [rows, cols], sketch, decompose })
    };
    let all = of(|a, [rows, cols], _| Svd::thin(a, rows, cols).map_err(defect));
    let largest = of(|a, shape, sketch| Svd::largest(a, shape, sketch).map_err(defect));
    [Case::new(format!("svd_{rows}x{cols}"), all).by(three), Case::new(format!("rsvd{RANK}_{rows}x{cols}"), largest)]
}

/// Decomposes a matrix of these sizes.
type Decompose = fn(&[f32], [usize; 2], Sketch) -> Result<Svd, Failure>;

struct Decomposed {
    a: Vec<f32>,
    shape: [usize; 2],
    sketch: Sketch,
    decompose: Decompose,
}

impl Work for Decomposed {
    fn step(&mut self) -> Result<(), Failure> {
        black_box((self.decompose)(&self.a, self.shape, self.sketch)?);
        Ok(())
    }
}

struct Clustered {
    values: Vec<f32>,
    start: Vec<f64>,
    centroids: Vec<f64>,
    places: Vec<u8>,
}

impl Clustered {
    fn new() -> Result<Self, Failure> {
        let values = normal(CLUSTERED, 1);
        let start = Clusters::even_start(&values, CLUSTERS);
        Ok(Self { values, start, centroids: Vec::new(), places: Vec::new() })
    }
}

impl Work for Clustered {
    fn step(&mut self) -> Result<(), Failure> {
        let clusters = Clusters::of(&self.values, &self.start).map_err(defect)?;
        self.places = vec![0; self.values.len()];
        clusters.assign(&self.values, &mut self.places);
        self.centroids = clusters.centroids;
        Ok(())
    }

    /// The mean square of the distances to the centroids: how good the clusters are.
    fn remark(&self) -> Option<Remark> {
        let square = |(value, place): (&f32, &u8)| {
            let distance = f64::from(*value) - self.centroids.get(usize::from(*place))?;
            Some(distance * distance)
        };
        let sum: f64 = self.values.iter().zip(&self.places).filter_map(square).sum();
        Some(Remark { what: "mse", value: json!(sum / self.values.len() as f64) })
    }
}
