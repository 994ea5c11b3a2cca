//! How a data set is read, transformed and split: the recipe's `data` section.

/// How a data set is read, transformed and split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DataSpec {
    /// Which files are what; `None`: found out by looking.
    pub source: Option<DataSource>,
    /// What happens to every sample, in this order.
    pub transforms: Vec<Transform>,
    /// How samples are divided.
    pub split: SplitSpec,
}

/// Which files are what.
#[derive(Debug, Clone, PartialEq)]
pub enum DataSource {
    /// IDX files, gzip-compressed or not.
    Idx {
        /// The training samples.
        train: IdxPair,
        /// The test samples, if there are any of their own.
        test: Option<IdxPair>,
    },
    /// `.safetensors` files.
    Safetensors {
        /// Name of the file with the training samples.
        train: String,
        /// Name of the file with the test samples, if there is one.
        test: Option<String>,
        /// Name of the tensor with the inputs, `[n, ...]`.
        inputs: String,
        /// Name of the tensor with the labels, `[n]`.
        labels: String,
    },
}

/// Inputs and labels, by file name.
#[derive(Debug, Clone, PartialEq)]
pub struct IdxPair {
    /// The file with the inputs.
    pub inputs: String,
    /// The file with the labels.
    pub labels: String,
}

/// One thing that happens to every sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// `x * factor`.
    Scale {
        /// The factor; finite, not 0.
        factor: f64,
    },
    /// `(x - mean) / std`, one number for all channels or one a channel (the first axis of a sample).
    Normalize {
        /// The means.
        mean: Vec<f64>,
        /// The standard deviations; above 0.
        std: Vec<f64>,
    },
}

/// How samples are divided.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitSpec {
    /// Share of the training samples that is set aside for validation.
    pub validation_fraction: f64,
    /// Share of the samples that becomes the test split where the data set has none of its own. `None`: a fifth, where
    /// it is needed.
    pub test_fraction: Option<f64>,
}

impl Default for SplitSpec {
    /// A tenth for validation.
    fn default() -> Self {
        Self { validation_fraction: 0.1, test_fraction: None }
    }
}
