//! What can be cut from a model: how accuracy falls as each group loses channels, and what a plan would make of it, in
//! seconds and with nothing trained.

use std::collections::BTreeMap;

use super::channels::{PruneChannelsStep, groups};
use super::run::stored_transforms;
use super::{Recipe, RecipeError, StepKind, misfits};
use crate::data::{self, Splits, Subset};
use crate::error::{Classify, Kind, Violation};
use crate::exec::{Session, lanes};
use crate::format::{Model, native};
use crate::graph::dims::{Cut, Dims};
use crate::graph::{Graph, cost};
use crate::passes::prune::channels::PruneChannels;
use crate::passes::prune::channels::importance::{ChannelScores, Importance, by_weights};
use crate::passes::prune::channels::plan;
use crate::passes::{self, PassError};
use crate::report::{Analysis, Figures, GroupSensitivity, Plan, Point};
use crate::train::calibrate::Batches;
use crate::train::{TrainError, importance, metrics};

/// The shares that each group loses where nothing is said.
pub const RATIOS: [f64; 4] = [0.125, 0.25, 0.5, 0.75];
/// Validation samples to measure on where nothing is said.
pub const SAMPLES: usize = 512;
/// Training samples that an importance is measured on where no plan says.
const MEASURE: Batches = Batches { batches: 16, batch_size: 32 };

/// What is asked about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// How samples are read, and the plan: the first `prune_channels` step.
    pub recipe: Option<&'a Recipe>,
    /// The shares that each group loses, each in `[0, 1)`; empty: [`RATIOS`].
    pub ratios: &'a [f64],
    /// Validation samples to measure on, at most.
    pub samples: usize,
}

impl Question<'_> {
    fn plan(&self) -> Option<&PruneChannelsStep> {
        self.recipe?.flat().find_map(|step| match &step.kind {
            StepKind::PruneChannels(step) => Some(step),
            _ => None,
        })
    }

    /// What is wrong with it, whatever the model.
    fn violations(&self) -> Vec<Violation> {
        let mut violations = bad_ratios(self.ratios);
        if self.samples == 0 {
            violations.push(Violation::new("samples", "0 is not allowed: there is something to measure on from 1 on"));
        }
        if self.recipe.is_some_and(|recipe| recipe.start.is_some()) {
            violations.push(Violation::new("recipe.start", "there is a model already, which is what is looked at"));
        }
        violations
    }
}

/// The ratios that are no share which leaves something.
pub fn bad_ratios(ratios: &[f64]) -> Vec<Violation> {
    let bad = ratios.iter().enumerate().filter(|(_, ratio)| !(0.0..1.0).contains(*ratio));
    let violation = |(place, ratio)| {
        let text = format!("{ratio} is not allowed: a number from 0 up to but not including 1 is");
        Violation::new(format!("ratios[{place}]"), text)
    };
    bad.map(violation).collect()
}

/// What can be cut from `model`. Without `data`, what it would save; with it, what it would lose, by the recipe's transforms
/// or else those that the model carries.
///
/// Errors: [`RecipeError::Invalid`] for a bad question, and data that do not suit the model; what a plan says.
pub fn analyze(
    model: &Model,
    data: Option<&data::Dataset>,
    question: &Question<'_>,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Analysis, RecipeError> {
    let graph = &model.graph;
    let mut violations = question.violations();
    let splits = data.map(|data| splits(model, data, question, &mut violations)).transpose()?.flatten();
    if !violations.is_empty() {
        return Err(RecipeError::Invalid { violations });
    }
    let look = Look { graph, dims: Dims::of(graph), splits, samples: question.samples, cancelled };
    let (by, measure) = question.plan().map_or((Importance::Taylor, MEASURE), |plan| (plan.importance, plan.measure));
    let scores = look.scores(by, measure, question.recipe.map_or(0, |recipe| recipe.seed))?;
    let mut sorted: Vec<f64> = if question.ratios.is_empty() { RATIOS.to_vec() } else { question.ratios.to_vec() };
    sorted.sort_by(f64::total_cmp);
    Ok(Analysis {
        whole: look.figures(graph)?,
        samples: look.validation().map_or(0, |samples| samples.len() as u64),
        groups: look.groups(&scores, &sorted)?,
        plan: question.plan().map(|step| look.plan(step, &scores)).transpose()?,
        notes: look.notes(),
    })
}

fn splits(
    model: &Model,
    data: &data::Dataset,
    question: &Question<'_>,
    violations: &mut Vec<Violation>,
) -> Result<Option<Splits>, RecipeError> {
    let (mut spec, seed) = question.recipe.map_or_else(Default::default, |recipe| (recipe.data.clone(), recipe.seed));
    if spec.transforms.is_empty() {
        spec.transforms = stored_transforms(model)?.unwrap_or_default();
    }
    let splits = data::split(data, &spec, seed)?;
    violations.extend(misfits(&model.graph, &data.train.sample_shape, splits.classes));
    Ok(violations.is_empty().then_some(splits))
}

