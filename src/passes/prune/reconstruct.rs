//! What a layer does once some of its input is gone: least squares (He, Zhang and Sun 2017; Luo, Wu and Lin 2017, ThiNet), or
//! the mean for what is missing.
//!
//! A layer computes `y = W u + b`, a convolution at each place. Of the columns `u [K]` the kept ones `S` stay and the
//! dropped ones `D` go; `W'` and `b'` shall make of the kept ones what the layer made of all. With the means `m = E[u]`
//! and the covariance `C = E[u u^T] - m m^T` over training samples, both taken from the [`Gram`] matrix:
//!
//! ```text
//!   minimise   E |W u + b - W' u_S - b'|^2 + r |W' - W_S|^2          r = lambda mean(diag E[u u^T]_SS)
//!
//!   W' = W_S + X          X (C_SS + r I) = W_D C_DS
//!   b' = b + W_D m_D - X m_S
//! ```
//!
//! Without a bias to correct, `m = 0`. What is held small is the change `X`: whatever `lambda` is, the error on these samples
//! is never above that of plain deletion, whose `X` is 0, and if nothing is dropped nothing changes. For `lambda = 0` it
//! is `W' = W G[:, S] G[S, S]^-1`, with the constant 1 as a column of its own. `X = 0` with the bias as above is mean
//! compensation, which needs no more than `m`.

use crate::tensor::linalg::{LinalgError, Matrix};

/// The share `lambda`. Gram matrices are exact to some 1e-6 of their diagonal, and channels that never act make them singular.
const RIDGE: f64 = 1e-4;

/// The second moments of what a layer reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    /// The layer's node.
    pub node: String,
    /// Columns of the layer's weight `[out, K]`: `in * kh * kw` for a convolution.
    pub columns: usize,
    /// `E[u u^T]` of the columns, `[K, K]`; or `[K + 1, K + 1]` with the constant 1 as the last one, for a layer with a
    /// bias.
    pub moments: Matrix,
}

impl Gram {
    /// The mean of each column, where the constant is among them.
    pub fn means(&self) -> Option<Vec<f64>> {
        let has_constant = self.moments.rows() > self.columns;
        has_constant.then(|| (0..self.columns).map(|column| self.moments.at(self.columns, column)).collect())
    }
}

/// A layer's weight `[out, kept]` and its bias `[out]`, if it has one.
pub type Weights = (Vec<f32>, Option<Vec<f32>>);

/// Least squares: the weights for the columns `kept`, rising, with which the layer's outputs stay as near as can be to
/// those of the dense `weight [out, K]` and `bias [out]`. The bias is refitted if there is one and the Gram matrix has
/// the constant; then the mean of every output stays what it was.
///
/// # Errors
///
/// [`LinalgError::Columns`], [`LinalgError::Length`] and [`LinalgError::Misfit`] where sizes do not fit;
/// [`LinalgError::NonFinite`] and [`LinalgError::NotPositiveDefinite`] where the Gram matrix is none.
pub fn refit(weight: &[f32], bias: Option<&[f32]>, gram: &Gram, kept: &[usize]) -> Result<Weights, LinalgError> {
    refit_with(RIDGE, weight, bias, gram, kept)
}

/// Mean compensation: plain deletion, with what the dropped columns are on average, `means [K]`, moved into the bias.
/// Without a bias there is nothing to move it into.
///
/// # Errors
///
/// [`LinalgError::Columns`] and [`LinalgError::Length`] where sizes do not fit.
pub fn compensate(weight: &[f32], bias: Option<&[f32]>, means: &[f64], kept: &[usize]) -> Result<Weights, LinalgError> {
    let cut = Cut::new(weight, bias, means.len(), kept)?;
    let change = Matrix::from_fn(cut.out, kept.len(), |_, _| 0.0);
    Ok(cut.weights(&change, means))
}

fn refit_with(
    lambda: f64,
    weight: &[f32],
    bias: Option<&[f32]>,
    gram: &Gram,
    kept: &[usize],
) -> Result<Weights, LinalgError> {
    let cut = Cut::new(weight, bias, gram.columns, kept)?;
    let (moments, order) = (&gram.moments, gram.moments.rows());
    if order != moments.cols() || !(gram.columns..=gram.columns + 1).contains(&order) {
        return Err(LinalgError::Misfit { a: [cut.out, gram.columns], b: [order, moments.cols()] });
    }
    let means = gram.means().filter(|_| bias.is_some()).unwrap_or_else(|| vec![0.0; gram.columns]);
    let covariance = |i: usize, j: usize| moments.at(i, j) - means[i] * means[j];
    let trace: f64 = kept.iter().map(|column| moments.at(*column, *column)).sum();
    // Where nothing ever acts, nothing is to be changed, and any number above 0 says so.
    let ridge = (lambda * trace / kept.len().max(1) as f64).max(f64::MIN_POSITIVE);
    let own =
        Matrix::from_fn(kept.len(), kept.len(), |i, j| covariance(kept[i], kept[j]) + if i == j { ridge } else { 0.0 });
    let across = Matrix::from_fn(cut.dropped.len(), kept.len(), |i, j| covariance(cut.dropped[i], kept[j]));
    let missing = Matrix::from_fn(cut.out, cut.dropped.len(), |row, i| cut.at(row, cut.dropped[i]));
    let change = own.solve_spd(missing.product(&across)?)?;
    Ok(cut.weights(&change, &means))
}

/// A dense layer and which of its columns go.
struct Cut<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    out: usize,
    columns: usize,
    kept: &'a [usize],
    dropped: Vec<usize>,
}

impl<'a> Cut<'a> {
    fn new(weight: &'a [f32], bias: Option<&'a [f32]>, columns: usize, kept: &'a [usize]) -> Result<Self, LinalgError> {
        let out = weight.len().checked_div(columns).unwrap_or(0);
        if weight.len() != out * columns {
            return Err(LinalgError::Length { rows: out, cols: columns, actual: weight.len() });
        }
        if let Some(bias) = bias.filter(|bias| bias.len() != out) {
            return Err(LinalgError::Length { rows: out, cols: 1, actual: bias.len() });
        }
        if !kept.is_sorted_by(|a, b| a < b) || kept.last().is_some_and(|last| *last >= columns) {
            return Err(LinalgError::Columns { cols: columns });
        }
        let dropped = (0..columns).filter(|column| kept.binary_search(column).is_err()).collect();
        Ok(Self { weight, bias, out, columns, kept, dropped })
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.weight[row * self.columns + column])
    }

    /// The kept weights with that `change [out, kept]`, and the bias that keeps the mean of each output.
    fn weights(&self, change: &Matrix, means: &[f64]) -> Weights {
        let weight = |row: usize| (0..self.kept.len()).map(move |i| self.at(row, self.kept[i]) + change.at(row, i));
        let moved = |row: usize| -> f64 {
            let lost: f64 = self.dropped.iter().map(|column| self.at(row, *column) * means[*column]).sum();
            let gained: f64 = (0..).zip(self.kept).map(|(i, column)| change.at(row, i) * means[*column]).sum();
            lost - gained
        };
        let bias = |bias: &[f32]| (0..).zip(bias).map(|(row, b)| (f64::from(*b) + moved(row)) as f32).collect();
        ((0..self.out).flat_map(weight).map(|w| w as f32).collect(), self.bias.map(bias))
    }
}

#[cfg(test)]
mod tests;
