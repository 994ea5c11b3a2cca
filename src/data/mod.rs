//! Data sets: labelled samples, their transforms and their splits.
//!
//! [`open`] reads files into [`Part`]s, [`split`] says which samples train, validate, select and test, and a [`Subset`]
//! hands them out in batches, transformed.

mod augment;
mod chain;
mod error;
mod files;
pub mod labels;
mod mixup;
mod source;
mod spec;
mod split;
mod subset;
pub mod transform;

use std::sync::Arc;

pub use chain::{Affine, Chain};
pub use error::DataError;
pub use files::Files;
pub use mixup::Mixed;
pub use spec::{
    Augmentation, BySplit, CifarForm, Color, DataSource, DataSpec, Header, IdxPair, LabelColumn, Layout, NpzPair,
    SplitSpec, Transform,
};
pub use split::{Splits, split, test_split};
pub use subset::{Batch, Inputs, Part, Subset};

/// A data set in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What the files were found to be: `idx`, `safetensors`, `cifar`, `npz`, `images`, `csv` or `ts`.
    pub source: &'static str,
    /// One more than the largest label.
    pub classes: u32,
    /// The classes' names, where the files tell them; else empty.
    pub class_names: Vec<String>,
    /// The samples meant for training.
    pub train: Arc<Part>,
    /// The samples meant for validation, where the files have any.
    pub validation: Option<Arc<Part>>,
    /// The samples meant for choices between candidates, where the files have any.
    pub selection: Option<Arc<Part>>,
    /// The samples meant for testing, where the files have any.
    pub test: Option<Arc<Part>>,
}

impl Dataset {
    /// Whether samples are time series, `[length, channels]`, whose steps of zeros at the end are padding.
    pub fn is_series(&self) -> bool {
        self.source == source::SERIES
    }

    /// Whether there is something to learn: training samples of two classes or more.
    pub fn check_teaches(&self) -> Result<(), DataError> {
        match &self.train.labels[..] {
            [first, rest @ ..] if rest.iter().all(|label| label == first) => {
                Err(DataError::OneClass { label: *first, samples: self.train.labels.len() })
            }
            _ => Ok(()),
        }
    }
}

/// Reads a data set; `source` says which files are what, or else they are looked at.
pub fn open(files: &Files, source: Option<&DataSource>) -> Result<Dataset, DataError> {
    match source {
        Some(source) => source::read(files, source),
        None => source::read(files, &source::detect(files)?),
    }
}