/// A model that is looked at.
struct Look<'a> {
    graph: &'a Graph,
    dims: Dims,
    splits: Option<Splits>,
    samples: usize,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Look<'_> {
    fn validation(&self) -> Option<Subset> {
        self.splits.as_ref().map(|splits| splits.validation.first(self.samples))
    }

    /// Without samples, weights must do.
    fn scores(&self, by: Importance, measure: Batches, seed: u64) -> Result<ChannelScores, RecipeError> {
        let failed = |source| match source {
            TrainError::Pass(source) => of_pass(source),
            other => RecipeError::of_training(0, other),
        };
        match &self.splits {
            Some(splits) => {
                let cancelled = || (self.cancelled)();
                importance::scores(self.graph, &self.dims, by, &splits.train, measure, seed, &cancelled).map_err(failed)
            }
            None => {
                let by = if by.needs_data() { Importance::L2 } else { by };
                let scores = by_weights(self.graph, &self.dims, by, seed).map_err(of_pass)?;
                Ok(scores.unwrap_or_default())
            }
        }
    }

    fn figures(&self, graph: &Graph) -> Result<Figures, RecipeError> {
        let mut figures = self.measured(graph)?;
        figures.bytes = native::write(graph, &BTreeMap::new())?.len() as u64;
        Ok(figures)
    }

    fn measured(&self, graph: &Graph) -> Result<Figures, RecipeError> {
        let cost = cost::of_graph(graph);
        let mut figures = Figures { params: cost.params, macs: cost.macs, ..Figures::default() };
        if let Some(samples) = self.validation() {
            let found = metrics::evaluate(&mut Session::new(graph)?, &samples, &|| (self.cancelled)());
            let found = found.map_err(|source| RecipeError::of_training(0, source))?;
            figures.accuracy = Some(found.accuracy);
            figures.loss = found.loss.is_finite().then_some(found.loss);
        }
        Ok(figures)
    }

    fn cut(&self, cut: &Cut) -> Result<Graph, RecipeError> {
        let mut smaller = self.graph.clone();
        passes::apply(&PruneChannels { dims: &self.dims, cut }, &mut smaller).map_err(of_pass)?;
        Ok(smaller)
    }

    fn groups(&self, scores: &ChannelScores, ratios: &[f64]) -> Result<Vec<GroupSensitivity>, RecipeError> {
        let mut found = Vec::new();
        for (place, group) in self.dims.groups().iter().enumerate() {
            let mut points = Vec::new();
            for ratio in ratios.iter().filter(|_| group.is_exact()) {
                let mut counts = self.dims.sizes();
                counts[place] = (((1.0 - ratio) * group.size as f64).round() as usize).max(1);
                let keep = counts[place] as u64;
                let figures = self.measured(&self.cut(&plan::keep_best(scores, &counts))?)?;
                points.push(Point { ratio: *ratio, keep, figures });
            }
            found.push(GroupSensitivity {
                name: group.name.clone(),
                layers: group.layer_names(self.graph),
                channels: group.size as u64,
                kept_because: group.obstacle().map(|why| why.to_string()).unwrap_or_default(),
                points,
            });
        }
        Ok(found)
    }

    fn plan(&self, step: &PruneChannelsStep, scores: &ChannelScores) -> Result<Plan, RecipeError> {
        let cut = plan::plan(self.graph, &self.dims, scores, &step.amount, &step.limits).map_err(of_pass)?;
        Ok(Plan { groups: groups(self.graph, &self.dims, &cut), figures: self.figures(&self.cut(&cut)?)? })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let unknown = self.graph.unknown_operators();
        if !unknown.is_empty() {
            notes.push(format!(
                "What these operators do is not known, so nothing is cut around them: {}.",
                unknown.join(", ")
            ));
        }
        let lanes = lanes();
        notes.push(format!(
            "This processor computes {lanes} channels at once: numbers of channels that are multiples of {lanes} gain most \
             here (`round_to`)."
        ));
        notes
    }
}

/// What a plan says is about the plan: nothing has been done yet that could have gone wrong.
fn of_pass(source: PassError) -> RecipeError {
    if source.kind() != Kind::InvalidArgument {
        return RecipeError::Pass { step: 0, source };
    }
    let field = source.field().map_or("recipe.prune_channels".into(), |field| format!("recipe.prune_channels.{field}"));
    RecipeError::Invalid { violations: vec![Violation::new(field, source.to_string())] }
}
