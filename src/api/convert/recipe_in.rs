//! `niwaki.v1.Recipe` to what it means. The bounds and defaults are those of the comments in `recipe.proto`; whether the
//! recipe fits a model and a data set is `Recipe::validate`'s question.

use super::data_in::data;
use super::step_in::{init, step};
use super::train_in::train;
use super::{Checks, MAX_NAME, Path};
use crate::api::v1;
use crate::error::Violation;
use crate::recipe::{self, Recipe, Start};

const MAX_DESCRIPTION: usize = 10_000;

/// What a recipe means; all its bad fields otherwise, by their paths below `root`.
pub fn recipe(pb: v1::Recipe, root: &Path) -> Result<Recipe, Vec<Violation>> {
    let mut checks = Checks::default();
    let version = pb.version;
    if version != recipe::VERSION {
        let known = recipe::VERSION;
        checks.refuse(&root.field("version"), format!("{version} is not a version that this niwaki reads: {known} is"));
    }
    let at = root.field("steps");
    if pb.steps.len() > recipe::MAX_STEPS {
        checks.refuse(&at, format!("has {} steps, at most {} are allowed", pb.steps.len(), recipe::MAX_STEPS));
    }
    if pb.steps.is_empty() && pb.start.is_none() {
        checks.refuse(&at, "is empty, and there is no `start` either: nothing to do");
    }
    let meaning = Recipe {
        version,
        name: checks.text(&root.field("name"), pb.name, MAX_NAME),
        description: checks.text(&root.field("description"), pb.description, MAX_DESCRIPTION),
        seed: pb.seed,
        data: data(pb.data.unwrap_or_default(), &root.field("data"), &mut checks),
        start: pb.start.map(|pb| start(pb, &root.field("start"), &mut checks)),
        // More steps than are allowed are not looked at: they would only make the answer longer.
        steps: (pb.steps.into_iter().take(recipe::MAX_STEPS).enumerate())
            .filter_map(|(i, pb)| step(pb, &at.index(i), &mut checks))
            .collect(),
    };
    let unrolled = meaning.unrolled_len();
    if unrolled > recipe::MAX_UNROLLED {
        let most = recipe::MAX_UNROLLED;
        checks.refuse(&at, format!("come to {unrolled} with every round of `repeat`, at most {most} are allowed"));
    }
    checks.finish(meaning)
}

fn start(pb: v1::Start, at: &Path, checks: &mut Checks) -> Start {
    if pb.train.is_none() {
        checks.refuse(&at.field("train"), "is missing");
    }
    let preset = checks.name(&at.field("preset"), pb.preset);
    let train = pb.train.unwrap_or(v1::Train { epochs: 1, ..Default::default() });
    let init = init(pb.init.unwrap_or_default(), &at.field("init"), checks);
    Start { preset, init, train: self::train(train, &at.field("train"), checks) }
}
