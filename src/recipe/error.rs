//! Why a recipe did not end well.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::data::DataError;
use crate::error::{Classify, Kind, Violation, list};
use crate::exec::ExecError;
use crate::format::FormatError;
use crate::passes::PassError;
use crate::search::SearchError;
use crate::train::TrainError;

/// Why a recipe did not end well.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// It does not fit the model or the data.
    #[error("the recipe cannot run: {}", list(.violations))]
    Invalid {
        /// Every violation.
        violations: Vec<Violation>,
    },
    /// The data set cannot be split as asked.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A training went wrong.
    #[error("step {step}: {source}")]
    Train {
        /// The step, counted from 1; 0 is the training of the preset.
        step: u32,
        /// What happened.
        source: TrainError,
    },
    /// A pass went wrong.
    #[error("step {step}: {source}")]
    Pass {
        /// The step, counted from 1.
        step: u32,
        /// What happened.
        source: PassError,
    },
    /// A search went wrong.
    #[error("step {step}: {source}")]
    Search {
        /// The step, counted from 1.
        step: u32,
        /// What happened.
        source: SearchError,
    },
    /// The network's outputs are no numbers, or so large that their loss is none.
    #[error("{}the model's loss is no finite number", at(*step))]
    NotFinite {
        /// The step after which it was measured, counted from 1; 0 is the model before the steps.
        step: u32,
    },
    /// The emitted file could not be made or read again.
    #[error("the emitted file: {0}")]
    Format(#[from] FormatError),
    /// The network could not be computed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A file could not be written or read.
    #[error("{file}: {source}")]
    Io {
        /// The file's name.
        file: String,
        /// What the system says.
        source: io::Error,
    },
}

impl RecipeError {
    pub(super) fn of_training(step: u32, source: TrainError) -> Self {
        if source.kind() == Kind::Cancelled { Self::Cancelled } else { Self::Train { step, source } }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self::Io { file, source }
    }
}

impl From<PassError> for RecipeError {
    /// A pass outside any step: the initialisation of a preset.
    fn from(source: PassError) -> Self {
        Self::Pass { step: 0, source }
    }
}

impl Classify for RecipeError {
    fn kind(&self) -> Kind {
        match self {
            RecipeError::Cancelled => Kind::Cancelled,
            RecipeError::Invalid { .. } => Kind::InvalidArgument,
            RecipeError::Data(source) => source.kind(),
            RecipeError::Train { source, .. } => source.kind(),
            RecipeError::Pass { source, .. } => source.kind(),
            RecipeError::Search { source, .. } => source.kind(),
            RecipeError::NotFinite { .. } => Kind::FailedPrecondition,
            RecipeError::Format(_) => Kind::Internal,
            RecipeError::Exec(source) => source.kind(),
            RecipeError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Kind::ResourceExhausted,
            RecipeError::Io { .. } => Kind::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            RecipeError::Cancelled => "CANCELLED",
            RecipeError::Invalid { .. } => "INVALID_RECIPE",
            RecipeError::Data(source) => source.reason(),
            RecipeError::Train { source, .. } => source.reason(),
            RecipeError::Pass { source, .. } => source.reason(),
            RecipeError::Search { source, .. } => source.reason(),
            RecipeError::NotFinite { .. } => "NON_FINITE",
            RecipeError::Format(_) => "EMIT_FAILED",
            RecipeError::Exec(source) => source.reason(),
            RecipeError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "STORAGE_FULL",
            RecipeError::Io { .. } => "STORAGE",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            RecipeError::Invalid { violations } => violations.clone(),
            RecipeError::Data(source) => source.violations(),
            _ => Vec::new(),
        }
    }
}

fn at(step: u32) -> String {
    if step == 0 { String::new() } else { format!("step {step}: ") }
}
