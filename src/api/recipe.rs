//! Recipe files: the proto3 JSON mapping of `niwaki.v1.Recipe`. Field names are those of the `.proto` file (or their
//! lowerCamelCase, as the mapping has it); unknown fields are refused.

use thiserror::Error;

use super::convert::{Path, recipe_from_pb, recipe_to_pb};
use super::{json, v1};
use crate::error::{Classify, Kind, Violation, list};
use crate::recipe::Recipe;

/// Why a file is no recipe.
#[derive(Debug, Error)]
pub enum RecipeFileError {
    /// It is no JSON, or not the JSON of a recipe.
    #[error("not the JSON form of a recipe: {0}")]
    Json(#[from] serde_json::Error),
    /// Some of its fields are bad.
    #[error("{}", list(.0))]
    Fields(Vec<Violation>),
}

impl Classify for RecipeFileError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        match self {
            RecipeFileError::Json(_) => "RECIPE_JSON",
            RecipeFileError::Fields(_) => "INVALID_FIELDS",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            RecipeFileError::Json(_) => Vec::new(),
            RecipeFileError::Fields(violations) => violations.clone(),
        }
    }
}

/// Reads a recipe's file form. Paths of bad fields begin at the recipe: `steps[1].prune_weights.sparsity`.
///
/// ```
/// let recipe = niwaki::api::recipe::from_json(
///     r#"{"version": 1, "steps": [{"prune_weights": {"sparsity": 1.5}}]}"#);
/// assert_eq!(
///     recipe.unwrap_err().to_string(),
///     "steps[0].prune_weights.sparsity: 1.5 is not allowed: a number from 0 up to but not including 1 is");
/// ```
pub fn from_json(text: &str) -> Result<Recipe, RecipeFileError> {
    let message: v1::Recipe = json::from_str("Recipe", text)?;
    recipe_from_pb(message, &Path::default()).map_err(RecipeFileError::Fields)
}

/// A recipe's file form, with every default written out: equal recipes have equal texts.
pub fn to_json(recipe: &Recipe) -> String {
    json::to_value("Recipe", &recipe_to_pb(recipe)).to_string()
}

#[cfg(test)]
mod tests;
