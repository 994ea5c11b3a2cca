//! Data sets: labelled samples, their transforms and their splits.

mod spec;
mod subset;

pub use spec::{DataSource, DataSpec, IdxPair, SplitSpec, Transform};
pub use subset::{Affine, Batch, Inputs, Part, Subset};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::error::{Classify, Kind};

/// The files of a data set: name to path. A name inside a recipe is a key of this table and never reaches the file
/// system.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files(pub BTreeMap<String, PathBuf>);

/// A data set in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What the files were found to be: `idx` or `safetensors`.
    pub source: &'static str,
    /// One more than the largest label.
    pub classes: u32,
    /// The samples meant for training.
    pub train: Arc<Part>,
    /// The samples meant for testing, where the files have any.
    pub test: Option<Arc<Part>>,
}

/// Why files are no data set.
#[derive(Debug, Error)]
pub enum DataError {
    /// Not written yet.
    #[error("not written yet")]
    Stub,
}

impl Classify for DataError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        "DATASET"
    }
}

/// Reads a data set; `source` says which files are what, or else they are looked at.
pub fn open(_files: &Files, _source: Option<&DataSource>) -> Result<Dataset, DataError> {
    Err(DataError::Stub)
}
