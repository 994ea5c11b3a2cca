//! Runs a recipe. (Being written.)

use std::path::Path;

use bytes::Bytes;
use thiserror::Error;

use super::Recipe;
use crate::data::Dataset;
use crate::error::{Classify, Kind};
use crate::graph::Graph;
use crate::report::Report;

/// The file names that a recipe emits.
pub const MODEL_FILE: &str = "model.safetensors";
/// The report's file name.
pub const REPORT_FILE: &str = "report.json";

/// What a running recipe is given by whoever runs it.
pub struct Run<'a> {
    /// Asked often; once true, the run ends with [`RecipeError::Cancelled`] within a second.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Told often what the run is doing.
    pub progress: &'a mut dyn FnMut(&Progress),
}

/// What a running recipe is doing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// The phase, for example `train`.
    pub phase: String,
    /// The step at work, counted from 1; 0 before the first.
    pub step: u32,
    /// Steps in the recipe.
    pub step_count: u32,
    /// Units of work done in this phase.
    pub done: u64,
    /// Units of work in this phase; 0 where it is not known.
    pub total: u64,
    /// The latest training loss.
    pub loss: Option<f64>,
    /// The latest accuracy on the validation split.
    pub validation_accuracy: Option<f64>,
}

/// A model to start from.
pub struct Upload {
    /// The graph with its weights.
    pub graph: Graph,
    /// The file as it was uploaded: its size is the baseline's.
    pub bytes: Bytes,
}

/// Why a recipe did not end well.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Classify for RecipeError {
    fn kind(&self) -> Kind {
        Kind::Cancelled
    }

    fn reason(&self) -> &'static str {
        "CANCELLED"
    }
}

/// Runs `recipe` on `model` (or on the preset it names) with `dataset`; writes [`MODEL_FILE`] and [`REPORT_FILE`] into
/// the folder `out`.
pub fn run(
    _recipe: &Recipe,
    _model: Option<&Upload>,
    _dataset: &Dataset,
    _out: &Path,
    _run: &mut Run<'_>,
) -> Result<Report, RecipeError> {
    Err(RecipeError::Cancelled)
}
