//! What a pruning of channels does to the network: ranks, cuts, proves that what is cut might as well have been zero, and
//! repairs what stays.

use super::error::RecipeError;
use super::run::Course;
use crate::exec::Session;
use crate::graph::Graph;
use crate::graph::dims::{Cut, Dims};
use crate::passes::PassError;
use crate::passes::prune::channels::importance::{ChannelScores, Importance};
use crate::passes::prune::channels::plan::{self, Amount, Limits};
use crate::passes::prune::channels::repair::{self, CutAndRepair, Repair};
use crate::passes::prune::channels::{PruneChannels, Silence};
use crate::passes::prune::reconstruct::Gram;
use crate::report::{ChannelsDetail, GroupCut};
use crate::train::calibrate::{self, Batches};
use crate::train::{gram, importance, metrics};

/// Cuts channels, units and heads out.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneChannelsStep {
    /// How much goes.
    pub amount: Amount,
    /// What a channel matters.
    pub importance: Importance,
    /// Which layers may lose how much.
    pub limits: Limits,
    /// On how many training samples importance, repair and statistics are measured.
    pub measure: Batches,
    /// What is done to the weights that stay; `None`: nothing.
    pub repair: Option<Repair>,
}

impl PruneChannelsStep {
    /// Whether it fits a network, whatever the weights.
    ///
    /// Errors: what [`plan::check`] says, and an importance that says nothing of some layer.
    pub fn check(&self, graph: &Graph) -> Result<(), PassError> {
        let dims = Dims::of(graph);
        plan::check(graph, &dims, &self.amount, &self.limits)?;
        importance::check(graph, &dims, self.importance)
    }
}

/// The name of a repair in reports.
pub(super) fn repair_name(repair: Option<Repair>) -> &'static str {
    match repair {
        None => "none",
        Some(Repair::Compensate) => "compensate",
        Some(Repair::Reconstruct) => "reconstruct",
    }
}

impl Course<'_, '_> {
    pub(super) fn prune_channels(
        &mut self,
        graph: &mut Graph,
        step: &PruneChannelsStep,
    ) -> Result<ChannelsDetail, RecipeError> {
        let dims = Dims::of(graph);
        let scores = self.channel_scores(graph, &dims, step.importance, step.measure)?;
        let cut =
            plan::plan(graph, &dims, &scores, &step.amount, &step.limits).map_err(|source| self.failed(source))?;
        let before = graph.clone();
        let masked_difference = self.cut(graph, &dims, &cut)?;
        let cut_accuracy = self.accuracy(graph)?;
        let mut unrepaired = Vec::new();
        if let Some(how) = step.repair {
            *graph = before.clone();
            unrepaired = self.cut_and_repair(graph, &dims, &cut, how, step.measure)?;
        }
        Ok(ChannelsDetail {
            groups: groups(&before, &dims, &cut),
            importance: step.importance.name().to_string(),
            masked_difference,
            cut_accuracy,
            repair: repair_name(step.repair).to_string(),
            unrepaired,
        })
    }

    /// What each channel matters.
    pub(super) fn channel_scores(
        &self,
        graph: &Graph,
        dims: &Dims,
        by: Importance,
        measure: Batches,
    ) -> Result<ChannelScores, RecipeError> {
        let (seed, cancelled) = (self.seed("importance"), self.run.cancelled);
        importance::scores(graph, dims, by, &self.splits.train, measure, seed, &|| cancelled())
            .map_err(|source| RecipeError::of_training(self.step, source))
    }

    /// Cuts, and measures by how much the network then differs from the one with zeros in place.
    fn cut(&self, graph: &mut Graph, dims: &Dims, cut: &Cut) -> Result<f64, RecipeError> {
        let mut masked = graph.clone();
        self.pass(&mut masked, &Silence { dims, cut })?;
        self.pass(graph, &PruneChannels { dims, cut })?;
        Ok(largest_difference(&self.outputs(&masked)?, &self.outputs(graph)?))
    }

    fn accuracy(&self, graph: &Graph) -> Result<f64, RecipeError> {
        let cancelled = self.run.cancelled;
        let evaluation = metrics::evaluate(&mut Session::new(graph)?, &self.splits.validation, &|| cancelled());
        Ok(evaluation.map_err(|source| RecipeError::of_training(self.step, source))?.accuracy)
    }

    /// Cuts once more, with repairs, and measures running statistics anew; says which layers could not be repaired.
    fn cut_and_repair(
        &self,
        graph: &mut Graph,
        dims: &Dims,
        cut: &Cut,
        how: Repair,
        measure: Batches,
    ) -> Result<Vec<String>, RecipeError> {
        let (grams, unrepaired) = self.grams(graph, dims, cut, measure)?;
        self.pass(graph, &CutAndRepair { dims, cut, grams: &grams, how })?;
        self.recalibrate(graph, measure)?;
        Ok(unrepaired)
    }

    /// What the layers read that lose some of their input by a cut, and of which that cannot be known.
    pub(super) fn grams(
        &self,
        graph: &Graph,
        dims: &Dims,
        cut: &Cut,
        measure: Batches,
    ) -> Result<(Vec<Gram>, Vec<String>), RecipeError> {
        let (mut readers, mut unrepaired) = (Vec::new(), Vec::new());
        for (place, obstacle) in repair::readers(graph, dims, cut) {
            match obstacle {
                Some(why) => unrepaired.push(format!("node '{}': {why}", graph.nodes()[place].name)),
                None => readers.push(place),
            }
        }
        let (seed, cancelled) = (self.seed("gram"), self.run.cancelled);
        let grams = gram::grams(graph, &readers, &self.splits.train, measure, seed, &|| cancelled())
            .map_err(|source| RecipeError::of_training(self.step, source))?;
        let mut known = Vec::new();
        for gram in grams {
            match gram {
                Ok(gram) => known.push(gram),
                Err(why) => unrepaired.push(why.to_string()),
            }
        }
        Ok((known, unrepaired))
    }

    /// Measures running statistics anew.
    pub(super) fn recalibrate(&self, graph: &mut Graph, measure: Batches) -> Result<(), RecipeError> {
        let (seed, cancelled) = (self.seed("recalibrate"), self.run.cancelled);
        calibrate::recalibrate(graph, &self.splits.train, measure, seed, &|| cancelled())
            .map_err(|source| RecipeError::of_training(self.step, source))
    }
}

/// The largest difference, as a share of the largest number of the first.
pub(super) fn largest_difference(before: &[f32], after: &[f32]) -> f64 {
    let largest = before.iter().fold(0f32, |most, v| most.max(v.abs()));
    let difference = before.iter().zip(after).fold(0f32, |most, (b, a)| most.max((b - a).abs()));
    // Outputs that were all zero have no scale: the difference stands for itself.
    f64::from(difference) / if largest > 0.0 { f64::from(largest) } else { 1.0 }
}

/// What became of each group.
pub(super) fn groups(graph: &Graph, dims: &Dims, cut: &Cut) -> Vec<GroupCut> {
    let groups = dims.groups().iter().zip(&cut.keep);
    let of_group = groups.map(|(group, keep)| GroupCut {
        name: group.name.clone(),
        layers: group.layer_names(graph),
        before: group.size as u64,
        after: keep.len() as u64,
        kept_because: group.obstacle().map(|why| why.to_string()).unwrap_or_default(),
    });
    of_group.collect()
}
