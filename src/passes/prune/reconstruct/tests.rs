//! Tests of the refitted layers against the definition of least squares.

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::seed;

/// A layer, samples of what it reads, and which columns stay.
#[derive(Debug)]
struct Problem {
    columns: usize,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    /// One sample a row, with the constant at the end where there is a bias.
    samples: Vec<Vec<f64>>,
    kept: Vec<usize>,
}

const OUT: usize = 3;

/// Samples whose columns depend on each other, with means that differ; some five times as many as columns.
fn problems() -> impl Strategy<Value = Problem> {
    (1usize..9, any::<bool>(), any::<u64>(), any::<u16>()).prop_map(|(columns, has_bias, seed, mask)| {
        let mut rng = seed::stream(seed, "reconstruct-test");
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let weight = numbers(OUT * columns);
        let bias = has_bias.then(|| numbers(OUT));
        let means = numbers(columns);
        let samples = (0..5 * columns + 10).map(|_| {
            let own = numbers(columns);
            let mixed = (0..columns).map(|i| f64::from(own[i] + 0.6 * own[i * 5 % columns] + 2.0 * means[i]));
            mixed.chain(has_bias.then_some(1.0)).collect()
        });
        let samples = samples.collect();
        let kept: Vec<usize> = (0..columns).filter(|i| mask >> i & 1 == 1).collect();
        Problem { columns, weight, bias, samples, kept }
    })
}

impl Problem {
    fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    fn gram(&self) -> Gram {
        let order = self.samples[0].len();
        let mean = |i: usize, j: usize| self.samples.iter().map(|u| u[i] * u[j]).sum::<f64>();
        let moments = Matrix::from_fn(order, order, |i, j| mean(i, j) / self.samples.len() as f64);
        Gram { node: "layer".into(), columns: self.columns, moments }
    }

    fn refit(&self, lambda: f64) -> Weights {
        refit_with(lambda, &self.weight, self.bias(), &self.gram(), &self.kept).unwrap()
    }

    /// By how much the layer's outputs differ from the dense one's, for each sample.
    fn residuals(&self, (weight, bias): &Weights) -> Vec<[f64; OUT]> {
        let output = |weight: &[f32], bias: &Option<Vec<f32>>, u: &[f64], row: usize| -> f64 {
            let columns = weight.len() / OUT;
            let sum: f64 = (0..columns).map(|i| f64::from(weight[row * columns + i]) * u[i]).sum();
            sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]))
        };
        let residual = |u: &Vec<f64>| {
            let seen: Vec<f64> = self.kept.iter().map(|column| u[*column]).collect();
            std::array::from_fn(|row| output(&self.weight, &self.bias, u, row) - output(weight, bias, &seen, row))
        };
        self.samples.iter().map(residual).collect()
    }

    fn error(&self, weights: &Weights) -> f64 {
        self.residuals(weights).iter().flatten().map(|r| r * r).sum::<f64>() / self.samples.len() as f64
    }

    fn deleted(&self) -> Weights {
        let rows = self.weight.chunks(self.columns);
        (rows.flat_map(|row| self.kept.iter().map(|column| row[*column])).collect(), self.bias.clone())
    }
}

/// `X` of `X A = B` by Gauss and Jordan.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let order = a.len();
    for pivot in 0..order {
        let best = (pivot..order).max_by(|i, j| a[*i][pivot].abs().total_cmp(&a[*j][pivot].abs())).unwrap();
        a.swap(pivot, best);
        // A is symmetric: its rows are its columns, which are those of B.
        b.iter_mut().for_each(|row| row.swap(pivot, best));
        for other in (0..order).filter(|other| *other != pivot) {
            let factor = a[other][pivot] / a[pivot][pivot];
            let row = a[pivot].clone();
            a[other].iter_mut().zip(row).for_each(|(value, above)| *value -= factor * above);
            b.iter_mut().for_each(|row| row[other] -= factor * row[pivot]);
        }
    }
    b.iter().map(|row| (0..order).map(|i| row[i] / a[i][i]).collect()).collect()
}

