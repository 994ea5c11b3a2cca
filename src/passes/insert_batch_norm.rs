//! Puts batch normalisations in.

/// Puts batch normalisations before or after activations.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertBatchNorm {
    /// Before or after.
    pub place: Place,
    /// The activations, by name or glob of their nodes; empty: all.
    pub activations: Vec<String>,
    /// The constants.
    pub config: crate::graph::op::BatchNorm,
    /// Mean and (unbiased) variance of each channel of the values that [`InsertBatchNorm::values`] names, in that order: with them the network's function
    /// stays as it was. Empty: the new layers have mean 0, variance 1, weight 1 and bias 0.
    pub moments: Vec<Moments>,
}

/// Where a batch normalisation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between a layer and its activation, as in the paper.
    Before,
    /// Behind the activation.
    After,
}

/// Mean and variance of a value's channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f64>,
    /// The unbiased variances.
    pub variance: Vec<f64>,
}
