//! A recipe to `niwaki.v1.Recipe`. Defaults are written out, so that the message says all that the recipe means.

use super::data_out::data;
use super::step_out::{init, step};
use super::train_out::train;
use crate::api::v1;
use crate::recipe::{Recipe, Start};

/// The message of a recipe.
pub fn recipe(recipe: &Recipe) -> v1::Recipe {
    v1::Recipe {
        version: recipe.version,
        name: recipe.name.clone(),
        description: recipe.description.clone(),
        seed: recipe.seed,
        data: Some(data(&recipe.data)),
        start: recipe.start.as_ref().map(|Start { preset, init, train }| v1::Start {
            preset: preset.clone(),
            init: Some(self::init(init)),
            train: Some(self::train(train)),
        }),
        steps: recipe.steps.iter().map(step).collect(),
    }
}