proptest! {
    /// `W' = W G[:, S] G[S, S]^-1`, with the constant as a column that always stays.
    #[test]
    fn without_a_ridge_it_is_the_solution_of_the_normal_equations(problem in problems()) {
        let gram = problem.gram();
        let mut kept = problem.kept.clone();
        kept.extend(problem.bias.is_some().then_some(problem.columns));
        let all = |row: usize, column: usize| match &problem.bias {
            Some(bias) if column == problem.columns => f64::from(bias[row]),
            _ => f64::from(problem.weight[row * problem.columns + column]),
        };
        let order = gram.moments.rows();
        let own = kept.iter().map(|i| kept.iter().map(|j| gram.moments.at(*i, *j)).collect()).collect();
        let target = |row: usize| {
            kept.iter().map(|j| (0..order).map(|i| all(row, i) * gram.moments.at(i, *j)).sum()).collect()
        };
        let expected = solved(own, (0..OUT).map(target).collect());
        let (weight, bias) = problem.refit(0.0);
        for (row, expected) in expected.iter().enumerate() {
            let found = weight[row * problem.kept.len()..].iter().take(problem.kept.len());
            let found = found.chain(bias.as_ref().map(|bias| &bias[row]));
            for (found, expected) in found.zip(expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
            }
        }
    }

    #[test]
    fn what_is_left_of_the_error_has_nothing_to_do_with_what_is_kept(problem in problems()) {
        let residuals = problem.residuals(&problem.refit(0.0));
        let columns = problem.kept.iter().copied().chain(problem.bias.is_some().then_some(problem.columns));
        for (column, row) in columns.flat_map(|column| (0..OUT).map(move |row| (column, row))) {
            let products = problem.samples.iter().zip(&residuals).map(|(u, residual)| u[column] * residual[row]);
            prop_assert!((products.sum::<f64>() / residuals.len() as f64).abs() < 1e-5);
        }
    }

    #[test]
    fn no_ridge_makes_the_error_larger_than_deletion_and_a_smaller_one_makes_it_smaller(problem in problems()) {
        let deleted = problem.error(&problem.deleted());
        let mut before = 0.0;
        for lambda in [0.0, 1e-6, RIDGE, 0.1, 10.0, 1e6] {
            let error = problem.error(&problem.refit(lambda));
            // Weights are rounded to `f32`.
            prop_assert!(error <= deleted * (1.0 + 1e-6) + 1e-10, "{lambda}: {error} {deleted}");
            prop_assert!(error >= before * (1.0 - 1e-6) - 1e-10, "{lambda}: {error} {before}");
            before = error;
        }
    }

    #[test]
    fn a_layer_that_keeps_everything_stays_as_it_is(problem in problems()) {
        let all: Vec<usize> = (0..problem.columns).collect();
        let found = refit(&problem.weight, problem.bias(), &problem.gram(), &all).unwrap();
        prop_assert_eq!(found, (problem.weight, problem.bias));
    }

    #[test]
    fn where_there_is_a_bias_the_mean_of_each_output_stays(problem in problems()) {
        prop_assume!(problem.bias.is_some());
        let means = problem.gram().means().unwrap();
        let compensated = compensate(&problem.weight, problem.bias(), &means, &problem.kept).unwrap();
        prop_assert_eq!(&compensated.0, &problem.deleted().0);
        for weights in [compensated, problem.refit(RIDGE), problem.refit(3.0)] {
            let residuals = problem.residuals(&weights);
            for row in 0..OUT {
                let mean = residuals.iter().map(|residual| residual[row]).sum::<f64>() / residuals.len() as f64;
                prop_assert!(mean.abs() < 1e-5, "{mean}");
            }
        }
    }
}

#[test]
fn a_column_that_another_repeats_costs_nothing() {
    // Two columns are the same, a third never acts.
    let samples: Vec<Vec<f64>> = [1.0, -2.0, 0.5, 3.0].map(|u| vec![u, 0.0, u]).into();
    let (weight, bias) = ([[1.0, 7.0, 2.0]; OUT].concat(), None);
    let problem = Problem { columns: 3, weight, bias, samples, kept: vec![0, 1] };
    let (weight, bias) = problem.refit(RIDGE);
    for row in weight.chunks(2) {
        assert!((row[0] - 3.0).abs() < 1e-3 && row[1] == 7.0, "{row:?}");
    }
    assert_eq!(bias, None);
    assert!(problem.error(&(weight, None)) < 1e-6);
}

#[test]
fn where_nothing_acts_it_is_plain_deletion() {
    let samples = vec![vec![0.0, 0.0, 0.0, 1.0]; 5];
    let (weight, bias) = ([[1.0, 7.0, 2.0]; OUT].concat(), Some(vec![4.0; OUT]));
    let problem = Problem { columns: 3, weight, bias, samples, kept: vec![2] };
    assert_eq!(problem.refit(RIDGE), problem.deleted());
}

#[test]
fn a_bias_is_left_alone_without_the_constant_and_none_is_made() {
    let gram = Gram { node: "fc".into(), columns: 2, moments: Matrix::new(2, 2, vec![2., 1., 1., 2.]).unwrap() };
    assert_eq!(gram.means(), None);
    let (weight, bias) = refit_with(0.0, &[1.0, 2.0], Some(&[5.0]), &gram, &[0]).unwrap();
    assert_eq!((weight, bias), (vec![2.0], Some(vec![5.0])));
    let moments = Matrix::new(3, 3, vec![2., 1., 0.5, 1., 2., 0.5, 0.5, 0.5, 1.]).unwrap();
    let gram = Gram { moments, ..gram };
    assert_eq!(gram.means(), Some(vec![0.5; 2]));
    assert_eq!(refit_with(0.0, &[1.0, 2.0], None, &gram, &[0]).unwrap(), (vec![2.0], None));
}

#[test]
fn what_does_not_fit_is_refused() {
    let gram = Gram { node: "fc".into(), columns: 2, moments: Matrix::new(2, 2, vec![2., 1., 1., 2.]).unwrap() };
    for kept in [&[1, 0][..], &[0, 0], &[2]] {
        assert_eq!(refit(&[1.0; 2], None, &gram, kept), Err(LinalgError::Columns { cols: 2 }));
    }
    let found = refit(&[1.0; 3], None, &gram, &[0]);
    assert_eq!(found, Err(LinalgError::Length { rows: 1, cols: 2, actual: 3 }));
    let found = refit(&[1.0; 2], Some(&[1.0; 2]), &gram, &[0]);
    assert_eq!(found, Err(LinalgError::Length { rows: 1, cols: 1, actual: 2 }));
    let wide = Gram { columns: 4, ..gram.clone() };
    assert_eq!(refit(&[1.0; 4], None, &wide, &[0]), Err(LinalgError::Misfit { a: [1, 4], b: [2, 2] }));
    let indefinite = Gram { moments: Matrix::new(2, 2, vec![-1., 0., 0., 1.]).unwrap(), ..gram };
    let found = refit(&[1.0; 2], None, &indefinite, &[0]);
    assert_eq!(found, Err(LinalgError::NotPositiveDefinite { order: 1, pivot: 0 }));
}
